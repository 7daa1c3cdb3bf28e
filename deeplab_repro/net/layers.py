"""The layer types of DeepLab v1, as plain data, each with Caffe's shape rules.

A layer type is a small frozen dataclass. `top_shape` maps the shapes of the bottoms (NxCxHxW) to
the shape of the top; `blob_shapes` gives the shapes of the learnable arrays. Both raise NetError
when the bottoms do not suit the layer; the net adds the layer's name to the message. The layer
types of later nets are in channel_layers.py and shape_layers.py.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from deeplab_repro.arrays import HW, Shape, dims
from deeplab_repro.errors import NetError


class LayerType:
    """By default a layer type makes one top of its one bottom's shape, and learns nothing."""

    bottoms_wanted: ClassVar[tuple[int, ...]] = (1,)  # how many it may have; (): one or more
    blob_names: ClassVar[tuple[str, ...]] = ("weight", "bias")  # its learnable arrays, in order
    starts_at: ClassVar[Mapping[str, float]] = {"bias": 0}  # those that begin with one value
    several_tops: ClassVar[bool] = False  # whether it may make more than one

    def fits_any_size(self, n_bottoms: int) -> bool:  # noqa: ARG002
        """Whether it takes images, and batches, of any size."""
        return True

    def top_shape(self, bottoms: Sequence[Shape]) -> Shape:
        """The shape of the top."""
        return bottoms[0]

    def top_shapes(self, bottoms: Sequence[Shape], count: int) -> list[Shape]:
        """The shapes of so many tops: all alike, but for a Slice."""
        return [self.top_shape(bottoms)] * count

    def blob_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:  # noqa: ARG002
        """The shapes of the learnable arrays: none."""
        return ()

    def fan_in(self, weight: Shape) -> float:
        """How many values of the bottom a value of the top is a sum of, on average."""
        return math.prod(weight[1:])

    def operations(self, bottoms: Sequence[Shape]) -> int:  # noqa: ARG002
        """A convolution's additions and multiplications; those of other layers are not counted."""
        return 0


def _image(shape: Shape) -> tuple[int, int, int, int]:
    if len(shape) != 4:
        raise NetError(f"its bottom has shape {dims(shape)}, expected 4 axes: NxCxHxW")
    n, c, h, w = shape
    return n, c, h, w


def axis_of(axis: int, shape: Shape) -> int:
    """An axis of this shape counted from 0; -1 is the last. Raises NetError for others."""
    if not -len(shape) <= axis < len(shape):
        raise NetError(f"axis {axis} is not an axis of {dims(shape)}")
    return axis % len(shape)


def _several(shapes: Sequence[Shape]) -> str:
    """The first shapes that differ, as messages list them."""
    return ", ".join(map(dims, list(dict.fromkeys(shapes))[:5]))


