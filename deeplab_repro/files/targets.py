"""Check that results can be written and lose nothing, before any work is done."""

import errno
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from deeplab_repro.errors import FileError, one_line
from deeplab_repro.files.marks import made_here
from deeplab_repro.files.whole import reason, writable_target


def check_targets(
    targets: Mapping[Path, Iterable[Path]],
    inputs: Iterable[str | os.PathLike[str]],
    force: bool = False,
) -> None:
    """Raise FileError if results would take the place of others, or cannot be written.

    They never overwrite each other, nor an input, under whatever name: a link leads to the same
    file. Without `force` they also overwrite no file that this tool did not make.

    targets: the files that are written for each picture; their folders need not exist. inputs: the
    files that are read; names of none count for nothing.
    """
    written: dict[str, tuple[Path, Path]] = {}  # by the place on the disk
    folder_of = cache(_Folder)  # of few folders, while targets may be many
    for path, files in targets.items():
        for target in files:
            other, _ = written.setdefault(_place(target, folder_of(target.parent)), (path, target))
            if other != path:
                raise FileError(
                    f"{one_line(path)} and {one_line(other)} would both be written to "
                    f"{one_line(target)}: segment them one at a time, with another --out"
                )
    there = [target for _, target in written.values() if target.exists()]
    read = _by_identity(inputs) if there else {}
    for target in there:
        if source := read.get(_identity(target)):
            same = "" if source == str(target) else f", as {one_line(target)} is the same file"
            raise FileError(
                f"{one_line(source)}: the results would overwrite it{same}: give them another name"
            )
    for target in there:
        writable_target(target)
        if not (force or made_here(target)):
            raise FileError(
                f"{one_line(target)}: is there already, and not known to be deeplab-repro's own: "
                "give the results another name, or --force (force=True) to replace it"
            )
    for folder in {target.parent: None for _, target in written.values()}:
        existing = folder_of(folder).existing
        if not existing.is_dir():
            name = one_line(existing)
            raise FileError(f"{name}: is a file, expected a folder for the results")
        if not os.access(existing, os.W_OK | os.X_OK):
            raise FileError(f"{one_line(existing)}: cannot be written to: give another --out")
        _refuse_tilde(folder)


def make_folder(folder: Path) -> None:
    """Make a folder for results, and those above it. Raises FileError if that cannot be done."""
    _refuse_tilde(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"{one_line(folder)}: cannot be made: {reason(error)}") from error


def _refuse_tilde(folder: Path) -> None:
    """A shell puts the home folder for ~, but not after a = or in quotes."""
    if any(each.name == "~" and not each.exists() for each in (folder, *folder.parents)):
        raise FileError(f"{one_line(folder)}: there is no folder ~: write the home folder in full")


@dataclass(frozen=True)
class _Folder:
    """What is asked of a folder for each file that goes there, looked up once."""

    path: Path

    @cached_property
    def existing(self) -> Path:
        """The folder, or the nearest above it that exists."""
        return next(each for each in (self.path, *self.path.parents) if os.path.exists(each))

    @cached_property
    def real(self) -> str:
        """Its path without links."""
        return os.path.realpath(self.path)

    @cached_property
    def ignores_case(self) -> bool:
        """Whether A and a are one file there."""
        return ignores_case(self.existing)


def _place(target: Path, folder: _Folder) -> str:
    """Where a file is or will be, the same for all names of it."""
    # In a folder that does not exist no name is too long yet.
    new = target.parts[len(folder.existing.parts) :]
    for path in (target, *(folder.existing / name for name in new)):
        try:
            os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            pass
        except (OSError, ValueError) as error:  # ValueError: a null character in the name
            is_long = isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG
            mend = ": use a shorter name" if is_long else ""
            raise FileError(
                f"{one_line(target)}: cannot be written: {reason(error)}{mend}"
            ) from error
    is_link = os.path.islink(target)
    place = os.path.realpath(target) if is_link else os.path.join(folder.real, target.name)
    return place.casefold() if folder.ignores_case else place


def ignores_case(folder: Path) -> bool:
    """Whether A and a are one file there, as on Windows and mostly on macOS."""
    folder = folder.absolute()
    other = folder.with_name(folder.name.swapcase()) if folder.name else folder
    return other.name != folder.name and other.exists() and other.samefile(folder)


def _identity(path: str | os.PathLike[str]) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _by_identity(paths: Iterable[str | os.PathLike[str]]) -> dict[tuple[int, int], str]:
    found: dict[tuple[int, int], str] = {}
    for path in paths:
        with suppress(OSError, ValueError):  # no file: a model's name, or missing, as is said later
            found.setdefault(_identity(path), os.fspath(path))
    return found
