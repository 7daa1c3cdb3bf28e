"""Which photo files are meant by names of files, folders and patterns, and what is passed over."""

import glob
import os
import stat
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from deeplab_repro.errors import FileError, one_line
from deeplab_repro.files.images import missing_reader, picture_endings
from deeplab_repro.files.marks import is_result
from deeplab_repro.files.whole import check_readable, reason
from deeplab_repro.work.outcomes import Failed


@dataclass
class Found:
    """The photo files that were meant.

    folders: by photo, each once, the subfolder in which it lay below a folder that was named; ""
    outside of such. skipped: how many files of folders are no photos that can be read, by reason.
    unreadable: subfolders that could not be looked into.
    """

    folders: dict[Path, str] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)
    unreadable: list[Failed] = field(default_factory=list)


def find_photos(names: Iterable[str | Path], recursive: bool = False) -> Found:
    """The photos that are meant by names of files, folders (their pictures) and patterns (*.jpg).

    A file that is named twice comes once. Hidden files in folders count for nothing, and neither do
    subfolders; recursive: these are gone through too, behind links too, each once.

    Raises FileError for a name that stands for nothing.
    """
    found = Found()
    once: dict[tuple[str, str], Path] = {}
    for name in names:
        if os.path.isdir(name):
            photos = _in_folder(Path(name), recursive, found)
        elif not os.path.exists(name) and glob.has_magic(str(name)):
            photos = _matching(str(name), found)
        else:
            check_readable(name)
            photos = iter([(Path(name), "")])
        for path, folder in photos:
            first = once.setdefault((os.path.realpath(path), path.stem), path)
            # Of several names for it, that counts which goes through the most folders.
            found.folders[first] = max(found.folders.get(first, ""), folder, key=len)
    return found


def _in_folder(top: Path, recursive: bool, found: Found) -> Iterator[tuple[Path, str]]:
    """The pictures in a folder, and the subfolder in which each is."""
    skipped, unreadable, photos = Counter[str](), list[Failed](), []
    has_subfolders = False
    for folder, inside in _folders(top, recursive, unreadable):
        for path in inside:
            if path.name.startswith("."):
                continue
            if os.path.isdir(path):
                has_subfolders = True
            elif why := _not_taken(path):
                skipped[why] += 1
            else:
                below = os.path.relpath(folder, top)
                photos.append((path, "" if below == os.curdir else below))
    if not photos and unreadable:
        raise unreadable[0].error
    if not photos:
        instead = f" ({skipped_text(skipped)})" if skipped else ""
        expected = " or ".join(sorted(picture_endings()))
        deeper = ": --recursive looks into its subfolders too" if has_subfolders else ""
        raise FileError(
            f"{one_line(top)}: holds no readable pictures{instead}, expected {expected}"
            f"{'' if recursive else deeper}"
        )
    found.skipped += skipped
    found.unreadable += unreadable
    yield from sorted(photos)


def _folders(
    top: Path, recursive: bool, unreadable: list[Failed]
) -> Iterator[tuple[Path, list[Path]]]:
    """A folder, and if need be all below it, with what is inside; each once: loops of links end.

    Links come last: a folder goes by its own name if it has one below `top`. Raises FileError if
    `top` cannot be read; a subfolder that cannot is added to `unreadable`.
    """
    waiting, links, seen = deque([top]), deque[Path](), set[tuple[int, int]]()
    while waiting or links:
        folder = waiting.popleft() if waiting else links.popleft()
        try:
            status = os.stat(os.path.join(folder, os.curdir))  # needs leave to enter it too
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            inside = sorted(folder / name for name in os.listdir(folder))
        except OSError as error:
            problem = FileError(f"{one_line(folder)}: cannot be read: {reason(error)}")
            if folder == top:
                raise problem from error
            unreadable.append(Failed(folder, problem))
            continue
        yield folder, inside
        for path in inside if recursive else ():
            if os.path.isdir(path) and not path.name.startswith("."):
                (links if path.is_symlink() else waiting).append(path)


def _not_taken(path: Path) -> str | None:
    """Why a file in a folder is not taken for a photo; None if it is."""
    if missing := missing_reader(path):
        return missing
    if path.suffix.lower() not in picture_endings():
        return "not named as a picture"
    return _no_photo(path)


def _no_photo(path: Path) -> str | None:
    """Why something is no photo, whatever its name; None if it may be one."""
    try:
        mode = os.stat(path).st_mode
    except OSError:  # what else cannot be read is told as an error
        return "broken link" if os.path.islink(path) else None
    if not stat.S_ISREG(mode):
        return "pipe or device"
    return "result of deeplab-repro" if is_result(path) else None


def _matching(pattern: str, found: Found) -> Iterator[tuple[Path, str]]:
    """The files that match a pattern, whatever their ending."""
    matches = sorted(map(Path, glob.iglob(pattern, recursive=True)))
    paths = [path for path in matches if not os.path.isdir(path)]
    why = {path: _no_photo(path) for path in paths}
    skipped = Counter(reason for reason in why.values() if reason)
    photos = [path for path in paths if not why[path]]
    if not photos:
        instead = f" ({skipped_text(skipped)})" if skipped else ""
        raise FileError(f"{one_line(pattern)}: no file matches this pattern{instead}")
    found.skipped += skipped
    yield from ((path, "") for path in photos)


def skipped_text(skipped: Counter[str]) -> str:
    """Why files were skipped, and how many for each reason."""
    return ", ".join(f"{reason}: {count}" for reason, count in skipped.most_common())
