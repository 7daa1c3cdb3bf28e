"""The five parameters of the CRF; without Numba, as the registry and the command line read them."""

from dataclasses import dataclass, fields
from numbers import Real

from deeplab_repro.errors import ArgumentError, one_line

# Beyond this single precision has nothing left to tell apart; the paper's values are below 200.
LARGEST = 1e6
# Below this single precision does not hold a coordinate that is divided by it.
SMALLEST_SIGMA = 1e-30


@dataclass(frozen=True)
class CrfParams:
    """Weights and standard deviations of the two Gaussian kernels (DeepLab v1, section 4.2).

    w1, sigma_alpha, sigma_beta: the bilateral kernel's weight, its standard deviation in position
    (pixels) and in colour (RGB steps, 0..255). w2, sigma_gamma: the positional kernel's weight and
    standard deviation (pixels), 3 and 3 throughout the paper.

    A weight of 0 leaves its kernel out. Whatever numbers are given, floats are kept.

    Raises ArgumentError for a weight outside 0..1e6, which would push alike pixels apart or drown
    the unary, or a standard deviation outside 1e-30..1e6.

    >>> CrfParams(w1=4, sigma_alpha=121, sigma_beta=5)  # DeepLab-LargeFOV's
    CrfParams(w1=4.0, sigma_alpha=121.0, sigma_beta=5.0, w2=3.0, sigma_gamma=3.0)
    """

    w1: float
    sigma_alpha: float
    sigma_beta: float
    w2: float = 3.0
    sigma_gamma: float = 3.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            is_sigma = field.name.startswith("sigma")
            lowest = SMALLEST_SIGMA if is_sigma else 0
            is_number = isinstance(value, Real)
            if not (is_number and lowest <= value <= LARGEST):  # NaN is not
                expected = (
                    "a number above 0 (1e-30 to 1e6)" if is_sigma else "a number from 0 to 1e6"
                )
                raise ArgumentError(
                    f"CRF parameter {field.name} is {one_line(repr(value), 40)}; expected"
                    f" {expected}, for example {'50' if is_sigma else '5'}"
                )
            object.__setattr__(self, field.name, float(value))
