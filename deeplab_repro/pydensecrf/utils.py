"""pydensecrf's `utils`: unary energies from labels or a softmax, and features for any dimensions.

All errors are ArgumentError, which is a ValueError.
"""
# ruff: noqa: N803 - pydensecrf's argument names

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from deeplab_repro.arrays import F32, dims
from deeplab_repro.errors import ArgumentError
from deeplab_repro.pydensecrf.arguments import SUM_TOLERANCE, deviations, shown, whole_number

logger = logging.getLogger(__name__)


# Resizing with cubic or Lanczos kernels takes probabilities a little beyond 0 and 1.
OVERSHOOT = 0.25


def unary_from_labels(
    labels: npt.NDArray[Any], n_labels: int, gt_prob: float, zero_unsure: bool = True
) -> F32:
    """Energies n_labels x N from a map of N labels that are right with probability gt_prob.

    labels: integers, any shape. gt_prob: between 0 and 1; the other labels share the rest.
    zero_unsure: 0 means unknown, all labels are equally likely there, and the n_labels labels are
    1 to n_labels; otherwise they are 0 to n_labels - 1.
    """
    flat = _array("labels", labels).ravel()
    if flat.dtype.kind not in "iub":
        raise ArgumentError(
            f"labels is {labels.dtype}; expected integers, convert it with .astype(np.int32)"
        )
    n_labels = whole_number("n_labels", n_labels, 2)
    if not 0 < gt_prob < 1:
        raise ArgumentError(
            f"gt_prob is {shown(gt_prob)}; expected a probability above 0 and below 1"
        )
    index = flat.astype(np.intp)
    if index.size:
        _check_labels(index, n_labels, zero_unsure)
    unary = np.full((n_labels, index.size), -np.log((1 - gt_prob) / (n_labels - 1)), np.float32)
    unary[index - int(zero_unsure), np.arange(index.size)] = -np.log(gt_prob)
    if zero_unsure:
        unary[:, index == 0] = -np.log(1 / n_labels)
    return unary


def _check_labels(labels: npt.NDArray[np.intp], n_labels: int, zero_unsure: bool) -> None:
    highest = n_labels if zero_unsure else n_labels - 1
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high > highest:
        expected = (
            f"1 to {highest}, or 0 for unknown (zero_unsure=False makes it a label)"
            if zero_unsure
            else f"0 to {highest}"
        )
        mend = "; set void pixels to 0 with zero_unsure=True" if high == 255 else ""
        raise ArgumentError(f"labels go from {low} to {high}; expected {expected}{mend}")


def compute_unary(labels: npt.NDArray[Any], M: int, GT_PROB: float = 0.5) -> F32:
    """Deprecated in pydensecrf: unary_from_labels with zero_unsure."""
    logger.warning("compute_unary is deprecated, use unary_from_labels instead")
    return unary_from_labels(labels, M, GT_PROB)


def unary_from_softmax(
    sm: npt.NDArray[Any], scale: float | None = None, clip: float | None = 1e-5
) -> F32:
    """Energies -log p, C x N float32, of probabilities.

    sm: C x any shape of N points. scale: above 0 and at most 1, how far to believe them; the rest
    is shared by all labels. clip: the least probability, or None to let 0 become +inf.
    Probabilities need not sum to 1, and what resizing took a little beyond 0 and 1 is clipped.
    """
    probs = _array("sm", sm)
    if not probs.ndim or not probs.size:
        raise ArgumentError(f"sm has shape {dims(probs.shape)}; expected labels x points")
    low, high = float(probs.min()), float(probs.max())
    if not (low >= -OVERSHOOT and high <= 1 + OVERSHOOT):  # false for NaN
        raise ArgumentError(
            f"sm goes from {low:.4g} to {high:.4g}; expected probabilities from 0 to 1."
            " Are these scores? Apply a softmax over the first axis"
        )
    if probs.ndim > 1 and _sums_to_one(probs, -1) and not _sums_to_one(probs, 0):
        raise ArgumentError(
            f"sm has shape {dims(probs.shape)} and sums to 1 over its last axis; expected the"
            " labels first, use np.moveaxis(sm, -1, 0)"
        )
    if scale is not None:
        if not 0 < scale <= 1:
            raise ArgumentError(f"scale is {shown(scale)}; expected a number above 0 and at most 1")
        probs = np.add(scale * probs, (1 - scale) / len(probs), dtype=np.float64)
    if clip is not None:
        if not 0 <= clip < 1:
            raise ArgumentError(f"clip is {shown(clip)}; expected a probability from 0, or None")
        probs = np.clip(probs, clip, 1.0)
    with np.errstate(divide="ignore"):
        return -np.log(probs).reshape(len(probs), -1).astype(np.float32, order="C")


