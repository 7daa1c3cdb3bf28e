"""What the drop-in accepts. Each check returns its argument in the form that the CRF takes."""

import functools
import logging
from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from deeplab_repro.arrays import F32, UInt8, dims
from deeplab_repro.crf.params import SMALLEST_SIGMA
from deeplab_repro.errors import ArgumentError
from deeplab_repro.machine.memory import require_memory
from deeplab_repro.net.given import as_array, check_type

logger = logging.getLogger(__name__)

Choice = TypeVar("Choice", bound=IntEnum)

# How far probabilities may sum from 1: those that were kept in half precision, or had 1e-5 added to
# each of many labels; and those that were kept in 8 bits. So many points are looked at first.
SUM_TOLERANCE = 0.01
LOOSE_TOLERANCE = 0.05
SAMPLE = 64


@functools.cache
def warn_once(message: str) -> None:
    """Log what is taken as pydensecrf takes it, but seldom meant; in a loop only the first time."""
    logger.warning(message)


def shown(value: object) -> str:
    """`value` as messages show it: short and on one line."""
    text = repr(value)
    return text if text.isprintable() and len(text) <= 60 else f"a {type(value).__name__}"


def number_in(value: Any) -> float:
    """The number that `value` is, of any type, or in an array of one; NaN if it is none."""
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.item()
    try:
        return float(value) if hasattr(value, "__float__") else np.nan
    except (TypeError, ValueError, OverflowError, RuntimeError):  # arrays of many, in any library
        return np.nan


def whole_number(name: str, value: object, least: int) -> int:
    """`value` as an int; a float is fine if it is whole, as many scripts compute with `/`."""
    number = number_in(value)
    if least <= number < np.inf and number == int(number):
        return int(number)
    raise ArgumentError(f"{name} is {shown(value)}; expected a whole number from {least}")


def choice(name: str, value: Any, of: type[Choice]) -> Choice:
    """The member of the enumeration `of` that `value` is."""
    try:
        return of(value)
    except ValueError:
        names = ", ".join(of.__members__)
        raise ArgumentError(f"{name} is {shown(value)}; expected one of {names}") from None


def numbers_in(value: Any) -> float | list[float]:
    """The numbers in a list, an array or whatever can be looped over, or the number `value`."""
    is_scalar = isinstance(value, str) or getattr(value, "shape", None) == ()
    if isinstance(value, Iterable) and not is_scalar:
        return [number_in(each) for each in value]
    return number_in(value)


def deviations(name: str, value: object, of: Sequence[str]) -> F32:
    """The float32 standard deviations of the features `of`, given as one number or one each.

    An infinite one is fine: then the feature makes no difference.
    """
    given = np.array(numbers_in(value))
    if given.shape not in ((), (len(of),)):
        raise ArgumentError(
            f"{name} has {len(given)} values; expected one number or {len(of)}: for {', '.join(of)}"
        )
    if not (given >= SMALLEST_SIGMA).all():
        raise ArgumentError(
            f"{name} is {shown(value)}; expected standard deviations above 0 (from"
            f" {SMALLEST_SIGMA:g}) for {', '.join(of)}"
        )
    return np.full(len(of), given, np.float32)


def float32_array(name: str, array: object) -> F32:
    """`array` as a NumPy array of its memory, if it is one of float32."""
    mend = ", use np.array(..., np.float32)"
    found = as_array(name, array, "expected a float32 array", mend)
    check_type(name, array, found, np.float32, "expected float32")
    return found


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
            f"the unary has {count} values that are NaN or -inf; expected energies,"
            " use -np.log(np.clip(np.nan_to_num(p), 1e-5, 1))"
        )
    if high == np.inf and (lost := np.flatnonzero(u.min(axis=0) == np.inf)).size:
        raise ArgumentError(
            f"the unary is infinite for every label at point {lost[0]};"
            " expected energies of which one at least is finite: clip p before -np.log(p)"
        )
    if nlabels > 1:
        _check_meaning(u, low, high)
    else:
        warn_once("a CRF of 1 label gives all points to it; of one of two labels give both")
    return u


def _reshaping(
    shape: tuple[int, ...], nlabels: int, nvar: int, size: tuple[int, int] | None
) -> str:
    """The mend for a unary of the wrong shape, if there is a likely one."""
    if size and size[0] != size[1] and shape == (nlabels, size[1], size[0]):
        return "; height and width are swapped: DenseCRF2D takes the width first"
    if shape == (nvar, nlabels):
        return "; the labels come last, use u.T"
    if shape == (nlabels, 3 * nvar):
        return "; was it made of a picture? Give unary_from_labels one channel, labels[..., 0]"
    if int(np.prod(shape)) == nvar and nlabels == 2:
        both = "utils.unary_from_softmax(np.stack([1 - p, p]))"
        return f"; of the probability p of one of two labels use {both}"
    if int(np.prod(shape)) == nlabels * nvar:
        if shape[0] == nlabels:
            return ", use u.reshape(nlabels, -1)"
        if shape[-1] == nlabels:
            return "; the labels come last, use np.moveaxis(u, -1, 0).reshape(nlabels, -1)"
    return ""


