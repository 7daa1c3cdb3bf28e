"""What the drop-in accepts. Each check returns its argument in the form that the CRF takes."""

from collections.abc import Sequence
from enum import IntEnum
from typing import Any, TypeVar

import numpy as np

from deeplab_repro.arrays import F32, UInt8, dims
from deeplab_repro.crf.params import SMALLEST_SIGMA
from deeplab_repro.errors import ArgumentError

Choice = TypeVar("Choice", bound=IntEnum)
NUMBER = (int, float, np.integer, np.floating)

# How far probabilities may sum from 1 and still be recognised, and how many points are looked at
# before all are.
SUM_TOLERANCE = 1e-3
SAMPLE = 64


def shown(value: object) -> str:
    """`value` as messages show it: short and on one line."""
    text = repr(value)
    return text if text.isprintable() and len(text) <= 60 else f"a {type(value).__name__}"


def whole_number(name: str, value: object, least: int) -> int:
    """`value` as an int; a float is fine if it is whole, as many scripts compute with `/`."""
    if isinstance(value, NUMBER) and least <= value < np.inf and value == int(value):
        return int(value)
    raise ArgumentError(f"{name} is {shown(value)}; expected a whole number from {least}")


def choice(name: str, value: Any, of: type[Choice]) -> Choice:
    """The member of the enumeration `of` that `value` is."""
    try:
        return of(value)
    except ValueError:
        names = ", ".join(of.__members__)
        raise ArgumentError(f"{name} is {shown(value)}; expected one of {names}") from None


def deviations(name: str, value: object, of: Sequence[str]) -> F32:
    """The float32 standard deviations of the features `of`, given as one number or one each."""
    try:
        given = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        given = np.array(np.nan)
    if given.shape not in ((), (len(of),)):
        raise ArgumentError(
            f"{name} has {dims(given.shape)} values; expected one number or {len(of)}: for"
            f" {', '.join(of)}"
        )
    if not ((given >= SMALLEST_SIGMA) & (given < np.inf)).all():
        raise ArgumentError(
            f"{name} is {shown(value)}; expected standard deviations above 0 (from"
            f" {SMALLEST_SIGMA:g}) for {', '.join(of)}"
        )
    return np.full(len(of), given, np.float32)


def float32_array(name: str, array: object) -> F32:
    """`array` itself, if it is one of float32."""
    if not isinstance(array, np.ndarray):
        raise ArgumentError(
            f"{name} is a {type(array).__name__}; expected a float32 array,"
            " use np.array(..., np.float32)"
        )
    if array.dtype != np.float32:
        raise ArgumentError(
            f"{name} is {array.dtype}; expected float32, convert it with .astype(np.float32)"
        )
    return array


def energies(u: F32, nlabels: int, nvar: int, size: tuple[int, int] | None = None) -> F32:
    """`u`, if it is nlabels x nvar energies. size: height and width of a 2-D CRF."""
    if u.shape != (nlabels, nvar):
        raise ArgumentError(
            f"the unary has shape {dims(u.shape)}; expected {nlabels}x{nvar} (labels x points)"
            + _reshaping(u.shape, nlabels, nvar, size)
        )
    low, high = float(u.min()), float(u.max())
    if np.isnan(low) or low == -np.inf:  # min hands a NaN on
        count = int(np.count_nonzero(np.isnan(u) | (u == -np.inf)))
        raise ArgumentError(
            f"the unary has {count} values that are NaN or -inf; expected energies, -log p"
        )
    if high == np.inf and (lost := np.flatnonzero(u.min(axis=0) == np.inf)).size:
        raise ArgumentError(
            f"the unary is infinite for every label at point {lost[0]};"
            " expected energies of which one at least is finite: clip p before -np.log(p)"
        )
    if nlabels > 1:
        _check_meaning(u, low, high)
    return u


def _reshaping(
    shape: tuple[int, ...], nlabels: int, nvar: int, size: tuple[int, int] | None
) -> str:
    """The mend for a unary of the wrong shape, if there is a likely one."""
    if size and size[0] != size[1] and shape == (nlabels, size[1], size[0]):
        return "; height and width are swapped: DenseCRF2D takes the width first"
    if shape == (nvar, nlabels):
        return "; the labels come last, use u.T"
    if int(np.prod(shape)) == nlabels * nvar:
        if shape[0] == nlabels:
            return ", use u.reshape(nlabels, -1)"
        if shape[-1] == nlabels:
            return "; the labels come last, use np.moveaxis(u, -1, 0).reshape(nlabels, -1)"
    return ""


