"""Picture files through a model: which files go in, what is written, and in which order."""

import glob
import os
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deeplab_repro.errors import ArgumentError, DeepLabError, FileError
from deeplab_repro.files import check_readable, display_name, write_atomically
from deeplab_repro.image import overlay, read_image, write_image, write_labels
from deeplab_repro.segmenter import DeepLab, Segmentation

_EXTENSIONS = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}

OUTPUTS = ("labels", "overlay", "scores", "probs", "marginals")
"""What `segment_files` can write of a picture; the labels are always written."""


@dataclass(frozen=True)
class Done:
    """A picture that was segmented, and the files that were written for it."""

    path: Path
    segmentation: Segmentation
    written: tuple[Path, ...]


@dataclass(frozen=True)
class Failed:
    """A picture that could not be segmented, and why."""

    path: Path
    error: DeepLabError


def find_pictures(names: Iterable[str | Path]) -> list[Path]:
    """The files that are meant by names of files, folders (their pictures) and patterns (*.jpg).

    Raises FileError for a name that stands for nothing.
    """
    found: list[Path] = []
    for name in names:
        path = Path(name)
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in _EXTENSIONS)
            if not inside:
                raise FileError(
                    f"{display_name(path)}: holds no pictures, expected {' or '.join(_EXTENSIONS)}"
                )
            found += inside
        elif not path.exists() and glob.has_magic(str(name)):
            matching = sorted(Path(match) for match in glob.glob(str(name), recursive=True))
            if not matching:
                raise FileError(f"{display_name(str(name))}: no file matches this pattern")
            found += matching
        else:
            check_readable(path)
            found.append(path)
    return list(dict.fromkeys(found))


def check_outputs(paths: Iterable[Path], out: Path) -> None:
    """Raise FileError if results would overwrite each other or a picture, or cannot be written."""
    written: dict[Path, Path] = {}
    for path in paths:
        target = out / f"{path.stem}.png"
        other = written.setdefault(target, path)
        if other != path:
            raise FileError(
                f"{display_name(path)} and {display_name(other)} would both be written to "
                f"{display_name(target)}: segment them one at a time, with another --out"
            )
        if target.exists() and target.samefile(path):
            raise FileError(
                f"{display_name(path)}: its labels would overwrite it: give another --out"
            )
    existing = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    if not existing.is_dir():
        raise FileError(f"{display_name(existing)}: is a file, expected a folder for the results")
    if not os.access(existing, os.W_OK):
        raise FileError(f"{display_name(existing)}: cannot be written to: give another --out")


def segment_files(
    model: DeepLab, paths: Iterable[Path], out: Path, outputs: Collection[str] = ()
) -> Iterator[Done | Failed]:
    """Segment picture files and write the results to the folder `out`, which is made if need be.

    Writes <stem>.png (labels, VOC palette) and, as `outputs` asks, <stem>.overlay.jpg,
    <stem>.scores.npy, <stem>.probs.npy and <stem>.marginals.npy (CxHxW float32 at the picture's
    size). A picture that cannot be read is yielded as Failed, and the others go on. Raises
    FileError where something cannot be written, ArgumentError for outputs that there are not.
    """
    if "marginals" in outputs and model.crf is None:
        raise ArgumentError("marginals are asked for, but they come from the CRF, which is off")
    reading: deque[tuple[Path, np.ndarray]] = deque()
    failed: deque[Failed] = deque()

    def images() -> Iterator[np.ndarray]:
        for path in paths:
            try:
                image = read_image(path)
                model.check(image)
            except DeepLabError as error:
                failed.append(Failed(path, error))
                continue
            reading.append((path, image))
            yield image

    for segmentation in model.stream(images()):
        path, image = reading.popleft()
        yield Done(path, segmentation, write(segmentation, image, out / path.stem, outputs))
        while failed:
            yield failed.popleft()
    yield from failed


def write(
    segmentation: Segmentation, image: np.ndarray, stem: Path, outputs: Collection[str] = ()
) -> tuple[Path, ...]:
    """Write one picture's results as `segment_files` says, and return their paths."""
    try:
        stem.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"{display_name(stem.parent)}: cannot be made: {error.strerror}") from error
    written = [stem.with_name(f"{stem.name}.png")]
    write_labels(written[0], segmentation.labels)
    if "overlay" in outputs:
        written.append(stem.with_name(f"{stem.name}.overlay.jpg"))
        write_image(written[-1], overlay(image, segmentation.labels))
    for name in ("scores", "probs", "marginals"):
        if name in outputs:
            written.append(stem.with_name(f"{stem.name}.{name}.npy"))
            with write_atomically(written[-1]) as file:
                np.save(file, getattr(segmentation, name))
    return tuple(written)
