"""Measures the paper's scores again: segments a split, without and with the CRF, and scores it."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deeplab_repro.caffe import read_net
from deeplab_repro.errors import (
    ArgumentError,
    FileError,
    FormatError,
    ResourceError,
    WeightsError,
    one_line,
)
from deeplab_repro.models.published import published
from deeplab_repro.models.registry import MODELS, VOC_CLASSES, Model
from deeplab_repro.net.layers import Convolution
from deeplab_repro.paper.methods import method_of, published_scores
from deeplab_repro.paper.tables import TEST, VAL, Measured, NetFacts, NotRun
from deeplab_repro.segmenter import Recipe
from deeplab_repro.voc.devkit import Devkit, results_folder
from deeplab_repro.voc.evaluate import Evaluation, evaluate
from deeplab_repro.voc.metrics import percent_text
from deeplab_repro.voc.predict import Predicted, predict
from deeplab_repro.work.progress import Progress, unwatched
from deeplab_repro.work.workers import HERE, Workers

PAPER_IMAGES = {VAL: 1449, TEST: 1456}
"""The number of images in the splits of PASCAL VOC 2012 (paper, section 5)."""

TEST_LABELS = (
    "the labels of test are not public; deeplab-repro predict --split test --tar packs a "
    "submission to the test server"
)

_NEEDED = "it needs PASCAL VOC 2012 (--voc) and the released weights (--models)"


@dataclass(frozen=True)
class Run:
    """A score of the paper to measure.

    method: its name in the paper's tables. model: a key of MODELS. weights: the caffemodel; None
    for the model's own, which ToyVOC's models have.
    """

    method: str
    model: str
    split: str
    weights: Path | None
    with_crf: bool


def paper_runs(models: Path | None) -> list[Run]:
    """All scores of the paper's nets, those on val first.

    models: the folder of released weights, as <name of the model>/train_iter_6000.caffemodel; None
    if nothing will be run.
    """
    runs = []
    for split, model, with_crf in itertools.product((VAL, TEST), MODELS.values(), (False, True)):
        method = method_of(model.name, with_crf)
        if method and published_scores(method, split):
            weights = models and models / model.name / _weights_file(model, split)
            runs.append(Run(method, model.name, split, weights, with_crf))
    return runs


def net_facts() -> dict[str, NetFacts]:
    """What the package's prototxt files determine of the nets in table 2, by method."""
    models = {model.method_with_crf: model for model in MODELS.values()}
    return {row["method"]: _facts(models[row["method"]]) for row in published()["table2"]}


def reproduce(
    devkit: Devkit,
    runs: Sequence[Run],
    out: Path,
    workers: Workers = HERE,
    progress: Progress = unwatched,
) -> dict[tuple[str, str], Measured | NotRun]:
    """Measure all of `runs` that can be: the outcome of each method and split.

    Writes <out>/predictions/<model>/net and /crf as `predict` does, and the net's coarse scores to
    <out>/predictions/<model>/scores/<split>, so that the net runs once. Goes on with what an
    earlier call left there.

    Raises ArgumentError for a data set with other classes than VOC's, or results in `out` that were
    made in another way; FileError if val is incomplete; and what `predict` and `evaluate` raise
    for other reasons than the weights.
    """
    if devkit.classes != VOC_CLASSES:
        raise ArgumentError(
            f"{one_line(devkit.root)}: has {devkit.n_labels} classes, as "
            f"{', '.join(devkit.classes[:3])}; expected PASCAL VOC's {len(VOC_CLASSES)}, as in the "
            "paper"
        )
    outcomes: dict[tuple[str, str], Measured | NotRun] = {}
    for run in runs:
        reason = _why_not(devkit, run)
        outcomes[run.method, run.split] = (
            NotRun(reason)
            if reason
            else _measure(devkit, run, out, workers, _named(run.method, progress))
        )
    return outcomes


def _named(method: str, progress: Progress) -> Progress:
    """The same progress, which also names the method."""
    return lambda doing, steps: progress(f"{method}: {doing}", steps)


