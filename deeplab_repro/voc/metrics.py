"""Scores of labels from a confusion matrix, as the authors count them (docs/original.md, 4).

A confusion matrix is n x n int64: element (i, j) counts the pixels of true label i that were
labelled j. The matrices of all images are added up and scored once. All scores are in percent.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from deeplab_repro.arrays import dims, in_brief
from deeplab_repro.errors import ArgumentError
from deeplab_repro.files.images import VOID

Confusion = npt.NDArray[np.int64]

MOST_WIDTH = 1000
"""The largest width of a trimap, in pixels; the paper's go up to 40."""


@dataclass(frozen=True, eq=False)
class Scores:
    """The scores of a confusion matrix, in percent.

    pixel_accuracy: the share of all pixels with the right label. class_accuracy: the same for each
    class's own pixels, n float64. iou: each class's intersection over union, n float64.
    mean_class_accuracy, mean_iou: their means as the authors take them; `image_scores` and
    `trimap_scores` say over which classes. n_present: how many classes have true or given pixels;
    mean_iou_of_present: the mean IOU over these. mean_class_accuracy_of_present: the mean over the
    classes with true pixels. These two means are NaN if there are no pixels.
    """

    pixel_accuracy: float
    class_accuracy: npt.NDArray[np.float64]
    mean_class_accuracy: float
    iou: npt.NDArray[np.float64]
    mean_iou: float
    n_present: int
    mean_iou_of_present: float
    mean_class_accuracy_of_present: float

    __repr__ = in_brief

    @property
    def n_labels(self) -> int:
        """How many classes there are, present or not."""
        return len(self.iou)


def confusion(labels_true: np.ndarray, labels: np.ndarray, n_labels: int) -> Confusion:
    """Count one image's pixels by true and given label: n_labels x n_labels int64.

    labels_true, labels: HxW uint8. Pixels whose true label is void (255) are not counted.

    Raises ArgumentError for other types, sizes that differ, and labels of n_labels or more, even on
    pixels that are not counted.
    """
    pairs = _pairs(labels_true, labels, n_labels).ravel()
    if not pairs.size:
        return np.zeros((n_labels, n_labels), np.int64)
    # Neighbours mostly have the same labels: counting runs is twice as fast.
    changes = np.flatnonzero(pairs[1:] != pairs[:-1]) + 1
    bounds = np.concatenate([[0], changes, [pairs.size]])
    counts = np.bincount(pairs[bounds[:-1]], np.diff(bounds), minlength=(n_labels + 1) * n_labels)
    return counts.astype(np.int64).reshape(-1, n_labels)[1:]  # float64 is exact to 2**53


def trimap_confusions(
    labels_true: np.ndarray, labels: np.ndarray, n_labels: int, widths: Sequence[int]
) -> Confusion:
    """Count the pixels near true borders, for several widths: len(widths) x n_labels x n_labels.

    The trimap of a width holds the pixels that are not void (255) but have a void pixel at most
    `width` pixels away, where a diagonal step counts as one. VOC's void lies along every object,
    and on difficult ones. Forty widths cost little more than one.

    Raises what `confusion` raises, and ArgumentError for a width below 1 or above MOST_WIDTH.
    """
    pairs = _pairs(labels_true, labels, n_labels)
    for width in widths:
        check_width(width)
    most = max(widths, default=0)
    distance = _distance_to_void(labels_true)
    near = (distance > 0) & (distance <= most)
    triples = distance[near].astype(np.intp) * ((n_labels + 1) * n_labels) + pairs[near]
    shape = (most + 1, n_labels + 1, n_labels)
    by_distance = np.bincount(triples, minlength=math.prod(shape)).reshape(shape)[:, 1:]
    return by_distance.cumsum(axis=0)[list(widths)]


def check_width(width: int) -> None:
    """Raise ArgumentError for a trimap's width below 1 or above MOST_WIDTH."""
    if not 1 <= width <= MOST_WIDTH:
        raise ArgumentError(f"the trimap's width is {width}, expected 1 to {MOST_WIDTH} pixels")


