"""Writes a net as ONNX: standard operators only, for any image size if the net allows."""

import json
from collections.abc import Iterable, Sequence
from os import PathLike
from typing import Any

import numpy as np

from deeplab_repro.arrays import HW, Shape, dims
from deeplab_repro.convert.onnx_graph import LARGEST_FILE, OPSETS, Axes, Graph
from deeplab_repro.convert.onnx_layers import write_layer
from deeplab_repro.convert.onnx_place import Place
from deeplab_repro.errors import ArgumentError, NetError
from deeplab_repro.files.whole import write_atomically
from deeplab_repro.net.layers import Dropout, Split
from deeplab_repro.net.net import Layer, Net
from deeplab_repro.net.preprocess import VOCS, MeanImage, Preprocessing

_REST = 1 << 24  # bytes that an ONNX file has at most besides its weights

PASSING_ON = (Dropout, Split)
"""The types that become no node: their tops have their bottom's value."""


def write_onnx(
    net: Net,
    path: str | PathLike[str],
    *,
    labels: Sequence[str] = (),
    softmax: bool = False,
    rgb_uint8: bool = False,
    opset: int = OPSETS[0],
    half: bool = False,
    data: tuple[str | PathLike[str], str] | None = None,
) -> None:
    """Write the net as an ONNX file, atomically.

    Its input is that of the net, NxCxHxW float32, blue, green, red minus the mean, scaled; its
    outputs are the blobs that no layer takes, under their names. The metadata hold `channel_order`,
    `mean` or the name of the `mean_file`, `scale` where it is not 1, and `labels`, the names of the
    labels as JSON.

    softmax: end in `probs`, the softmax of the scores.
    rgb_uint8: begin with `image`, NxHxWx3 uint8 RGB, and end in `scores` (or `probs`) of the
        image's own height and width: the mean, the scale, the padding to a size that the net fits
        and the crop after it are in the graph. A net that fits one size only takes images of that
        size, and one with a mean for each pixel images of that mean's.
    opset: the version of ONNX's operators, one of OPSETS.
    half: keep weights and biases as float16. They are cast to float32 in the graph, once, when it
        is loaded: so it runs as before, also where nothing computes in float16.
    data: where `needs_data_file` says so, the path of a second file, for the weights, and the name
        by which the first one finds it in its folder.

    Raises WeightsError where a layer has no weights, or none that fit float16, NetError for a layer
    type or an option that ONNX does not have, and for a net that is too large for one file,
    ArgumentError for labels of another number than the scores and another opset, and FileError.
    """
    graph = Graph(net.name, opset, half)
    metadata = _add_net(graph, net, labels, softmax, rgb_uint8)
    if data:
        with write_atomically(data[0]) as file:
            file.writelines(graph.data_chunks())
    with write_atomically(path) as file:
        file.writelines(graph.chunks(metadata, data[1] if data else None))


def needs_data_file(net: Net, half: bool) -> bool:
    """Whether the net's weights are too large for one ONNX file."""
    return (2 if half else 4) * net.parameters > LARGEST_FILE - _REST


def to_onnx(net: Net, input_shape: Shape, outputs: Iterable[str], any_size: bool = True) -> bytes:
    """An ONNX file's bytes with the layers that the blobs `outputs` need; these are its outputs.

    `input_shape` is NxCxHxW; it counts only where the net fits no other, or without `any_size`.
    Raises as `write_onnx`.
    """
    graph = Graph(net.name)
    any_size = any_size and net.fits_any_size
    data = graph.input(net.input, "float32", _axes(input_shape, any_size))
    shapes = net.blob_shapes(input_shape)
    for blob, value in _add_layers(graph, net, input_shape, data, outputs, any_size).items():
        graph.output(value, "float32", _axes(shapes[blob], any_size, f"{value}_"))
    return b"".join(graph.chunks({}))


