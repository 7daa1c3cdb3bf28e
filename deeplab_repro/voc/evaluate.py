"""Score results of a split against its true labels, as the authors did (reference/SPEC.md, 4)."""

import csv
import io
import json
import logging
import re
from collections.abc import Callable, Iterable, Sequence
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
from deeplab_repro.files.whole import write_atomically
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
from deeplab_repro.work.workers import HERE, Workers

OUTPUTS = ("confusion.csv", "per_image.csv", "evaluation.json")
"""What `write_evaluation` writes."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluation:
    """What results of a split amount to.

    classes: their names by label. confusion: of all scored images, n x n int64, as in `metrics`;
    trimap: the same within the trimap of each of the widths. per_image: for each scored image, in
    the list's order, the mean IOU in percent over the classes that are true or given in it; NaN
    where all is void. missing: the ids without a result. record: how predict made the results, if
    it did.
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
        """How many were scored."""
        return len(self.per_image)

    @property
    def scores(self) -> Scores:
        """Of whole images."""
        return image_scores(self.confusion)

    @property
    def trimap_scores(self) -> list[Scores]:
        """Within the trimap of each of the widths."""
        return [trimap_scores(counts) for counts in self.trimap]

    @property
    def absent(self) -> list[str]:
        """The classes that no scored image has: each counts in the mean IOU, as 0."""
        pixels = self.confusion.sum(axis=1)
        return [name for name, count in zip(self.classes, pixels, strict=True) if not count]

    @property
    def trained_on(self) -> str | None:
        """What the weights were trained on, if images of this split are in it."""
        return self.record.trained_on if self.record and self.record.has_seen_split else None

    @property
    def ranking(self) -> list[tuple[str, float]]:
        """Ids and mean IOUs, the worst first; last those where it is not defined."""
        return sorted(self.per_image.items(), key=lambda each: (isnan(each[1]), each[1]))

    def as_json(self, *, per_image: bool = False) -> dict[str, Any]:
        """All figures as plain data, in percent; None for what is not defined."""
        scores = self.scores
        found = {
            "mean_iou": scores.mean_iou,
            "iou": dict(zip(self.classes, scores.iou.tolist(), strict=True)),
            "pixel_accuracy": or_none(scores.pixel_accuracy),
            "mean_class_accuracy": scores.mean_class_accuracy,
            "class_accuracy": dict(zip(self.classes, scores.class_accuracy.tolist(), strict=True)),
            "absent": self.absent,
            "images": self.images,
            "missing": self.missing,
            "trimap": [
                {
                    "width": width,
                    "mean_iou": or_none(each.mean_iou),
                    "pixel_accuracy": or_none(each.pixel_accuracy),
                    "class_accuracy": or_none(each.mean_class_accuracy),
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
    advance: Callable[[], object] = lambda: None,
) -> Evaluation:
    """Score a folder of results, PNGs of labels named by image, against the true labels.

    results: see `find_results`. widths: of trimaps, in pixels. workers: whatever they are, all
    figures are the same. advance: is called once for every image of the split.

    Images without a result are left out, and counted in a warning, as the authors do.

    Raises FileError where there are no results, or only those of another split, or true labels are
    missing; ImageError for a picture that is not one of labels, has labels that are none of the
    classes, or has another size than the image; ArgumentError for a trimap's width.
    """
    for width in widths:
        check_width(width)
    n_tables = 1 + len(widths)
    size = 8 * devkit.n_labels**2 * (n_tables + max(widths, default=0))
    require_memory(size, f"{n_tables} confusion matrices", "ask for fewer and smaller widths")
    folder = find_results(results, split)
    names = devkit.ids(split)
    given = _names_with_results(folder, names, split)
    devkit.require(given, split, masks=True)
    total = np.zeros((n_tables, devkit.n_labels, devkit.n_labels), np.int64)
    iou = dict.fromkeys(given, np.nan)
    for _ in range(len(names) - len(given)):
        advance()
    # A cluster's workers have another working directory.
    count = partial(_count, devkit.absolute(), folder.absolute(), tuple(widths))
    for name, counted in workers.map(count, given):
        if isinstance(counted, DeepLabError):
            raise counted
        where, counts, iou[name] = counted
        total.reshape(-1)[where] += counts
        advance()
    return Evaluation(
        classes=devkit.classes,
        confusion=total[0],
        widths=tuple(widths),
        trimap=total[1:],
        per_image=iou,
        missing=[name for name in names if name not in iou],
        record=_record(folder, split),
    )


def find_results(results: Path, split: str) -> Path:
    """The folder of a split's PNGs: `results` itself, or what predict or others wrote in there.

    In there it is results/<year>/Segmentation/comp6_<split>_cls, or comp5.

    Raises FileError where there is no such folder, or by its name it is of another split.
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
    """Write OUTPUTS to a folder: the confusion matrix, the ranking, and `report` as JSON.

    In the matrix a row holds the pixels of a true class. Atomically; raises FileError.
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
        with write_atomically(out / name) as file:
            file.write(content)


def _names_with_results(folder: Path, names: list[str], split: str) -> list[str]:
    """The ids of a split that have a PNG in the folder; warns of what does not fit together."""
    there = {path.stem for path in folder.glob("*.png")}
    given = [name for name in names if name in there]
    shown = one_line(folder)
    if not there:
        raise FileError(
            f"{shown}: holds no PNGs, nor results/<year>/Segmentation/comp6_{split}_cls: expected "
            "results named as the images, <id>.png"
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
    devkit: Devkit, folder: Path, widths: tuple[int, ...], name: str
) -> tuple[npt.NDArray[np.intp], Confusion, float]:
    """Count one image: where in the flat table of all matrices there is something, and how much.

    Hardly any class is in an image: this is a hundredth of the table, which all goes through a
    pipe. Also its mean IOU.
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
    except ArgumentError:  # which does not say in what file
        devkit.check(labels_true, mask)
        devkit.check(labels, result, void=None)
        raise
    counts = image.ravel()
    if widths:
        trimap = trimap_confusions(labels_true, labels, devkit.n_labels, widths)
        counts = np.concatenate([counts, trimap.ravel()])
    where = np.flatnonzero(counts)
    return where, counts[where], mean_iou_of_present(image)


@cache
def _keep_freed_memory() -> None:
    """Have this process keep what it frees for the next image: a third of the time.

    glibc gives arrays of an image's size back to the system at once, to get them again page by
    page, until it has seen a larger block freed: it then takes that for its threshold.
    """
    bytearray(30 << 20)  # of zeros, which take no memory


def _split_of(folder: Path) -> str | None:
    """The split whose results a folder has by its name."""
    match = re.fullmatch(r"comp[56]_(.+)_cls", folder.name)
    return match[1] if match else None


def _record(folder: Path, split: str) -> Record | None:
    """How predict made the results, if it did: see `devkit.results_folder`."""
    parents = folder.absolute().parents
    return read_record(parents[3], split) if len(parents) > 3 else None


def _csv(rows: Iterable[Sequence[object]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()