def image_scores(counts: Confusion) -> Scores:
    """Score the confusion matrix of whole images as the authors' MyVOCevalseg does.

    A class without pixels scores 0, and both means are over all classes. The pixel accuracy is NaN
    if no pixel was counted.
    """
    there = trimap_scores(counts)
    accuracy, iou = np.nan_to_num(there.class_accuracy), np.nan_to_num(there.iou)
    return replace(
        there,
        class_accuracy=accuracy,
        mean_class_accuracy=float(accuracy.mean()),
        iou=iou,
        mean_iou=float(iou.mean()),
    )


def trimap_scores(counts: Confusion) -> Scores:
    """Score the confusion matrix of a trimap as the authors' MyVOCevalsegBoundary does.

    A class without pixels scores NaN. The mean class accuracy is over the classes with true
    pixels, the mean IOU over all of them: NaN if one of them is missing.
    """
    accuracy, iou = _by_class(counts)
    return Scores(
        pixel_accuracy=_pixel_accuracy(counts),
        class_accuracy=accuracy,
        mean_class_accuracy=_mean_of_defined(accuracy),
        iou=iou,
        mean_iou=float(iou.mean()),
        n_present=int(np.count_nonzero(~np.isnan(iou))),
        mean_iou_of_present=_mean_of_defined(iou),
        mean_class_accuracy_of_present=_mean_of_defined(accuracy),
    )


def mean_iou_of_present(counts: Confusion) -> float:
    """The mean IOU in percent over the classes with true or given pixels; NaN if there are none.

    This ranks images: the mean over all classes says little about an image with two.
    """
    return _mean_of_defined(_by_class(counts)[1])


def percent_text(value: float) -> str:
    """A score as text; "-" if it is not defined."""
    return "-" if math.isnan(value) else f"{value:.2f}"


def or_none(value: float) -> float | None:
    """A score for JSON, which has no NaN: None if it is not defined."""
    return None if math.isnan(value) else value


def _mean_of_defined(values: npt.NDArray[np.float64]) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else np.nan


def _pixel_accuracy(counts: Confusion) -> float:
    total = int(counts.sum())
    return 100 * int(counts.trace()) / total if total else np.nan


def _by_class(counts: Confusion) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Accuracy and IOU of each class in percent; NaN for a class without pixels."""
    right, true, given = counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0)
    with np.errstate(invalid="ignore"):
        return 100 * right / true, 100 * right / (true + given - right)


def _pairs(labels_true: np.ndarray, labels: np.ndarray, n_labels: int) -> npt.NDArray[np.uint16]:
    """One number for each pixel's true and given label: HxW, in C order.

    It is an index into n_labels + 1 rows of n_labels; the first row is void's.
    """
    _check_labels("labels_true", labels_true)
    _check_labels("labels", labels)
    if labels.shape != labels_true.shape:
        raise ArgumentError(
            f"labels are {dims(labels.shape)}, expected {dims(labels_true.shape)} (HxW) as the "
            "true ones: those of the same image"
        )
    if not 1 <= n_labels <= VOID:
        raise ArgumentError(f"n_labels is {n_labels}, expected 1 to {VOID}")
    rows = labels_true + np.uint8(1)  # void becomes 0
    _check_largest("labels", int(labels.max(initial=0)), n_labels)
    _check_largest("labels_true", int(rows.max(initial=0)) - 1, n_labels)
    pairs = np.multiply(rows, n_labels, dtype=np.uint16, order="C")
    pairs += labels
    return pairs


def _distance_to_void(labels_true: np.ndarray) -> npt.NDArray[np.float32]:
    """The chess-board distance of each pixel to the nearest void one: HxW; inf without void.

    Whole numbers, exact up to MOST_WIDTH at least.
    """
    from deeplab_repro.machine.opencv import cv2

    is_labelled = (labels_true != VOID).astype(np.uint8, order="C")
    if is_labelled.all():
        return np.full(labels_true.shape, np.inf, np.float32)
    distance: npt.NDArray[np.float32] = cv2.distanceTransform(is_labelled, cv2.DIST_C, 3)
    return distance


def _check_labels(what: str, labels: np.ndarray) -> None:
    if labels.ndim != 2 or labels.dtype != np.uint8:
        found = f"{dims(labels.shape)} {labels.dtype}"
        raise ArgumentError(f"{what} are {found}, expected HxW uint8")


def _check_largest(what: str, largest: int, n_labels: int) -> None:
    if largest >= n_labels:
        raise ArgumentError(f"{what} go up to {largest}, expected at most {n_labels - 1}")
