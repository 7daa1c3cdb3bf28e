"""Photos on their way: read, score, refine, write, in stages that overlap."""

import glob
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path

from deeplab_repro.arrays import F32, UInt8
from deeplab_repro.errors import DeepLabError, FileError, one_line
from deeplab_repro.files.whole import check_readable
from deeplab_repro.segmenter import Segmentation
from deeplab_repro.work.outcomes import Failed, attempt
from deeplab_repro.work.stages import in_threads, quick_turns

_EXTENSIONS = (".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class Photo:
    """A photo on its way through the stages; each adds what it makes.

    path: of its file. image: HxWx3 uint8 RGB. probs: CxHxW float32, where they are read from a file
    in place of a net's scores. segmentation: what the net and then the CRF made of the image.
    written: the files with its results. sha256: of its file, for results that are marked with it.
    """

    path: Path
    image: UInt8
    probs: F32 | None = None
    segmentation: Segmentation | None = None
    written: tuple[Path, ...] = ()
    sha256: str = ""


def unchanged(photo: Photo) -> Photo:
    """A stage that has nothing to do."""
    return photo


@dataclass(frozen=True)
class Stages:
    """What is done with each photo, in this order.

    An error of one photo, or of its files, takes the photo's place as Failed. An error of a device
    ends the run, and so does one that `write` raises, as a full disk: both affect every photo.
    """

    read: Callable[[Path], Photo]
    score: Callable[[Photo], Photo] = unchanged
    refine: Callable[[Photo], Photo] = unchanged
    write: Callable[[Photo], Photo] = unchanged

    def one(self, path: Path) -> Photo | Failed:
        """Take one photo through all stages, in this thread."""
        return self._write(self._refine(self._score(self._read(path))))

    def many(
        self, paths: Iterable[Path], threads: int = 0, prepare: Callable[[], object] | None = None
    ) -> Iterator[Photo | Failed]:
        """Take photos through the stages, which overlap; results in order.

        `threads` threads read and as many write; with 0 the calling thread does. The net runs in
        the calling thread, as an engine is for one thread, and the CRF in another: while it works
        on one photo, the net does the next. prepare: what to load for the CRF meanwhile.
        """
        with (
            quick_turns() if threads else nullcontext(),
            closing(in_threads(self._read, paths, threads, "read")) as photos,
            closing(
                in_threads(self._refine, map(self._score, photos), 1, "crf", prepare)
            ) as refined,
            closing(in_threads(self._write, refined, threads, "write")) as written,
        ):
            yield from written

    def _read(self, path: Path) -> Photo | Failed:
        return attempt(self.read, path, path)

    def _score(self, photo: Photo | Failed) -> Photo | Failed:
        return photo if isinstance(photo, Failed) else attempt(self.score, photo, photo.path)

    def _refine(self, photo: Photo | Failed) -> Photo | Failed:
        return photo if isinstance(photo, Failed) else attempt(self.refine, photo, photo.path)

    def _write(self, photo: Photo | Failed) -> Photo | Failed:
        if isinstance(photo, Failed):
            return photo
        return attempt(self.write, photo, photo.path, ends_run=DeepLabError)


def find_photos(names: Iterable[str | Path]) -> list[Path]:
    """The files that are meant by names of files, folders (their pictures) and patterns (*.jpg).

    A file that is named twice comes once. Raises FileError for a name that stands for nothing.
    """
    found: list[Path] = []
    for name in names:
        shown = one_line(name)
        if os.path.isdir(name):
            inside = _files(os.path.join(glob.escape(str(name)), "*"))
            inside = [path for path in inside if path.suffix.lower() in _EXTENSIONS]
            if not inside:
                expected = " or ".join(_EXTENSIONS)
                raise FileError(f"{shown}: holds no readable pictures, expected {expected}")
            found += inside
        elif not os.path.exists(name) and glob.has_magic(str(name)):
            matching = _files(str(name))
            if not matching:
                raise FileError(f"{shown}: no file matches this pattern")
            found += matching
        else:
            check_readable(name)
            found.append(Path(name))
    once: dict[tuple[str, str], Path] = {}
    for path in found:
        once.setdefault((os.path.realpath(path), path.stem), path)
    return list(once.values())


def _files(pattern: str) -> list[Path]:
    return sorted(
        Path(match) for match in glob.iglob(pattern, recursive=True) if os.path.isfile(match)
    )
