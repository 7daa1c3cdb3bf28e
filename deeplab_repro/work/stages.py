"""Ordered pipeline stages that overlap in threads.

Imports nothing large: a new process must be told how many threads to use before it loads NumPy.
"""

import os
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_MOST_IO_THREADS = 8


def n_cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def io_threads(device: str) -> int:
    """How many threads should read photos, and how many write results, beside a net on a device.

    Beside a GPU there are cores to spare. On the CPU the net has them all, and takes so long that
    the time for files does not matter.
    """
    return 0 if device == "cpu" else max(1, min(_MOST_IO_THREADS, n_cores() // 2))


@contextmanager
def quick_turns() -> Iterator[None]:
    """Let Python's threads take turns after 0.2 ms, not 5 ms, while the context lasts.

    The CRF on a GPU is launched in some sixty calls; each would wait for a thread that handles
    files to give up its turn.
    """
    interval = sys.getswitchinterval()
    sys.setswitchinterval(2e-4)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)


def in_threads(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    threads: int,
    name: str,
    prepare: Callable[[], object] | None = None,
) -> Generator[Result, None, None]:
    """Call a function with each item in some threads (0: in this one); results in order.

    Items are taken in the calling thread, `threads` of them ahead of the result that is waited for.
    What the function or the items raise is raised in its place; what was not begun then never is.

    prepare: is called first in one of the threads, while the first item is made; what it raises is
    not told, as the function will raise it too.
    """
    if threads == 0:
        yield from map(function, items)
        return
    coming: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix=name) as pool:
        if prepare:
            pool.submit(prepare)
        try:
            for future in _submitted(function, items, pool):
                coming.append(future)
                while coming and (len(coming) > threads or coming[0].done()):
                    yield coming.popleft().result()
            while coming:
                yield coming.popleft().result()
        finally:
            for future in coming:
                future.cancel()


def _submitted(
    function: Callable[[Item], Result], items: Iterable[Item], pool: ThreadPoolExecutor
) -> Iterator[Future[Result]]:
    """Each item's future; what the items raise comes as the last of them."""
    try:
        for item in items:
            yield pool.submit(function, item)
    except Exception as error:
        failed: Future[Result] = Future()
        failed.set_exception(error)
        yield failed
