"""Scores on the net's coarse grid, as they are before INTERP enlarges them; INTERP; softmax.

Coarse scores are what files keep of a photo: they have a 64th of the size of the enlarged scores,
which follow from them.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from deeplab_repro.arrays import F32, HW, dims, in_brief
from deeplab_repro.errors import ArgumentError
from deeplab_repro.machine.device import ScoresType

SUM_TOLERANCE = 0.01
"""How far a pixel's probabilities may sum from 1: enough for values kept in half precision."""

_ROWS_AT_ONCE = 64


@dataclass(frozen=True, eq=False)
class CoarseScores:
    """Scores for every `stride`-th pixel along both axes, from `offset` pixels before the first.

    values: CxHxW float16 or float32.
    """

    values: npt.NDArray[np.floating]
    stride: int
    offset: int = 0

    __repr__ = in_brief

    def covering(self, size: HW) -> "CoarseScores":
        """The part that an image of `size` = (H, W) needs, as a view."""
        height, width = coarse_size(size, self.stride, self.offset)
        return CoarseScores(self.values[:, :height, :width], self.stride, self.offset)

    def rounded(self, precision: ScoresType) -> "CoarseScores":
        """These in "float16" or "float32". Raises ArgumentError where they exceed its range."""
        largest = np.abs(self.values).max(initial=0)
        if largest > np.finfo(precision).max:
            raise ArgumentError(
                f"scores go up to {largest:.3g}, out of the range of {precision}: keep float32"
            )
        return CoarseScores(self.values.astype(precision), self.stride, self.offset)

    def check_covers(self, size: HW) -> None:
        """Raise ArgumentError where the scores do not cover an image of `size` = (H, W)."""
        reach = [(n - 1) * self.stride + 1 - self.offset for n in self.values.shape[1:]]
        if reach[0] < size[0] or reach[1] < size[1]:
            raise ArgumentError(
                f"the scores, {dims(self.values.shape)} with a stride of {self.stride}, cover "
                f"{dims(reach)} pixels, expected the image's {dims(size)} (HxW): are they another "
                "image's?"
            )

    def enlarged(self, size: HW) -> F32:
        """The scores at an image's `size` = (H, W), as INTERP and the crop after it give them.

        Bilinear in float32, with aligned corners (docs/original.md, 1.3). CxHxW float32.

        Raises ArgumentError where the scores do not cover the image.
        """
        return self.enlarged_rows(size, 0, size[0])

    def enlarged_rows(self, size: HW, first: int, last: int) -> F32:
        """The rows first..last of `enlarged`, the same bits: Cx(last - first)xW float32."""
        self.check_covers(size)
        begins = self.offset + first, self.offset
        ends = self.offset + last, self.offset + size[1]
        if self.stride == 1:
            rows, columns = map(slice, begins, ends)
            return np.ascontiguousarray(self.values[:, rows, columns], np.float32)
        (above, below, down), across = map(self._positions, (1, 2), begins, ends)
        top = above.min(initial=self.values.shape[1])
        values = self.values[:, top : below.max(initial=0) + 1].astype(np.float32, copy=False)
        values = _interpolated(values, 2, *across)  # along rows first, as the original
        return _interpolated(values, 1, above - top, below - top, down)

    def labels(self, size: HW) -> npt.NDArray[np.uint8]:
        """The most probable label of each pixel of an image, HxW uint8; ties to the lowest.

        Raises what `enlarged` raises, and takes less memory.
        """
        labels = np.empty(size, np.uint8)
        for first in range(0, size[0], _ROWS_AT_ONCE):
            last = min(first + _ROWS_AT_ONCE, size[0])
            labels[first:last] = self.enlarged_rows(size, first, last).argmax(axis=0)
        return labels

    def _positions(self, axis: int, begin: int, end: int) -> tuple[np.ndarray, np.ndarray, F32]:
        n_in = self.values.shape[axis]
        first, second, part = interp_positions(n_in, (n_in - 1) * self.stride + 1)
        return first[begin:end], second[begin:end], part[begin:end]


def _interpolated(values: F32, axis: int, first: np.ndarray, second: np.ndarray, part: F32) -> F32:
    part = part.reshape([-1 if each == axis else 1 for each in range(3)])
    out = values.take(first, axis)
    out *= 1 - part
    further = values.take(second, axis)
    further *= part
    out += further
    return out


def coarse_size(size: HW, stride: int, offset: int = 0) -> HW:
    """How many rows and columns of scores an image of `size` = (H, W) needs."""
    return -(-(size[0] - 1 + offset) // stride) + 1, -(-(size[1] - 1 + offset) // stride) + 1


def interp_positions(n_in: int, n_out: int) -> tuple[np.ndarray, np.ndarray, F32]:
    """For each output of INTERP along one axis: its two inputs, and the weight of the second.

    The formula is that of docs/original.md, 1.3, in float32. n_out int64, n_out int64, n_out
    float32.
    """
    scale = np.float32(n_in - 1) / np.float32(n_out - 1) if n_out > 1 else np.float32(0)
    if n_in == n_out:
        scale = np.float32(1)
    at = scale * np.arange(n_out, dtype=np.float32)
    first = at.astype(np.int64)
    second = np.minimum(first + 1, n_in - 1)
    return first, second, at - first.astype(np.float32)


def softmax(scores: np.ndarray) -> np.ndarray:
    """Softmax over the labels of CxHxW float32 scores, maximum subtracted, in float32."""
    # A difference too large becomes -inf, and one of infinities NaN, which the caller looks for.
    with np.errstate(over="ignore", invalid="ignore"):
        probs = scores - scores.max(axis=0)
    np.exp(probs, out=probs)
    probs /= probs.sum(axis=0)
    return probs
