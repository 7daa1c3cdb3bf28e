"""Net -> current Caffe: the terms that stock Caffe and OpenCV's importer know.

Holes become dilation. The two layers of the authors' that upstream lacks are said in stock terms:
an INTERP keeps its resizing only, and PADDING becomes grouped convolutions that shift the image.
"""

import numpy as np

from ..caffe import caffemodel_chunks, prototxt_text
from ..layers import HW, Convolution, Interp, Padding, Shape
from ..net import Blob, Layer, Net


def to_caffe(net: Net, input_shape: Shape | None = None) -> tuple[bytes, bytes]:
    """The net as a prototxt and a caffemodel in the current format, both as bytes in memory.

    `input_shape` is NxCxHxW, the net's own by default. Raises WeightsError where a layer has no
    weights, and NetError where the net does not fit the shape.
    """
    stock = stock_net(net, input_shape)
    prototxt = prototxt_text(stock, current=True).encode()
    return prototxt, b"".join(caffemodel_chunks(stock, current=True))


def stock_net(net: Net, input_shape: Shape | None = None) -> Net:
    """The same net with upstream's layers only, for one input shape; it shares the weights."""
    layers = []
    for layer, bottoms, top in net.walk(input_shape):
        channels = top[1]
        if isinstance(layer.op, Padding):
            layers += _shifts(layer, layer.op.pad_beg, layer.op.pad_end, channels)
        elif isinstance(layer.op, Interp):
            layers += _resizing(layer, layer.op, top)
        else:
            layers.append(layer)
    return Net(
        name=net.name,
        input=net.input,
        input_shape=tuple(input_shape or net.input_shape),
        layers=layers,
        mean_bgr=net.mean_bgr,
    )


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

    A 2x2 kernel with hole h reads the pixel itself (tap 0) or the one h further down and right
    (tap 1), and its output is h smaller: tap 1 crops h at the top left, tap 0 at the bottom right.
    With a pad they add zeros on the other side instead.
    """
    bottom = layer.bottoms[0]
    steps: list[tuple[int, int, int]]  # hole, tap, pad
    if pad_beg <= 0 and pad_end <= 0:
        steps = [(-pad_beg, 1, 0), (-pad_end, 0, 0)]
    else:
        pad = max(pad_beg, pad_end)
        # With the same pad on both sides, what is too much on one side is cropped there.
        steps = [(pad - pad_beg, 1, pad), (pad - pad_end, 0, pad)]
        steps = [step for step in steps if step[0]] or [(0, 0, pad)]
    steps = [step for step in steps if step[0] or step[2]] or [(0, 0, 0)]
    layers = []
    for number, (hole, tap, pad) in enumerate(steps, start=1):
        last = number == len(steps)
        name = layer.name if last else f"{layer.name}_{number}"
        side = 2 if hole else 1
        kernel: HW = (side, side)
        weight = np.zeros((channels, 1, *kernel), np.float32)
        weight[:, :, -tap, -tap] = 1  # -0 is the first tap, -1 the last
        op = Convolution(
            channels, kernel, (pad, pad), hole=(hole or 1, hole or 1), group=channels, bias=False
        )
        top = layer.tops[0] if last else name
        layers.append(Layer(name, op, (bottom,), (top,), [Blob(weight.shape, weight)]))
        bottom = top
    return layers
