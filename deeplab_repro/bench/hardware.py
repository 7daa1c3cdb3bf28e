"""The machine that a bench runs on: its parts, its memory, how fast it multiplies matrices."""

import contextlib
import ctypes
import os
import platform
import time
from pathlib import Path

import numpy as np

from deeplab_repro.machine.cpu import cpu_name

_SIDE = 2048  # of the matrices: far beyond the caches, and a tenth of a second on two cores


def this_machine(*packages: str) -> str:
    """Name the processor, and the versions of Python and of these packages where installed."""
    from importlib.metadata import PackageNotFoundError, version

    packages = packages or ("numpy", "numba", "opencv-python-headless", "protobuf", "pydensecrf2")
    versions = []
    for package in packages:
        with contextlib.suppress(PackageNotFoundError):
            versions.append(f"{package} {version(package)}")
    python = platform.python_version()
    return f"{os.cpu_count()} cores of {cpu_name()}, Python {python}, {', '.join(versions)}"


def product_rate() -> float:
    """Operations (a multiply-add is two) a second of one float32 matrix product by NumPy."""
    matrix = np.resize(np.linspace(-1, 1, 1000, dtype=np.float32), (_SIDE, _SIDE))
    product = np.zeros_like(matrix)
    start = time.perf_counter()
    np.matmul(matrix, matrix, out=product)
    return 2 * _SIDE**3 / (time.perf_counter() - start)


def reset_peak() -> int | None:
    """Start measuring this process's peak of memory: its resident bytes, None where unknown."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # else freed memory could be filled without a rise
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    return _status_bytes("VmRSS")


def peak_above(before: int | None) -> int | None:
    """The most bytes that this process has held since `reset_peak`, above those held then."""
    peak = _status_bytes("VmHWM")
    return None if before is None or peak is None else peak - before


def _status_bytes(name: str) -> int | None:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(x.split()[1]) * 1024 for x in lines if x.startswith(name + ":")), None)