def _check_meaning(u: F32, low: float, high: float) -> None:
    """Raise ArgumentError if u (L x N, L > 1) is clearly no energies; warn if that is likely.

    Energies -log p are no distribution themselves: over L labels they sum to L log L at least.
    """
    likely = _mistake(u, low, high, LOOSE_TOLERANCE)
    if not likely:
        return
    really = "(if these are energies, add 1 to all: that changes nothing)"
    if clear := _mistake(u, low, high, SUM_TOLERANCE):
        raise ArgumentError(f"{clear} {really}")
    warn_once(f"{likely} {really}")


def _mistake(u: F32, low: float, high: float, tolerance: float) -> str:
    """What the unary holds in place of energies, and the mend; empty if it may be energies."""

    def holds(x: F32) -> str:
        if low >= 0 and high <= 1 + tolerance and are_distributions(x, tolerance):
            return "probabilities"
        if high <= tolerance and are_distributions(x, tolerance, exponent=1):
            return "log-probabilities"
        return ""

    if found := holds(u):
        sums = "they sum" if found == "probabilities" else "their exponentials sum"
        mend = "-np.log(p) or utils.unary_from_softmax(p)" if found == "probabilities" else "-u"
        return (
            f"the unary holds {found} ({sums} to 1 at every point); expected energies, use {mend}"
        )
    if not u.flags.c_contiguous:  # and so it was not reshaped last
        return ""
    # HxWxL reshaped to LxN keeps the labels together: each L values in a row are a distribution.
    mixed = u.reshape(-1, len(u)).T
    what = "was reshaped with its labels last, which mixes labels and points"
    if found := holds(mixed):
        mend = (
            "utils.unary_from_softmax(np.moveaxis(p, -1, 0))"
            if found == "probabilities"
            else "-np.moveaxis(u, -1, 0).reshape(nlabels, -1)"
        )
        return f"the unary {what}, and holds {found}; expected energies, use {mend}"
    if are_distributions(mixed, tolerance, -1) and not are_distributions(u, tolerance, -1):
        return f"the unary {what}; use np.moveaxis(u, -1, 0).reshape(nlabels, -1)"
    return ""


def are_distributions(
    x: npt.NDArray[Any], tolerance: float = SUM_TOLERANCE, exponent: int = 0
) -> bool:
    """Whether x, or exp(exponent * x), sums to 1 over the first of its axes, everywhere.

    Everywhere but where x is 0 for all labels, as padding is; if there is not more of it.
    """
    step = max(1, x.shape[1] // SAMPLE)
    for part in (x[:, ::step], x):  # nearly always a few tell
        with np.errstate(over="ignore"):  # infinity is no sum of 1 either
            sums = (np.exp(exponent * part) if exponent else part).sum(axis=0, dtype=np.float64)
        is_one = np.abs(sums - 1) < tolerance
        if not (is_one | (sums == 0)).all() or not is_one.mean() > 0.5:
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
    if np.shape(compat) == () and hasattr(compat, "__float__"):
        number = number_in(compat)
        if not np.isfinite(number):
            raise ArgumentError(f"compat is {compat!r}; expected a finite number")
        return number
    array = float32_array("compat", compat)
    if array.shape not in ((nlabels,), (nlabels, nlabels)):
        raise ArgumentError(
            f"compat has shape {dims(array.shape)}; expected a number,"
            f" {nlabels} values or {nlabels}x{nlabels}"
        )
    if not np.isfinite(array).all():
        raise ArgumentError("compat has values that are NaN or infinite; expected finite ones")
    return -array if array.ndim == 1 else -(array + array.T) / 2


def check_memory(nvar: int, nlabels: int, features: Sequence[int]) -> None:
    """Raise ResourceError unless inference fits memory, before any of it is taken.

    features: how many each kernel has. The least that large photos of few colours were seen to
    take, with a copy of the features.
    """
    corners = sum(count + 1 for count in features)
    n_bytes = nvar * (9 * nlabels + 32 + 20 * corners + 4 * max(features, default=0))
    require_memory(n_bytes, f"a CRF of {nvar} points and {nlabels} labels")


def rgb_image(rgbim: object, size: tuple[int, int]) -> UInt8:
    """`rgbim`, if it is an HxWx3 uint8 array of this height and width."""
    image = as_array("rgbim", rgbim, "expected an HxWx3 uint8 array")
    if image.dtype == bool:
        warn_once(
            "rgbim is bool: 0 and 1 are nearly the same colour, 255 * rgbim.astype(np.uint8)"
            " has black and white"
        )
        image = image.view(np.uint8)
    check_type("rgbim", rgbim, image, np.uint8, "expected uint8 (0 to 255)")
    if image.shape != (*size, 3):
        found = f"rgbim has shape {dims(image.shape)}; expected {dims((*size, 3))} (HxWx3)"
        raise ArgumentError(found + _image_mend(image.shape, size))
    return image


def _image_mend(shape: Sequence[int], size: tuple[int, int]) -> str:
    if shape == (*size[::-1], 3):
        return "; height and width are swapped: DenseCRF2D takes the width first"
    if shape == (3, *size):
        return "; the channels come first, use np.transpose(rgbim, (1, 2, 0))"
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
