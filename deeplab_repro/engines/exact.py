"""Runs a net in float64 with NumPy: slowly, to tell which of two runs in float32 is off."""

from collections.abc import Callable, Iterable
from functools import reduce

import numpy as np
import numpy.typing as npt

from deeplab_repro.arrays import F32, HW
from deeplab_repro.engines.exact_channels import CHANNEL_RULES
from deeplab_repro.engines.exact_shapes import SHAPE_RULES, sliced
from deeplab_repro.errors import NetError
from deeplab_repro.net.layers import (
    Concat,
    Convolution,
    Deconvolution,
    Eltwise,
    InnerProduct,
    Interp,
    LayerType,
    Padding,
    Pooling,
    ReLU,
    Softmax,
)
from deeplab_repro.net.net import Layer, Net
from deeplab_repro.net.scores import interp_positions
from deeplab_repro.net.shape_layers import Slice

F64 = npt.NDArray[np.float64]


def exact_blobs(
    net: Net, data: np.ndarray, names: Iterable[str], rounded: bool = False
) -> dict[str, F64]:
    """Run the net on NxCxHxW (BGR minus mean); the named blobs, float64.

    rounded: round every blob to float32, which shows the least that rounding makes of this net. Of
    a blob that layers change in place, the last. Raises NetError where the net does not fit the
    size, and WeightsError where a layer has no weights.
    """
    names = list(names)
    net.blob_shapes(data.shape)  # says clearly where the net does not fit
    blobs = {net.input: data.astype(np.float64)}
    for number, layer in enumerate(net.layers, start=1):
        tops = layer_tops(layer, *(blobs[bottom] for bottom in layer.bottoms))
        if rounded:
            tops = [top.astype(np.float32).astype(np.float64) for top in tops]
        blobs.update(zip(layer.tops, tops, strict=True))
        kept = set(names).union(*(later.bottoms for later in net.layers[number:]))
        blobs = {name: blob for name, blob in blobs.items() if name in kept}
    return {name: blobs[name] for name in names}


def layer_tops(layer: Layer, *bottoms: np.ndarray) -> list[np.ndarray]:
    """What a layer makes of its bottoms, in their precision.

    Raises WeightsError, and NetError for a type that does not run.
    """
    if isinstance(layer.op, Slice):
        return sliced(layer.op, bottoms[0], len(layer.tops))
    if layer.type not in RULES:
        raise NetError(f"layer '{layer.name}' ({layer.type}) runs in training only")
    return [RULES[layer.type](layer.op, *bottoms, **layer.weights())] * len(layer.tops)