def _check_meaning(u: F32, low: float, high: float) -> None:
    """Raise ArgumentError if u (L x N, L > 1) is clearly something else than energies.

    Energies -log p are no distribution themselves: over L labels they sum to L log L at least.
    """
    really = "(if these are energies, add 1 to all: that changes nothing)"
    if low >= 0 and high <= 1 + SUM_TOLERANCE and _are_distributions(u):
        raise ArgumentError(
            "the unary holds probabilities (they sum to 1 at every point); expected energies,"
            f" use -np.log(p) or utils.unary_from_softmax(p) {really}"
        )
    if high <= 0 and _are_distributions(u, exponent=1):
        raise ArgumentError(
            "the unary holds log-probabilities (their exponentials sum to 1 at every point);"
            f" expected energies, use -u {really}"
        )
    # HxWxL reshaped to LxN keeps the labels together: each L values in a row are a distribution.
    mixed = u.reshape(-1, len(u)).T
    if _are_distributions(mixed, exponent=-1) and not _are_distributions(u, exponent=-1):
        raise ArgumentError(
            "the unary was reshaped with its labels last, which mixes labels and points;"
            " use np.moveaxis(u, -1, 0).reshape(nlabels, -1)"
        )


def _are_distributions(x: F32, exponent: int = 0) -> bool:
    """Whether x, or exp(exponent * x), sums to 1 over the first axis, everywhere."""
    for part in (x[:, :SAMPLE], x):  # nearly always the first few tell
        with np.errstate(over="ignore"):  # infinity is no sum of 1 either
            sums = (np.exp(exponent * part) if exponent else part).sum(axis=0)
        if not (np.abs(sums - 1) < SUM_TOLERANCE).all():
            return False
    return True


def point_features(features: object, nvar: int) -> F32:
    """`features`, if it is d x nvar finite float32."""
    array = float32_array("features", features)
    if array.ndim != 2 or array.shape[1] != nvar or not len(array):
        mend = ", use features.T" if array.ndim == 2 and array.shape[0] == nvar else ""
        raise ArgumentError(
            f"features has shape {dims(array.shape)}; expected dx{nvar} (features x points){mend}"
        )
    if not (np.isfinite(array.min()) and np.isfinite(array.max())):
        raise ArgumentError("features has values that are NaN or infinite; expected finite ones")
    return array


def label_compatibility(compat: Any, nlabels: int) -> float | F32:
    """What is added to log Q for K Q: w for a number w; -v for a vector; -(C + C^T)/2."""
    if isinstance(compat, NUMBER):
        if not np.isfinite(compat):
            raise ArgumentError(f"compat is {compat!r}; expected a finite number")
        return float(compat)
    array = float32_array("compat", compat)
    if array.shape not in ((nlabels,), (nlabels, nlabels)):
        raise ArgumentError(
            f"compat has shape {dims(array.shape)}; expected a number,"
            f" {nlabels} values or {nlabels}x{nlabels}"
        )
    if not np.isfinite(array).all():
        raise ArgumentError("compat has values that are NaN or infinite; expected finite ones")
    return -array if array.ndim == 1 else -(array + array.T) / 2


def rgb_image(rgbim: object, size: tuple[int, int]) -> UInt8:
    """`rgbim`, if it is an HxWx3 uint8 array of this height and width."""
    if not isinstance(rgbim, np.ndarray):
        raise ArgumentError(f"rgbim is a {type(rgbim).__name__}; expected an HxWx3 uint8 array")
    if rgbim.dtype != np.uint8:
        raise ArgumentError(
            f"rgbim is {rgbim.dtype}; expected uint8 (0 to 255), convert it with .astype(np.uint8)"
        )
    if rgbim.shape != (*size, 3):
        found = f"rgbim has shape {dims(rgbim.shape)}; expected {dims((*size, 3))} (HxWx3)"
        raise ArgumentError(found + _image_mend(rgbim.shape, size))
    return rgbim


def _image_mend(shape: Sequence[int], size: tuple[int, int]) -> str:
    if shape == (*size[::-1], 3):
        return "; height and width are swapped: DenseCRF2D takes the width first"
    if shape == (3, *size):
        return "; the channels come first, use rgbim.transpose(1, 2, 0)"
    if shape[:2] == size:
        return (
            "; for other than three channels use utils.create_pairwise_bilateral"
            " and addPairwiseEnergy"
        )
    return ""


def marginals(q: object, nlabels: int, nvar: int) -> F32:
    """`q`, if it is what startInference returns: nlabels x nvar float32."""
    array = float32_array("Q", q)
    if array.shape != (nlabels, nvar):
        raise ArgumentError(
            f"Q has shape {dims(array.shape)}; expected {nlabels}x{nvar},"
            " the array that startInference returned"
        )
    if not np.isfinite(array).all():
        raise ArgumentError("Q has values that are NaN or infinite; expected marginals from 0 to 1")
    return array
