"""The demo: small nets and their CRFs segment drawn scenes, and are scored as in the paper."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from deeplab_repro.arrays import in_brief
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
from deeplab_repro.work.progress import Progress, unwatched

if TYPE_CHECKING:
    from deeplab_repro.segmenter import DeepLab

SPLIT = "val"
"""The split of ToyVOC that is shown: no net has seen it in training."""

TRIMAP_WIDTH = 3
"""The width in pixels of the trimap, in which labels near borders are scored."""

_PAPER = ("DeepLab-LargeFOV", "DeepLab-MSc-LargeFOV")


@dataclass(frozen=True, eq=False)
class DemoRow:
    """A model's results on all scenes, alone or with its CRF.

    labels: of each scene, HxW uint8. scores: over whole images; near_borders: within the trimap;
    both in percent. ms: the median time of a scene; with the CRF it includes the net's.
    """

    model: str
    with_crf: bool
    labels: list[np.ndarray]
    scores: Scores
    near_borders: Scores
    ms: float

    __repr__ = in_brief

    @property
    def title(self) -> str:
        """The model and the CRF in words."""
        return f"{self.model} + CRF" if self.with_crf else self.model


@dataclass(frozen=True)
class DemoResult:
    """The first scenes of a seed, and for each model two rows: the net alone, and with its CRF."""

    seed: int
    scenes: list[Scene]
    rows: list[DemoRow]

    @property
    def absent(self) -> list[str]:
        """The classes that no scene has; every model scores 0 on them."""
        there = set(np.unique(np.concatenate([scene.labels.ravel() for scene in self.scenes])))
        return [name for label, name in enumerate(VOC_CLASSES) if label not in there]

    @property
    def lacks_classes(self) -> bool:
        """Whether a mean is over classes that are in no scene and no labels."""
        means = [scores for row in self.rows for scores in (row.scores, row.near_borders)]
        return any(each.n_present < each.n_labels for each in means)

    def as_json(self) -> dict[str, Any]:
        """All numbers as plain data; None for what is not defined. IOU in the order of classes."""
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
                    "classes_present": row.scores.n_present,
                    "mean_iou_of_present": or_none(row.scores.mean_iou_of_present),
                    "trimap_mean_iou": or_none(row.near_borders.mean_iou),
                    "trimap_classes_present": row.near_borders.n_present,
                    "trimap_mean_iou_of_present": or_none(row.near_borders.mean_iou_of_present),
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
    progress: Progress = unwatched,
) -> DemoResult:
    """Draw scenes, run every model on all of them, and score the results.

    models: names and models, with CRFs, of VOC's 21 labels.

    Raises ArgumentError for no scenes or a negative seed, and what running a model raises.
    """
    if n_scenes < 1:
        raise ArgumentError(f"scenes: are {n_scenes}, expected 1 or more")
    scenes = []
    with progress("drawing", n_scenes) as advance:
        for index in range(n_scenes):
            scenes.append(make_scene(seed, index, SPLIT))
            advance()
    rows: list[DemoRow] = []
    for name, model in models:
        with progress(f"segmenting with {name}", n_scenes) as advance:
            rows += _rows(name, model, scenes, advance)
    return DemoResult(seed, scenes, rows)


def table(result: DemoResult) -> list[list[str]]:
    """The rows as text, in the style of the paper's table 1: a heading, then a line a row."""

    def there(scores: Scores) -> str:
        return f"{percent_text(scores.mean_iou_of_present)} ({scores.n_present})"

    near = f"{TRIMAP_WIDTH} px trimap"
    lines = [["", "mean IOU", "pixel accuracy", near, "ms/image"]]
    for row in result.rows:
        means = (row.scores.mean_iou, row.scores.pixel_accuracy, row.near_borders.mean_iou)
        lines.append([row.title, *map(percent_text, means), f"{row.ms:.0f}"])
    if result.lacks_classes:
        lines[0] += ["mean IOU of those there", f"{near} of those there"]
        for line, row in zip(lines[1:], result.rows, strict=True):
            line += [there(row.scores), there(row.near_borders)]
    return lines


def notes(result: DemoResult) -> list[str]:
    """Notes that explain the table."""
    found = [
        "Scores are in percent, counted as the paper's authors did. The trimap column is the mean "
        f"IOU of the pixels near borders, at most {TRIMAP_WIDTH} from the void (unscored) line "
        "along every border. Times are medians.",
        "The paper's mean IOU, with full-size nets on PASCAL VOC 2012 val: "
        + ", ".join(
            f"{name} {MODELS[name].val_mean_iou:.2f}, + CRF {MODELS[name].val_mean_iou_crf:.2f}"
            for name in _PAPER
        )
        + ".",
    ]
    if result.lacks_classes:
        found.append(
            "'of those there' is the mean IOU over the classes that are in the scenes or the "
            "labels, whose number is in brackets."
        )
    if result.absent:
        found.append(
            f"None of these scenes has {', '.join(result.absent)}: each counts as 0 in "
            "the mean IOU, and the trimap's mean is not defined (-). More scenes have all classes."
        )
    return found


def _rows(
    name: str, model: "DeepLab", scenes: Sequence[Scene], advance: Callable[[], None]
) -> list[DemoRow]:
    """Run the net once a scene, for both rows.

    The net and the CRF run one after the other: each uses all cores, so together they would take as
    long, and neither time would be its own.
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
        advance()
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
) -> DemoRow:
    n_labels = len(VOC_CLASSES)
    counts = np.zeros((n_labels, n_labels), np.int64)
    near_borders = counts.copy()
    for scene, given in zip(scenes, labels, strict=True):
        counts += confusion(scene.labels, given, n_labels)
        near_borders += trimap_confusions(scene.labels, given, n_labels, [TRIMAP_WIDTH])[0]
    return DemoRow(
        model=name,
        with_crf=with_crf,
        labels=labels,
        scores=image_scores(counts),
        near_borders=trimap_scores(near_borders),
        # Not the mean: the first scene's time includes loading or compiling the CRF.
        ms=1e3 * statistics.median(seconds),
    )
