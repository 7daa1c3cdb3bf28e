"""Arrays for work that comes again and again: their memory is kept for the next that asks for it.

To get memory of the system takes about as long as to fill it. What is kept is bounded, and given
back when it has not been used for a while.
"""

import math
import threading
import time
from typing import Any

import numpy as np
import numpy.typing as npt

from deeplab_repro.arrays import Shape
from deeplab_repro.machine import heap

MOST_KEPT = heap.MOST_KEPT
"""Bytes that are kept in all while nobody uses them: the CRF's at 2000x1500, say."""

SECONDS_KEPT = 20.0
"""How long they are kept."""

_LEAST = 1 << 16  # bytes; for less the system need not be asked
_ALIGNMENT = 64  # bytes of a cache line

Memory = npt.NDArray[np.uint8]

# By the memory's id, the last freed last: since when it is kept. What is done with them is done in
# one step of Python, as a lock could be held by the thread whose garbage collection frees a block.
_kept: dict[int, tuple[float, Memory]] = {}
_used: set[int] = set()
_watch = threading.Thread()


class _Block:
    """Memory that arrays lie on; when the last of them is gone, it is kept."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self.__array_interface__ = memory.__array_interface__
        _used.add(id(memory))

    def __del__(self) -> None:
        _used.discard(id(self._memory))
        _kept[id(self._memory)] = time.monotonic(), self._memory
        _drop_older_than(-math.inf)


def empty(shape: Shape, dtype: npt.DTypeLike = np.float32) -> npt.NDArray[Any]:
    """As `np.empty`, from a cache line on. Its memory is kept when the last view of it is gone.

    Raises MemoryError.
    """
    n_bytes = math.prod(shape) * np.dtype(dtype).itemsize
    is_shared = _LEAST <= n_bytes <= MOST_KEPT and not heap.is_kept()
    memory = _taken(n_bytes) if is_shared else None
    if memory is None:
        memory = np.empty(n_bytes + _ALIGNMENT, np.uint8)
    start = -memory.__array_interface__["data"][0] % _ALIGNMENT
    if is_shared:
        memory = np.asarray(_Block(memory))
        _start_watch()
    return memory[start : start + n_bytes].view(dtype).reshape(shape)


def free_memory() -> None:
    """Give back to the system what is kept for the next call of a net or the CRF.

    After a while without a call that happens by itself.

    >>> free_memory()  # after the last photo of many, in a program that goes on
    """
    _kept.clear()
    heap.give_back()


def _taken(n_bytes: int) -> Memory | None:
    """The smallest kept memory that holds so many bytes, and not many more; None without any."""
    pieces = [memory for _, memory in list(_kept.values())]
    fitting = [each for each in pieces if n_bytes <= each.size - _ALIGNMENT <= n_bytes * 3 // 2]
    for memory in sorted(fitting, key=len):
        if _kept.pop(id(memory), None) is not None:  # else another thread took it
            return memory
    return None


def _drop_older_than(when: float) -> None:
    """Drop what was freed before some time, and what is too much, from the oldest on."""
    n_bytes = 0
    for key, (since, memory) in reversed(list(_kept.items())):
        n_bytes += memory.size
        if since < when or n_bytes > MOST_KEPT:
            _kept.pop(key, None)


def _start_watch() -> None:
    """Have a thread drop what is kept too long, as long as there is anything."""
    global _watch
    if not _watch.is_alive():  # nor is it in a process that was forked
        _watch = threading.Thread(target=_drop_in_time, daemon=True)
        try:
            _watch.start()
        except RuntimeError:  # no threads any more: the bound holds all the same
            _watch = threading.Thread()


def _drop_in_time() -> None:
    while _kept or _used:
        time.sleep(SECONDS_KEPT / 2)
        _drop_older_than(time.monotonic() - SECONDS_KEPT)
