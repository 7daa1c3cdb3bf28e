"""A few threads that share work: parts of a compiled function's, or tiles that NumPy works on.

The results do not depend on the number of threads.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, TypeVar

import numba
import numpy as np

Item = TypeVar("Item")


@cache
def _pool(process: int) -> ThreadPoolExecutor:  # noqa: ARG001 - a forked child has no threads
    most = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
    return ThreadPoolExecutor(max(1, most - 1), "train", _ignore_overflow)


def _ignore_overflow() -> None:
    np.seterr(over="ignore", invalid="ignore")  # as in the solver's own thread


def in_parts(function: Callable[..., None], n: int, *arguments: Any) -> None:
    """Call function(begin, end, *arguments) for parts of 0..n on Numba's threads at once.

    The function is compiled without the GIL, and no two parts write to the same place.
    """
    threads = min(numba.get_num_threads(), n)
    if threads < 2:
        function(0, n, *arguments)
        return
    bounds = [n * part // threads for part in range(threads + 1)]
    pool = _pool(os.getpid())
    others = [
        pool.submit(function, bounds[part], bounds[part + 1], *arguments)
        for part in range(1, threads)
    ]
    function(0, bounds[1], *arguments)
    for other in others:
        other.result()


def in_waves(
    items: Sequence[Item],
    work: Callable[[int, Item], None],
    after: Callable[[int], None] = lambda slot: None,  # noqa: ARG005
) -> None:
    """Call work(slot, item) for as many items at once as there are threads, the slots from 0.

    When these are done, call after(slot) for one after the other, in the order of the items: so
    sums come out the same on any number of threads. NumPy gives up the GIL for its work.
    """
    threads = numba.get_num_threads()
    pool = _pool(os.getpid())
    for first in range(0, len(items), threads):
        wave = items[first : first + threads]
        others = [pool.submit(work, slot, item) for slot, item in enumerate(wave) if slot]
        work(0, wave[0])
        for other in others:
            other.result()
        for slot in range(len(wave)):
            after(slot)
