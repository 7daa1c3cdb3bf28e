"""Open files to read, and write them whole or not at all."""

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from deeplab_repro.errors import DeepLabError, FileError, one_line

# The name of a file while it is written.
_TEMPORARY = ".deeplab-*.tmp"


def check_readable(path: str | os.PathLike[str]) -> int:
    """Return the size in bytes of the regular, non-empty file `path`.

    Raises FileError if it is missing, a folder, a pipe or device, or empty.
    """
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        raise FileError(f"{one_line(path)}: cannot be read: {reason(error)}") from error
    if stat.S_ISDIR(status.st_mode):
        raise FileError(f"{one_line(path)}: is a folder: expected a file")
    if not stat.S_ISREG(status.st_mode):
        raise FileError(f"{one_line(path)}: is a pipe or a device: expected a regular file")
    if status.st_size == 0:
        raise FileError(f"{one_line(path)}: is empty (0 bytes): copy or download it again")
    return status.st_size


@contextlib.contextmanager
def open_to_read(path: str | os.PathLike[str]) -> Iterator[tuple[BinaryIO, int]]:
    """Open the binary file `path`; yields it and its size in bytes.

    Raises FileError if the file is missing, a folder, a pipe or device, empty or unreadable; so
    does an OSError in the block.
    """
    size = check_readable(path)
    try:
        with open(path, "rb") as file:
            yield file, size
    except OSError as error:
        raise FileError(f"{one_line(path)}: cannot be read: {reason(error)}") from error


@contextlib.contextmanager
def write_atomically(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a binary file that becomes `path` when the block ends without an exception.

    The bytes go to a temporary file in the same folder, which then takes the name `path`. If the
    block raises or is interrupted, a file already at `path` stays as it was and nothing is left
    behind. Permissions follow the umask; a symbolic link stays one, its target is replaced.

    Raises FileError for a missing folder, a folder or device at `path`, no permission or no space,
    and for a file that somebody else wrote there meanwhile; so does any OSError in the block.
    """
    target = writable_target(path)
    new = [] if target.exists() else [target]
    temporary = _temporary(target)
    try:
        try:
            # tempfile would make it 0600; this way the umask decides, as for any new file.
            with open(temporary, "xb") as file:
                yield file
            _refuse_newcomers(new)
            os.replace(temporary, target)
        except BaseException:
            with contextlib.suppress(OSError):  # the first error is the one to tell
                temporary.unlink()
            raise
    except OSError as error:
        raise FileError(f"{one_line(path)}: cannot be written: {reason(error)}") from error


@contextlib.contextmanager
def replace_together(paths: Sequence[str | os.PathLike[str]]) -> Iterator[list[Path]]:
    """Yields temporary paths to write to, which become `paths` when the block ends well.

    They lie in the same folders. If the block raises or is interrupted, files already at `paths`
    stay as they were and nothing is left behind; the errors' messages name `paths`.

    Raises FileError as `write_atomically`.
    """
    targets = [writable_target(path) for path in paths]
    new = [target for target in targets if not target.exists()]
    files = [_temporary(target) for target in targets]
    try:
        yield files
        _refuse_newcomers(new)
        for path, file, target in zip(paths, files, targets, strict=True):
            try:
                os.replace(file, target)
            except OSError as error:
                what = f"{one_line(path)}: cannot be written"
                raise FileError(f"{what}: {reason(error)}") from error
    except DeepLabError as error:
        text = str(error)
        for path, file in zip(paths, files, strict=True):
            text = text.replace(one_line(file), one_line(path))
        raise type(error)(text) from error
    finally:
        for file in files:
            with contextlib.suppress(OSError):  # the first error is the one to tell
                file.unlink(missing_ok=True)


def _refuse_newcomers(targets: Sequence[Path]) -> None:
    """Raise FileError if there is a file by now where there was none."""
    for target in targets:
        if target.exists():
            raise FileError(f"{one_line(target)}: cannot be written: somebody else did meanwhile")


def _temporary(target: Path) -> Path:
    """The path of a new file in the same folder."""
    # Not made from the target's name, which may already be as long as a name can be.
    return target.with_name(_TEMPORARY.replace("*", os.urandom(8).hex()))


def writable_target(path: str | os.PathLike[str]) -> Path:
    """The file that writing to `path` makes or replaces, behind any symbolic links.

    Raises FileError for a missing folder, and for a folder or device at `path`.
    """
    what = f"{one_line(path)}: cannot be written"
    try:
        target = Path(os.path.realpath(path))
        if target.is_dir():
            raise FileError(f"{what}: it is a folder: give the name of a file")
        if target.exists() and not target.is_file():
            raise FileError(f"{what}: it is a pipe or a device: give the name of a file")
        if not target.parent.is_dir():
            folder = one_line(target.parent)
            raise FileError(f"{what}: there is no folder {folder}: create it first")
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise FileError(f"{what}: {reason(error)}") from error
    return target


def remove_unfinished(folder: Path) -> None:
    """Remove the temporary files that a killed process left in a folder.

    Only when nothing else writes to it. Raises FileError if they cannot be removed.
    """
    for path in folder.glob(_TEMPORARY):
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise FileError(f"{one_line(path)}: cannot be removed: {reason(error)}") from error


def reason(error: Exception) -> str:
    """Why the system refused a file, as the end of a message."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text[:1].lower() + text[1:]
