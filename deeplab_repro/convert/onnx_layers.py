"""Writes each layer type as standard ONNX operators that every runtime reads alike.

Caffe rounds the sizes of poolings up: in ONNX they get a larger padding at the bottom right. An
average pooling gets its zeros from a Pad, since Caffe's divisor counts them. INTERP by a factor z
reads from position i / z, for which no image size is needed; what lies beyond the last pixel is cut
off.
"""

from collections.abc import Callable
from typing import Any

from deeplab_repro.arrays import HW, dims
from deeplab_repro.convert import onnx_shape_layers
from deeplab_repro.convert.onnx_channel_layers import CHANNEL_WRITERS
from deeplab_repro.convert.onnx_place import Place
from deeplab_repro.errors import NetError
from deeplab_repro.net.layers import (
    Concat,
    Convolution,
    Deconvolution,
    Eltwise,
    InnerProduct,
    Interp,
    Padding,
    Pooling,
    ReLU,
)

# OpenCV keeps positions as 32-bit integers.
_TO_THE_END = 2**31 - 1


def write_layer(place: Place) -> None:
    """Add a layer's nodes. Raises NetError for a type or an option that ONNX does not have."""
    layer = place.layer
    writer = WRITERS.get(layer.type)
    if writer is None:
        raise NetError(
            f"layer '{layer.name}' has type {layer.type}, which ONNX does not have; these can be "
            f"converted: {', '.join(WRITERS)}"
        )
    writer(place, layer.op)


def _convolution(place: Place, op: Convolution) -> None:
    source, pad = place.inputs[0], op.pad
    if op.kernel == (1, 1) and any(pad):
        # OpenCV 5.0 reads past the image where a 1x1 convolution itself has pads.
        source, pad = place.step("Pad", _pad(place, source, pad, pad)), (0, 0)
    place.node(
        "Conv",
        [source, *place.weights()],
        kernel_shape=op.kernel,
        pads=pad * 2,
        strides=op.stride,
        dilations=_dilations(op.kernel, op.hole),
        group=op.group,
    )


def _dilations(kernel: HW, hole: HW) -> HW:
    """The holes; for nine taps in a row a hole of 2 across the row, where it changes nothing.

    OpenCV 5.0 would run them as 3x3 taps.
    """
    return {(1, 9): (2, hole[1]), (9, 1): (hole[0], 2)}.get(kernel, hole)


def _deconvolution(place: Place, op: Deconvolution) -> None:
    place.node(
        "ConvTranspose",
        [*place.inputs, *place.weights()],
        kernel_shape=op.kernel,
        pads=op.pad * 2,
        strides=op.stride,
        group=op.group,
    )


def _inner_product(place: Place, _: InnerProduct) -> None:
    (source,) = place.inputs
    if len(place.bottoms[0]) != 2:
        source = place.step("Flatten", [source], axis=1)
    place.node("Gemm", [source, *place.weights()], transB=1)


def _pooling(place: Place, op: Pooling) -> None:
    if op.kernel == (0, 0):
        place.node({"MAX": "GlobalMaxPool", "AVE": "GlobalAveragePool"}[op.method], place.inputs)
        return
    # What must stand at the end for sizes that round down to be Caffe's, which round up and, with
    # padding, leave out windows that begin behind the image (docs/original.md, 1.2).
    axes = list(zip(op.kernel, op.stride, op.pad, strict=True))
    end = [min(p + s - 1, k - 1) if any(op.pad) else s - 1 for k, s, p in axes]
    if any(e >= k for e, k in zip(end, op.kernel, strict=True)):
        raise NetError(
            f"layer '{place.layer.name}' (Pooling) has stride {dims(op.stride)}, which ONNX does "
            f"not have for a kernel of {dims(op.kernel)} without pad: expected at most the kernel"
        )
    if op.method == "MAX":
        pads = [*op.pad, *end]
        place.node("MaxPool", place.inputs, kernel_shape=op.kernel, strides=op.stride, pads=pads)
        return
    source = place.inputs[0]
    if any(op.pad):
        source = place.step("Pad", _pad(place, source, op.pad, op.pad))
    place.node(
        "AveragePool",
        [source],
        kernel_shape=op.kernel,
        strides=op.stride,
        pads=[0, 0, *(e - p for e, p in zip(end, op.pad, strict=True))],
        count_include_pad=0,
    )


