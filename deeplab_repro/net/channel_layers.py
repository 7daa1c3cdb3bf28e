"""Layer types that work on each value, or on each channel, and keep the shape of their bottom.

They are what the nets after DeepLab v1 add to those of layers.py, which says how to read them.
What they compute: docs/original.md, section 1.11.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from deeplab_repro.arrays import Shape, dims
from deeplab_repro.errors import NetError
from deeplab_repro.net.layers import LayerType, axis_of

NATURAL_BASE = -1.0  # of Exp and Log: e


@dataclass(frozen=True)
class BatchNorm(LayerType):
    """(x - mean) / sqrt(variance + eps) by kept statistics, each of them divided by a factor.

    Blobs: mean C, variance C, and factor 1; a factor of 0 makes both 0. use_global_stats None means
    that only training takes the statistics of its batch.
    """

    eps: float = 1e-5
    use_global_stats: bool | None = None
    moving_average_fraction: float = 0.999

    blob_names = ("mean", "variance", "factor")
    starts_at: ClassVar[Mapping[str, float]] = {"mean": 0, "variance": 1, "factor": 1}

    def blob_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        channels = _channels(bottoms[0])
        return ((channels,), (channels,), (1,))


def kept_statistics(
    mean: np.ndarray, variance: np.ndarray, factor: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A BatchNorm's mean and variance divided by its factor, float64; zeros where that is 0."""
    part = 0.0 if factor.item() == 0 else 1 / float(factor.item())
    return mean.astype(np.float64) * part, variance.astype(np.float64) * part


@dataclass(frozen=True)
class BN(LayerType):
    """PSPNet's: slope * (x - mean) / sqrt(variance + eps) + bias, by kept statistics.

    Blobs: slope, bias, mean and variance, each 1xCx1x1. momentum and frozen are for training.
    """

    eps: float = 1e-5
    momentum: float = 0.9
    frozen: bool = False

    blob_names = ("slope", "bias", "mean", "variance")
    starts_at: ClassVar[Mapping[str, float]] = {"slope": 1, "bias": 0, "mean": 0, "variance": 1}

    def blob_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        return ((1, _channels(bottoms[0]), 1, 1),) * 4


@dataclass(frozen=True)
class Scale(LayerType):
    """The bottom times a weight of so many of its axes, from `axis` on; -1: all that follow.

    Blobs: weight, and bias of its shape. A second bottom takes the weight's place.
    """

    axis: int = 1
    num_axes: int = 1
    bias: bool = False

    bottoms_wanted = (1, 2)
    starts_at: ClassVar[Mapping[str, float]] = {"weight": 1, "bias": 0}

    def fits_any_size(self, n_bottoms: int) -> bool:
        return (n_bottoms == 2 and not self.bias) or _of_channels(self.axis, self.num_axes)

    def top_shape(self, bottoms: Sequence[Shape]) -> Shape:
        factor_shape(bottoms, self.axis, self.num_axes)
        return bottoms[0]

    def blob_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        shape = factor_shape(bottoms, self.axis, self.num_axes)
        return (shape,) * ((len(bottoms) == 1) + self.bias)


@dataclass(frozen=True)
class Bias(LayerType):
    """The bottom plus a bias of so many of its axes, from `axis` on; -1: all that follow.

    Blob: bias. A second bottom takes its place.
    """

    axis: int = 1
    num_axes: int = 1

    bottoms_wanted = (1, 2)
    blob_names = ("bias",)

    def fits_any_size(self, n_bottoms: int) -> bool:
        return n_bottoms == 2 or _of_channels(self.axis, self.num_axes)

    def top_shape(self, bottoms: Sequence[Shape]) -> Shape:
        factor_shape(bottoms, self.axis, self.num_axes)
        return bottoms[0]

    def blob_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        shape = factor_shape(bottoms, self.axis, self.num_axes)
        return (shape,) if len(bottoms) == 1 else ()


def _of_channels(axis: int, num_axes: int) -> bool:
    """Whether what is learned has no axis of the batch or of the image."""
    return (axis, num_axes) == (1, 1) or num_axes == 0


def factor_shape(bottoms: Sequence[Shape], axis: int, num_axes: int) -> Shape:
    """The shape of what a Scale multiplies with or a Bias adds: axes of the first bottom."""
    first, *second = bottoms
    if second == [()]:
        return ()
    axis = axis_of(axis, first)
    if second:
        num_axes = len(second[0])
    end = len(first) if num_axes == -1 else axis + num_axes
    if num_axes < -1 or end > len(first):
        raise NetError(f"num_axes {num_axes} from axis {axis} on, but its bottom is {dims(first)}")
    if second and second[0] != first[axis:end]:
        raise NetError(
            f"its second bottom is {dims(second[0])}, expected {dims(first[axis:end])}: "
            f"axes of {dims(first)} from axis {axis} on"
        )
    return first[axis:end]


def _channels(shape: Shape) -> int:
    return shape[1] if len(shape) > 1 else 1


@dataclass(frozen=True)
class PReLU(LayerType):
    """max(x, 0) + slope * min(x, 0), with a slope for each channel or one for all that are shared.

    Blob: slope C, or a scalar.
    """

    channel_shared: bool = False

    blob_names = ("slope",)
    starts_at: ClassVar[Mapping[str, float]] = {"slope": 0.25}

    def blob_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        if len(bottoms[0]) < 2:
            raise NetError(f"its bottom has shape {dims(bottoms[0])}, expected 2 axes or more")
        return ((),) if self.channel_shared else ((_channels(bottoms[0]),),)


@dataclass(frozen=True)
class Sigmoid(LayerType):
    """1 / (1 + exp(-x))."""


@dataclass(frozen=True)
class TanH(LayerType):
    """tanh(x)."""


@dataclass(frozen=True)
class ELU(LayerType):
    """x where it is above 0, else alpha * (exp(x) - 1)."""

    alpha: float = 1.0


@dataclass(frozen=True)
class AbsVal(LayerType):
    """|x|."""


@dataclass(frozen=True)
class Power(LayerType):
    """(shift + scale * x) ** power."""

    power: float = 1.0
    scale: float = 1.0
    shift: float = 0.0


@dataclass(frozen=True)
class Exp(LayerType):
    """base ** (shift + scale * x)."""

    base: float = NATURAL_BASE
    scale: float = 1.0
    shift: float = 0.0


@dataclass(frozen=True)
class Log(LayerType):
    """The logarithm of shift + scale * x to the base."""

    base: float = NATURAL_BASE
    scale: float = 1.0
    shift: float = 0.0


@dataclass(frozen=True)
class LRN(LayerType):
    """x / (k + alpha * the mean of squares around x) ** beta.

    The mean is over local_size channels (norm_region ACROSS_CHANNELS), or over a square of so many
    pixels (WITHIN_CHANNEL, where Caffe takes 1 for k). What lies outside counts as 0.
    """

    local_size: int = 5
    alpha: float = 1.0
    beta: float = 0.75
    norm_region: str = "ACROSS_CHANNELS"
    k: float = 1.0

    def top_shape(self, bottoms: Sequence[Shape]) -> Shape:
        if len(bottoms[0]) != 4:
            raise NetError(f"its bottom has shape {dims(bottoms[0])}, expected 4 axes: NxCxHxW")
        return bottoms[0]
