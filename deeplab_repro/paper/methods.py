"""The papers' scores of a method on a split of PASCAL VOC 2012."""

from dataclasses import dataclass

from deeplab_repro.errors import ArgumentError, did_you_mean
from deeplab_repro.models.published import mean_iou_of, published
from deeplab_repro.models.registry import MODELS, VOC_CLASSES


@dataclass(frozen=True)
class MethodScores:
    """A method's scores in percent. iou: each class's by label; None if the paper has none."""

    method: str
    mean_iou: float
    iou: tuple[float | None, ...]


def method_of(model: str, with_crf: bool) -> str | None:
    """The name of a model in the paper's tables, alone or with its CRF; None if it is not there."""
    if model not in MODELS:
        return None
    return MODELS[model].method_with_crf if with_crf else model


def check_method(method: str) -> None:
    """Raise ArgumentError with the nearest names unless the paper's tables have the method."""
    known = {**mean_iou_of("val"), **mean_iou_of("test")}
    if method not in known:
        nearest = did_you_mean(method, known, 3) or f": it has {', '.join(sorted(known))}"
        raise ArgumentError(f"there is no method {method!a} in the paper's tables{nearest}")


def published_scores(method: str | None, split: str) -> MethodScores | None:
    """The papers' scores: the mean IOU, and of v1's nets on test all classes (table 3)."""
    if method is None or split not in ("val", "test"):
        return None
    if split == "test" and method in published()["table3"]:
        row = published()["table3"][method]
        return MethodScores(method, row["mean_iou"], tuple(row["iou"]))
    if method in mean_iou_of(split):
        return MethodScores(method, mean_iou_of(split)[method], (None,) * len(VOC_CLASSES))
    return None
