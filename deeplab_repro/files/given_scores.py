"""Scores and probabilities that other programs saved: what an array of them is.

Its shape beside the image's size tells the order of its axes and the stride, its values whether it
holds probabilities or a net's scores. What can be taken in two ways is refused, and what was taken
as what is told once for each folder.
"""

import logging
import math
import threading
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from deeplab_repro.arrays import F32, HW, Shape, dims
from deeplab_repro.errors import FormatError
from deeplab_repro.machine.memory import require_memory
from deeplab_repro.net.scores import SUM_TOLERANCE, CoarseScores, coarse_size

_log = logging.getLogger(__name__)

_MOST_STRIDE = 64
# The CRF counts smaller probabilities as 0.
_SMALLEST = np.float32(1e-20)
_WITH_STRIDE = "numpy.savez(file, scores=scores, stride=8, offset=0)"

_told: set[tuple[Path, "Taken"]] = set()
_telling = threading.Lock()


class Taken(NamedTuple):
    """What an array of C x h x w or h x w x C was taken as."""

    kind: Literal["probabilities", "scores"]
    axes: Literal["CxHxW", "HxWxC"]
    stride: int
    offset: int = 0

    def __str__(self) -> str:
        """In words."""
        where = "at the photo's size"
        if self.stride > 1 or self.offset:
            where = f"with a stride of {self.stride} pixels and an offset of {self.offset}"
        return f"{self.kind}, {self.axes}, {where}"


class GivenScores(NamedTuple):
    """What a file holds. values: CxHxW float32, as in the file but for the order of its axes."""

    values: F32
    taken: Taken

    def as_scores(self, size: HW) -> CoarseScores:
        """Scores that cover an image of `size`; of probabilities their logarithm.

        Interpolated and after a softmax it gives what the net's own scores would give. Of nets
        that pad to the same size, pixels behind the last row and column of scores take these.
        """
        values, (kind, _, stride, offset) = self.values, self.taken
        if kind == "probabilities":
            values = np.maximum(values, _SMALLEST)
            np.log(values, out=values)
        wanted = coarse_size(size, stride)
        if offset == 0 and values.shape[1:] == _same_size(size, stride):
            lacking = [n - of for n, of in zip(wanted, values.shape[1:], strict=True)]
            values = np.pad(values, [(0, 0), *((0, n) for n in lacking)], mode="edge")
        return CoarseScores(values, stride, offset)


def given_scores(values: F32, size: HW, name: str) -> GivenScores:
    """Find out what an array of three axes holds for an image of `size` = (H, W).

    name: of its file. Raises FormatError for what is neither scores nor probabilities of such an
    image, or may be of it in two ways, and ResourceError for too little memory.
    """
    axes, stride = _place(values.shape, size, name)
    if axes == "HxWxC":
        require_memory(2 * values.nbytes, f"{name}: an array of {dims(values.shape)}")
        values = np.ascontiguousarray(np.moveaxis(values, -1, 0))
    return GivenScores(values, Taken(kind_of_values(values, name), axes, stride))


def tell(path: Path, taken: Taken) -> None:
    """Tell in the log what a file was taken as, once for each folder.

    Probabilities at the photo's size, CxHxW, are what is expected: of them nothing is told.
    """
    if taken == Taken("probabilities", "CxHxW", 1):
        return
    key = path.absolute().parent, taken
    with _telling:
        if key in _told:
            return
        _told.add(key)
    _log.info("%s, and others like it there, are taken as %s", path, taken)


