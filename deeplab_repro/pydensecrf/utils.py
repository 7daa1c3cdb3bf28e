"""pydensecrf's `utils`: unary energies from labels or a softmax, and features for any dimensions.

All errors are ArgumentError, which is a ValueError.
"""
# ruff: noqa: N803 - pydensecrf's argument names

import logging
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from deeplab_repro.arrays import F32, dims
from deeplab_repro.errors import ArgumentError
from deeplab_repro.machine.memory import require_memory
from deeplab_repro.net.given import OVERSHOOT, as_array
from deeplab_repro.pydensecrf.arguments import (
    are_distributions,
    deviations,
    number_in,
    numbers_in,
    shown,
    warn_once,
    whole_number,
)

logger = logging.getLogger(__name__)


def unary_from_labels(
    labels: npt.NDArray[Any], n_labels: int, gt_prob: float, zero_unsure: bool = True
) -> F32:
    """Energies n_labels x N from a map of N labels that are right with probability gt_prob.

    labels: integers, any shape. gt_prob: between 0 and 1; the other labels share the rest.
    zero_unsure: 0 means unknown, all labels are equally likely there, and the n_labels labels are
    1 to n_labels; otherwise they are 0 to n_labels - 1.

    >>> unary = unary_from_labels(np.array([[1, 2], [0, 2]]), 2, gt_prob=0.7)
    >>> unary.shape, unary.argmin(axis=0)  # of the unknown point both energies are the same
    ((2, 4), array([0, 1, 0, 1]))
    """
    flat = _array("labels", labels).ravel()
    if flat.dtype.kind not in "iub":
        raise ArgumentError(f"labels is {flat.dtype}; expected integers, {_mend_for_type(flat)}")
    n_labels = whole_number("n_labels", n_labels, 2)
    sure = number_in(gt_prob)
    if not 0 < sure < 1:
        raise ArgumentError(
            f"gt_prob is {shown(gt_prob)}; expected a probability above 0 and below 1"
        )
    has_unsure = bool(zero_unsure)
    require_memory((4 * n_labels + 24) * flat.size, f"a unary of {n_labels}x{flat.size}")
    index = flat.astype(np.intp)
    if index.size:
        _check_labels(index, n_labels, has_unsure)
    unary = np.full((n_labels, index.size), -np.log((1 - sure) / (n_labels - 1)), np.float32)
    unary[index - has_unsure, np.arange(index.size)] = -np.log(sure)
    if has_unsure:
        unary[:, index == 0] = -np.log(1 / n_labels)
    return unary


def _mend_for_type(labels: npt.NDArray[Any]) -> str:
    if labels.dtype.kind == "f" and np.isnan(labels).any():
        return "if NaN is unknown, use np.nan_to_num(labels, nan=255).astype(np.int32)"
    if labels.dtype.kind == "f" and (labels != np.rint(labels)).any():
        both = "utils.unary_from_softmax(np.stack([1 - p, p]))"
        return f"of the probability p of one of two labels use {both}"
    return "use labels.astype(np.int32)"


def _check_labels(labels: npt.NDArray[np.intp], n_labels: int, has_unsure: bool) -> None:
    highest = n_labels if has_unsure else n_labels - 1
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high > highest:
        expected = (
            f"1 to {highest}, or 0 for unknown (zero_unsure=False makes it a label)"
            if has_unsure
            else f"0 to {highest}"
        )
        mend = _mend_for_labels(labels, n_labels, has_unsure)
        raise ArgumentError(f"labels go from {low} to {high}; expected {expected}{mend}")


def _mend_for_labels(labels: npt.NDArray[np.intp], n_labels: int, has_unsure: bool) -> str:
    """What makes labels of void pixels (255 or -1), of masks, or of numbers of any kind."""
    found = np.unique(labels)
    is_void = (found == 255) | (found == -1)
    void, used = found[is_void], found[~is_void]
    highest = used.max(initial=0)
    is_grey = highest == 0 or highest > n_labels  # a JPEG of a mask has values in between
    if n_labels == 2 and found[0] >= 0 and 127 < found[-1] <= 255 and is_grey:
        return "; of a mask of 0 and 255 use (labels > 127).astype(int) with zero_unsure=False"
    if len(void) == 1 and used.min(initial=0) == 0 and highest <= n_labels:
        zero_based = f"np.where(labels == {void[0]}, 0, labels + 1)"
        one_based = f"np.where(labels == {void[0]}, 0, labels)"
        if highest == n_labels:
            return f"; if {void[0]} is unknown as 0 is, use {one_based} with zero_unsure=True"
        if not has_unsure:
            return f"; if {void[0]} is unknown, use {zero_based} with zero_unsure=True"
        return (
            f"; if {void[0]} is unknown, use {zero_based} where 0 is a label, and {one_based} where"
            " it is unknown too"
        )
    # Grey values, or numbers that do not follow each other.
    more = int(has_unsure and found[0] != 0)
    if found[0] >= 0 and len(found) + more <= n_labels + has_unsure:
        return "; they are numbered by np.unique(labels, return_inverse=True)[1]" + " + 1" * more
    return ""


