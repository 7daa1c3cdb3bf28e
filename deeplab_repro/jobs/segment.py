"""Picture files through a model: which files go in, what is written, and in which order."""

import glob
import os
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deeplab_repro.errors import ArgumentError, DeepLabError, FileError, one_line
from deeplab_repro.files.images import overlay, read_image, write_image, write_labels
from deeplab_repro.files.probs import write_bin, write_scores_mat
from deeplab_repro.files.targets import check_targets, make_folder
from deeplab_repro.files.whole import check_readable, write_atomically
from deeplab_repro.work.outcomes import Failed
from deeplab_repro.work.stages import in_threads, io_threads

if TYPE_CHECKING:
    from deeplab_repro.segmenter import DeepLab, Segmentation

_EXTENSIONS = (".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
_ENDINGS = {
    "labels": ".png",
    "overlay": ".overlay.jpg",
    "scores": ".scores.npy",
    "probs": ".probs.npy",
    "marginals": ".marginals.npy",
    "bin": ".bin",
    "mat": "_blob_0.mat",  # as the original names and asks for them
}

OUTPUTS = tuple(_ENDINGS)
"""What `segment_files` can write of a picture; the labels are always written."""


@dataclass(frozen=True)
class Done:
    """A picture that was segmented, and the files that were written for it."""

    path: Path
    segmentation: "Segmentation"
    written: tuple[Path, ...]


def find_pictures(names: Iterable[str | Path]) -> list[Path]:
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


def check_outputs(paths: Iterable[Path], out: Path, outputs: Collection[str] = ()) -> None:
    """Raise FileError if results would overwrite each other or a picture, or cannot be written."""
    targets = {path: list(_targets(out, path, outputs).values()) for path in paths}
    check_targets(targets, targets)


def _targets(out: Path, picture: Path, outputs: Collection[str]) -> dict[str, Path]:
    """The files that are written for a picture, by what is in them."""
    names = ["labels", *(name for name in OUTPUTS[1:] if name in outputs)]
    return {name: out / f"{picture.stem}{_ENDINGS[name]}" for name in names}


def segment_files(
    model: "DeepLab", paths: Iterable[Path], out: Path, outputs: Collection[str] = ()
) -> Iterator[Done | Failed]:
    """Segment picture files and write the results to the folder `out`, which is made if need be.

    Writes <stem>.png (labels, VOC palette) and, as `outputs` asks, <stem>.overlay.jpg,
    <stem>.scores.npy, <stem>.probs.npy and <stem>.marginals.npy (CxHxW float32 at the picture's
    size), and what the original's dense CRF reads: <stem>.bin (the probabilities) and
    <stem>_blob_0.mat (the scores). A picture that cannot be read or segmented is yielded as
    Failed, and the others go on. Raises FileError where something cannot be written, ArgumentError
    for outputs that there are not.
    """
    unknown = sorted(set(outputs) - set(OUTPUTS))
    if unknown:
        raise ArgumentError(f"output '{unknown[0]}' is none of {', '.join(OUTPUTS)}")
    if "marginals" in outputs and model.crf is None:
        raise ArgumentError("marginals are asked for, but they come from the CRF, which is off")
    threads = io_threads(model.device)
    unread: list[Failed] = []
    waiting: deque[tuple[list[Failed], Path, np.ndarray]] = deque()

    def images() -> Iterator[np.ndarray]:
        for path, image in in_threads(_try_read, paths, threads, "read"):
            if isinstance(image, DeepLabError):
                unread.append(Failed(path, image))
                continue
            waiting.append((unread.copy(), path, image))
            unread.clear()
            yield image

    def segmented() -> Iterator[Failed | tuple[Path, np.ndarray, "Segmentation"]]:
        for outcome in model.outcomes(images(), marginals="marginals" in outputs):
            unread_before, path, image = waiting.popleft()
            yield from unread_before
            if isinstance(outcome, DeepLabError):
                yield Failed(path, outcome)
            else:
                yield path, image, outcome
        yield from unread

    def finish(result: Failed | tuple[Path, np.ndarray, "Segmentation"]) -> Done | Failed:
        if isinstance(result, Failed):
            return result
        path, image, segmentation = result
        return Done(path, segmentation, write(segmentation, image, path, out, outputs))

    yield from in_threads(finish, segmented(), threads, "write")


def _try_read(path: Path) -> tuple[Path, np.ndarray | DeepLabError]:
    try:
        return path, read_image(path)
    except DeepLabError as error:
        return path, error


def write(
    segmentation: "Segmentation",
    image: np.ndarray,
    picture: Path,
    out: Path,
    outputs: Collection[str] = (),
) -> tuple[Path, ...]:
    """Write one picture's results as `segment_files` says, and return their paths."""
    make_folder(out)
    targets = _targets(out, picture, outputs)
    for name, target in targets.items():
        if name == "labels":
            write_labels(target, segmentation.labels)
        elif name == "overlay":
            write_image(target, overlay(image, segmentation.labels))
        elif name == "bin":
            write_bin(target, segmentation.probs)
        elif name == "mat":
            write_scores_mat(target, segmentation.scores)
        else:
            with write_atomically(target) as file:
                np.save(file, getattr(segmentation, name))
    return tuple(targets.values())
