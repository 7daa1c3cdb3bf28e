"""What the CRF accepts, and how much memory it takes."""

from typing import Any

import numpy as np
import numpy.typing as npt

from deeplab_repro.arrays import F32, HW, UInt8, dims
from deeplab_repro.crf.features import LARGEST_COORDINATE, largest_coordinate
from deeplab_repro.crf.params import CrfParams
from deeplab_repro.errors import ArgumentError, ArgumentTypeError
from deeplab_repro.files.given_photo import pixels_of_picture
from deeplab_repro.machine.memory import require_memory
from deeplab_repro.net.given import as_array, check_image_shape, check_type, moved
from deeplab_repro.net.scores import SUM_TOLERANCE, CoarseScores

MOST_LABELS = 255

# Fitted to peaks of a process that refined two real photos (one smooth, one full of detail) at
# 250x188 to 1500x1125 with 2, 21 and 60 labels, through both doors, and at 4000x3000 with 21: from
# -24 % to +16 % of them. The vertices are those of two photos with the paper's deviations;
# `MeanField` asks again when it has counted them. A larger photo shows the same in more pixels, so
# its bilateral vertices grow as its sides do.
_POSITIONAL_VERTICES_A_PIXEL = 0.13
_BILATERAL_VERTICES_A_SIDE = 300
_LATTICE_BYTES_A_PIXEL = 110
_NUMBA_BYTES = 150_000_000  # and what it compiles, and threads