def compute_unary(labels: npt.NDArray[Any], M: int, GT_PROB: float = 0.5) -> F32:
    """Deprecated in pydensecrf: unary_from_labels with zero_unsure.

    >>> compute_unary(np.array([[1, 2], [0, 2]]), 2, 0.7).shape
    (2, 4)
    """
    logger.warning("compute_unary is deprecated, use unary_from_labels instead")
    return unary_from_labels(labels, M, GT_PROB)


def unary_from_softmax(
    sm: npt.NDArray[Any], scale: float | None = None, clip: float | None = 1e-5
) -> F32:
    """Energies -log p, C x N float32, of probabilities.

    sm: C x any shape of N points. scale: above 0 and at most 1, how far to believe them; the rest
    is shared by all labels. clip: the least probability, or None to let 0 become +inf.
    Probabilities need not sum to 1, and what resizing took a little beyond 0 and 1 is clipped.

    >>> unary_from_softmax(np.full((21, 60, 80), 1 / 21)).shape
    (21, 4800)
    """
    probs = _array("sm", sm)
    if not probs.ndim or not probs.size:
        raise ArgumentError(f"sm has shape {dims(probs.shape)}; expected labels x points")
    low, high = float(probs.min()), float(probs.max())
    if np.isnan(low):
        count = np.count_nonzero(np.isnan(probs))
        raise ArgumentError(
            f"sm has {count} values that are NaN; expected probabilities from 0 to 1, if they are"
            " of unknown points use np.nan_to_num(sm)"
        )
    if not (low >= -OVERSHOOT and high <= 1 + OVERSHOOT):
        mend = "Apply a softmax over the first axis"
        if low >= 0 and high <= 255 and probs.dtype.kind in "iu":
            mend = "Of 8 bits use sm / 255"
        raise ArgumentError(
            f"sm goes from {low:.4g} to {high:.4g}; expected probabilities from 0 to 1."
            f" Are these scores? {mend}"
        )
    if probs.ndim > 1:
        _check_order(probs)
    require_memory(12 * probs.size, f"a unary of {len(probs)}x{probs.size // len(probs)}")
    if scale is not None:
        sure = number_in(scale)
        if not 0 < sure <= 1:
            raise ArgumentError(f"scale is {shown(scale)}; expected a number above 0 and at most 1")
        probs = np.add(sure * probs, (1 - sure) / len(probs), dtype=np.float64)
    if clip is not None:
        # A plain float keeps single precision single; pydensecrf also takes one for each label.
        least: Any = clip if np.ndim(clip) else number_in(clip)
        if not np.all((np.asarray(least) >= 0) & (np.asarray(least) < 1)):
            raise ArgumentError(f"clip is {shown(clip)}; expected a probability from 0, or None")
        probs = np.clip(probs, least, 1.0)
    with np.errstate(divide="ignore"):
        return -np.log(probs).reshape(len(probs), -1).astype(np.float32, order="C")


def _check_order(probs: npt.NDArray[Any]) -> None:
    """Raise ArgumentError if the labels are last, or were before the array was reshaped."""
    is_last = are_distributions(np.moveaxis(probs, -1, 0))
    is_mixed = probs.flags.c_contiguous and are_distributions(probs.reshape(-1, len(probs)).T)
    if not (is_last or is_mixed) or are_distributions(probs):
        return
    if is_last:
        raise ArgumentError(
            f"sm has shape {dims(probs.shape)} and sums to 1 over its last axis; expected the"
            " labels first, use np.moveaxis(sm, -1, 0)"
        )
    raise ArgumentError(
        "sm was reshaped with its labels last, which mixes labels and points; expected the labels"
        " first, use np.moveaxis(p, -1, 0) and no reshape"
    )


def softmax_to_unary(sm: npt.NDArray[Any], GT_PROB: float = 1) -> F32:
    """Deprecated in pydensecrf: unary_from_softmax with scale GT_PROB.

    >>> softmax_to_unary(np.full((21, 60, 80), 1 / 21)).shape
    (21, 4800)
    """
    logger.warning("softmax_to_unary is deprecated, use unary_from_softmax instead")
    return unary_from_softmax(sm, None if GT_PROB == 1 else GT_PROB, clip=None)