def _convolution(op: Convolution, data: F64, weight: F32, bias: F32 | None = None) -> F64:
    n, outputs, height, width = op.top_shape([data.shape])
    data = _padded(data, op.pad, op.pad)
    top = np.zeros((n, op.group, outputs // op.group, height * width))
    for i, j in np.ndindex(*op.kernel):
        taps = _every(data, (i * op.hole[0], j * op.hole[1]), (height, width), op.stride)
        matrices = weight[:, :, i, j].reshape(op.group, outputs // op.group, -1)
        top += matrices.astype(np.float64) @ taps.reshape(n, op.group, -1, height * width)
    return _plus_bias(top.reshape(n, outputs, height, width), bias)


def _deconvolution(op: Deconvolution, data: F64, weight: F32, bias: F32 | None = None) -> F64:
    n, channels, height, width = data.shape
    _, outputs, *size = op.top_shape([data.shape])
    whole = np.zeros((n, outputs, size[0] + 2 * op.pad[0], size[1] + 2 * op.pad[1]))
    pixels = data.reshape(n, op.group, channels // op.group, -1)
    for i, j in np.ndindex(*op.kernel):
        matrices = weight[:, :, i, j].reshape(op.group, channels // op.group, -1)
        values = matrices.astype(np.float64).swapaxes(1, 2) @ pixels
        _every(whole, (i, j), (height, width), op.stride)[:] += values.reshape(
            n, outputs, height, width
        )
    top = whole[:, :, op.pad[0] : op.pad[0] + size[0], op.pad[1] : op.pad[1] + size[1]]
    return _plus_bias(top, bias)


def _inner_product(_: InnerProduct, data: F64, weight: F32, bias: F32 | None = None) -> F64:
    top = data.reshape(len(data), -1) @ weight.astype(np.float64).T
    return top if bias is None else top + bias


def _plus_bias(top: F64, bias: F32 | None) -> F64:
    return top if bias is None else top + bias.reshape(-1, 1, 1)


def _pooling(op: Pooling, data: F64) -> F64:
    if op.kernel == (0, 0):
        function = data.max if op.method == "MAX" else data.mean
        return function(axis=(2, 3), keepdims=True)
    *_, height, width = op.top_shape([data.shape])
    # The last windows reach beyond the padding.
    reach = [(n - 1) * s + k for n, s, k in zip((height, width), op.stride, op.kernel, strict=True)]
    sides = zip(reach, data.shape[2:], op.pad, strict=True)
    end = [max(0, last - n_in - pad) for last, n_in, pad in sides]
    padded = _padded(data, op.pad, (end[0], end[1]), -np.inf if op.method == "MAX" else 0)
    windows = (
        _every(padded, (i, j), (height, width), op.stride) for i, j in np.ndindex(*op.kernel)
    )
    if op.method == "MAX":
        return reduce(np.maximum, windows)
    # What a window covers of the image and its padding (docs/original.md, 1.2).
    rows, columns = (
        np.minimum(np.arange(n) * s + k, n_in + 2 * pad) - np.arange(n) * s
        for n, s, k, n_in, pad in zip(
            (height, width), op.stride, op.kernel, data.shape[2:], op.pad, strict=True
        )
    )
    return sum(windows) / np.outer(rows, columns)


def _interp(op: Interp, data: F64) -> F64:
    """Positions are Caffe's, which it keeps in float32."""
    _, _, *size = op.top_shape([data.shape])
    data = _cropped(data, -op.pad_beg, -op.pad_end)
    for axis, n_out in zip((2, 3), size, strict=True):
        first, second, weight = interp_positions(data.shape[axis], n_out)
        part = weight.astype(np.float64).reshape((-1, 1) if axis == 2 else (1, -1))
        data = data.take(first, axis) * (1 - part) + data.take(second, axis) * part
    return data


def _padding(op: Padding, data: F64) -> F64:
    begin, end = op.pad_beg, op.pad_end
    data = _padded(data, (max(begin, 0),) * 2, (max(end, 0),) * 2)
    return _cropped(data, max(-begin, 0), max(-end, 0))


def _cropped(data: F64, begin: int, end: int) -> F64:
    return data[:, :, begin : data.shape[2] - end, begin : data.shape[3] - end]


def _padded(data: F64, begin: HW, end: HW, value: float = 0) -> F64:
    width = [(0, 0), (0, 0), *zip(begin, end, strict=True)]
    return np.pad(data, width, constant_values=value)


def _every(data: F64, start: HW, size: HW, step: HW) -> F64:
    """Every step-th row and column from `start`, so many of them, as a view."""
    (y, x), (height, width), (down, right) = start, size, step
    rows = slice(y, y + (height - 1) * down + 1, down)
    return data[:, :, rows, x : x + (width - 1) * right + 1 : right]


def _relu(op: ReLU, data: F64) -> F64:
    return np.maximum(data, 0) + op.negative_slope * np.minimum(data, 0)


def _softmax(_: Softmax, data: F64) -> F64:
    powers = np.exp(data - data.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def _eltwise(op: Eltwise, *bottoms: F64) -> F64:
    if op.coeff:
        factors = np.array(op.coeff, np.float32)
        bottoms = tuple(factor * each for factor, each in zip(factors, bottoms, strict=True))
    functions = {"SUM": np.add, "PROD": np.multiply, "MAX": np.maximum}
    return reduce(functions[op.operation], bottoms)


def _concat(op: Concat, *bottoms: F64) -> F64:
    return np.concatenate(bottoms, op.axis)


def _same(_: LayerType, data: F64) -> F64:
    return data


# A Slice has several tops, each of its own.
RULES: dict[str, Callable[..., F64]] = {
    **CHANNEL_RULES,
    **SHAPE_RULES,
    "Concat": _concat,
    "Convolution": _convolution,
    "Deconvolution": _deconvolution,
    "Dropout": _same,
    "Eltwise": _eltwise,
    "InnerProduct": _inner_product,
    "Interp": _interp,
    "Padding": _padding,
    "Pooling": _pooling,
    "ReLU": _relu,
    "Softmax": _softmax,
    "Split": _same,
}
