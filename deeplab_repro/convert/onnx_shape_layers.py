"""Writes the layer types of net/shape_layers.py as standard ONNX operators."""

from collections.abc import Callable
from itertools import accumulate
from typing import Any

from deeplab_repro.convert.onnx_place import Place
from deeplab_repro.errors import NetError
from deeplab_repro.net.layers import axis_of
from deeplab_repro.net.shape_layers import ArgMax, Crop, Flatten, Reshape, Slice, Tile

_FLOAT = 1  # of TensorProto
_AXES_AS_INPUT = 18  # the opset from which ReduceMax takes them so


def _crop(place: Place, op: Crop) -> None:
    """The second bottom's size is read when the net runs, where it takes images of any size."""
    whole, like = place.bottoms
    axes = range(axis_of(op.axis, whole), len(whole))
    begins = op.begins(whole)[axes[0] :]
    source, reference = place.inputs
    if not place.any_size:
        ends = place.constant(*(b + like[axis] for b, axis in zip(begins, axes, strict=True)))
    else:
        shape = place.step("Shape", [reference])
        size = place.step("Slice", [shape, place.constant(axes[0]), place.constant(len(whole))])
        ends = place.step("Add", [size, place.constant(*begins)])
    place.node("Slice", [source, place.constant(*begins), ends, place.constant(*axes)])


def _slice(place: Place, op: Slice) -> None:
    axis = axis_of(op.axis, place.bottoms[0])
    ends = [0, *accumulate(top[axis] for top in place.tops)]
    for value, begin, end in zip(place.values, ends[:-1], ends[1:], strict=True):
        bounds = [place.constant(number) for number in (begin, end, axis)]
        place.graph.node("Slice", [*place.inputs, *bounds], value)


def _reshape(place: Place, _: Flatten | Reshape) -> None:
    place.node("Reshape", [*place.inputs, place.constant(*place.top)])


def _tile(place: Place, op: Tile) -> None:
    repeats = [1] * len(place.top)
    repeats[axis_of(op.axis, place.top)] = op.tiles
    place.node("Tile", [*place.inputs, place.constant(*repeats)])


def _argmax(place: Place, op: ArgMax) -> None:
    """Of equal values Caffe takes the last."""
    if op.top_k != 1:
        raise NetError(
            f"layer '{place.layer.name}' (ArgMax) has top_k {op.top_k}, and of equal values ONNX "
            "takes others than Caffe: expected 1"
        )
    source, shape = place.inputs[0], place.bottoms[0]
    axis = 1
    if op.axis is not None:
        axis = axis_of(op.axis, shape)
    elif len(shape) > 2:
        source = place.step("Flatten", [source], axis=1)
    values = {}
    if op.axis is None or not op.out_max_val:
        places = place.step("ArgMax", [source], axis=axis, keepdims=1, select_last_index=1)
        values["places"] = place.step("Cast", [places], to=_FLOAT)
    if op.out_max_val:
        if place.graph.opset < _AXES_AS_INPUT:
            values["maxima"] = place.step("ReduceMax", [source], axes=(axis,), keepdims=1)
        else:
            values["maxima"] = place.step("ReduceMax", [source, place.constant(axis)], keepdims=1)
    found, *others = values.values()
    if others:
        found = place.step("Concat", [found, *others], axis=axis)
    if op.axis is None:
        place.node("Reshape", [found, place.constant(*place.top)])
    else:
        place.node("Identity", [found])


WRITERS: dict[str, Callable[[Place, Any], None]] = {
    "ArgMax": _argmax,
    "Crop": _crop,
    "Flatten": _reshape,
    "Reshape": _reshape,
    "Slice": _slice,
    "Tile": _tile,
}
