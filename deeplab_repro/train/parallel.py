"""Threads that share the work of one layer. Results do not depend on their number."""

import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, TypeVar

import numpy as np

from deeplab_repro.machine.jit import numba

log = logging.getLogger(__name__)

Item = TypeVar("Item")


@cache
def warn_of_blas_threads() -> None:
    """Warn, once, if NumPy may use OpenBLAS's own threads: they wait in a loop and take the cores.

    The threads here call one GEMM each. OpenBLAS reads its settings when NumPy is loaded.
    """
    settings = (os.environ.get(name) for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"))
    if numba.get_num_threads() > 1 and "1" not in settings:
        log.warning(
            "training may be several times slower with OpenBLAS's own threads: set "
            "OPENBLAS_NUM_THREADS=1 in the environment before NumPy is loaded"
        )


@cache
def _pool(process: int) -> ThreadPoolExecutor:  # noqa: ARG001 - a forked child has no threads
    most = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
    return ThreadPoolExecutor(max(1, most - 1), "train", _ignore_overflow)


def _ignore_overflow() -> None:
    np.seterr(over="ignore", invalid="ignore")  # as in the solver's own thread


def in_parts(function: Callable[..., None], n: int, *arguments: Any) -> None:
    """Call function(begin, end, *arguments) for parts of 0..n at once, on as many threads as Numba.

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
    """Call work(slot, item) for as many items at once as there are threads; slots count from 0.

    When these are done, call after(slot) one by one in the order of the items, so that sums are the
    same for any number of threads. NumPy releases the GIL while it works.
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