def create_pairwise_gaussian(sdims: Sequence[float], shape: Sequence[int]) -> F32:
    """Positions for DenseCRF.addPairwiseEnergy: len(shape) x N float32, N points in row order.

    sdims: one standard deviation for each axis of the array, in steps: (y, x) for an image, other
    than DenseCRF2D's sxy.

    >>> create_pairwise_gaussian(sdims=(2, 1), shape=(2, 3))
    array([[0. , 0. , 0. , 0.5, 0.5, 0.5],
           [0. , 1. , 2. , 0. , 1. , 2. ]], dtype=float32)
    """
    if not isinstance(shape, Iterable):
        raise ArgumentError(f"shape is {shown(shape)}; expected lengths, say (height, width)")
    sizes = [whole_number("each size in shape", size, 1) for size in shape]
    deviation = deviations("sdims", sdims, _axes(len(sizes)))
    _require_memory(len(sizes), sizes)
    features = np.empty((len(sizes), *sizes), np.float32)
    _write_positions(features, deviation)
    return features.reshape(len(sizes), -1)


def _axes(count: int) -> list[str]:
    return [f"axis {axis}" for axis in range(count)]


def _require_memory(n_features: int, sizes: Sequence[int]) -> None:
    """Raise ResourceError unless there is memory for so many float32 features of all points."""
    points = math.prod(sizes)
    require_memory(4 * n_features * points, f"{n_features} features of {points} points")


def _write_positions(features: F32, deviation: F32) -> None:
    """Write the positions of an array's elements, axis by axis, each over its deviation."""
    sizes = features.shape[1:]
    for axis, size in enumerate(sizes):
        positions = np.arange(size, dtype=np.float32) / deviation[axis]
        features[axis] = positions.reshape(-1, *[1] * (len(sizes) - axis - 1))


def create_pairwise_bilateral(
    sdims: Sequence[float],
    schan: float | Sequence[float],
    img: npt.NDArray[Any],
    chdim: int = -1,
) -> F32:
    """Positions and values for DenseCRF.addPairwiseEnergy: (axes + channels) x N float32.

    sdims: as in create_pairwise_gaussian. schan: standard deviation of the values, one or one a
    channel. img: an array of any shape and number type. chdim: its axis of channels; -1 (the
    default) means that there is none, not the last.

    >>> image = np.zeros((60, 80, 3), np.uint8)
    >>> create_pairwise_bilateral(sdims=(80, 80), schan=(13, 13, 13), img=image, chdim=2).shape
    (5, 4800)
    """
    array = _array("img", img)
    values = _channels_first(array, chdim)
    sizes = values.shape[1:]
    if len(values) == 1 and np.shape(sdims) == (array.ndim - 1,) and 1 not in array.shape:
        raise ArgumentError(
            f"sdims has {len(sdims)} values for the {array.ndim} axes of img; chdim=-1 means no"
            f" axis of channels, use chdim={array.ndim - 1} if the last is one"
        )
    deviation = _filled("sdims", sdims, _axes(len(sizes)))
    scale = _filled("schan", schan, [f"channel {channel}" for channel in range(len(values))])
    _require_memory(len(sizes) + len(values), sizes)
    if not np.isfinite(values).all():
        raise ArgumentError(
            "img has values that are NaN or infinite; expected finite ones, use np.nan_to_num(img)"
        )
    features = np.empty((len(sizes) + len(values), *sizes), np.float32)
    _write_positions(features, deviation)
    features[len(sizes) :] = values
    features[len(sizes) :] /= scale.reshape(-1, *[1] * len(sizes))
    return features.reshape(len(features), -1)


def _filled(name: str, value: float | Sequence[float], of: Sequence[str]) -> F32:
    """`deviations`, of which those that are not given are 1, as in pydensecrf."""
    given = numbers_in(value)
    if not isinstance(given, list) or len(given) >= len(of):
        return deviations(name, value, of)
    warn_once(
        f"{name} has {len(given)} values for {len(of)} axes or channels: the others count as 1, as"
        " in pydensecrf; give all of them, or one number"
    )
    return deviations(name, given + [1.0] * (len(of) - len(given)), of)


def _channels_first(img: npt.NDArray[Any], chdim: int) -> npt.NDArray[Any]:
    axis = number_in(chdim)
    if axis == -1:
        return img[np.newaxis]
    if axis not in range(-img.ndim, img.ndim):
        raise ArgumentError(
            f"chdim is {shown(chdim)} and img has shape {dims(img.shape)}; expected its axis of"
            f" channels, 0 to {img.ndim - 1}, or -1 for none"
        )
    return np.moveaxis(img, int(axis), 0)


def _array(name: str, value: object) -> npt.NDArray[Any]:
    return as_array(name, value, "expected an array", ", use np.array(...)")
