"""Runs convolutions with holes on the phases of their bottom, by layers of one net of OpenCV 4.

These layers divide a blob into its phases (see phases.py) and put it together again, where parts.py
does so between nets: no blob leaves the GPU. OpenCV's CUDA backend has all of them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from deeplab_repro.arrays import HW, Shape
from deeplab_repro.engines.parts import convolution, ordinary, parts
from deeplab_repro.net.layers import Convolution, Eltwise, LayerType
from deeplab_repro.net.net import Blob, Layer, Net
from deeplab_repro.net.shape_layers import Reshape


@dataclass(frozen=True)
class Permute(LayerType):
    """The axes in another order."""

    order: tuple[int, ...]

    def top_shape(self, bottoms: Sequence[Shape]) -> Shape:
        return tuple(bottoms[0][axis] for axis in self.order)

    @property
    def parameters(self) -> str:
        """As OpenCV reads them."""
        return f"permute_param {{ {' '.join(f'order: {axis}' for axis in self.order)} }}"


def with_parameters(prototxt: bytes, net: Net) -> bytes:
    """A net's prototxt with the parameters of Permute, which Caffe's schema does not have.

    Each layer must have its own name.
    """
    for layer in net.layers:
        if isinstance(layer.op, Permute):
            name = f'name: "{layer.name}"\n'.encode()
            prototxt = prototxt.replace(name, name + layer.op.parameters.encode())
    return prototxt


def in_phases(net: Net, shape: Shape, outputs: Iterable[str]) -> Net:
    """The layers that the blobs `outputs` need, for NxCxHxW, those with holes on their phases.

    Which ones these are, `parts` says. Each layer must make one blob, and bear its name. The
    weights are shared.
    """
    shapes = net.blob_shapes(shape)
    layers: list[Layer] = []
    for part in parts(net, outputs):
        if part.way == "phases":
            layers += _block(part.layers, shapes[part.bottoms[0]])
        else:
            layers += part.layers
    return replace(net, input_shape=shape, layers=layers)


class _Chain:
    """Layers that follow each other, each with a name of its own."""

    def __init__(self, name: str, bottom: str) -> None:
        self.name, self.top = name, bottom
        self.layers: list[Layer] = []

    def add(self, op: LayerType, *weights: np.ndarray, beside: Sequence[str] = ()) -> None:
        """Add a layer; beside: the bottoms that it takes beside the top of the one before it."""
        name = f"{self.name}_{len(self.layers)}"
        blobs = [Blob(data.shape, data) for data in weights]
        self.layers.append(Layer(name, op, (self.top, *beside), (name,), blobs))
        self.top = name


def _block(layers: list[Layer], shape: Shape) -> list[Layer]:
    """The layers of one block of `parts`, whose bottom has this shape, on its phases."""
    first, last, hole = layers[0], layers[-1], convolution(layers[0]).hole
    n, channels, height, width = shape
    over = -height % hole[0], -width % hole[1]  # what the smaller phases lack
    chain = _Chain(f"{first.name}_phases", first.bottoms[0])
    _divide(chain, shape, hole, over)
    mask = _Chain(f"{first.name}_mask", first.bottoms[0])
    if any(over):  # the phases of an image of 1: 0 beyond it
        zeros = np.zeros((1, channels, 1, 1), np.float32)
        mask.add(Convolution(1, (1, 1)), zeros, np.ones(1, np.float32))
        _divide(mask, (n, 1, height, width), hole, over)
    of_one_channel = mask.top
    for step in ordinary(layers):
        if step[0].name != first.name and any(over):
            # What a convolution made beyond the image, the next one is to read as 0.
            mask.top = of_one_channel
            mask.add(
                Convolution(channels, (1, 1), bias=False), np.ones((channels, 1, 1, 1), np.float32)
            )
            chain.add(Eltwise("PROD"), beside=[mask.top])
        for layer in step:
            chain.add(layer.op, *layer.weights().values())
        channels = convolution(step[0]).num_output
    _join(chain, (n, channels, height, width), hole, over)
    chain.layers[-1] = replace(chain.layers[-1], name=last.name, tops=last.tops)
    return [*mask.layers, *chain.layers]


def _divide(chain: _Chain, shape: Shape, hole: HW, over: HW) -> None:
    """Make the phases of NxCxHxW as one batch, in the order of `to_phases`."""
    (n, c, height, width), (hy, hx) = shape, hole
    if any(over):
        _shift(chain, c, over, pad=over, tap=-1)
    rows, columns = (height + over[0]) // hy, (width + over[1]) // hx
    chain.add(Reshape((n, c, rows, hy, columns, hx)))
    chain.add(Permute((0, 3, 5, 1, 2, 4)))
    chain.add(Reshape((n * hy * hx, c, rows, columns)))


def _join(chain: _Chain, shape: Shape, hole: HW, over: HW) -> None:
    """Make NxCxHxW of its phases."""
    (n, c, height, width), (hy, hx) = shape, hole
    rows, columns = (height + over[0]) // hy, (width + over[1]) // hx
    chain.add(Reshape((n, hy, hx, c, rows, columns)))
    chain.add(Permute((0, 3, 4, 1, 5, 2)))
    chain.add(Reshape((n, c, height + over[0], width + over[1])))
    if any(over):
        _shift(chain, c, over, pad=(0, 0), tap=0)


def _shift(chain: _Chain, channels: int, by: HW, pad: HW, tap: int) -> None:
    """Pad the bottom right by `by`, or crop it, as PADDING becomes a convolution: `stock_net`."""
    kernel = 1 + (by[0] > 0), 1 + (by[1] > 0)
    weight = np.zeros((channels, 1, *kernel), np.float32)
    weight[:, :, tap, tap] = 1
    hole = max(by[0], 1), max(by[1], 1)
    chain.add(Convolution(channels, kernel, pad, hole=hole, group=channels, bias=False), weight)
