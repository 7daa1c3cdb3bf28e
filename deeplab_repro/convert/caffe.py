"""Net -> current Caffe: the terms that stock Caffe and OpenCV's importer know.

Holes become dilation. The two layers of the authors' that upstream lacks are said in stock terms:
an INTERP keeps its resizing only, and PADDING becomes grouped convolutions that shift the image.
"""

from dataclasses import replace

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
    """The same net with upstream's layers only, for one input shape; it shares the weights."""
    layers: list[Layer] = []
    for layer, _, top in net.walk(input_shape):
        if isinstance(layer.op, Padding):
            layers += _shifts(layer, layer.op, channels=top[1])
        elif isinstance(layer.op, Interp):
            layers += _resizing(layer, layer.op, top)
        else:
            layers.append(layer)
    shape = tuple(input_shape or net.input_shape)
    return replace(net, input_shape=shape, layers=layers, dialect="Caffe", dense_crf=None)


def _resizing(layer: Layer, op: Interp, top: Shape) -> list[Layer]:
    """INTERP's crop as PADDING, in stock terms, and its resizing alone."""
    crop, bottoms = [], layer.bottoms
    if op.pad_beg or op.pad_end:
        cropped = f"{layer.name}_crop"
        padding = Padding(op.pad_beg, op.pad_end)
        crop = _shifts(Layer(cropped, padding, bottoms, (cropped,)), padding, channels=top[1])
        bottoms = (cropped,)
    # A zoom factor holds at any input size; the other ways to give a size are said as the size.
    if op.zoom_factor > 1:
        resize = Interp(zoom_factor=op.zoom_factor)
    else:
        resize = Interp(height=top[2], width=top[3])
    return [*crop, replace(layer, op=resize, bottoms=bottoms)]


def _shifts(layer: Layer, op: Padding, channels: int) -> list[Layer]:
    """PADDING as convolutions of each channel with a single 1, at any image size.

    All sides are first padded alike, by what the larger pad asks for. What is then too much is
    cropped by a 2x2 kernel with hole h, whose output is h smaller: tap 1 reads the pixel h further
    down and right, so it crops the top left, and tap 0 crops the bottom right.
    """
    pad = max(op.pad_beg, op.pad_end, 0)
    steps = [(pad - op.pad_beg, 1), (pad - op.pad_end, 0)]  # (hole, tap)
    steps = [(hole, tap) for hole, tap in steps if hole] or [(0, 0)]
    layers = []
    bottoms = layer.bottoms
    for number, (hole, tap) in enumerate(steps, start=1):
        side = 2 if hole else 1
        weight = np.zeros((channels, 1, side, side), np.float32)
        weight[:, :, tap, tap] = 1
        shift = Convolution(
            num_output=channels,
            kernel=(side, side),
            pad=(pad, pad),
            hole=(max(hole, 1), max(hole, 1)),
            group=channels,
            bias=False,
        )
        blobs = [Blob(weight.shape, weight)]
        if number == len(steps):
            layers.append(replace(layer, op=shift, bottoms=bottoms, blobs=blobs))
        else:
            name = f"{layer.name}_{number}"
            layers.append(Layer(name, shift, bottoms, (name,), blobs))
            bottoms, pad = (name,), 0
    return layers
