"""Check that results can be written, before any work is done."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from deeplab_repro.errors import FileError, one_line


def check_targets(targets: Mapping[Path, Iterable[Path]], inputs: Iterable[Path]) -> None:
    """Raise FileError if results would overwrite each other or an input, or cannot be written.

    targets: the files that are written for each picture; their folders need not exist.
    """
    read = {os.path.realpath(path): path for path in inputs}
    written: dict[Path, Path] = {}
    for path, files in targets.items():
        for target in files:
            other = written.setdefault(target, path)
            if other != path:
                raise FileError(
                    f"{one_line(path)} and {one_line(other)} would both be written to "
                    f"{one_line(target)}: segment them one at a time, with another --out"
                )
            overwritten = read.get(os.path.realpath(target))
            if overwritten:
                raise FileError(
                    f"{one_line(overwritten)}: the results of {one_line(path)} would "
                    "overwrite it: give another --out"
                )
    for folder in {target.parent: None for target in written}:
        existing = next(f for f in (folder, *folder.absolute().parents) if os.path.exists(f))
        if not existing.is_dir():
            name = one_line(existing)
            raise FileError(f"{name}: is a file, expected a folder for the results")
        if not os.access(existing, os.W_OK | os.X_OK):
            raise FileError(f"{one_line(existing)}: cannot be written to: give another --out")


def make_folder(folder: Path) -> None:
    """Make a folder for results, and those above it. Raises FileError if that cannot be done."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"{one_line(folder)}: cannot be made: {error.strerror}") from error
