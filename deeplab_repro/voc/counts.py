"""The counts of an image's pixels: what they are made of, and their files.

Stopped at any moment, work that keeps counts can go on where it was: each image's are a file of
their own that says what it is of.
"""

import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from deeplab_repro.errors import FileError, one_line
from deeplab_repro.files.made_of import (
    MadeOf,
    check_made_of,
    marked,
    read_mark,
    sha256_of,
    sha256_of_text,
    unmarked,
)
from deeplab_repro.files.whole import write_atomically
from deeplab_repro.jobs.refine import find_probs
from deeplab_repro.voc.devkit import Devkit
from deeplab_repro.voc.metrics import Confusion
from deeplab_repro.voc.records import ScoresRecord, scores_record_path


def find_files(
    devkit: Devkit, split: str, folder: Path, names: list[str]
) -> dict[str, tuple[Path, Path, Path]]:
    """Photo, mask and scores of each image. Raises FileError if one is missing."""
    devkit.require(names, split, masks=False)
    devkit.require(names, split, masks=True)
    return {
        name: (devkit.photo(name), devkit.mask(name), path)
        for name, path in find_scores(devkit, folder, names).items()
    }


def find_scores(devkit: Devkit, folder: Path, names: list[str]) -> dict[str, Path]:
    """The file of scores of each image. Raises FileError if one is missing."""
    if not folder.is_dir():
        raise FileError(f"{one_line(folder)}: is not a folder, expected one with kept scores")
    found = {name: find_probs(devkit.photo(name), folder) for name in names}
    missing = [name for name, path in found.items() if path is None]
    if missing:
        raise FileError(
            f"{one_line(folder)}: has no scores of {missing[0]} (and of {len(missing) - 1} more "
            f"of {len(names)} images): expected {missing[0]}.npz or alike, as `predict --scores` "
            "keeps them"
        )
    return {name: path for name, path in found.items() if path}


def digest_of(*files: Path) -> str:
    """A digest of the content of files."""
    return sha256_of_text(" ".join(map(sha256_of, files)))


def check_scores(files: Mapping[str, tuple[Path, Path, Path]], record: ScoresRecord | None) -> None:
    """Raise FileError for scores that are not of their photo, or not as their folder's record says.

    Only those that `predict` kept say what they are of.
    """
    for photo, _, scores in files.values():
        check_made_of(scores, photo)
        mark = read_mark(scores)
        if mark and record and mark.settings != record.digest:
            raise FileError(
                f"{one_line(scores)}: was made in another way than "
                f"{scores_record_path(scores.parent).name} beside it says: give another folder"
            )


def read_counts(path: Path, made_of: MadeOf) -> Confusion | None:
    """Read kept counts; None if they are missing, broken, or not of this."""
    found, deflated = unmarked(path)
    return np.frombuffer(zlib.decompress(deflated), "<i8") if found == made_of else None


def keep_counts(path: Path, made_of: MadeOf, counts: Confusion) -> None:
    """Write counts with a mark that says what they are of."""
    deflated = zlib.compress(counts.astype("<i8").tobytes(), 1)  # mostly zeros
    with write_atomically(path) as file:
        file.write(marked(deflated, made_of))
