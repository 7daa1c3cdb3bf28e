"""Where a net's tiles lie on its input, so that together they make what the whole makes.

All is geometry, along one axis at a time. The first and the last values of a tile's scores depend
on what lies beyond the tile, where the net would see padding: they are left to the tiles beside it.
At the input's own border padding is what the whole sees too. Offsets are multiples of all strides
on the way, and tiles have one size, which leaves the rest that the whole's leaves. So every layer
meets the same values in the same places.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from deeplab_repro.arrays import Shape
from deeplab_repro.errors import NetError
from deeplab_repro.net.channel_layers import (
    BN,
    ELU,
    LRN,
    AbsVal,
    BatchNorm,
    Bias,
    Exp,
    Log,
    Power,
    PReLU,
    Scale,
    Sigmoid,
    TanH,
)
from deeplab_repro.net.layers import (
    Concat,
    Convolution,
    Deconvolution,
    Dropout,
    Eltwise,
    Interp,
    LayerType,
    Padding,
    Pooling,
    ReLU,
    Softmax,
    Split,
    axis_of,
)
from deeplab_repro.net.net import Layer, Net
from deeplab_repro.net.shape_layers import ArgMax, Crop, Slice, Tile

_OF_EACH_VALUE = (
    ReLU | Dropout | Softmax | Split | Eltwise | BatchNorm | BN | PReLU | Sigmoid | TanH | ELU
) | (AbsVal | Power | Exp | Log)
_ALONG_AN_AXIS = Concat | Slice | Tile | ArgMax


@dataclass(frozen=True)
class Piece:
    """One tile along one axis: what it reads of the input, and which of its scores are the whole's.

    input: of the whole input. made: of the tile's own scores. output: where these lie in the whole.
    """

    input: slice
    made: slice
    output: slice


@dataclass(frozen=True)
class Axis:
    """One axis of a net: how long its input and its output are, and how tiles lie on it.

    stride: input values per output value. step: offsets of tiles are multiples of it. before,
    after: so many of a tile's first and last output values depend on what lies beyond the tile.
    """

    size: int
    output_size: int
    stride: Fraction = Fraction(1)
    step: int = 1
    before: int = 0
    after: int = 0

    @property
    def most(self) -> int:
        """The largest number of tiles, which are then the least long."""
        return max(1, self._steps)

    @property
    def _steps(self) -> int:
        """How many steps the values of the whole extend over that depend on nothing beyond it."""
        return math.floor(self.stride * (self.output_size - self.before - self.after) / self.step)

    def length(self, count: int) -> int:
        """The least length of each of so many tiles, or of fewer."""
        return self.size - self.step * max(0, (count - 1) * self._steps // count)

    def pieces(self, length: int) -> Iterator[Piece]:
        """Tiles of this length, one that `length` gives, from the first to the last."""
        shorter = self.size - length
        made = self.output_size - round(shorter / self.stride)
        advance = self.step * self._steps - shorter
        before_last = range(0, shorter, advance) if shorter else ()
        end = 0
        for offset in (*before_last, shorter):
            at = round(offset / self.stride)
            begin, end = end, self.output_size if offset == shorter else at + made - self.after
            part = slice(begin - at, end - at)
            yield Piece(slice(offset, offset + length), part, slice(begin, end))


def axes_of(net: Net, shape: Shape) -> tuple[Axis, Axis]:
    """The rows and the columns of a net from its input of this shape, NxCxHxW, to its output.

    Raises NetError, naming the layer, where tiles cannot make what the whole makes.
    """
    steps = list(net.walk(shape))
    return _axis(net, shape, steps, 0), _axis(net, shape, steps, 1)


@dataclass(frozen=True)
class _Values:
    """Along one axis, the values of a blob from begin to end depend on nothing beyond the input.

    All of them are `size`, and lie `stride` input values apart.
    """

    size: int
    stride: Fraction
    begin: int
    end: int


def _axis(
    net: Net, shape: Shape, steps: Sequence[tuple[Layer, list[Shape], list[Shape]]], axis: int
) -> Axis:
    size = shape[2 + axis]
    found = {net.input: _Values(size, Fraction(1), 0, size)}
    step = 1
    for layer, bottoms, tops in steps:
        if any(len(each) != 4 for each in (*bottoms, *tops)):
            raise _untileable(layer, "has blobs that are no maps")
        if len({found[bottom].stride for bottom in layer.bottoms}) > 1:
            raise _untileable(layer, "joins blobs of different strides")
        taken = [found[bottom] for bottom in layer.bottoms]
        stride, begin, end = _layer(layer, taken, bottoms, axis)
        step = math.lcm(step, stride.numerator)
        for name, top in zip(layer.tops, tops, strict=True):
            n = top[2 + axis]
            found[name] = _Values(n, stride, min(max(begin, 0), n), max(0, min(end, n)))
    last = found[net.output]
    return Axis(size, last.size, last.stride, step, last.begin, last.size - last.end)


def _layer(
    layer: Layer, taken: Sequence[_Values], bottoms: Sequence[Shape], axis: int
) -> tuple[Fraction, int, int]:
    """The stride of a layer's tops, and their values that depend on nothing beyond the input."""
    op, first = layer.op, taken[0]
    begin, end = max(each.begin for each in taken), min(each.end for each in taken)
    if isinstance(op, Convolution):
        return _window(first, op.span[axis], op.pad[axis], op.stride[axis])
    if isinstance(op, Pooling) and op.kernel != (0, 0):
        return _window(first, op.kernel[axis], op.pad[axis], op.stride[axis])
    if isinstance(op, LRN) and op.norm_region == "WITHIN_CHANNEL":
        return _window(first, op.local_size, (op.local_size - 1) // 2, 1)
    if isinstance(op, Deconvolution):
        stride, pad = op.stride[axis], op.pad[axis]
        # Value i adds to those from stride * i - pad on, as many as the kernel has.
        begin = (begin - 1) * stride + op.kernel[axis] - pad
        return first.stride / stride, begin, end * stride - pad
    if isinstance(op, Interp) and op.height is None:
        apart = Fraction(op.shrink_factor, op.zoom_factor)
        if (first.size + op.pad_beg + op.pad_end - 1) % op.shrink_factor:
            raise _untileable(layer, f"shrinks {first.size} by no whole number")
        begin = math.ceil((begin + op.pad_beg) / apart)
        return first.stride * apart, begin, math.floor((end - 1 + op.pad_beg) / apart) + 1
    if isinstance(op, Padding):
        return first.stride, begin + op.pad_beg, end + op.pad_beg
    if isinstance(op, Crop):
        offset = op.begins(bottoms[0])[2 + axis]
        return first.stride, first.begin - offset, first.end - offset
    if not _keeps_places(op, bottoms):
        raise _untileable(layer, "depends on the image as a whole")
    return first.stride, begin, end


def _window(taken: _Values, span: int, pad: int, stride: int) -> tuple[Fraction, int, int]:
    """What a window over `span` values makes, which begins at stride * i - pad for value i."""
    begin = -(-(taken.begin + pad) // stride)
    return taken.stride * stride, begin, (taken.end + pad - span) // stride + 1


def _keeps_places(op: LayerType, bottoms: Sequence[Shape]) -> bool:
    """Whether a value depends on those in its own place alone, whatever the place is."""
    if isinstance(op, _ALONG_AN_AXIS):
        return op.axis is not None and axis_of(op.axis, bottoms[0]) < 2
    if isinstance(op, Scale | Bias):
        return op.fits_any_size(len(bottoms))
    return isinstance(op, _OF_EACH_VALUE | LRN)


def _untileable(layer: Layer, why: str) -> NetError:
    return NetError(f"layer '{layer.name}' ({layer.type}) {why}, so it does not run in tiles")
