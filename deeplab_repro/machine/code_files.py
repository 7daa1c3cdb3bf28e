"""Keeps compiled functions in files, so that later runs need not compile them.

Numba's own files fail for ever once one is damaged, end the run where the disk is full, and may be
mixed up where two processes compile at once. Here each compiled function has a file of its own,
which says what it is of and whether it is whole; what goes wrong with it costs time only.
"""

import contextlib
import functools
import hashlib
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deeplab_repro.errors import one_line

_DIGEST = 32  # bytes


class CodeFiles:
    """The files of one function, one for each choice of types and kind of processor.

    Stands in the place of Numba's IndexDataCacheFile, whose keys it takes: (types, processor, code,
    and for a GPU sometimes how it is launched).

    base: how their paths begin. stamp: what the code is made from, 32 bytes; a file with another is
    as none. dumps: pickles what is saved.
    """

    def __init__(self, base: str, stamp: bytes, dumps: Callable[[Any], bytes]) -> None:
        self._base = base
        self._stamp = stamp
        self._dumps = dumps

    def load(self, key: tuple) -> Any:
        """What was saved under a key, or None. Raises OSError for a file that is broken."""
        path = self._path(key)
        try:
            with open(path, "rb") as file:
                digest, body = file.read(_DIGEST), file.read()
        except FileNotFoundError:
            return None
        if hashlib.sha256(body).digest() != digest:
            raise OSError(0, "it is damaged", path)
        if not body.startswith(self._stamp):
            return None
        # Only now is it known to be our own.
        kept, data = pickle.loads(body[len(self._stamp) :])
        return data if kept == key else None

    def save(self, key: tuple, data: Any) -> None:
        """Save data under a key, whole or not at all. Raises OSError where that fails."""
        path = self._path(key)
        body = self._stamp + self._dumps((key, data))
        unfinished = f"{path}.{os.urandom(4).hex()}.tmp"
        try:
            with open(unfinished, "xb") as file:
                file.write(hashlib.sha256(body).digest() + body)
            os.replace(unfinished, path)
        except BaseException:
            with contextlib.suppress(OSError):  # the first error is the one to tell
                os.unlink(unfinished)
            raise

    def _path(self, key: tuple) -> str:
        # Not by the third part, the function's own code: its next version takes the same file.
        name = hashlib.sha256(repr((key[:2], key[3:])).encode()).hexdigest()
        return f"{self._base}.{name[:16]}.nbc"


def problem_of(folder: Path) -> str | None:
    """What keeps compiled code from being kept in a folder, by a trial; None where it can be."""
    key = (os.getpid(), "trial")
    trial = CodeFiles(os.path.join(folder, "trial"), bytes(_DIGEST), pickle.dumps)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        trial.save(key, key)
        found = trial.load(key)
        os.unlink(trial._path(key))
    except OSError as error:
        return f"{one_line(folder)}: compiled code cannot be kept there: {error.strerror}"
    return None if found == key else f"{one_line(folder)}: what is written there changes"


@functools.cache
def stamp_of(folder: Path, version: str) -> bytes:
    """A digest of all Python files in a folder, and of the version of what compiles them."""
    digest = hashlib.sha256(version.encode())
    for path in sorted(folder.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.digest()
