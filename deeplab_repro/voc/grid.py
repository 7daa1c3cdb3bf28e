"""The CRF parameters that cross-validation tries: a grid, and finer steps around its best."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from deeplab_repro.crf.params import LARGEST, CrfParams
from deeplab_repro.errors import ArgumentError

MOST_SETTINGS = 10_000
"""The most that a grid may have; the authors' has 112."""

_MOST_VALUES = 100  # of an axis
_DIGITS = 9  # behind the point, in values that the search makes
_SMALLEST = 10**-_DIGITS
_MEND = "take larger steps: the search refines the best afterwards"


@dataclass(frozen=True)
class SearchGrid:
    """The values to try, in all combinations; w2 and sigma_gamma are always 3.

    Raises ArgumentError unless each parameter has 1 to 100 increasing values, from 1e-9 to 1e6, and
    for more than MOST_SETTINGS settings.
    """

    w1: tuple[float, ...]
    sigma_alpha: tuple[float, ...]
    sigma_beta: tuple[float, ...]

    def __post_init__(self) -> None:
        for name, values in self.axes.items():
            increase = all(a < b for a, b in itertools.pairwise(values))
            if not (values and increase and values[0] >= _SMALLEST and values[-1] <= LARGEST):
                raise ArgumentError(
                    f"{name} is {numbers_text(values[:9]) or 'empty'}, expected numbers that "
                    "increase, above 0 (from 1e-9) and at most 1e6"
                )
            if len(values) > _MOST_VALUES:
                raise ArgumentError(
                    f"{name} has {len(values):,} values, expected at most {_MOST_VALUES}: {_MEND}"
                )
        if self.size > MOST_SETTINGS:
            raise ArgumentError(
                f"the grid has {self.size:,} settings, expected at most {MOST_SETTINGS:,}: {_MEND}"
            )

    @property
    def axes(self) -> dict[str, tuple[float, ...]]:
        """The values by the parameter's name."""
        return {"w1": self.w1, "sigma_alpha": self.sigma_alpha, "sigma_beta": self.sigma_beta}

    @property
    def size(self) -> int:
        """How many settings there are."""
        return len(self.w1) * len(self.sigma_alpha) * len(self.sigma_beta)

    def settings(self) -> list[CrfParams]:
        """All settings in the order of the authors' loops, w1 the outermost."""
        return [CrfParams(*map(float, each)) for each in itertools.product(*self.axes.values())]

    def around(self, params: CrfParams, divisor: int) -> list[CrfParams]:
        """The settings at most one step from `params` in each parameter.

        A step is the grid's smallest divided by `divisor`; a parameter with one value has none.
        Where the values are whole numbers, so are the steps: a finer one changes the score by less
        than the sample's own error.
        """
        near = []
        for values, value in zip(self.axes.values(), bilateral(params), strict=True):
            step = min((b - a for a, b in itertools.pairwise(values)), default=0) / divisor
            if step and all(float(each).is_integer() for each in values):
                step = max(1, step // 1)
            moved = {round(value + sign * step, _DIGITS) for sign in (-1, 0, 1)}
            near.append([each for each in sorted(moved) if 0 < each <= LARGEST])
        return list(itertools.starmap(CrfParams, itertools.product(*near)))


AUTHORS_GRID = SearchGrid((5, 10), tuple(range(40, 101, 10)), tuple(range(3, 11)))
"""The grid of the authors' script (docs/original.md, 4), with the ranges of the paper's text."""


def bilateral(params: CrfParams) -> tuple[float, float, float]:
    """The parameters that are searched for: w1, sigma_alpha and sigma_beta."""
    return params.w1, params.sigma_alpha, params.sigma_beta


def numbers_text(numbers: Sequence[float]) -> str:
    """Numbers with commas between them, as the command line takes them."""
    return ",".join(f"{number:.9g}" for number in numbers)
