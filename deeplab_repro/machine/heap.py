"""Lets a program keep the memory that it frees: to have it given again would take longer.

The system hands out memory page by page, and clears each page first. By default glibc gives large
arrays back as soon as they are freed, so every photo pays for its pages again: a fifth of the CRF's
time, a tenth of a net's. Elsewhere than on glibc nothing here does anything.
"""

import contextlib
import ctypes
import os
import sys
from functools import cache
from pathlib import Path
from typing import Any

from deeplab_repro.machine.limits import is_limited

MOST_KEPT = 1 << 30
"""Bytes of freed memory that a command keeps; larger arrays are given back at once."""

# As <malloc.h> numbers them, and as the environment names them.
_SETTINGS = {
    "mmap_threshold": (-3, MOST_KEPT),
    "trim_threshold": (-1, MOST_KEPT),
    # One heap for all threads: with one each, each would keep what the others need.
    "arena_max": (-8, 1),
}
# Under a limit (ulimit -v) that counts what is kept: else several hundred MB would be.
_UNDER_A_LIMIT = {"mmap_threshold": (-3, 1 << 20), "arena_max": (-8, 1)}
_LARGEST_FOR_OLD_GLIBC = 32 << 20
_FIELDS = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"


class _Heap(ctypes.Structure):
    """struct mallinfo2: bytes that are in use, or not, on the heap and beside it."""

    _fields_ = tuple((name, ctypes.c_size_t) for name in _FIELDS.split())


_keeps = False


def keep_freed_memory() -> None:
    """Have this process keep up to 1 GB that it frees, from now on, as the commands do.

    Photo after photo, a net and the CRF take less time then. All other code of the process keeps
    what it frees too. To be called before anything large is there. Under a limit of the process
    that counts what is kept (ulimit -v), all is given back instead. Settings of malloc in the
    environment (MALLOC_TRIM_THRESHOLD_, GLIBC_TUNABLES and so on) stay as they are. Elsewhere than
    on glibc it does nothing.

    >>> keep_freed_memory()  # once, at the beginning of a program
    """
    global _keeps
    libc = _glibc()
    if libc is None:
        return
    for name, (number, value) in (_UNDER_A_LIMIT if is_limited() else _SETTINGS).items():
        if _is_set(name):
            continue
        if not libc.mallopt(number, value) and name == "mmap_threshold":
            libc.mallopt(number, _LARGEST_FOR_OLD_GLIBC)
    _keeps = not is_limited()


def is_kept() -> bool:
    """Whether this process keeps what it frees."""
    return _keeps


def give_back() -> None:
    """Give all freed memory back to the system."""
    if libc := _glibc():
        libc.malloc_trim(0)


def give_back_excess() -> None:
    """Give freed memory back if this process keeps more than it is to.

    Memory is kept beyond `MOST_KEPT` where something small that is still needed lies above it.
    What this process was not told to keep stays as it is.
    """
    if _keeps and _kept() > MOST_KEPT:
        give_back()


def _kept() -> int:
    """About how many bytes of memory this process holds, and does not use."""
    libc = _glibc()
    if libc is None or not hasattr(libc, "mallinfo2"):  # it is there from glibc 2.33 on
        return 0
    libc.mallinfo2.restype = _Heap
    heap = libc.mallinfo2()
    held = 0
    with contextlib.suppress(OSError, ValueError, IndexError):
        status = Path("/proc/self/status").read_text()
        held = int(status.partition("RssAnon:")[2].split()[0]) * 1024
    return held - heap.uordblks - heap.hblkhd


def _is_set(name: str) -> bool:
    """Whether the user has set what malloc is to do here."""
    is_tuned = f"glibc.malloc.{name}=" in os.environ.get("GLIBC_TUNABLES", "")
    return is_tuned or f"MALLOC_{name.upper()}_" in os.environ


@cache
def _glibc() -> Any:
    """The C library if it is glibc, else None."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "gnu_get_libc_version") else None
