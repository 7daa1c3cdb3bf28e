"""Photos on their way: read, score, refine, write, in stages that overlap."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from deeplab_repro.arrays import F32, UInt8, in_brief
from deeplab_repro.errors import DeepLabError
from deeplab_repro.segmentation import Segmentation
from deeplab_repro.work.outcomes import Failed, attempt
from deeplab_repro.work.stages import in_threads, quick_turns


@dataclass(frozen=True, eq=False)
class Photo:
    """A photo on its way through the stages; each adds what it makes.

    path: of its file. image: HxWx3 uint8 RGB. probs: CxHxW float32, where they are read from a file
    in place of a net's scores. segmentation: what the net and then the CRF made of the image.
    written: the files with its results, by kind. sha256: of its file, for results that are marked
    with it.
    """

    path: Path
    image: UInt8
    probs: F32 | None = None
    segmentation: Segmentation | None = None
    written: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    sha256: str = ""

    __repr__ = in_brief


@dataclass(frozen=True)
class Skipped:
    """A photo whose results are there already, whole and made in the same way.

    labels: the file with its labels.
    """

    path: Path
    labels: Path


Outcome = Photo | Failed | Skipped
"""What becomes of a photo file."""


def unchanged(photo: Photo) -> Photo:
    """A stage that has nothing to do."""
    return photo


@dataclass(frozen=True)
class Stages:
    """What is done with each photo, in this order.

    A photo that `read` finds done takes its own place as Skipped, and an error of one photo, or of
    its files, the photo's as Failed. An error of a device ends the run, and so does one that
    `write` raises, as a full disk: both affect every photo.
    """

    read: Callable[[Path], Photo | Skipped]
    score: Callable[[Photo], Photo] = unchanged
    refine: Callable[[Photo], Photo] = unchanged
    write: Callable[[Photo], Photo] = unchanged

    def one(self, path: Path) -> Outcome:
        """Take one photo through all stages, in this thread."""
        return self._write(self._refine(self._score(self._read(path))))

    def many(
        self, paths: Iterable[Path], threads: int = 0, prepare: Callable[[], object] | None = None
    ) -> Iterator[Outcome]:
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

    def _read(self, path: Path) -> Outcome:
        return attempt(self.read, path, path)

    def _score(self, photo: Outcome) -> Outcome:
        return attempt(self.score, photo, photo.path) if isinstance(photo, Photo) else photo

    def _refine(self, photo: Outcome) -> Outcome:
        return attempt(self.refine, photo, photo.path) if isinstance(photo, Photo) else photo

    def _write(self, photo: Outcome) -> Outcome:
        if not isinstance(photo, Photo):
            return photo
        return attempt(self.write, photo, photo.path, ends_run=DeepLabError)