def _add_net(
    graph: Graph, net: Net, labels: Sequence[str], softmax: bool, rgb_uint8: bool
) -> dict[str, str]:
    """Add the whole net. Returns the metadata."""
    if rgb_uint8:
        net = net.ending_in_scores()
    n_scores = net.output_shape()[1]
    if labels and len(labels) != n_scores:
        raise ArgumentError(f"{len(labels)} names of labels, expected {n_scores}: one a score")
    # Reserved before a layer's value takes the name.
    probs = graph.name("probs") if softmax and not net.ends_in_softmax else None
    any_size = net.fits_any_size
    how = net.preprocessing or VOCS
    if rgb_uint8:
        metadata = {"channel_order": "RGB"}
        made = {net.output: _from_photo_to_scores(graph, net, how, any_size)}
    else:
        metadata = {"channel_order": "BGR", **_described(how)}
        data = graph.input(net.input, "float32", _axes(net.input_shape, any_size))
        made = _add_layers(graph, net, net.input_shape, data, net.outputs, any_size)
    if probs:
        made[net.output] = graph.node("Softmax", [made[net.output]], probs, axis=1)
    shapes = net.blob_shapes()
    for blob, value in made.items():
        # The scores of a photo have its size; those of other outputs follow from it.
        axes = _axes(shapes[blob], any_size, "" if rgb_uint8 else f"{value}_")
        graph.output(value, "float32", axes)
    if labels:
        metadata["labels"] = json.dumps(list(labels))
    return metadata


def _described(how: Preprocessing) -> dict[str, str]:
    """What is to be made of an image before it is the net's input."""
    if isinstance(how.mean, MeanImage):
        described = {"mean_file": how.mean.file}
    else:
        described = {"mean": ",".join(map(repr, how.mean))}
    return described if how.scale == 1 else {**described, "scale": repr(how.scale)}


def _axes(shape: Shape, any_size: bool, what: str = "") -> Axes:
    return ("batch", shape[1], f"{what}height", f"{what}width") if any_size else shape


# --- from a photo to the net's input, and from its scores back to the photo's size


def _from_photo_to_scores(graph: Graph, net: Net, how: Preprocessing, any_size: bool) -> str:
    """Add an input `image`, its preprocessing, the net, and the crop of the scores."""
    net.check_map()
    batch, channels, *size = net.input_shape
    if channels != 3:
        raise NetError(
            f"net '{net.name}' takes {dims(net.input_shape)}, expected 3 channels: a colour image"
        )
    wanted = how.image_size
    if not any_size and wanted not in (None, tuple(size)):
        raise NetError(
            f"net '{net.name}' fits images of {dims(size)} alone, but the mean_file, or new_height "
            f"and new_width, of its data layer those of {dims(wanted or ())}: convert it without "
            "rgb-uint8"
        )
    axes: Axes = ("batch", *(wanted or ("height", "width")), 3) if any_size else (batch, *size, 3)
    image, cropped = graph.input("image", "uint8", axes), graph.name("scores")

    def node(kind: str, inputs: Sequence[str], **attributes: Any) -> str:
        return graph.node(kind, inputs, graph.name(f"image/{kind.lower()}"), **attributes)

    def constant(*values: int) -> str:
        return graph.constant("image/constant", np.array(values), "int64")

    float_type, channels_first = 1, (0, 3, 1, 2)
    rgb = node("Transpose", [node("Cast", [image], to=float_type)], perm=channels_first)
    bgr = node("Gather", [rgb, constant(2, 1, 0)], axis=1)
    data = node("Sub", [bgr, graph.constant("mean", how.mean_values[None])])
    if how.scale != 1:
        data = node("Mul", [data, graph.constant("scale", np.array(how.scale))])
    if not any_size:
        if net.output_shape()[2:] != tuple(size):
            raise NetError(
                f"net '{net.name}' makes scores of {dims(net.output_shape()[2:])} of an image of "
                f"{dims(size)}, expected its size: convert it without rgb-uint8"
            )
        made = _add_layers(graph, net, net.input_shape, data, [net.output], any_size)
        return graph.node("Identity", [made[net.output]], cropped)
    # Pad to the smallest of the sizes first, first + step, ... that holds the image.
    first, step = fitting_sizes(net)
    photo_size = node("Slice", [node("Shape", [image]), constant(1), constant(3)])
    over = node(
        "Sub", [photo_size, constant(*(f - s + 1 for f, s in zip(first, step, strict=True)))]
    )
    steps = node("Max", [node("Div", [over, constant(*step)]), constant(0, 0)])
    size_there = node("Add", [constant(*first), node("Mul", [steps, constant(*step)])])
    missing = node("Sub", [size_there, photo_size])
    padded = node("Pad", [data, node("Concat", [constant(*[0] * 6), missing], axis=0)])
    made = _add_layers(graph, net, net.input_shape, padded, [net.output], any_size)
    scores = made[net.output]
    inputs = [scores, constant(0, 0), photo_size, constant(2, 3)]
    return graph.node("Slice", inputs, cropped)


