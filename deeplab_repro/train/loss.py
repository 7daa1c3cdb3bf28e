"""SOFTMAX_LOSS with its gradient, and SEG_ACCURACY (docs/original.md, sections 1.6 and 1.7)."""

import math

import numpy as np

from deeplab_repro.arrays import F32
from deeplab_repro.errors import ArgumentError
from deeplab_repro.net.layers import SegAccuracy, SoftmaxLoss
from deeplab_repro.net.net import Layer
from deeplab_repro.net.scores import softmax
from deeplab_repro.train.values import Value

_SMALLEST = np.finfo(np.float32).tiny  # Caffe's FLT_MIN


class SoftmaxLossStep:
    """One SOFTMAX_LOSS layer: -log of each pixel's probability of its label, averaged.

    The average is over the pixels of the whole batch whose label is not ignored; NaN if there are
    none. Where a label is ignored the gradient is 0; the original leaves old values there.
    """

    def __init__(self, layer: Layer, bottoms: list[Value], tops: list[Value]) -> None:
        assert isinstance(layer.op, SoftmaxLoss)
        self.scores, self.labels = bottoms
        (self.top,) = tops
        self.op, self.name = layer.op, layer.name
        self.probs: F32 = np.empty(self.scores.data.shape, np.float32)

    def forward(self) -> None:
        """Set the top to the loss. Raises ArgumentError for a label out of range."""
        labels, counted = _counted(self.name, self.labels, self.op.ignore_label, self.probs.shape)
        for probs, scores in zip(self.probs, self.scores.data, strict=True):
            probs[...] = softmax(scores)
        of_label = np.take_along_axis(self.probs, labels, axis=1)[counted]
        losses = -np.log(np.maximum(of_label, _SMALLEST))
        with np.errstate(invalid="ignore", divide="ignore"):
            self.top.data[...] = np.divide(losses.sum(dtype=np.float64), counted.sum())
        self.label_index, self.counted = labels, counted

    def backward(self) -> None:
        """Add to the scores' gradient: probability - one-hot, over the number of pixels."""
        if self.scores.diff is None:
            return
        one_hot = np.arange(self.probs.shape[1])[None, :, None, None] == self.label_index
        diff = self.probs - one_hot
        diff *= self.counted
        diff *= np.float32(self.op.loss_weight) / np.float32(max(1, self.counted.sum()))
        self.scores.diff += diff


class SegAccuracyStep:
    """One SEG_ACCURACY layer, over one batch: pixel accuracy, mean recall, mean Jaccard.

    Of equal scores the highest class wins. The mean recall is over the classes that are in the
    labels; in the mean Jaccard a class that is in neither labels nor results counts as 1.
    `mean_iou`, which is not the layer's, leaves such a class out.
    """

    def __init__(self, layer: Layer, bottoms: list[Value], tops: list[Value]) -> None:
        assert isinstance(layer.op, SegAccuracy)
        self.scores, self.labels = bottoms
        (self.top,) = tops
        self.op, self.name = layer.op, layer.name
        self.mean_iou = math.nan

    def forward(self) -> None:
        """Set the top to the three, and the mean IOU."""
        n = self.scores.data.shape[1]
        labels, counted = _counted(
            self.name, self.labels, self.op.ignore_label, self.scores.data.shape
        )
        found = n - 1 - self.scores.data[:, ::-1].argmax(axis=1, keepdims=True)
        pairs = labels[counted] * n + found[counted]
        confusion = np.bincount(pairs, minlength=n * n).reshape(n, n).astype(np.float64)
        hits, of_label = np.diag(confusion), confusion.sum(axis=1)
        union = of_label + confusion.sum(axis=0) - hits
        present = of_label > 0
        with np.errstate(invalid="ignore", divide="ignore"):
            pixels = hits.sum() / confusion.sum()
            recall = np.mean(hits[present] / of_label[present]) if present.any() else np.nan
            jaccard = np.where(union == hits, 1, hits / union).mean()
            self.mean_iou = float(np.mean((hits / union)[union > 0])) if union.any() else math.nan
        self.top.data[...] = np.array([pixels, recall, jaccard], np.float32)

    def backward(self) -> None:
        """Do nothing: an accuracy has no gradient."""


def _counted(
    name: str, value: Value, ignore_label: tuple[int, ...], shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Labels as indices (0 where ignored), and a mask of those that count: both Nx1xHxW."""
    labels = value.data.astype(np.int64)
    counted = ~np.isin(labels, ignore_label)
    wrong = labels[counted & ((labels < 0) | (labels >= shape[1]))]
    if wrong.size:
        raise ArgumentError(
            f"layer '{name}': a label is {wrong[0]}, expected 0 to {shape[1] - 1} or one of "
            f"ignore_label {', '.join(map(str, ignore_label)) or '(none)'}"
        )
    return np.where(counted, labels, 0), counted
