"""Bytes as a file, for libraries that read from nothing else."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def as_file(content: bytes) -> Iterator[str]:
    """The path of a file with this content, as long as the block lasts.

    On Linux it is in memory. Elsewhere it is in the folder for temporary files: OSError where that
    is full or cannot be written.
    """
    if hasattr(os, "memfd_create") and Path("/proc/self/fd").exists():
        with open(os.memfd_create("deeplab-repro"), "wb", buffering=0) as file:
            _write_all(file.fileno(), content)
            yield f"/proc/self/fd/{file.fileno()}"
        return
    with tempfile.TemporaryDirectory(prefix="deeplab-repro-") as folder:
        path = Path(folder) / "content"
        path.write_bytes(content)
        yield str(path)


def _write_all(descriptor: int, content: bytes) -> None:
    """Write bytes of any number: the system takes at most 2 GB at once."""
    left = memoryview(content)
    while left:
        left = left[os.write(descriptor, left) :]
