"""Work in stages, each in threads of its own: what comes next is begun while this is waited for.

Imports nothing large: a new process must be told how many threads to use before it loads NumPy.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
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
    """How many threads should read pictures, and how many write them, beside a net on a device.

    Beside a GPU there are cores to spare; on the CPU the net has them all, and takes so long that
    files are no matter.
    """
    return 0 if device == "cpu" else max(1, min(_MOST_IO_THREADS, n_cores() // 2))


def in_threads(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int, name: str
) -> Iterator[Result]:
    """Call a function with each item in so many threads (0: in this one); results in order.

    Items are taken in the calling thread, `threads` of them ahead of the result that is waited for.
    What the function or the items raise is raised in its place; what was not begun then never is.
    """
    if threads == 0:
        yield from map(function, items)
        return
    coming: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix=name) as pool:
        try:
            for item in items:
                coming.append(pool.submit(function, item))
                while coming and (len(coming) > threads or coming[0].done()):
                    yield coming.popleft().result()
            while coming:
                yield coming.popleft().result()
        finally:
            for future in coming:
                future.cancel()