@dataclass(frozen=True)
class Convolution(LayerType):
    """Cross-correlation with holes ("a trous", paper section 3.1): taps lie `hole` pixels apart.

    Pairs are (height, width). Blobs: weight num_output x C/group x kh x kw, and bias num_output.
    """

    num_output: int
    kernel: HW
    pad: HW = (0, 0)
    stride: HW = (1, 1)
    hole: HW = (1, 1)
    group: int = 1
    bias: bool = True

    @property
    def span(self) -> HW:
        """The extent of the kernel with its holes: k + (k-1)(hole-1)."""
        (kh, kw), (hh, hw) = self.kernel, self.hole
        return (kh - 1) * hh + 1, (kw - 1) * hw + 1

    def top_shape(self, bottoms: Sequence[Shape]) -> Shape:
        n, _, *size = _image(bottoms[0])
        out = [
            (i + 2 * p - k) // s + 1
            for i, p, k, s in zip(size, self.pad, self.span, self.stride, strict=True)
        ]
        return (n, self.num_output, *out)

    def blob_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        channels = _grouped_channels(bottoms[0], self)
        weight = (self.num_output, channels // self.group, *self.kernel)
        return (weight, (self.num_output,)) if self.bias else (weight,)

    def operations(self, bottoms: Sequence[Shape]) -> int:
        return 2 * math.prod(self.top_shape(bottoms)) * math.prod(self.blob_shapes(bottoms)[0][1:])


@dataclass(frozen=True)
class Deconvolution(LayerType):
    """Caffe's transposed convolution: every pixel adds its multiple of the kernel to the top.

    Pixels lie `stride` apart there, and `pad` is cropped from all sides. Pairs are (height, width).
    Blobs: weight C x num_output/group x kh x kw, and bias num_output.
    """

    num_output: int
    kernel: HW
    pad: HW = (0, 0)
    stride: HW = (1, 1)
    group: int = 1
    bias: bool = True

    def top_shape(self, bottoms: Sequence[Shape]) -> Shape:
        n, _, *size = _image(bottoms[0])
        # Caffe takes larger pads, but OpenCV 4.14 then writes past its memory for a kernel of 1.
        if any(p >= k for p, k in zip(self.pad, self.kernel, strict=True)):
            raise NetError(
                f"pad {dims(self.pad)} with kernel {dims(self.kernel)}, expected a smaller pad"
            )
        out = [
            s * (i - 1) + k - 2 * p
            for i, p, k, s in zip(size, self.pad, self.kernel, self.stride, strict=True)
        ]
        return (n, self.num_output, *out)

    def blob_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        channels = _grouped_channels(bottoms[0], self)
        weight = (channels, self.num_output // self.group, *self.kernel)
        return (weight, (self.num_output,)) if self.bias else (weight,)

    def fan_in(self, weight: Shape) -> float:
        return weight[0] / self.group * math.prod(self.kernel) / math.prod(self.stride)


def _grouped_channels(bottom: Shape, op: Convolution | Deconvolution) -> int:
    """The channels of the bottom. Raises NetError where the groups do not divide them."""
    channels = _image(bottom)[1]
    if channels % op.group or op.num_output % op.group:
        raise NetError(
            f"group {op.group} does not divide {channels} channels and num_output {op.num_output}"
        )
    return channels


@dataclass(frozen=True)
class InnerProduct(LayerType):
    """A fully connected layer over all axes but the first; its top has two axes, N x num_output.

    Blobs: weight num_output x K, and bias num_output.
    """

    num_output: int
    bias: bool = True

    def top_shape(self, bottoms: Sequence[Shape]) -> Shape:
        return (bottoms[0][0], self.num_output)

    def fits_any_size(self, n_bottoms: int) -> bool:  # noqa: ARG002
        return False

    def blob_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        weight = (self.num_output, math.prod(bottoms[0][1:]))
        return (weight, (self.num_output,)) if self.bias else (weight,)


@dataclass(frozen=True)
class Pooling(LayerType):
    """Caffe's pooling: sizes round up; an average counts the padding that it covers."""

    method: str  # MAX or AVE
    kernel: HW  # (0, 0): the whole image
    pad: HW = (0, 0)
    stride: HW = (1, 1)

    def top_shape(self, bottoms: Sequence[Shape]) -> Shape:
        n, c, *size = _image(bottoms[0])
        if self.kernel == (0, 0):
            return (n, c, 1, 1)
        out = []
        for i, p, k, s in zip(size, self.pad, self.kernel, self.stride, strict=True):
            o = -(-(i + 2 * p - k) // s) + 1
            # With padding, the last window must begin inside the image or its left padding.
            if any(self.pad) and (o - 1) * s >= i + p:
                o -= 1
            out.append(o)
        return (n, c, *out)


@dataclass(frozen=True)
class Interp(LayerType):
    """Bilinear resizing with aligned corners, after a crop of -pad_beg and -pad_end pixels.

    The size is height and width, or it is divided by shrink_factor and then multiplied by
    zoom_factor; either way there is one interpolation.
    """

    zoom_factor: int = 1
    shrink_factor: int = 1
    height: int | None = None
    width: int | None = None
    pad_beg: int = 0
    pad_end: int = 0

    @property
    def only_zooms(self) -> bool:
        """Whether it enlarges by a whole number, at any size."""
        return self.zoom_factor > 1 and self.shrink_factor == 1 and self.height is None

    def fits_any_size(self, n_bottoms: int) -> bool:  # noqa: ARG002
        return self.only_zooms

    def top_shape(self, bottoms: Sequence[Shape]) -> Shape:
        n, c, *size = _image(bottoms[0])
        crop = self.pad_beg + self.pad_end
        if min(size) + crop < 1:
            raise NetError(f"pads {self.pad_beg}, {self.pad_end} leave nothing of {dims(size)}")
        if self.height is not None and self.width is not None:
            return (n, c, self.height, self.width)
        out = [(i + crop - 1) // self.shrink_factor * self.zoom_factor + 1 for i in size]
        return (n, c, *out)


@dataclass(frozen=True)
class Padding(LayerType):
    """Zeros around the image, or a crop where the pads are negative (top-left, bottom-right)."""

    pad_beg: int = 0
    pad_end: int = 0

    def top_shape(self, bottoms: Sequence[Shape]) -> Shape:
        n, c, h, w = _image(bottoms[0])
        grow = self.pad_beg + self.pad_end
        return (n, c, h + grow, w + grow)


@dataclass(frozen=True)
class ReLU(LayerType):
    """max(x, 0) + negative_slope * min(x, 0)."""

    negative_slope: float = 0.0


@dataclass(frozen=True)
class Dropout(LayerType):
    """The identity when a net is run."""

    ratio: float = 0.5


@dataclass(frozen=True)
class Softmax(LayerType):
    """Softmax over the channels."""


@dataclass(frozen=True)
class Split(LayerType):
    """The identity, to several tops."""

    several_tops = True


@dataclass(frozen=True)
class Eltwise(LayerType):
    """SUM (with coefficients), PROD or MAX of bottoms of one shape."""

    operation: str = "SUM"
    coeff: tuple[float, ...] = ()

    bottoms_wanted = ()

    def top_shape(self, bottoms: Sequence[Shape]) -> Shape:
        if len(set(bottoms)) > 1:
            raise NetError(f"its bottoms have shapes {_several(bottoms)}, expected one shape")
        if self.coeff and len(self.coeff) != len(bottoms):
            raise NetError(f"{len(self.coeff)} coeff for {len(bottoms)} bottoms, expected as many")
        return bottoms[0]


@dataclass(frozen=True)
class Concat(LayerType):
    """Joins bottoms along one axis."""

    axis: int = 1

    bottoms_wanted = ()

    def top_shape(self, bottoms: Sequence[Shape]) -> Shape:
        first = bottoms[0]
        axis = axis_of(self.axis, first)
        if len({(*b[:axis], *b[axis + 1 :]) for b in bottoms}) > 1:
            raise NetError(
                f"its bottoms have shapes {_several(bottoms)}, "
                f"expected them to differ only on axis {axis}"
            )
        return (*first[:axis], sum(b[axis] for b in bottoms), *first[axis + 1 :])


@dataclass(frozen=True)
class SoftmaxLoss(LayerType):
    """Caffe's SOFTMAX_LOSS of scores and labels, over the pixels that are not ignored: a scalar."""

    ignore_label: tuple[int, ...] = ()
    loss_weight: float = 1.0

    bottoms_wanted = (2,)

    def top_shape(self, bottoms: Sequence[Shape]) -> Shape:
        _check_labels(bottoms)
        return (1, 1, 1, 1)


@dataclass(frozen=True)
class SegAccuracy(LayerType):
    """Caffe's SEG_ACCURACY of scores and labels: pixel accuracy, mean recall, mean IOU."""

    ignore_label: tuple[int, ...] = ()

    bottoms_wanted = (2,)

    def top_shape(self, bottoms: Sequence[Shape]) -> Shape:
        _check_labels(bottoms)
        return (1, 1, 1, 3)


def _check_labels(bottoms: Sequence[Shape]) -> None:
    scores, labels = bottoms
    n, _, h, w = _image((*scores, 1, 1) if len(scores) == 2 else scores)
    if labels != (n, 1, h, w):
        raise NetError(
            f"its scores are {dims(scores)} and its labels {dims(labels)}, expected labels of "
            f"{dims((n, 1, h, w))}"
        )
