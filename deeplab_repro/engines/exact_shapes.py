"""What the layers of net/shape_layers.py compute, in NumPy, as exact.py does."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from deeplab_repro.net.shape_layers import ArgMax, Crop, Flatten, Reshape, Slice, Tile

F64 = npt.NDArray[np.float64]


def _crop(op: Crop, data: F64, like: F64) -> F64:
    return data[op.part([data.shape, like.shape])]


def sliced(op: Slice, data: F64, count: int) -> list[F64]:
    """The tops of a Slice, which has several."""
    sizes = [shape[op.axis] for shape in op.top_shapes([data.shape], count)]
    return np.split(data, np.cumsum(sizes)[:-1], op.axis)


def _reshape(op: Flatten | Reshape, data: F64) -> F64:
    return data.reshape(op.top_shape([data.shape]))


def _tile(op: Tile, data: F64) -> F64:
    return np.concatenate([data] * op.tiles, op.axis)


def _argmax(op: ArgMax, data: F64) -> F64:
    """Of equal values Caffe takes the last."""
    top, axis = op.top_shape([data.shape]), op.axis
    if axis is None:
        data, axis = data.reshape(len(data), -1), 1
    places = np.flip(data.argsort(axis, kind="stable"), axis).take(range(op.top_k), axis)
    maxima = np.take_along_axis(data, places, axis)
    if op.axis is not None:
        return maxima if op.out_max_val else places.astype(np.float64)
    return np.stack([places, maxima][: top[1]], 1).astype(np.float64).reshape(top)


SHAPE_RULES: dict[str, Callable[..., F64]] = {
    "ArgMax": _argmax,
    "Crop": _crop,
    "Flatten": _reshape,
    "Reshape": _reshape,
    "Tile": _tile,
}