def _pad(place: Place, source: str, begin: HW, end: HW) -> list[str]:
    """A Pad's inputs: zeros at the top left and at the bottom right."""
    return [source, place.constant(0, 0, *begin, 0, 0, *end)]


def _slice(place: Place, source: str, begin: int, end: int, step: int = 1) -> list[str]:
    """A Slice's inputs: every step-th row and column from `begin`, without `end` at the end."""
    pairs = [(begin, begin), (-end or _TO_THE_END,) * 2, (2, 3), (step, step)]
    return [source, *(place.constant(*pair) for pair in pairs)]


def _interp(place: Place, op: Interp) -> None:
    source, size = place.inputs[0], place.bottoms[0][2:]
    if op.pad_beg or op.pad_end:
        source = place.step("Slice", _slice(place, source, -op.pad_beg, -op.pad_end))
        size = tuple(n + op.pad_beg + op.pad_end for n in size)
    factor = op.zoom_factor
    if op.only_zooms:
        # With a row and a column more, which change nothing: OpenCV 5.0 reads past a single one.
        padded = place.step("Pad", _pad(place, source, (0, 0), (1, 1)))
        enlarged = place.step(
            "Resize",
            [padded, "", place.constant(1.0, 1.0, float(factor), float(factor))],
            mode="linear",
            coordinate_transformation_mode="asymmetric",
        )
        place.node("Slice", _slice(place, enlarged, 0, 2 * factor - 1))
    elif factor == 1 and not op.height and all((n - 1) % op.shrink_factor == 0 for n in size):
        place.node("Slice", _slice(place, source, 0, 0, op.shrink_factor))
    else:
        for axis in (2, 3):
            if size[axis - 2] == 1:  # as above: a row or column twice changes nothing
                source = place.step("Concat", [source, source], axis=axis)
        place.node(
            "Resize",
            [source, "", "", place.constant(*place.top)],
            mode="linear",
            coordinate_transformation_mode="align_corners",
        )


def _padding(place: Place, op: Padding) -> None:
    source, begin, end = place.inputs[0], op.pad_beg, op.pad_end
    if min(begin, end) < 0 < max(begin, end):  # OpenCV 4 reads no Pad that does both
        grow = _pad(place, source, (max(begin, 0),) * 2, (max(end, 0),) * 2)
        source, begin, end = place.step("Pad", grow), min(begin, 0), min(end, 0)
    if begin > 0 or end > 0:
        place.node("Pad", _pad(place, source, (begin, begin), (end, end)))
    else:
        place.node("Slice", _slice(place, source, -begin, -end))


def _relu(place: Place, op: ReLU) -> None:
    if op.negative_slope:
        place.node("LeakyRelu", place.inputs, alpha=float(op.negative_slope))
    else:
        place.node("Relu", place.inputs)


def _eltwise(place: Place, op: Eltwise) -> None:
    inputs = place.inputs
    if op.coeff:
        factors = [place.constant(float(factor)) for factor in op.coeff]
        inputs = [place.step("Mul", pair) for pair in zip(inputs, factors, strict=True)]
    if op.operation != "PROD":
        place.node({"SUM": "Sum", "MAX": "Max"}[op.operation], inputs)
        return
    first, *others = inputs
    for other in others[:-1]:
        first = place.step("Mul", [first, other])
    place.node(*("Mul", [first, others[-1]]) if others else ("Identity", [first]))


def _concat(place: Place, op: Concat) -> None:
    if len(place.inputs) > 1:
        place.node("Concat", place.inputs, axis=op.axis)
    else:  # OpenCV 4.14 does not write what a Concat of one value gives
        place.node("Identity", place.inputs)


WRITERS: dict[str, Callable[[Place, Any], None]] = {
    **CHANNEL_WRITERS,
    "Concat": _concat,
    "Convolution": _convolution,
    "Deconvolution": _deconvolution,
    "Eltwise": _eltwise,
    "InnerProduct": _inner_product,
    "Interp": _interp,
    "Padding": _padding,
    "Pooling": _pooling,
    "ReLU": _relu,
    "Softmax": lambda place, _: place.node("Softmax", place.inputs, axis=1),
    **onnx_shape_layers.WRITERS,
}
