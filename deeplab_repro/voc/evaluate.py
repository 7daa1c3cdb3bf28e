"""Score a split's results against its true labels, as the authors did (docs/original.md, 4)."""

import csv
import io
import json
import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deeplab_repro.arrays import dims
from deeplab_repro.errors import ArgumentError, DeepLabError, FileError, ImageError, one_line
from deeplab_repro.files.images import read_labels
from deeplab_repro.files.made_of import is_made_of, read_mark, sha256_of
from deeplab_repro.files.marks import write_noted
from deeplab_repro.machine.memory import require_memory
from deeplab_repro.voc.devkit import Devkit
from deeplab_repro.voc.metrics import (
    Confusion,
    Scores,
    check_width,
    confusion,
    image_scores,
    mean_iou_of_present,
    or_none,
    trimap_confusions,
    trimap_scores,
)
from deeplab_repro.voc.records import Record, read_record
from deeplab_repro.work.progress import Progress, unwatched
from deeplab_repro.work.workers import HERE, Workers

OUTPUTS = ("confusion.csv", "per_image.csv", "evaluation.json")
"""The files that `write_evaluation` writes."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluation:
    """The scores of a split's results.

    classes: their names by label. confusion: the matrix of all scored images, n x n int64, as in
    `metrics`; trimap: the same within the trimap of each of the widths. per_image: for each scored
    image, in the list's order, the mean IOU in percent over the classes with true or given pixels
    in it; NaN if all is void. missing: the ids without a result. record: how predict made the
    results, if it did.
    """

    classes: tuple[str, ...]
    confusion: Confusion
    widths: tuple[int, ...]
    trimap: Confusion
    per_image: dict[str, float]
    missing: list[str]
    record: Record | None = None

    @property
    def images(self) -> int:
        """How many images were scored."""
        return len(self.per_image)

    @property
    def scores(self) -> Scores:
        """The scores of whole images."""
        return image_scores(self.confusion)

    @property
    def trimap_scores(self) -> list[Scores]:
        """The scores within the trimap of each of the widths."""
        return [trimap_scores(counts) for counts in self.trimap]

    @property
    def absent(self) -> list[str]:
        """The classes that no scored image has; each counts as 0 in the mean IOU."""
        pixels = self.confusion.sum(axis=1)
        return [name for name, count in zip(self.classes, pixels, strict=True) if not count]

    @property
    def trained_on(self) -> str | None:
        """The list that the weights were trained on, if it has images of this split."""
        return self.record.trained_on if self.record and self.record.has_seen_split else None

    @property
    def ranking(self) -> list[tuple[str, float]]:
        """Ids and mean IOUs, the worst first; those without a mean IOU last."""
        return sorted(self.per_image.items(), key=lambda each: (isnan(each[1]), each[1]))

    def as_json(self, *, per_image: bool = False) -> dict[str, Any]:
        """All numbers as plain data, in percent; None for what is not defined."""
        scores = self.scores
        found = {
            "mean_iou": scores.mean_iou,
            "iou": dict(zip(self.classes, scores.iou.tolist(), strict=True)),
            "pixel_accuracy": or_none(scores.pixel_accuracy),
            "mean_class_accuracy": scores.mean_class_accuracy,
            "class_accuracy": dict(zip(self.classes, scores.class_accuracy.tolist(), strict=True)),
            "absent": self.absent,
            "classes_present": scores.n_present,
            "mean_iou_of_present": or_none(scores.mean_iou_of_present),
            "mean_class_accuracy_of_present": or_none(scores.mean_class_accuracy_of_present),
            "images": self.images,
            "missing": self.missing,
            "trimap": [
                {
                    "width": width,
                    "mean_iou": or_none(each.mean_iou),
                    "pixel_accuracy": or_none(each.pixel_accuracy),
                    "class_accuracy": or_none(each.mean_class_accuracy),
                    "classes_present": each.n_present,
                    "mean_iou_of_present": or_none(each.mean_iou_of_present),
                }
                for width, each in zip(self.widths, self.trimap_scores, strict=True)
            ],
            "trained_on": self.trained_on,
        }
        if per_image:
            found["per_image"] = [
                {"image": name, "mean_iou": or_none(iou)} for name, iou in self.ranking
            ]
        return found


def evaluate(
    devkit: Devkit,
    split: str,
    results: Path,
    widths: Sequence[int] = (),
    workers: Workers = HERE,
    progress: Progress = unwatched,
) -> Evaluation:
    """Score a folder of results, PNGs of labels named by image, against the true labels.

    results: see `find_results`. widths: of trimaps, in pixels. workers: they change no number.

    Images without a result are left out, as the authors do; a warning counts them. Another one
    counts the results that are not what predict's record says, or of another photo.

    Raises FileError where there are no results, or only those of another split, or true labels are
    missing; ImageError for a picture that does not hold labels, holds others than the classes, or
    has another size than the image; ArgumentError for a trimap's width, and for results of a net
    that tells another number of classes apart.
    """
    for width in widths:
        check_width(width)
    n_tables = 1 + len(widths)
    size = 8 * devkit.n_labels**2 * (n_tables + max(widths, default=0))
    require_memory(size, f"{n_tables} confusion matrices", "ask for fewer and smaller widths")
    names = devkit.ids(split)
    folder = find_results(results, split)
    given = _names_with_results(folder, names, split)
    record = _record(folder, split)
    devkit.require(given, split, masks=True)
    if record and record.labels != devkit.n_labels:
        raise ArgumentError(
            f"{devkit.classes_told}, but the results in {one_line(folder)} are of net "
            f"'{record.model}', which tells {record.labels} apart: {devkit.classes_mend}"
        )
    devkit.warn_of_other_classes(given)
    if folder.samefile(devkit.mask(given[0]).parent):
        _log.warning("%s: the true labels are scored against themselves", one_line(folder))
    total = np.zeros((n_tables, devkit.n_labels, devkit.n_labels), np.int64)
    iou = dict.fromkeys(given, np.nan)
    # A cluster's workers have another working directory.
    settings = record.digest if record else None
    count = partial(_count, devkit.absolute(), folder.absolute(), tuple(widths), settings)
    strange = []
    with progress(f"scoring {split}", len(given)) as advance:
        for name, counted in workers.map(count, given):
            if isinstance(counted, DeepLabError):
                raise counted
            where, counts, iou[name], is_as_recorded = counted
            if not is_as_recorded:
                strange.append(name)
            total.reshape(-1)[where] += counts
            advance()
    if strange:
        _log.warning(
            "results in %s that are changed, or made in another way or of another photo than the "
            "record of predict says: %d, as %s: run predict again",
            one_line(folder),
            len(strange),
            min(strange),
        )
    return Evaluation(
        classes=devkit.classes,
        confusion=total[0],
        widths=tuple(widths),
        trimap=total[1:],
        per_image=iou,
        missing=[name for name in names if name not in iou],
        record=record,
    )


def find_results(results: Path, split: str) -> Path:
    """The folder of a split's PNGs: `results` itself, or the test server's layout inside it.

    In that layout it is results/<year>/Segmentation/comp6_<split>_cls, or comp5.

    Raises FileError where there is no such folder, or its name says another split.
    """
    shown = one_line(results)
    if not results.is_dir():
        found = "is a file" if results.exists() else "does not exist"
        raise FileError(f"{shown}: {found}, expected a folder of results")
    inside = sorted(results.glob("results/*/Segmentation/comp[56]_*_cls"))
    wanted = [folder for folder in inside if _split_of(folder) == split]
    if len(wanted) > 1:
        which = " and ".join(one_line(folder) for folder in wanted)
        raise FileError(f"{shown}: has results of '{split}' more than once: give one of {which}")
    if wanted:
        return wanted[0]
    others = [folder for folder in (results.absolute(), *inside) if _split_of(folder)]
    if others and _split_of(others[0]) != split:
        raise FileError(
            f"{one_line(others[0])}: has the results of split '{_split_of(others[0])}', "
            f"expected those of '{split}': name that split, or another folder"
        )
    return results


def write_evaluation(out: Path, evaluation: Evaluation, report: dict[str, Any]) -> None:
    """Write the confusion matrix, the ranking of images, and `report` as JSON to a folder.

    Each row of the matrix is a true class. Writes OUTPUTS, each atomically. Raises FileError.
    """
    rows = zip(evaluation.classes, evaluation.confusion.tolist(), strict=True)
    matrix = [("true", *evaluation.classes), *((name, *counts) for name, counts in rows)]
    ranking = ((name, "" if isnan(iou) else repr(iou)) for name, iou in evaluation.ranking)
    contents = (
        _csv(matrix),
        _csv([("image", "mean_iou"), *ranking]),
        json.dumps(report, indent=1).encode(),
    )
    for name, content in zip(OUTPUTS, contents, strict=True):
        write_noted(out / name, content)


def _names_with_results(folder: Path, names: list[str], split: str) -> list[str]:
    """The ids of a split that have a PNG in the folder. Warns of missing and of other PNGs."""
    there = {path.stem for path in folder.glob("*.png")}
    given = [name for name in names if name in there]
    shown = one_line(folder)
    if not there:
        raise FileError(
            f"{shown}: holds no PNGs, nor results/<year>/Segmentation/comp6_{split}_cls: expected "
            "results named as the images, <id>.png, or the --out of predict"
        )
    if not given:
        raise FileError(
            f"{shown}: none of its {len(there)} PNGs is of split '{split}': it has "
            f"{min(there)!a}, the split begins with {names[0]!a}: are they results of another "
            "split?"
        )
    if len(given) < len(names):
        _log.warning(
            "no result for %d of the %d images of '%s' in %s: left out, as the authors do",
            len(names) - len(given),
            len(names),
            split,
            shown,
        )
    if len(given) < len(there):
        others = len(there) - len(given)
        _log.warning("PNGs in %s that are not of '%s', and not scored: %d", shown, split, others)
    return given


def _count(
    devkit: Devkit, folder: Path, widths: tuple[int, ...], settings: str | None, name: str
) -> tuple[npt.NDArray[np.intp], Confusion, float, bool]:
    """Count one image: places in the flat table of all matrices, the counts there, its mean IOU.

    An image has few classes, so this is a hundredth of the table, and goes through a pipe.

    settings: with which predict made the result, if it did; last comes whether that is true.
    """
    _keep_freed_memory()
    mask, result = devkit.mask(name), folder / f"{name}.png"
    labels_true, labels = read_labels(mask), read_labels(result)
    if labels.shape != labels_true.shape:
        raise ImageError(
            f"{one_line(result)}: is {dims(labels.shape)} (height x width), expected "
            f"{dims(labels_true.shape)} as {one_line(mask)}: results have the photo's size"
        )
    try:
        image = confusion(labels_true, labels, devkit.n_labels)
    except ArgumentError:  # it does not name the file
        devkit.check(labels_true, mask)
        devkit.check(labels, result, void=None)
        raise
    counts = image.ravel()
    if widths:
        trimap = trimap_confusions(labels_true, labels, devkit.n_labels, widths)
        counts = np.concatenate([counts, trimap.ravel()])
    where = np.flatnonzero(counts)
    is_as_recorded = settings is None or _is_made_so(result, devkit.photo(name), settings)
    return where, counts[where], mean_iou_of_present(image), is_as_recorded


def _is_made_so(result: Path, photo: Path, settings: str) -> bool:
    """Whether a result was made with these settings, and of the photo if that is there."""
    if photo.is_file():
        return is_made_of(result, settings, partial(sha256_of, photo))
    mark = read_mark(result)
    return mark is not None and mark.settings == settings


@cache
def _keep_freed_memory() -> None:
    """Make this process keep freed memory for the next image, which saves a third of the time.

    glibc returns arrays of an image's size to the system at once and fetches them again page by
    page. After it has seen a larger block freed, it keeps all blocks up to that size.
    """
    bytearray(30 << 20)  # zeros, so no memory is taken


def _split_of(folder: Path) -> str | None:
    """The split that a folder of results names; None if it names none."""
    match = re.fullmatch(r"comp[56]_(.+)_cls", folder.name)
    return match[1] if match else None


def _record(folder: Path, split: str) -> Record | None:
    """How predict made the results in a `results_folder`; None if it did not."""
    parents = folder.absolute().parents
    return read_record(parents[3], split) if len(parents) > 3 else None


def _csv(rows: Iterable[Sequence[object]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()
