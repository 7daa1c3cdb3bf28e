"""Reads and writes the parameters of the layer types of net/shape_layers.py, in both dialects.

V1 has Slice, Flatten and ArgMax alone, and a fork of it Crop. A Slice's axis is slice_dim there.
"""

from collections.abc import Callable
from typing import Any

from deeplab_repro.errors import NetError
from deeplab_repro.net.layers import LayerType
from deeplab_repro.net.shape_layers import ArgMax, Crop, Flatten, Reshape, Slice, Tile


def _read_crop(message: Any) -> Crop:
    if not hasattr(message, "crop_param"):
        return Crop()  # V1's: `structure.align_crops` finds the offset
    return Crop(message.crop_param.axis, tuple(message.crop_param.offset))


def _write_crop(op: Crop, message: Any) -> None:
    p = message.crop_param
    p.axis = op.axis
    p.offset.extend(op.offset)


def _read_slice(message: Any) -> Slice:
    p = message.slice_param
    if p.HasField("slice_dim") and "axis" in _fields(p) and p.HasField("axis"):
        raise NetError("both slice_dim and axis, expected one or the other")
    axis = p.slice_dim if p.HasField("slice_dim") else getattr(p, "axis", 1)
    return Slice(axis, tuple(p.slice_point))


def _write_slice(op: Slice, message: Any) -> None:
    p = message.slice_param
    if op.axis != 1:
        set_axis(p, "slice_dim", op.axis)
    p.slice_point.extend(op.slice_point)


def _read_flatten(message: Any) -> Flatten:
    p = getattr(message, "flatten_param", None)  # V1 has none: it flattens all but the first axis
    return Flatten(p.axis, p.end_axis) if p else Flatten()


def _write_flatten(op: Flatten, message: Any) -> None:
    if op == Flatten():
        return
    if not hasattr(message, "flatten_param"):
        raise NetError("axis or end_axis, which V1 lacks: write the current format")
    message.flatten_param.axis, message.flatten_param.end_axis = op.axis, op.end_axis


def _read_reshape(message: Any) -> Reshape:
    p = message.reshape_param
    return Reshape(tuple(p.shape.dim), p.axis, p.num_axes)


def _write_reshape(op: Reshape, message: Any) -> None:
    p = message.reshape_param
    p.shape.dim.extend(op.dim)
    if op.axis:
        p.axis = op.axis
    if op.num_axes != -1:
        p.num_axes = op.num_axes


def _read_tile(message: Any) -> Tile:
    p = message.tile_param
    if p.tiles < 1:
        raise NetError(f"tiles is {p.tiles}, expected at least 1")
    return Tile(p.tiles, p.axis)


def _write_tile(op: Tile, message: Any) -> None:
    message.tile_param.tiles, message.tile_param.axis = op.tiles, op.axis


def _read_argmax(message: Any) -> ArgMax:
    p = message.argmax_param
    if p.top_k < 1:
        raise NetError(f"top_k is {p.top_k}, expected at least 1")
    by_axis = "axis" in _fields(p) and p.HasField("axis")
    return ArgMax(p.out_max_val, p.top_k, p.axis if by_axis else None)


def _write_argmax(op: ArgMax, message: Any) -> None:
    p = message.argmax_param
    if op.out_max_val:
        p.out_max_val = True
    if op.top_k != 1:
        p.top_k = op.top_k
    if op.axis is not None:
        if "axis" not in _fields(p):
            raise NetError("axis, which V1 lacks: write the current format")
        p.axis = op.axis


def _fields(parameters: Any) -> Any:
    return parameters.DESCRIPTOR.fields_by_name


def set_axis(parameters: Any, name_in_v1: str, axis: int) -> None:
    """Set an axis, which V1 names otherwise. Raises NetError for V1 and one below 0."""
    if "axis" in _fields(parameters):
        parameters.axis = axis
    elif axis < 0:
        raise NetError(f"axis {axis}, which V1 lacks: write the current format")
    else:
        setattr(parameters, name_in_v1, axis)


READERS: dict[str, Callable[[Any], LayerType]] = {
    "ArgMax": _read_argmax,
    "Crop": _read_crop,
    "Flatten": _read_flatten,
    "Reshape": _read_reshape,
    "Slice": _read_slice,
    "Tile": _read_tile,
}
WRITERS: dict[str, Callable[[Any, Any], None]] = {
    "ArgMax": _write_argmax,
    "Crop": _write_crop,
    "Flatten": _write_flatten,
    "Reshape": _write_reshape,
    "Slice": _write_slice,
    "Tile": _write_tile,
}