def kind_of_values(
    values: F32, name: str, are_scores: bool = False
) -> Literal["probabilities", "scores"]:
    """Whether values, CxHxW, are probabilities (from 0, of sum 1) or scores (some negative).

    are_scores: whether the file calls them so; they may then all be positive. Raises FormatError
    for what is neither.
    """
    low, high = float(values.min(initial=np.inf)), float(values.max(initial=-np.inf))
    if not (math.isfinite(low) and math.isfinite(high)):  # min and max hand a NaN on
        n = int(np.count_nonzero(~np.isfinite(values)))
        raise FormatError(f"{name}: has {n:,} values that are NaN or infinite{_mend(values)}")
    if len(values) == 1:
        both = "probability p save numpy.concatenate([1 - p, p])"
        if low < 0 or high > 1:
            both = "score x save numpy.concatenate([0 * x, x])"
        raise FormatError(
            f"{name}: has values of one label, which is then everywhere: of a sigmoid's {both}"
        )
    sums = values.sum(axis=0)
    if np.abs(sums - 1).max(initial=0) <= SUM_TOLERANCE:
        if low >= 0:
            return "probabilities"
        raise FormatError(
            f"{name}: goes down to {low:.3g} but sums to 1 over the labels, expected probabilities "
            "from 0, or scores: of probabilities p save numpy.maximum(p, 0)"
        )
    if low < 0 or are_scores:
        return "scores"
    mend = "of scores s save s - s.max(axis=0), of probabilities p save p / p.sum(axis=0)"
    if sums.min() == 0:
        n = len(values)
        mend = f"if all 0 means unknown, save numpy.where(p.sum(axis=0) == 0, 1 / {n}, p)"
    raise FormatError(
        f"{name}: goes from {low:.4g} to {high:.4g} and sums to {sums.min():.4g} to "
        f"{sums.max():.4g} over the labels, expected probabilities, which sum to 1, or scores, of "
        f"which some are negative: of energies e save -e, {mend}"
    )


def _mend(values: F32) -> str:
    """What to save in place of values of which some are not finite."""
    if np.isfinite(values[values != -np.inf]).all():
        return ": if they are logarithms of 0, save numpy.maximum(scores, -100)"
    unknown = np.isnan(values).all(axis=0)
    if np.isfinite(values[:, ~unknown]).all():
        return f": if these pixels are unknown, save numpy.nan_to_num(p, nan=1 / {len(values)})"
    return ": a softmax of infinite scores is NaN, see to the scores"


def _place(shape: Shape, size: HW, name: str) -> tuple[Literal["CxHxW", "HxWxC"], int]:
    """The order of the axes, and the stride. Raises FormatError unless there is one of each."""
    fitting: list[tuple[Literal["CxHxW", "HxWxC"], int]] = [
        *(("CxHxW", stride) for stride in _strides(shape[1:], size)),
        *(("HxWxC", stride) for stride in _strides(shape[:2], size)),
    ]
    # The others fit by chance, where one is at full size, or has a stride as nets have it.
    likely = [each for each in fitting if each[1] == 1]
    likely = likely or [each for each in fitting if each[1] & (each[1] - 1) == 0] or fitting
    found = f"{name}: holds {dims(shape)}"
    if len(likely) == 1 or (likely and max(shape) == 1):
        return likely[0]
    if likely:
        ways = " or ".join(f"{axes} with a stride of {stride}" for axes, stride in likely[:4])
        raise FormatError(
            f"{found}, which may be {ways} for an image of {dims(size)} (HxW): save scores, CxHxW, "
            f"with theirs, {_WITH_STRIDE}; of probabilities p, scores are numpy.log(p + 1e-20)"
        )
    mend = (
        "is it another photo's? Scores of another stride, or of a photo that was padded, are saved "
        f"as {_WITH_STRIDE}"
    )
    for axes, grid in ((1, 2), shape[1:]), ((0, 1), shape[:2]):
        if _strides(grid[::-1], size):
            mend = f"height and width are swapped, save numpy.swapaxes(array, {axes[0]}, {axes[1]})"
    raise FormatError(
        f"{found}, expected CxHxW or HxWxC of the image's {dims(size)} (HxW), or every s-th pixel "
        f"of it: {mend}"
    )


def _strides(grid: Shape, size: HW) -> list[int]:
    """The strides from the first pixel on at which an image has a grid of so many scores.

    The last scores are those of the last pixel or behind it, as of DeepLab's nets, or before it, as
    of nets that pad to the same size.
    """
    if tuple(grid) == tuple(size):
        return [1]
    if min(grid) < 1:
        return []
    strides = range(2, _MOST_STRIDE + 1)
    return [s for s in strides if tuple(grid) in (coarse_size(size, s), _same_size(size, s))]


def _same_size(size: HW, stride: int) -> HW:
    return -(-size[0] // stride), -(-size[1] // stride)