def fitting_sizes(net: Net) -> tuple[HW, HW]:
    """The smallest size that images are padded to, and the step between sizes, both (H, W).

    Raises NetError where the sizes have no such step, and ArgumentError where no size fits.
    """
    first = net.fitting_size((1, 1))
    after = net.fitting_size((first[0] + 1, first[1] + 1))
    step = after[0] - first[0], after[1] - first[1]
    for further in range(1, 2 * max(step) + 2):
        size = net.fitting_size((first[0] + further, first[1] + further))
        if size != tuple(f - -further // s * s for f, s in zip(first, step, strict=True)):
            raise NetError(
                f"net '{net.name}' fits images of {dims(size)}, in no steps of {dims(step)}: "
                "convert it without rgb-uint8"
            )
    return first, step


# --- layers


def _add_layers(
    graph: Graph,
    net: Net,
    input_shape: Shape,
    data: str,
    outputs: Iterable[str],
    any_size: bool,
) -> dict[str, str]:
    """Add the layers that the blobs `outputs` need. Returns the name of each blob's value."""
    outputs = list(dict.fromkeys(outputs))
    needed = _needed(net, outputs)
    # ONNX changes nothing in place: only the last layer that makes a blob gives it its name.
    writers = [index for index in sorted(needed) if _writes(net.layers[index])]
    last_maker = {top: index for index in writers for top in net.layers[index].tops}
    # Reserved before a constant takes one of these names.
    names = {blob: graph.name(blob) for blob in dict.fromkeys([*outputs, *last_maker])}
    values = {net.input: data}
    for index, (layer, bottoms, tops) in enumerate(net.walk(input_shape)):
        if index not in needed:
            continue
        for bottom in set(layer.bottoms) - values.keys():
            raise NetError(
                f"layer '{layer.name}' ({layer.type}) takes '{bottom}', which a train net has "
                "beside the image, expected a net of the image alone: convert its test net"
            )
        if not _writes(layer):
            values.update(dict.fromkeys(layer.tops, values[layer.bottoms[0]]))
            continue
        inputs = [values[bottom] for bottom in layer.bottoms]
        made = [
            names[blob] if last_maker[blob] == index else graph.name(f"{blob}/{layer.name}")
            for blob in layer.tops
        ]
        write_layer(Place(graph, layer, inputs, bottoms, tops, made, any_size))
        values.update(zip(layer.tops, made, strict=True))
    for blob in outputs:  # a blob that no node makes still has another blob's value
        if blob not in last_maker:
            values[blob] = graph.node("Identity", [values[blob]], names[blob])
    return {blob: values[blob] for blob in outputs}


def _writes(layer: Layer) -> bool:
    """Whether the layer becomes a node."""
    return not isinstance(layer.op, PASSING_ON)


def _needed(net: Net, outputs: Sequence[str]) -> set[int]:
    """The numbers of the layers that these blobs need."""
    blobs, needed = set(outputs), set()
    for index in reversed(range(len(net.layers))):
        layer = net.layers[index]
        if blobs & set(layer.tops):
            needed.add(index)
            blobs.update(layer.bottoms)
    return needed
