"""The demo: drawn scenes through small nets and their CRFs, scored as the paper scores its own."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from deeplab_repro.errors import ArgumentError
from deeplab_repro.models.registry import MODELS, VOC_CLASSES
from deeplab_repro.toy.scenes import Scene, make_scene
from deeplab_repro.voc.metrics import (
    Scores,
    confusion,
    image_scores,
    or_none,
    percent_text,
    trimap_confusions,
    trimap_scores,
)

if TYPE_CHECKING:
    from deeplab_repro.segmenter import DeepLab

SPLIT = "val"
"""Of ToyVOC: scenes that no net has seen in training."""

TRIMAP_WIDTH = 3
"""How far from the void along the borders, in pixels, the labels near borders are scored."""

_PAPER = ("DeepLab-LargeFOV", "DeepLab-MSc-LargeFOV")


@dataclass(frozen=True)
class Row:
    """A model over all scenes, alone or with its CRF.

    labels: of each scene, HxW uint8. scores: over whole images; near_borders: within the trimap;
    both in percent. ms: the median time of a scene, the net's as well if it is with the CRF.
    """

    model: str
    with_crf: bool
    labels: list[np.ndarray]
    scores: Scores
    near_borders: Scores
    ms: float

    @property
    def title(self) -> str:
        """What the row shows, in words."""
        return f"{self.model} + CRF" if self.with_crf else self.model


@dataclass(frozen=True)
class Report:
    """The first scenes of a seed, and for each model two rows: the net alone, and with its CRF."""

    seed: int
    scenes: list[Scene]
    rows: list[Row]

    @property
    def absent(self) -> list[str]:
        """The classes that are in none of the scenes, on which no model can do well."""
        there = set(np.unique(np.concatenate([scene.labels.ravel() for scene in self.scenes])))
        return [name for label, name in enumerate(VOC_CLASSES) if label not in there]

    def as_json(self) -> dict[str, Any]:
        """All figures as plain data; None for what is not defined. IOU in the order of classes."""
        return {
            "split": SPLIT,
            "seed": self.seed,
            "scenes": len(self.scenes),
            "trimap_width": TRIMAP_WIDTH,
            "classes": list(VOC_CLASSES),
            "absent": self.absent,
            "rows": [
                {
                    "model": row.model,
                    "crf": row.with_crf,
                    "mean_iou": row.scores.mean_iou,
                    "pixel_accuracy": or_none(row.scores.pixel_accuracy),
                    "trimap_mean_iou": or_none(row.near_borders.mean_iou),
                    "ms": row.ms,
                    "iou": row.scores.iou.tolist(),
                }
                for row in self.rows
            ],
        }


def measure(
    models: Sequence[tuple[str, "DeepLab"]],
    n_scenes: int,
    seed: int,
    step: Callable[[], None] = lambda: None,
) -> Report:
    """Draw scenes, run every model on all of them, and score what comes out.

    models: names and models, with CRFs, of VOC's 21 labels. step: is called `n_steps` times.

    Raises ArgumentError for no scenes or a negative seed, and what running a model raises.
    """
    if n_scenes < 1:
        raise ArgumentError(f"scenes: are {n_scenes}, expected 1 or more")
    scenes = []
    for index in range(n_scenes):
        scenes.append(make_scene(seed, index, SPLIT))
        step()
    rows = [row for name, model in models for row in _rows(name, model, scenes, step)]
    return Report(seed, scenes, rows)


def n_steps(n_models: int, n_scenes: int) -> int:
    """How often `measure` calls `step`."""
    return n_scenes * (1 + n_models)


def table(report: Report) -> list[list[str]]:
    """The rows in the style of the paper's table 1, as text: a heading, then a row each."""
    near_borders = f"mean IOU in {TRIMAP_WIDTH} px trimap"
    heading = ["", "mean IOU", "pixel accuracy", near_borders, "ms/image"]
    return [heading] + [
        [
            row.title,
            percent_text(row.scores.mean_iou),
            percent_text(row.scores.pixel_accuracy),
            percent_text(row.near_borders.mean_iou),
            f"{row.ms:.0f}",
        ]
        for row in report.rows
    ]


def notes(report: Report) -> list[str]:
    """What is to be known to read the table, a sentence each."""
    found = [
        "Scores are in percent, counted as the paper's authors did. The trimap is what lies up to "
        f"{TRIMAP_WIDTH} pixels from the void (unscored) line along every border. Times are "
        "medians.",
        "The paper's mean IOU, with full-size nets on PASCAL VOC 2012 val: "
        + ", ".join(
            f"{name} {MODELS[name].val_mean_iou:.2f}, + CRF {MODELS[name].val_mean_iou_crf:.2f}"
            for name in _PAPER
        )
        + ".",
    ]
    if report.absent:
        found.append(
            f"None of these scenes has {', '.join(report.absent)}: the mean IOU counts each of "
            "them as 0. More scenes have all classes."
        )
    return found


def _rows(
    name: str, model: "DeepLab", scenes: Sequence[Scene], step: Callable[[], None]
) -> list[Row]:
    """One forward of the net a scene serves both rows.

    One after the other: either uses all cores, so that the CRF beside the next scene's net would
    take as long in all, and neither time would be its own.
    """
    alone, refined, seconds, seconds_refined = [], [], [], []
    for scene in scenes:
        result = model.run_net(scene.image)
        start = time.perf_counter()
        alone.append(result.labels)  # which enlarges the scores
        seconds.append(result.net_seconds + time.perf_counter() - start)
        result = model.refine(scene.image, result)
        refined.append(result.labels)
        seconds_refined.append(result.net_seconds + result.crf_seconds)
        step()
    return [
        _score(name, False, scenes, alone, seconds),
        _score(name, True, scenes, refined, seconds_refined),
    ]


def _score(
    name: str,
    with_crf: bool,
    scenes: Sequence[Scene],
    labels: list[np.ndarray],
    seconds: list[float],
) -> Row:
    n_labels = len(VOC_CLASSES)
    counts = np.zeros((n_labels, n_labels), np.int64)
    near_borders = counts.copy()
    for scene, given in zip(scenes, labels, strict=True):
        counts += confusion(scene.labels, given, n_labels)
        near_borders += trimap_confusions(scene.labels, given, n_labels, [TRIMAP_WIDTH])[0]
    return Row(
        model=name,
        with_crf=with_crf,
        labels=labels,
        scores=image_scores(counts),
        near_borders=trimap_scores(near_borders),
        # The first scene's time has the loading, and at times the compiling, of the CRF in it.
        ms=1e3 * statistics.median(seconds),
    )
