"""Threads that share the work of one layer. Results do not depend on their number."""

import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
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
def _pool(process: int, threads: int) -> ThreadPoolExecutor:  # noqa: ARG001 - a fork has none
    return ThreadPoolExecutor(threads, "train", _ignore_overflow)


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
    pool = _pool(os.getpid(), numba.get_num_threads())
    others = [
        pool.submit(function, bounds[part], bounds[part + 1], *arguments)
        for part in range(1, threads)
    ]
    function(0, bounds[1], *arguments)
    for other in others:
        other.result()


def in_turn(
    items: Sequence[Item],
    work: Callable[[Item], None],
    after: Callable[[], None] = lambda: None,
) -> None:
    """Call work(item) for every item, on as many threads as Numba, and after() in the same thread.

    after() is called for one item after the other, in their order, so that sums are the same for
    any number of threads. NumPy releases the GIL while it works.
    """
    threads = numba.get_num_threads()
    if min(threads, len(items)) < 2:
        for item in items:
            work(item)
            after()
        return
    turns: list[Future[None]] = []

    def turn(number: int) -> None:
        work(items[number])
        if number:
            turns[number - 1].result()  # which began before; if it failed, so does this one
        after()

    pool = _pool(os.getpid(), threads)
    try:
        for number in range(len(items)):
            turns.append(pool.submit(turn, number))
        turns[-1].result()
    finally:  # no thread goes on after an error or Ctrl-C
        for each in turns:
            each.cancel()
        wait(turns)