def without_data(run: Run) -> str:
    """Why a run is impossible without a data set."""
    return TEST_LABELS if run.split == TEST else _NEEDED


def results_of(devkit: Devkit, run: Run, out: Path) -> Path:
    """The folder of a run's labels, one PNG an image."""
    return results_folder(_out_of(run, out), run.split, devkit.year)


def _out_of(run: Run, out: Path) -> Path:
    return out / "predictions" / run.model / ("crf" if run.with_crf else "net")


def _weights_file(model: Model, split: str) -> str:
    # A net that was not released would have the names that its solver writes: DeepLab's.
    released = model if model.train_weights else MODELS["DeepLab"]
    weights = released.train_weights if split == VAL else released.train2_weights
    assert weights
    return weights.file


def _facts(model: Model) -> NetFacts:
    net = read_net(model.test_prototxt)
    fc6 = next(layer.op for layer in net.layers if layer.name == "fc6")
    assert isinstance(fc6, Convolution)
    assert net.field_of_view
    return NetFacts(fc6.kernel, fc6.hole[0], net.field_of_view, net.parameters)


def _why_not(devkit: Devkit, run: Run) -> str | None:
    """Why a run is impossible; None if it is possible."""
    try:
        devkit.require(devkit.ids(run.split), run.split, masks=True)
    except FileError:
        if run.split != TEST:
            raise
        return TEST_LABELS
    if run.weights is not None and not run.weights.is_file():
        released = "" if MODELS[run.model].train_weights else "no weights were released, and "
        return f"{released}{one_line(run.weights)} is missing"
    if run.with_crf and MODELS[run.model].crf is None:
        return f"no CRF parameters of {run.model} are published"
    return None


def _measure(
    devkit: Devkit, run: Run, out: Path, workers: Workers, progress: Progress
) -> Measured | NotRun:
    recipe = Recipe(
        run.model,
        None if run.weights is None else str(run.weights),
        crf=MODELS[run.model].crf if run.with_crf else None,
    )
    has_curves = run.split == VAL and run.method in published()["figure5"]["mean_iou"]
    widths = published()["figure5"]["trimap_width_pixels"] if has_curves else []
    images = len(devkit.ids(run.split))
    try:
        predicted = predict(
            devkit,
            run.split,
            _out_of(run, out),
            recipe,
            scores=out / "predictions" / run.model / "scores" / run.split,
            workers=workers,
            force=True,  # weights that have seen the split too: the remark says so
            progress=progress,
        )
    except (FormatError, ResourceError, WeightsError) as error:
        return NotRun(str(error))
    if len(predicted.failed) == images:
        return NotRun(f"all images failed, the first of them as {predicted.failed[0].error}")
    evaluation = evaluate(devkit, run.split, predicted.folder, widths, workers, progress)
    return Measured(
        evaluation.scores,
        dict(zip(widths, evaluation.trimap_scores, strict=True)),
        evaluation.images,
        len(evaluation.missing),
        _remark(run.split, predicted, evaluation),
    )


def _remark(split: str, predicted: Predicted, evaluation: Evaluation) -> str | None:
    """Why a score cannot be compared with the paper's; None if it can."""
    remarks, record = [], predicted.record
    if record.has_seen_split:
        remarks.append(
            f"{record.weights} was trained on {record.trained_on}, which has images of {split}: "
            "the score comes out too high"
        )
    if evaluation.images != PAPER_IMAGES[split]:
        remarks.append(
            f"measured on {evaluation.images:,} images, the paper's {split} has "
            f"{PAPER_IMAGES[split]:,}"
        )
    scores = evaluation.scores
    if scores.n_present < scores.n_labels:
        remarks.append(
            f"{scores.n_present} of the {scores.n_labels} classes are there, the others count as "
            f"0: the mean IOU over these is {percent_text(scores.mean_iou_of_present)}"
        )
    if predicted.failed:
        remarks.append(
            f"{len(predicted.failed):,} images could not be segmented and are left out: "
            f"{predicted.failed[0].error}"
        )
    return "; ".join(remarks) or None
