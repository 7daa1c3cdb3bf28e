"""Hold folders while they are worked on, so that two runs never mix in one.

The hold is a lock of the operating system on a small file, which also says who has it. It ends with
the process, however that ends; no process that this one starts has it.
"""

import contextlib
import logging
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from deeplab_repro.errors import FileError, one_line
from deeplab_repro.files.targets import make_folder

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_NAME = ".deeplab.lock"
_LONGEST_COMMAND = 100
_MOST_BYTES = 1000

# A process that was forked off a moment ago may still have its parent's lock.
_SECONDS_TO_LET_GO = 0.2

_log = logging.getLogger(__name__)

# Of the locks that this process has. A forked child would keep them alive, so it closes them.
_descriptors: set[int] = set()


def _forget() -> None:
    while _descriptors:
        os.close(_descriptors.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


@dataclass(frozen=True)
class Held:
    """Folders that a process holds, for those who write to them on its behalf.

    files: the locks. holder: what stands in them.
    """

    files: tuple[Path, ...]
    holder: str

    def check(self) -> None:
        """Raise FileError if another run has taken a folder: the one that held it was killed."""
        for path in self.files:
            holder = _holder(path)
            if holder not in ("", self.holder):
                raise FileError(
                    f"{one_line(path.parent)}: is now in use by {holder}, and no longer by "
                    f"{self.holder}: what that one still made was not written"
                )


NOTHING_HELD = Held((), "")
"""For work in a folder that no other run can know."""


@contextlib.contextmanager
def hold(*folders: Path, reading: Sequence[Path] = ()) -> Iterator[Held]:
    """Hold folders to write to, which are made if need be, and folders that others may read too.

    Where the file system or the operating system (Windows) has no such locks, a warning says so.

    Raises FileError, naming the process, where another one holds a folder, and where the lock
    cannot be written.
    """
    writing = {os.path.realpath(folder): folder for folder in folders}
    shared = {os.path.realpath(folder): folder for folder in reading}
    holder, files = _myself(), []
    with contextlib.ExitStack() as stack:
        for folder in writing.values():
            make_folder(folder)
            if stack.enter_context(_locked(folder.absolute(), holder, False)):
                files.append(folder.absolute() / _NAME)
        for real, folder in shared.items():
            if real not in writing:
                stack.enter_context(_locked(folder.absolute(), holder, True))
        yield Held(tuple(files), holder)


@contextlib.contextmanager
def _locked(folder: Path, holder: str, shared: bool) -> Iterator[bool]:
    """Lock a folder; yields whether that is possible there."""
    path = folder / _NAME
    descriptor = _lock(path, shared)
    if descriptor is None:
        _log.warning(
            "%s: cannot be locked here: see that no other run works on it", one_line(folder)
        )
        yield False
        return
    _descriptors.add(descriptor)
    try:
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, holder.encode(), 0)
            # Once more: NFS then shows a cluster's workers what stands in it.
            fcntl.flock(descriptor, _mode(shared))
        except OSError as error:
            raise FileError(f"{one_line(path)}: cannot be written: {error.strerror}") from error
        yield True
    finally:
        # With the last who reads it the file goes too, unless it is another's by now.
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                path.unlink()
        _descriptors.discard(descriptor)
        os.close(descriptor)


def _lock(path: Path, shared: bool) -> int | None:
    """Lock a file, which is made if need be; None where there are no locks.

    Raises FileError where another process has it.
    """
    if fcntl is None:
        return None
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    latest = time.monotonic() + _SECONDS_TO_LET_GO
    while True:
        try:
            descriptor = os.open(path, flags, 0o666)
        except OSError as error:
            if shared:  # a folder that cannot be written to
                return None
            raise FileError(f"{one_line(path)}: cannot be written: {error.strerror}") from error
        is_mine = False
        try:
            fcntl.flock(descriptor, _mode(shared))
            # Its last holder may have removed it in between: then it keeps nobody out.
            with contextlib.suppress(FileNotFoundError):
                is_mine = os.path.samestat(os.fstat(descriptor), os.stat(path))
        except BlockingIOError:
            if time.monotonic() > latest:
                raise FileError(
                    f"{one_line(path.parent)}: is in use by {_holder(path) or 'another process'}: "
                    "wait until it has ended, or give another folder"
                ) from None
            time.sleep(_SECONDS_TO_LET_GO / 10)
        except OSError:
            return None
        finally:
            if not is_mine:
                os.close(descriptor)
        if is_mine:
            return descriptor


def _mode(shared: bool) -> int:
    return (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB


def _holder(path: Path) -> str:
    """Who holds a folder, or held it last."""
    try:
        with open(path, "rb") as file:
            return one_line(file.read(_MOST_BYTES).decode(errors="replace"))
    except OSError:
        return ""


def _myself() -> str:
    program, *arguments = sys.argv or [""]
    command = one_line(shlex.join([Path(program).name, *arguments]), _LONGEST_COMMAND)
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    host = one_line(socket.gethostname(), _LONGEST_COMMAND)
    return f"process {os.getpid()} on {host} ({command}), since {since}"
