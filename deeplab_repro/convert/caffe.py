"""Net -> current Caffe: the terms that stock Caffe and OpenCV's importer know.

Holes become dilation. The two layers of the authors' that upstream lacks are said in stock terms:
an INTERP keeps its resizing only, and PADDING becomes grouped convolutions that shift the image.
"""

from dataclasses import replace
from itertools import pairwise

import numpy as np

from deeplab_repro.caffe import caffemodel_chunks, prototxt_text
from deeplab_repro.layers import Convolution, Interp, Padding, Shape
from deeplab_repro.net import Blob, Layer, Net


def to_caffe(
    net: Net, input_shape: Shape | None = None, hollow: bool = False
) -> tuple[bytes, bytes]:
    """The net as a prototxt and a caffemodel in the current format, both as bytes in memory.

    `input_shape` is NxCxHxW, the net's own by default. `hollow` leaves out the weights of
    convolutions: see `caffemodel_chunks`. Raises WeightsError where a layer has no weights, and
    NetError where the net does not fit the shape.
    """
    stock = stock_net(net, input_shape)
    prototxt = prototxt_text(stock, current=True).encode()
    return prototxt, b"".join(caffemodel_chunks(stock, current=True, hollow=hollow))


def fits_any_size(net: Net) -> bool:
    """Whether `to_caffe` gives the same layers at every input size."""
    return all(layer.op.zoom_factor > 1 for layer in net.layers if isinstance(layer.op, Interp))


def stock_net(net: Net, input_shape: Shape | None = None) -> Net:
    """The same net with upstream's layers only, for one input shape; it shares the weights.

    Every layer has a name, other than all others' and the input's: Caffe of 2014 did not ask for
    that, stock software does. Blobs, and layers with weights, keep their names.
    """
    layers: list[Layer] = []
    names = {net.input, *(layer.name for layer in net.layers if layer.blobs)}
    blobs = {net.input, *(top for layer in net.layers for top in layer.tops)}
    for layer, _, top in net.walk(input_shape):
        if layer.blobs and layer.name not in ("", net.input):
            layers.append(layer)
            continue
        named = replace(layer, name=_free(layer.name or "unnamed", names))
        if isinstance(layer.op, Padding):
            made = _shifts(named, layer.op.pad_beg, layer.op.pad_end, top[1])
        elif isinstance(layer.op, Interp):
            made = _resizing(named, layer.op, top)
        else:
            made = [named]
        for inner, after in pairwise(made):
            name = _free(inner.name, names | blobs)
            names.add(name)
            blobs.add(name)
            inner.name, inner.tops, after.bottoms = name, (name,), (name,)
        layers += made
    return Net(
        name=net.name,
        input=net.input,
        input_shape=tuple(input_shape or net.input_shape),
        layers=layers,
        mean_bgr=net.mean_bgr,
    )


def _free(name: str, taken: set[str]) -> str:
    """`name`, with a number behind it if it is taken; it is taken from now on."""
    free, number = name, 1
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    taken.add(free)
    return free


def _resizing(layer: Layer, op: Interp, top: Shape) -> list[Layer]:
    bottom = layer.bottoms[0]
    crop = []
    if op.pad_beg or op.pad_end:
        cropped = f"{layer.name}_crop"
        whole = Layer(cropped, Padding(), (bottom,), (cropped,))
        crop = _shifts(whole, op.pad_beg, op.pad_end, top[1])
        bottom = cropped
    # A zoom factor holds at any input size; the other ways to give a size are said as the size.
    if op.zoom_factor > 1:
        plain = Interp(zoom_factor=op.zoom_factor)
    else:
        plain = Interp(height=top[2], width=top[3])
    return [*crop, Layer(layer.name, plain, (bottom,), layer.tops)]


def _shifts(layer: Layer, pad_beg: int, pad_end: int, channels: int) -> list[Layer]:
    """PADDING as convolutions of each channel with a single 1, at any image size.

    All sides are first padded alike, by what the larger pad asks for. What is then too much is
    cropped by a 2x2 kernel with hole h, whose output is h smaller: tap 1 reads the pixel h further
    down and right, so it crops the top left, and tap 0 crops the bottom right.
    """
    pad = max(pad_beg, pad_end, 0)
    steps = [(pad - pad_beg, 1), (pad - pad_end, 0)]  # (hole, tap)
    steps = [(hole, tap) for hole, tap in steps if hole] or [(0, 0)]
    layers = []
    bottom = layer.bottoms[0]
    for number, (hole, tap) in enumerate(steps, start=1):
        is_last = number == len(steps)
        name = layer.name if is_last else f"{layer.name}_{number}"
        top = layer.tops[0] if is_last else name
        side = 2 if hole else 1
        weight = np.zeros((channels, 1, side, side), np.float32)
        weight[:, :, tap, tap] = 1
        op = Convolution(
            num_output=channels,
            kernel=(side, side),
            pad=(pad, pad),
            hole=(max(hole, 1), max(hole, 1)),
            group=channels,
            bias=False,
        )
        layers.append(Layer(name, op, (bottom,), (top,), [Blob(weight.shape, weight)]))
        bottom, pad = top, 0
    return layers
