"""Writes a net for current Caffe, with layers that stock Caffe and OpenCV's importer have.

Holes become dilation. Two of the authors' layers are replaced: INTERP keeps its resizing only, or
becomes a Deconvolution, and PADDING becomes grouped convolutions that shift the image. PSPNet's BN
becomes a BatchNorm and a Scale.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from deeplab_repro.arrays import Shape
from deeplab_repro.caffe import caffemodel_chunks, prototxt_text, write_caffemodel, write_prototxt
from deeplab_repro.caffe.names import unused_name
from deeplab_repro.errors import NetError
from deeplab_repro.net.channel_layers import BN, BatchNorm, Scale
from deeplab_repro.net.layers import Convolution, Deconvolution, Interp, Padding
from deeplab_repro.net.net import Blob, Layer, Net


def write_caffe(net: Net, prototxt: Path, caffemodel: Path, *, interp: bool = True) -> None:
    """Write the net in the current format, each file atomically.

    interp: keep INTERP as an Interp layer, which OpenCV and the later DeepLab's Caffe have. Without
        it, it becomes a Deconvolution with bilinear weights, as BVLC's Caffe needs it.

    Raises WeightsError where a layer has no weights, NetError without `interp` for an INTERP that
    no Deconvolution can replace, and FileError.
    """
    stock = stock_net(net, interp=interp)
    write_caffemodel(stock, caffemodel, current=True, marked=True)
    write_prototxt(stock, prototxt, current=True)


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


def stock_net(net: Net, input_shape: Shape | None = None, interp: bool = True) -> Net:
    """The same net in layers that upstream has, for one input shape. It shares the weights."""
    layers: list[Layer] = []
    names = {net.input, *(name for layer in net.layers for name in (layer.name, *layer.tops))}
    for layer, _, (top, *_) in net.walk(input_shape):
        layer = replace(layer, strict_dim=True)  # a field of the authors'
        if isinstance(layer.op, Padding):
            layers += _shifts(layer, layer.op, top[1], names)
        elif isinstance(layer.op, Interp):
            layers += _resizing(layer, layer.op, top, interp, names)
        elif isinstance(layer.op, BN):
            layers += _norm_and_scale(layer, layer.op, names)
        else:
            layers.append(layer)
    shape = tuple(input_shape or net.input_shape)
    return replace(net, input_shape=shape, layers=layers, dialect="Caffe", dense_crf=None)


def _resizing(layer: Layer, op: Interp, top: Shape, interp: bool, names: set[str]) -> list[Layer]:
    """INTERP as two steps: the convolutions of its crop, and its resizing."""
    crop, bottoms = [], layer.bottoms
    if op.pad_beg or op.pad_end:
        cropped = unused_name(f"{layer.name}_crop", names)
        padding = Padding(op.pad_beg, op.pad_end)
        crop = _shifts(Layer(cropped, padding, bottoms, (cropped,)), padding, top[1], names)
        bottoms = (cropped,)
    layer = replace(layer, bottoms=bottoms)
    # A zoom factor holds at any input size; the other parameters are replaced by the size itself.
    if not interp:
        layer = _bilinear(layer, op, channels=top[1])
    elif op.only_zooms:
        layer = replace(layer, op=Interp(zoom_factor=op.zoom_factor))
    else:
        layer = replace(layer, op=Interp(height=top[2], width=top[3]))
    return [*crop, layer]


def _norm_and_scale(layer: Layer, op: BN, names: set[str]) -> list[Layer]:
    """PSPNet's BN as the two layers that upstream has for it."""
    norm = BatchNorm(op.eps)
    arrays = {name: data.reshape(-1) for name, data in layer.weights().items()}
    arrays["factor"] = np.ones(1, np.float32)
    blobs = {name: Blob(data.shape, data) for name, data in arrays.items()}
    middle = layer.tops[0] if layer.tops == layer.bottoms else unused_name(layer.name, names)
    name = unused_name(f"{layer.name}_norm", names)
    kept = [blobs[each] for each in norm.blob_names]
    learned = [blobs["slope"], blobs["bias"]]
    return [
        Layer(name, norm, layer.bottoms, (middle,), kept),
        replace(layer, op=Scale(bias=True), bottoms=(middle,), blobs=learned),
    ]


def _bilinear(layer: Layer, op: Interp, channels: int) -> Layer:
    """INTERP by a factor z as a Deconvolution of each channel with a triangle, 2z - 1 wide.

    Its weight at i pixels from the middle is 1 - |i| / z, which a neighbour has in INTERP.
    """
    zoom = op.zoom_factor
    if op.shrink_factor > 1 or op.height is not None:
        raise NetError(
            f"layer '{layer.name}' (Interp) shrinks, or fixes its size, expected a zoom_factor: "
            "BVLC's Caffe has no layer for that, convert it with Interp"
        )
    triangle = 1 - np.abs(np.arange(1 - zoom, zoom)) / zoom
    kernel = np.outer(triangle, triangle).astype(np.float32)
    weight = np.tile(kernel, (channels, 1, 1, 1))
    side, pad = 2 * zoom - 1, zoom - 1
    deconvolution = Deconvolution(
        num_output=channels,
        kernel=(side, side),
        pad=(pad, pad),
        stride=(zoom, zoom),
        group=channels,
        bias=False,
    )
    return replace(layer, op=deconvolution, blobs=[Blob(weight.shape, weight)])


def _shifts(layer: Layer, op: Padding, channels: int, names: set[str]) -> list[Layer]:
    """PADDING as convolutions of each channel with a single 1, at any image size.

    First all sides are padded alike, by the larger pad. What is too much is then cropped by a 2x2
    kernel with hole h, whose output is h smaller: tap 1 reads the pixel h further down and right,
    so it crops the top left, and tap 0 crops the bottom right.
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
            name = unused_name(f"{layer.name}_{number}", names)
            layers.append(Layer(name, shift, bottoms, (name,), blobs))
            bottoms, pad = (name,), 0
    return layers
