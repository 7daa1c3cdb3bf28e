"""How a vertex of the lattice is written as two integers, its key, wherever it lies.

A vertex has d + 1 coordinates, which sum to 0 and leave the same remainder when divided by d + 1.
Its key is the sum of that remainder and of the first d quotients, each times its unit. So a step
from one vertex to another adds a constant to the key.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from deeplab_repro.arrays import F32
from deeplab_repro.crf.cpu.vectors import LANES
from deeplab_repro.crf.features import LARGEST_COORDINATE, axis_scales, largest_coordinate
from deeplab_repro.machine.work_space import empty

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

KEY_LIMIT = 1 << 62
# The largest coordinate of the lattice that double precision knows to 1e-4.
LARGEST_DOUBLE = 2.0**40


class Points:
    """The points of one kernel, and how the vertices around them are written.

    scales: d float32, of the features; units: see `key_units`.
    """

    def __init__(self, features: F32, n: int) -> None:
        """features: d x N float32; those of more points, up to n, are 0."""
        d, n_given = features.shape
        self._features = np.ascontiguousarray(features)
        if n_given < n:
            self._features = empty((d, n))
            self._features[:, :n_given], self._features[:, n_given:] = features, 0
        self._far: F64 | None = None
        self.scales = axis_scales(d)
        low, high = self._features.min(axis=1), self._features.max(axis=1)
        reach = largest_coordinate(np.maximum(-low, high).tolist())
        # Beyond, the original's keys overflow, and soon single precision does not tell where in a
        # simplex a point is.
        if reach > LARGEST_COORDINATE:
            far = self._features.astype(np.float64)
            self._far = far if reach <= LARGEST_DOUBLE else close_gaps(far)
            self._features = np.empty_like(self._features)  # for `part` to write
            low, high = self._far.min(axis=1), self._far.max(axis=1)
        self.units, self._zero = key_units(low, high)

    def part(self, first: int, last: int) -> tuple[F32, F32, I64, I64]:
        """What `embed` takes of the points first..last: features, scales, units, origins."""
        origins = self._zero
        if self._far is not None:
            whole = slice(first, -(-last // LANES) * LANES)
            self._features[:, whole], added = move_near(self._far[:, whole], self.units)
            origins = origins + added
        return self._features, self.scales, self.units, origins


def move_near(features: F64, units: I64) -> tuple[F32, I64]:
    """Move each of d x N points by a vector of the lattice to near 0.

    The simplices around them move along. Returns the points, d x N, and N x 2: what the way back
    adds to the keys of their corners.
    """
    d, n = features.shape
    scales = axis_scales(d).astype(np.float64)[:, None]
    scaled = features * scales
    elevated = np.empty((d + 1, n))
    total = np.zeros(n)
    for j in range(d, 0, -1):
        elevated[j] = total - j * scaled[j - 1]
        total += scaled[j - 1]
    elevated[0] = total
    quotients = np.rint(elevated / (d + 1))
    quotients[0] -= quotients.sum(axis=0)
    elevated -= (d + 1) * quotients
    total[:] = 0
    for j in range(d, 0, -1):
        scaled[j - 1] = (total - elevated[j]) / j
        total += scaled[j - 1]
    return (scaled / scales).astype(np.float32), quotients.T.astype(np.int64) @ units


def close_gaps(features: F64) -> F64:
    """d x N points that the kernel tells apart as it does these, but with smaller coordinates.

    Where no point's coordinate lies within a stretch that the blur does not reach across, that is
    made shorter. (The blur reaches 1.3 (1 + sqrt(d + 1)) standard deviations, see Adams et al.)
    """
    stretch = 8 * np.sqrt(len(features) + 1)
    closer = np.empty_like(features)
    for axis, result in zip(features, closer, strict=True):
        values, places = np.unique(axis, return_inverse=True)
        steps = np.minimum(np.diff(values, prepend=values[0]), stretch)
        result[:] = np.cumsum(steps)[places]
    return closer


def key_units(low: Any, high: Any) -> tuple[I64, I64]:
    """The units of the quotients of vertices around features within low..high (d each).

    Returns (d+1) x 2 int64 units, 0 for the last axis, which follows from the others, and 1 x 2
    int64, the key of all quotients 0. If they fit, each quotient has a range of its own in one of
    the two integers, counted from its lowest.
    """
    d = len(low)
    scales = axis_scales(d).astype(np.float64)
    low, high = (low * scales).tolist(), (high * scales).tolist()
    units = np.zeros((d + 1, 2), np.int64)
    zero = np.zeros((1, 2), np.int64)
    word, unit = 0, 1 << d.bit_length()
    for j in range(d):
        # Bounds of the elevated coordinate. Rounding, and the way to the corners of a simplex and
        # to their neighbours, take a quotient further by less than 5.
        before_low, before_high = (low[j - 1], high[j - 1]) if j else (0, 0)
        lowest = int((sum(low[j:]) - j * before_high) // (d + 1)) - 5
        highest = int((sum(high[j:]) - j * before_low) // (d + 1)) + 6
        if unit * (highest - lowest + 1) > KEY_LIMIT:
            word, unit = word + 1, 1
        if word == 2 or highest - lowest >= KEY_LIMIT:
            return _random_units(d), np.zeros((1, 2), np.int64)
        units[j, word] = unit
        zero[0, word] -= lowest * unit
        unit *= highest - lowest + 1
    return units, zero


def _random_units(d: int) -> I64:
    """Units for quotients of any size and number, whose products are to wrap around.

    Two vertices then have the same key by chance only: for 1e8 vertices, less than once in 1e20.
    """
    bits = d.bit_length()
    units = np.random.default_rng(0).integers(-(2**63), 2**63, (d + 1, 2))
    units[:, 0] <<= bits  # the remainder keeps its own
    units[0, 0] = 1 << bits
    units[d] = 0
    return units
