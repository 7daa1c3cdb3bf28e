"""How a mean field reads its unary: into rows, one a pixel, and a net's scores a band at a time."""

import itertools
import math
from dataclasses import dataclass
from functools import partial

import numpy as np

from deeplab_repro.arrays import F32, HW
from deeplab_repro.crf.cpu import steps
from deeplab_repro.crf.cpu.threads import is_small, run_all, run_alone, run_here, run_together
from deeplab_repro.net.scores import CoarseScores, softmax

BAND = 1 << 18  # floats of enlarged scores: what softmax makes of them fits a core's cache


@dataclass(frozen=True)
class EnlargedProbs:
    """The softmax of a net's scores at an image's `size` = (H, W), which is never there as a whole.

    shape: L and N, as of an array of so many labels and pixels.
    """

    coarse: CoarseScores
    size: HW

    @property
    def shape(self) -> tuple[int, int]:
        """The labels, and the pixels."""
        return len(self.coarse.values), math.prod(self.size)


def read_unary(given: F32 | EnlargedProbs, rows: F32, is_log: bool, energies: bool) -> None:
    """Write rows, N x lanes float32, of probabilities, or of their logarithms.

    given: L x N probabilities, or if energies -log p. Lanes without a label get probability 0;
    so do probabilities below 1e-20, but for logarithms.
    """
    small = is_small(*rows.shape)
    least = np.float32(-np.inf) if is_log else steps.LEAST
    rest = np.float32(np.inf if energies else 0.0)
    if isinstance(given, EnlargedProbs):
        run_tasks = run_here if small else run_all
        run_tasks([partial(_read_band, given, rows, least, *ends) for ends in _bands(given)])
    else:
        run = run_alone if small else run_together
        run(steps.read_rows, np.ascontiguousarray(given), rows, least, rest)
    if energies:
        np.negative(rows, out=rows)
    elif is_log:
        with np.errstate(divide="ignore"):
            np.log(rows, out=rows)


def _bands(given: EnlargedProbs) -> list[tuple[int, int]]:
    """Rows of the image, first and last, that are about BAND floats.

    They are even: a last band of one pixel would be summed in another order.
    """
    height = given.size[0]
    count = min(height, -(-math.prod(given.shape) // BAND))
    ends = [height * i // count for i in range(count + 1)]
    return list(itertools.pairwise(ends))


def _read_band(given: EnlargedProbs, rows: F32, least: np.float32, first: int, last: int) -> None:
    band = softmax(given.coarse.enlarged_rows(given.size, first, last))
    width = given.size[1]
    part = rows[first * width : last * width]
    run_alone(steps.read_rows, band.reshape(len(band), -1), part, least, np.float32(0.0))
