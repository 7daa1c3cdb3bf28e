"""Photo files and their files of label probabilities through the CRF."""

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from deeplab_repro.crf.cuda.device import crf_device
from deeplab_repro.crf.dense_crf import dense_crf, load
from deeplab_repro.crf.params import CrfParams
from deeplab_repro.errors import ArgumentError, FileError, ResourceError, one_line
from deeplab_repro.files.images import read_image
from deeplab_repro.files.made_of import check_made_of
from deeplab_repro.files.npy import write_npy
from deeplab_repro.files.pictures import write_labels
from deeplab_repro.files.probs import FORMATS, read_probs
from deeplab_repro.files.targets import check_targets, make_folder
from deeplab_repro.files.whole import check_readable, write_atomically
from deeplab_repro.jobs.photos import Outcome, Photo, Stages
from deeplab_repro.machine.device import AnyDevice
from deeplab_repro.segmentation import Segmentation
from deeplab_repro.work.stages import io_threads

# What a folder may call the probabilities of photo.jpg: photo.npy and so on, photo.probs.npy as
# `segment` does, or photo_blob_0.mat as the original does.
_ENDINGS = (*FORMATS, ".probs.npy", "_blob_0.mat")


@dataclass(frozen=True)
class PhotoFiles:
    """A photo, the file with its probabilities, and the files to be written."""

    photo: Path
    probs: Path
    labels: Path
    marginals: Path | None = None

    @property
    def written(self) -> list[Path]:
        """The files to be written."""
        return [self.labels, self.marginals] if self.marginals else [self.labels]


def plan(
    names: Mapping[Path, str],
    probs: Path,
    out: Path,
    marginals: Path | None = None,
    force: bool = False,
) -> tuple[list[PhotoFiles], list[Path]]:
    """What there is to do, and the photos that have no probabilities.

    names: by photo, what its files are called, without an ending: see `names.result_names`.
    probs, out and marginals: for one photo three files. Or three folders, in which the files of a
    photo called "photo" are photo.npy (.npz, .bin, .mat), as `segment` writes it photo.probs.npy,
    or as the original does photo_blob_0.mat; photo.png; and photo.marginals.npy. force: replace
    files that this tool did not make.

    Raises FileError for probabilities that are missing, or there twice for one photo, and files
    that would be overwritten; ArgumentError for a file where a folder should be, or several photos
    for one file of probabilities.
    """
    if os.path.isdir(probs):
        found = {photo: find_probs(photo, probs, name) for photo, name in names.items()}
        jobs = _in_folders(names, found, probs, out, marginals)
    else:
        found = {}
        jobs = [_of_files(list(names), probs, out, marginals)]
    targets = {job.photo: job.written for job in jobs}
    check_targets(targets, [*names, *(job.probs for job in jobs)], force)
    return jobs, [photo for photo, file in found.items() if file is None]


def find_probs(photo: Path, folder: Path, name: str | None = None) -> Path | None:
    """The file in `folder` with the label probabilities of a photo, None where there is none.

    name: what its files are called, without an ending; by default as the photo without its own.

    Raises FileError where there are several.
    """
    found = [_named(folder, name or photo.stem, ending) for ending in _ENDINGS]
    found = [path for path in found if os.path.exists(path)]
    if len(found) > 1:
        raise FileError(
            f"{one_line(found[0])} and {one_line(found[1])} are both probabilities of "
            f"{one_line(photo)}: keep one of them there"
        )
    return found[0] if found else None


def _named(folder: Path, name: str, ending: str) -> Path:
    return Path(os.path.join(folder, name) + ending)


def _in_folders(
    names: Mapping[Path, str],
    files: Mapping[Path, Path | None],
    probs: Path,
    out: Path,
    marginals: Path | None,
) -> list[PhotoFiles]:
    for path in (out, marginals):
        if path and path.suffix.lower() in (".png", ".npy"):
            raise ArgumentError(
                f"{one_line(path)}: is the name of a file, but {one_line(probs)} is a "
                "folder: give a folder for the results too"
            )
    jobs = [
        PhotoFiles(
            photo,
            file,
            _named(out, names[photo], ".png"),
            marginals and _named(marginals, names[photo], ".marginals.npy"),
        )
        for photo, file in files.items()
        if file
    ]
    if not jobs:
        photo = next(iter(files))
        expected = " or ".join(one_line(names[photo] + ending) for ending in _ENDINGS)
        raise FileError(
            f"{one_line(probs)}: holds no probabilities for {one_line(photo)}: expected {expected}"
        )
    return jobs


def _of_files(photos: Sequence[Path], probs: Path, out: Path, marginals: Path | None) -> PhotoFiles:
    check_readable(probs)
    if len(photos) > 1:
        raise ArgumentError(
            f"{one_line(probs)}: holds the probabilities of one photo, not of {len(photos)}: give "
            "a folder"
        )
    for path, extension in ((out, ".png"), (marginals, ".npy")):
        if path and path.suffix.lower() != extension:
            raise ArgumentError(f"{one_line(path)}: expected the name of a {extension} file")
    return PhotoFiles(photos[0], probs, out, marginals)


def refine_files(
    jobs: Iterable[PhotoFiles],
    params: CrfParams,
    iterations: int = 10,
    device: AnyDevice = "auto",
    force: bool = False,
) -> Iterator[Outcome]:
    """Take photos and their probabilities through the CRF; write labels and marginals.

    The labels are PNGs with VOC's palette, the marginals CxHxW float32, .npy. A photo is yielded as
    Failed where it or its probabilities cannot be read or do not fit each other, and the others go
    on.

    Raises FileError where something cannot be written, and DeviceError where the device is not
    available.
    """
    by_path = {job.photo: job for job in jobs}

    def read(path: Path) -> Photo:
        image, probs = read_image(path), by_path[path].probs
        check_made_of(probs, path)
        return Photo(path, image, probs=read_probs(probs, image.shape[:2]))

    def refine(photo: Photo) -> Photo:
        assert photo.probs is not None
        try:
            if device != "cuda":
                load(len(photo.probs))  # not on the clock
            start = time.perf_counter()
            refined = dense_crf(photo.image, photo.probs, params, iterations, device=device)
        except (ArgumentError, ResourceError) as error:
            what = f"{one_line(photo.path)} with {one_line(by_path[photo.path].probs)}"
            raise type(error)(f"{what}: {error}") from error
        seconds = time.perf_counter() - start
        height, width = photo.image.shape[:2]
        made = Segmentation((height, width), None, refined=refined, crf_seconds=seconds)
        return replace(photo, probs=None, segmentation=made)

    def write(photo: Photo) -> Photo:
        assert photo.segmentation
        job = by_path[photo.path]
        # Once more, for what came there while the CRF ran.
        check_targets({photo.path: job.written}, [photo.path, job.probs], force)
        make_folder(job.labels.parent)
        write_labels(job.labels, photo.segmentation.labels)
        if job.marginals:
            make_folder(job.marginals.parent)
            with write_atomically(job.marginals) as file:
                write_npy(file, np.asarray(photo.segmentation.marginals))
        return photo

    used = crf_device(device)
    return Stages(read, refine=refine, write=write).many(by_path, io_threads(used))
