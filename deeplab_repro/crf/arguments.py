"""What the CRF accepts, and how much memory it takes."""

import numpy as np
import numpy.typing as npt

from deeplab_repro.arrays import F32, HW, UInt8, dims
from deeplab_repro.crf.features import LARGEST_COORDINATE, largest_coordinate
from deeplab_repro.crf.params import CrfParams
from deeplab_repro.errors import ArgumentError
from deeplab_repro.machine.memory import require_memory
from deeplab_repro.net.scores import CoarseScores

# How far a pixel's probabilities may sum from 1: enough for values kept in half precision.
SUM_TOLERANCE = 0.01
MOST_LABELS = 255

# As `deeplab-repro bench crf` measures it, rounded up: arrays of CxHxW float32, with the marginals;
# the lattice of a photo; Numba, and what it compiles.
_ARRAYS_HELD = 3.5
_LATTICE_BYTES_A_PIXEL = 260
_NUMBA_BYTES = 100_000_000


def memory_needed(labels: int, pixels: int) -> int:
    """The bytes that the CRF takes on the CPU for a photo, beside its probabilities."""
    return int((4 * _ARRAYS_HELD * labels + _LATTICE_BYTES_A_PIXEL) * pixels) + _NUMBA_BYTES


def check_memory(labels: int, size: HW, arrays: int = 0) -> None:
    """Raise ResourceError unless the CRF fits memory, and so many float32 CxHxW arrays beside it.

    size: H and W. To be called before any of it is taken.
    """
    pixels = size[0] * size[1]
    n_bytes = memory_needed(labels, pixels) + 4 * arrays * labels * pixels
    require_memory(n_bytes, f"the CRF with probs of {labels}x{dims(size)}")


def check_probs(image: UInt8, probs: F32) -> None:
    """Raise ArgumentError unless these are an image and its pixels' distributions over labels."""
    _check_image(image)
    _check_array("probs", probs, np.float32, "CxHxW", "label probabilities")
    labels, size = probs.shape[0], image.shape[:2]
    if probs.shape[1:] != size:
        expected = f"probs has shape {dims(probs.shape)} but the image is {dims(size)} (HxW)"
        if probs.shape[1:] == size[::-1]:
            mend = "height and width are swapped, use probs.transpose(0, 2, 1)"
        elif probs.shape[:2] == size:
            mend = "the labels come last, use probs.transpose(2, 0, 1)"
        else:
            mend = "expected CxHxW of the same size, crop or resize the probabilities"
        raise ArgumentError(f"{expected}; {mend}")
    _check_labels("probs", labels)
    low, high = float(probs.min()), float(probs.max())
    if not np.isfinite(low) or not np.isfinite(high):  # min and max hand a NaN on
        count = int(np.count_nonzero(~np.isfinite(probs)))
        raise ArgumentError(
            f"probs has {count} values that are NaN or infinite; expected probabilities from 0 to 1"
        )
    if low < 0 or high > 1 + SUM_TOLERANCE:
        raise ArgumentError(
            f"probs goes from {low:.4g} to {high:.4g}; expected probabilities from 0 to 1."
            " Are these scores or energies? Apply a softmax over the labels first"
        )
    sums = probs.sum(axis=0)
    worst = np.unravel_index(int(np.abs(sums - 1).argmax()), sums.shape)
    if abs(float(sums[worst]) - 1) > SUM_TOLERANCE:
        raise ArgumentError(
            f"probs sums to {sums[worst]:.4g} over the labels at row {worst[0]}, column {worst[1]};"
            " expected 1 at every pixel, divide by probs.sum(axis=0)"
        )


def check_coarse(image: UInt8, coarse: CoarseScores) -> None:
    """Raise ArgumentError unless these are an image and a net's finite scores that cover it."""
    _check_image(image)
    if not isinstance(coarse, CoarseScores):
        raise ArgumentError(f"coarse is a {type(coarse).__name__}; expected CoarseScores")
    values = coarse.values
    dtype = np.float16 if getattr(values, "dtype", None) == np.float16 else np.float32
    _check_array("coarse.values", values, dtype, "CxHxW", "scores")
    _check_labels("coarse.values", len(values))
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


def _check_image(image: UInt8) -> None:
    _check_array("image", image, np.uint8, "HxWx3", "RGB, 0 to 255")
    if image.shape[2] != 3 or 0 in image.shape:
        raise ArgumentError(
            f"image has shape {dims(image.shape)}; expected HxWx3 (RGB, channels last, not empty)"
        )


def _check_labels(name: str, labels: int) -> None:
    if not 1 <= labels <= MOST_LABELS:
        raise ArgumentError(
            f"{name} has {labels} labels; expected 1 to {MOST_LABELS}, as labels are kept in 8 bits"
            " and 255 means void"
        )


def _check_array(name: str, array: object, dtype: npt.DTypeLike, shape: str, meaning: str) -> None:
    """Raise ArgumentError unless array is a NumPy array of this dtype with three axes."""
    expected = f"expected a {shape} {np.dtype(dtype)} array ({meaning})"
    if not isinstance(array, np.ndarray):
        raise ArgumentError(f"{name} is a {type(array).__name__}; {expected}")
    if array.dtype != dtype:
        raise ArgumentError(
            f"{name} is {array.dtype}; {expected}, convert it with .astype(np.{np.dtype(dtype)})"
        )
    if array.ndim != 3:
        raise ArgumentError(f"{name} has shape {dims(array.shape)}; {expected}")
