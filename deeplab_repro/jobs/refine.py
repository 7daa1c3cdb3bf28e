"""Picture files and their files of label probabilities through the CRF."""

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from deeplab_repro.crf.dense_crf import CrfResult, dense_crf, load
from deeplab_repro.crf.params import CrfParams
from deeplab_repro.errors import (
    ArgumentError,
    DeepLabError,
    DeviceError,
    FileError,
    ResourceError,
    one_line,
)
from deeplab_repro.files.images import read_image, write_labels
from deeplab_repro.files.probs import FORMATS, read_probs
from deeplab_repro.files.targets import check_targets, make_folder
from deeplab_repro.files.whole import check_readable, write_atomically
from deeplab_repro.work.outcomes import Failed

Choice = Literal["auto", "cpu", "cuda"]

# What a folder may call the map of photo.jpg: photo.npy and so on, photo.probs.npy as `segment`
# does, or photo_blob_0.mat as the original does.
_ENDINGS = (*FORMATS, ".probs.npy", "_blob_0.mat")


@dataclass(frozen=True)
class Job:
    """A picture, the file with its probabilities, and the files to be written."""

    picture: Path
    probs: Path
    labels: Path
    marginals: Path | None = None


@dataclass(frozen=True)
class Refined:
    """A picture that went through the CRF, and how long that took."""

    path: Path
    result: CrfResult
    seconds: float


def plan(
    pictures: Sequence[Path], probs: Path, out: Path, marginals: Path | None = None
) -> tuple[list[Job], list[Path]]:
    """What there is to do, and the pictures that have no map.

    probs, out and marginals: for one picture three files. Or three folders, in which the files of
    photo.jpg are photo.npy (.npz, .bin, .mat), as `segment` writes it photo.probs.npy, or as the
    original does photo_blob_0.mat; photo.png; and photo.marginals.npy.

    Raises FileError for a map that is missing, several of one picture, and files that would be
    overwritten; ArgumentError for a file where a folder should be, or several pictures for one map.
    """
    if os.path.isdir(probs):
        maps = {picture: find_map(picture, probs) for picture in pictures}
        jobs = _jobs_in_folders(maps, probs, out, marginals)
    else:
        maps = {}
        jobs = [_job_of_files(pictures, probs, out, marginals)]
    targets = {job.picture: [p for p in (job.labels, job.marginals) if p] for job in jobs}
    check_targets(targets, [*pictures, *(job.probs for job in jobs)])
    return jobs, [picture for picture, found in maps.items() if found is None]


def find_map(picture: Path, folder: Path) -> Path | None:
    """The file in `folder` with the label probabilities of a picture, None where there is none.

    Raises FileError where there are several.
    """
    found = [folder / f"{picture.stem}{ending}" for ending in _ENDINGS]
    found = [path for path in found if os.path.exists(path)]
    if len(found) > 1:
        raise FileError(
            f"{one_line(found[0])} and {one_line(found[1])} are both maps of "
            f"{one_line(picture)}: keep one of them there"
        )
    return found[0] if found else None


def _jobs_in_folders(
    maps: Mapping[Path, Path | None], probs: Path, out: Path, marginals: Path | None
) -> list[Job]:
    for path in (out, marginals):
        if path and path.suffix.lower() in (".png", ".npy"):
            raise ArgumentError(
                f"{one_line(path)}: is the name of a file, but {one_line(probs)} is a "
                "folder: give a folder for the results too"
            )
    jobs = [
        Job(
            picture,
            found,
            out / f"{picture.stem}.png",
            marginals and marginals / f"{picture.stem}.marginals.npy",
        )
        for picture, found in maps.items()
        if found
    ]
    if not jobs:
        picture = next(iter(maps))
        names = " or ".join(one_line(f"{picture.stem}{ending}") for ending in _ENDINGS)
        raise FileError(
            f"{one_line(probs)}: holds no map for {one_line(picture)}: expected {names}"
        )
    return jobs


def _job_of_files(pictures: Sequence[Path], probs: Path, out: Path, marginals: Path | None) -> Job:
    check_readable(probs)
    if len(pictures) > 1:
        raise ArgumentError(
            f"{one_line(probs)}: is one map for {len(pictures)} pictures: give a folder of maps"
        )
    for path, extension in ((out, ".png"), (marginals, ".npy")):
        if path and path.suffix.lower() != extension:
            raise ArgumentError(f"{one_line(path)}: expected the name of a {extension} file")
    return Job(pictures[0], probs, out, marginals)


def refine_files(
    jobs: Iterable[Job], params: CrfParams, iterations: int = 10, device: Choice = "auto"
) -> Iterator[Refined | Failed]:
    """Take pictures through the CRF, and write the labels (PNG, VOC palette) and the marginals.

    The marginals are CxHxW float32, .npy. A picture that cannot be read, or its map, or that do
    not fit each other, is yielded as Failed, and the others go on. Raises FileError where
    something cannot be written, DeviceError where the device is not to be had.
    """
    for job in jobs:
        try:
            refined = _refine(job, params, iterations, device)
        except DeviceError:
            raise
        except DeepLabError as error:
            yield Failed(job.picture, error)
            continue
        make_folder(job.labels.parent)
        write_labels(job.labels, refined.result.labels)
        if job.marginals:
            make_folder(job.marginals.parent)
            with write_atomically(job.marginals) as file:
                np.save(file, refined.result.marginals)
        yield refined


def _refine(job: Job, params: CrfParams, iterations: int, device: Choice) -> Refined:
    image = read_image(job.picture)
    probs = read_probs(job.probs, image.shape[:2])
    what = f"{one_line(job.picture)} with {one_line(job.probs)}"
    try:
        if device != "cuda":
            load(len(probs))  # not on the clock
        start = time.perf_counter()
        result = dense_crf(image, probs, params, iterations, device=device)
    except (ArgumentError, ResourceError) as error:
        raise type(error)(f"{what}: {error}") from error
    return Refined(job.picture, result, time.perf_counter() - start)