def _sums_to_one(probs: npt.NDArray[Any], axis: int) -> bool:
    sums = probs.sum(axis=axis, dtype=np.float64)
    # Half precision is as good as 5e-4 for each value.
    return bool((np.abs(sums - 1) < 10 * SUM_TOLERANCE).all())


def softmax_to_unary(sm: npt.NDArray[Any], GT_PROB: float = 1) -> F32:
    """Deprecated in pydensecrf: unary_from_softmax with scale GT_PROB."""
    logger.warning("softmax_to_unary is deprecated, use unary_from_softmax instead")
    return unary_from_softmax(sm, None if GT_PROB == 1 else GT_PROB, clip=None)


def create_pairwise_gaussian(sdims: Sequence[float], shape: Sequence[int]) -> F32:
    """Positions for DenseCRF.addPairwiseEnergy: len(shape) x N float32, N points in row order.

    sdims: one standard deviation for each axis of the array, in steps: (y, x) for an image, other
    than DenseCRF2D's sxy.
    """
    sizes = [whole_number("each size in shape", size, 1) for size in shape]
    deviation = deviations("sdims", sdims, [f"axis {axis}" for axis in range(len(sizes))])
    positions = np.indices(sizes, np.float32).reshape(len(sizes), -1)
    return positions / deviation[:, None]


def create_pairwise_bilateral(
    sdims: Sequence[float],
    schan: float | Sequence[float],
    img: npt.NDArray[Any],
    chdim: int = -1,
) -> F32:
    """Positions and values for DenseCRF.addPairwiseEnergy: (axes + channels) x N float32.

    sdims: as in create_pairwise_gaussian. schan: standard deviation of the values, one or one a
    channel. img: an array of any shape and number type. chdim: its axis of channels, from 0;
    -1 (the default) means that there is none, not the last.
    """
    values = _channels_first(_array("img", img), chdim)
    if not np.isfinite(values).all():
        raise ArgumentError("img has values that are NaN or infinite; expected finite ones")
    if chdim == -1 and np.shape(sdims) == (img.ndim - 1,):
        raise ArgumentError(
            f"sdims has {len(sdims)} values for the {img.ndim} axes of img; chdim=-1 means no axis"
            f" of channels, use chdim={img.ndim - 1} if the last is one"
        )
    positions = create_pairwise_gaussian(sdims, values.shape[1:])
    names = [f"channel {channel}" for channel in range(len(values))]
    deviation = deviations("schan", schan, names)
    channels = values.reshape(len(values), -1).astype(np.float32) / deviation[:, None]
    return np.concatenate([positions, channels])


def _channels_first(img: npt.NDArray[Any], chdim: int) -> npt.NDArray[Any]:
    if chdim == -1:
        return img[np.newaxis]
    if chdim not in range(img.ndim):
        raise ArgumentError(
            f"chdim is {shown(chdim)} and img has shape {dims(img.shape)}; expected its axis of"
            f" channels, 0 to {img.ndim - 1}, or -1 for none"
        )
    return np.moveaxis(img, chdim, 0)


def _array(name: str, value: object) -> npt.NDArray[Any]:
    if not isinstance(value, np.ndarray):
        raise ArgumentError(
            f"{name} is a {type(value).__name__}; expected an array, use np.array(...)"
        )
    return value