def memory_needed(labels: int, pixels: int, *, marginals: bool = True) -> int:
    """The bytes that the CRF takes on the CPU for a photo, beside its probabilities.

    marginals: whether they are wanted; they are counted, though the caller gets them.
    """
    strips = -(-labels // 32) or 1
    row = 4 * 8 * strips * -(-labels // (8 * strips))  # as crf/cpu/mean_field.py lays them out
    vertices = _POSITIONAL_VERTICES_A_PIXEL * pixels + _BILATERAL_VERTICES_A_SIDE * pixels**0.5
    found = 4 * labels * pixels * marginals
    n_bytes = row * (pixels + 2 * vertices) + _LATTICE_BYTES_A_PIXEL * pixels + found
    return int(n_bytes) + _NUMBA_BYTES


def check_memory(labels: int, size: HW, marginals: bool, can_spare: bool = False) -> None:
    """Raise ResourceError unless the CRF fits memory.

    size: H and W. marginals: whether they are wanted. can_spare: whether the caller may do without
    them. To be called before any of it is taken.
    """
    pixels = size[0] * size[1]
    mends = ["use a smaller image", "a machine with more memory"]
    if marginals and can_spare:
        less = memory_needed(labels, pixels, marginals=False)
        mends.insert(0, f"do without marginals ({less / 1e9:,.1f} GB)")
    n_bytes = memory_needed(labels, pixels, marginals=marginals)
    require_memory(n_bytes, f"the CRF with probs of {labels}x{dims(size)}", " or ".join(mends))


def given_photos(image: object, probs: object) -> tuple[UInt8, F32]:
    """What `dense_crf` is given as NumPy arrays: HxWx3 and CxHxW, or NxHxWx3 and NxCxHxW.

    Raises ArgumentError unless each is an image and its pixels' distributions over labels.
    """
    images = _array("image", pixels_of_picture(image), np.uint8, "HxWx3", "RGB, 0 to 255")
    maps = _array("probs", probs, np.float32, "CxHxW", "label probabilities")
    if images.ndim == maps.ndim == 3:
        check_probs(images, maps)
        return images, maps
    found = f"image is {dims(images.shape)} and probs {dims(maps.shape)}"
    if images.ndim != maps.ndim:
        batch = "image" if images.ndim == 4 else "probs"
        is_one = len(images if images.ndim == 4 else maps) == 1
        mend = f", use {batch}[0]" if is_one else ""
        raise ArgumentError(f"{found}: only {batch} is a batch; expected both or none{mend}")
    if len(images) != len(maps) or not len(maps):
        raise ArgumentError(f"{found}; expected NxHxWx3 and NxCxHxW of the same N from 1")
    for number, pair in enumerate(zip(images, maps, strict=True)):
        try:
            check_probs(*pair, in_batch=True)
        except ArgumentError as error:
            raise ArgumentError(f"image {number} of the batch: {error}") from error
    return images, maps


def check_probs(image: UInt8, probs: F32, in_batch: bool = False) -> None:
    """Raise ArgumentError unless these are an image and its pixels' distributions over labels.

    The mends that it tells are for all of the batch, if they are of one.
    """
    check_image_shape("image", image, in_batch)
    labels, size = probs.shape[0], image.shape[:2]
    if probs.shape[1:] != size:
        expected = f"probs has shape {dims(probs.shape)} but the image is {dims(size)} (HxW)"
        if probs.shape[1:] == size[::-1]:
            mend = f"height and width are swapped, use {moved('probs', (0, 2, 1), in_batch)}"
        elif probs.shape[:2] == size:
            mend = f"the labels come last, use {moved('probs', (2, 0, 1), in_batch)}"
        else:
            mend = "expected CxHxW of the same size, crop or resize the probabilities"
        raise ArgumentError(f"{expected}; {mend}")
    check_labels("probs", labels)
    low, high = float(probs.min()), float(probs.max())
    if not np.isfinite(low) or not np.isfinite(high):  # min and max hand a NaN on
        count = int(np.count_nonzero(~np.isfinite(probs)))
        raise ArgumentError(
            f"probs has {count} values that are NaN or infinite; expected probabilities from 0 to 1"
            f"{_mend_for_nan(probs)}"
        )
    if low < 0 or high > 1 + SUM_TOLERANCE:
        mend = (
            "With p = 1 / (1 + np.exp(-probs)) use np.concatenate([1 - p, p], axis=-3)"
            if labels == 1
            else "Apply a softmax over the labels first"
        )
        raise ArgumentError(
            f"probs goes from {low:.4g} to {high:.4g}; expected probabilities from 0 to 1."
            f" Are these scores or energies? {mend}"
        )
    sums = probs.sum(axis=0)
    worst = np.unravel_index(int(np.abs(sums - 1).argmax()), sums.shape)
    if abs(float(sums[worst]) - 1) > SUM_TOLERANCE:
        total = "probs.sum(axis=-3, keepdims=True)"
        if labels == 1:
            mend = "of one of two labels, use np.concatenate([1 - probs, probs], axis=-3)"
        elif sums.min() == 0:
            mend = f"if all 0 means unknown, use np.where({total} == 0, 1 / {labels}, probs)"
        else:
            mend = f"use probs / {total}"
        raise ArgumentError(
            f"probs sums to {sums[worst]:.4g} over the labels at row {worst[0]}, column {worst[1]};"
            f" expected 1 at every pixel; {mend}"
        )


def _mend_for_nan(probs: F32) -> str:
    """A pixel that is NaN for all labels may be one of which nothing is known."""
    unknown = np.isnan(probs).all(axis=0)
    if np.isfinite(probs[:, ~unknown]).all():
        return f"; if these pixels are unknown, use np.nan_to_num(probs, nan=1 / {len(probs)})"
    return "; a softmax of infinite scores is NaN: see to the scores"


def check_coarse(image: UInt8, coarse: CoarseScores) -> None:
    """Raise ArgumentError unless these are a net's finite scores that cover an image."""
    if not isinstance(coarse, CoarseScores):
        raise ArgumentError(f"coarse is a {type(coarse).__name__}; expected CoarseScores")
    values = coarse.values
    dtype = np.float16 if getattr(values, "dtype", None) == np.float16 else np.float32
    expected = f"expected a CxHxW {np.dtype(dtype)} array (scores)"
    if not isinstance(values, np.ndarray):
        raise ArgumentTypeError(f"coarse.values is a {type(values).__name__}; {expected}")
    check_type("coarse.values", values, values, dtype, expected)
    if values.ndim != 3:
        raise ArgumentError(f"coarse.values has shape {dims(values.shape)}; {expected}")
    check_labels("coarse.values", len(values))
    if coarse.stride < 1 or coarse.offset < 0:
        raise ArgumentError(
            f"coarse has a stride of {coarse.stride} and an offset of {coarse.offset}; expected a"
            " stride from 1 and an offset from 0"
        )
    coarse.check_covers(image.shape[:2])
    is_finite = np.isfinite(values)
    if not is_finite.all():
        raise ArgumentError(
            f"coarse has {np.count_nonzero(~is_finite)} scores that are NaN or infinite; expected"
            " a net's scores"
        )


def check_iterations(iterations: int) -> None:
    """Raise ArgumentError unless this is a number of iterations."""
    if not isinstance(iterations, (int, np.integer)) or iterations < 0:
        raise ArgumentError(f"iterations is {iterations!r}; expected a whole number from 0, say 10")


def check_reach(image: UInt8, params: CrfParams) -> None:
    """Raise ArgumentError if deviations are so small that a GPU's lattice coordinates overflow."""
    height, width = image.shape[:2]
    position = [side / params.sigma_gamma for side in (width, height)]
    bilateral = [side / params.sigma_alpha for side in (width, height)]
    bilateral += 3 * [255 / params.sigma_beta]
    kernels = {
        f"sigma_gamma={params.sigma_gamma:g}": position,
        f"sigma_alpha={params.sigma_alpha:g} with sigma_beta={params.sigma_beta:g}": bilateral,
    }
    for name, extents in kernels.items():
        reach = largest_coordinate(extents)
        if reach > LARGEST_COORDINATE:
            raise ArgumentError(
                f"{name} is too small for an image of {height}x{width} on a GPU: lattice"
                f" coordinates reach {reach:.3g}, {LARGEST_COORDINATE:.0f} fit; use device='cpu'"
            )


def check_labels(name: str, labels: int) -> None:
    """Raise ArgumentError unless labels fit 8 bits. name: of what has so many labels."""
    if not 1 <= labels <= MOST_LABELS:
        mend = "; DenseCRF2D of deeplab_repro.pydensecrf takes more" if labels else ""
        raise ArgumentError(
            f"{name} has {labels} labels; expected 1 to {MOST_LABELS}, as labels are kept in 8 bits"
            f" and 255 means void{mend}"
        )


def _array(
    name: str, value: object, dtype: npt.DTypeLike, shape: str, meaning: str
) -> npt.NDArray[Any]:
    """`value` as an array; ArgumentError unless it is of this dtype, with three axes or four."""
    expected = f"expected a {shape} {np.dtype(dtype)} array ({meaning})"
    array = as_array(name, value, expected)
    check_type(name, value, array, dtype, expected)
    if array.ndim not in (3, 4):
        mend = ""
        if array.ndim == 2:
            both = "[image] * 3, axis=-1" if name == "image" else "[1 - probs, probs]"
            kind = "grey" if name == "image" else "of one of two labels"
            mend = f", if it is {kind} use np.stack({both})"
        raise ArgumentError(f"{name} has shape {dims(array.shape)}; {expected}{mend}")
    return array
