"""The least time that the CRF's iterations could take on this machine: their roofline.

An iteration loads and stores so many bytes, of which some can only come from memory once an image
is larger than the caches, and does so many operations. None of the three can be done faster than
the machine's memory, its first cache and its multiply-adds allow.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from deeplab_repro.bench.measures import seconds_of
from deeplab_repro.crf.cpu.mean_field import MeanField
from deeplab_repro.crf.cpu.threads import run_together, share
from deeplab_repro.crf.cpu.vectors import LANES, load, multiply_add, store, zeros
from deeplab_repro.machine.jit import jit, numba

LEVELS = {"L1": 16, "L2": 512, "L3": 6_000, "memory": 200_000}
"""Kilobytes that each thread reads to measure a cache, or the memory."""

MULTIPLY_ADDS = "multiply-adds"

_WIDTH = (0,) * 4
_KILOBYTES_READ, _TURNS = 200_000, 5_000_000  # in each of so many runs, of which the best counts:
_RUNS = 8


@jit
def read_all(team: Any, array: Any, times: Any, result: Any) -> None:
    """Each thread reads its part of an array so many times."""
    first, last = share(team, 0, array.size // (LANES * len(_WIDTH)))
    x = y = zeros(_WIDTH)
    for _ in range(times):
        for i in range(first, last - 1, 2):
            x = x + load(array, i * LANES * len(_WIDTH), _WIDTH)
            y = y + load(array, (i + 1) * LANES * len(_WIDTH), _WIDTH)
    store(result, team.thread * LANES * len(_WIDTH), x + y)


@jit
def multiply_all(team: Any, times: Any, result: Any) -> None:
    """Twelve independent vectors of multiply-adds."""
    a = b = c = load(result, team.thread * LANES * len(_WIDTH), _WIDTH)
    factor = np.float32(0.999)
    for _ in range(times):
        a = multiply_add(a, factor, a)
        b = multiply_add(b, factor, b)
        c = multiply_add(c, factor, c)
    store(result, team.thread * LANES * len(_WIDTH), a + b + c)


def machine_rates() -> dict[str, float]:
    """Bytes a second read from each of LEVELS, and operations a second, on Numba's threads."""
    threads = numba.get_num_threads()
    result = np.zeros(threads * LANES * len(_WIDTH), np.float32)
    rates = {}
    for level, kilobytes in LEVELS.items():
        array = np.ones(threads * kilobytes * 256, np.float32)  # zeros would all be one page
        times = max(1, _KILOBYTES_READ // kilobytes)
        rates[level] = (
            array.nbytes * times / _best(partial(run_together, read_all, array, times, result))
        )
    operations = threads * _TURNS * 3 * 2 * LANES * len(_WIDTH)
    rates[MULTIPLY_ADDS] = operations / _best(partial(run_together, multiply_all, _TURNS, result))
    return rates


def _best(run: Callable[[], None]) -> float:
    return min(seconds_of(run, _RUNS)[1:])


def bytes_by_stage(field: MeanField) -> dict[str, int]:
    """The bytes that each stage of an iteration loads and stores, wherever they lie."""
    lattice, row = field._lattice, 4 * field._lanes
    n, corners = int(lattice.points[-1]), int(lattice.kernel_starts[-1])
    return {
        "slice": n * (corners * (row + 8) + row),
        "softmax": n * 6 * row,
        "splat": n * (corners * (2 * row + 8) + row),
        "zeroing": int(lattice.rows[-1]) * row,
        "blur": len(lattice.chains) * (2 * row + 4) + len(lattice.ghosts) * 5 * row,
    }


def work_of(field: MeanField) -> dict[str, int]:
    """What an iteration takes of memory, of the first cache (bytes), and of multiply-adds.

    From memory come a pixel's unary and its corners with both of their weights, and each vertex of
    the lattice, which is read and written.
    """
    lattice, lanes = field._lattice, field._lanes
    n, corners = int(lattice.points[-1]), int(lattice.kernel_starts[-1])
    factors = 0 if field._factors is None else field._factors.shape[1]
    return {
        "memory": n * (8 * corners + 4 * factors + 4 * lanes) + 8 * lanes * int(lattice.rows[-1]),
        "L1": sum(bytes_by_stage(field).values()),
        MULTIPLY_ADDS: lanes * (n * (4 * corners + 25) + 3 * len(lattice.chains)),
    }


def limits_ms(work: Mapping[str, float], rates: Mapping[str, float]) -> dict[str, float]:
    """The milliseconds that each part of `work_of` takes at this machine's rate, at the least."""
    return {name: 1e3 * amount / rates[name] for name, amount in work.items()}
