"""Measuring the paper's scores, with ToyVOC's small nets in place of its own."""

import shutil

import numpy as np
import pytest

from deeplab_repro.caffe import load_weights, read_net, write_caffemodel
from deeplab_repro.errors import ArgumentError, FileError
from deeplab_repro.files.images import read_labels
from deeplab_repro.models.published import published
from deeplab_repro.models.registry import MODELS
from deeplab_repro.paper.figure7 import make_figure7
from deeplab_repro.paper.reproduce import TEST_LABELS, Run, paper_runs, reproduce, results_of
from deeplab_repro.paper.tables import Measured, NotRun
from deeplab_repro.toy.dataset import write_dataset
from deeplab_repro.voc.devkit import open_devkit
from deeplab_repro.voc.metrics import confusion, image_scores, trimap_confusions, trimap_scores
from tests.conftest import assert_one_line
from tests.watched import Watched

TOY = "ToyVOC-LargeFOV"
NET, CRF = (
    Run(method, TOY, "val", None, with_crf)
    for method, with_crf in (("DeepLab", False), ("DeepLab-CRF", True))
)
SCENES = 2


@pytest.fixture(scope="module")
def devkit(tmp_path_factory):
    root = tmp_path_factory.mktemp("voc")
    write_dataset(root, 0, SCENES)
    return open_devkit(root)


@pytest.fixture(scope="module")
def ran(devkit, tmp_path_factory):
    out = tmp_path_factory.mktemp("paper")
    return out, reproduce(devkit, [NET, CRF], out)


def files(out):
    return {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}


def test_the_papers_methods_are_run_on_val_and_test():
    runs = paper_runs(None)
    val, test = ([run.method for run in runs if run.split == split] for split in ("val", "test"))
    paper = published()
    in_table2 = {row["method"] for row in paper["table2"]}
    v2 = ["DeepLabv2-VGG16", "DeepLabv2-ResNet101"]
    v2 += [name.replace("v2", "v2-CRF") for name in v2]
    assert set(val) == {*paper["table1"]["val_mean_iou"], *in_table2, *v2}
    in_table1 = {name for name in paper["table1"]["test_mean_iou"] if "DeepLab" in name}
    assert set(test) == {*in_table1, "DeepLabv2-CRF-ResNet101"}
    assert len(val) + len(test) == len(runs) == 21
    assert all(run.with_crf == ("CRF" in run.method) for run in runs)


def test_scores_are_those_of_the_files(devkit, ran):
    out, outcomes = ran
    for run in (NET, CRF):
        total, within = np.zeros((21, 21), np.int64), np.zeros((2, 21, 21), np.int64)
        for name in devkit.ids("val"):
            labels = read_labels(results_of(devkit, run, out) / f"{name}.png")
            truth = devkit.read_mask(name)
            total += confusion(truth, labels, 21)
            within += trimap_confusions(truth, labels, 21, [1, 40])
        outcome = outcomes[run.method, "val"]
        np.testing.assert_array_equal(outcome.scores.iou, image_scores(total).iou)
        for width, counts in zip((1, 40), within, strict=True):
            expected = trimap_scores(counts)
            assert outcome.trimap[width].pixel_accuracy == expected.pixel_accuracy
        assert len(outcome.trimap) == 40
        assert (outcome.images, outcome.missing) == (SCENES, 0)
        assert outcome.remark == (
            "measured on 2 images, the paper's val has 1,449; "
            f"{outcome.scores.n_present} of the 21 classes are there, the others count as 0: the "
            f"mean IOU over these is {outcome.scores.mean_iou_of_present:.2f}"
        )
    net, crf = (outcomes[run.method, "val"].scores for run in (NET, CRF))
    assert net.mean_iou != crf.mean_iou


def test_a_second_run_makes_nothing_anew_and_says_the_same(devkit, ran):
    out, outcomes = ran
    before = files(out)
    lost = next(results_of(devkit, CRF, out).iterdir())
    content = lost.read_bytes()
    lost.unlink()
    again = reproduce(devkit, [NET, CRF], out)
    after = files(out)
    assert [path for path in before if before[path] != after[path]] == [lost]
    assert lost.read_bytes() == content
    for key, outcome in outcomes.items():
        np.testing.assert_array_equal(again[key].scores.iou, outcome.scores.iou)


def test_the_net_runs_once_for_both(devkit, ran):
    """The scores that the net alone has kept are older than all results with the CRF."""
    out, _ = ran
    times = files(out)
    kept = [times[path] for path in times if path.suffix == ".npz"]
    refined = [times[path] for path in results_of(devkit, CRF, out).iterdir()]
    assert len(kept) == SCENES
    assert max(kept) < min(refined)


def test_progress_is_told_step_by_step(devkit, ran):
    progress = Watched()
    reproduce(devkit, [CRF], ran[0], progress=progress)
    assert progress.told == [
        ("DeepLab-CRF: segmenting val", SCENES, SCENES),
        ("DeepLab-CRF: scoring val", SCENES, SCENES),
    ]


def test_panels_are_of_the_best_model_that_ran_both_ways(devkit, ran):
    out, outcomes = ran
    figure = make_figure7(devkit, [NET, CRF], outcomes, out)
    assert (figure.net, figure.with_crf) == ("DeepLab", "DeepLab-CRF")
    assert [panel.name for panel in figure.panels] == devkit.ids("val")
    panel = figure.panels[1]
    np.testing.assert_array_equal(panel.truth, devkit.read_mask(panel.name))
    for run, labels in ((NET, panel.net), (CRF, panel.with_crf)):
        file = results_of(devkit, run, out) / f"{panel.name}.png"
        np.testing.assert_array_equal(labels, read_labels(file))
    assert make_figure7(devkit, [CRF], outcomes, out) is None
    not_run = {**outcomes, ("DeepLab", "val"): NotRun("")}
    assert make_figure7(devkit, [NET, CRF], not_run, out) is None


# --- what cannot be run


def outcome_of(devkit, run, out):
    return reproduce(devkit, [run], out)[run.method, run.split]


@pytest.fixture
def with_test(devkit, tmp_path):
    """The same data set with a list of test; its labels are there."""
    root = tmp_path / "voc"
    shutil.copytree(devkit.root, root)
    lists = root / "ImageSets" / "Segmentation"
    shutil.copy(lists / "val.txt", lists / "test.txt")
    return open_devkit(root)


def test_test_is_scored_only_where_its_labels_are(devkit, with_test, tmp_path):
    run = Run("DeepLab-CRF", TOY, "test", None, with_crf=True)
    assert outcome_of(devkit, run, tmp_path) == NotRun(TEST_LABELS)
    outcome = outcome_of(with_test, run, tmp_path)
    assert isinstance(outcome, Measured)
    assert outcome.remark.startswith("measured on 2 images, the paper's test has 1,456; ")
    assert not outcome.trimap
    next((with_test.root / "SegmentationClass").iterdir()).unlink()
    assert outcome_of(with_test, run, tmp_path) == NotRun(TEST_LABELS)


def test_missing_weights_are_named(devkit, tmp_path):
    reasons = {
        (run.method, run.split): outcome.reason
        for run, outcome in zip(
            paper_runs(tmp_path),
            reproduce(devkit, paper_runs(tmp_path), tmp_path).values(),
            strict=True,
        )
    }
    file = tmp_path / "DeepLab-MSc" / "train_iter_6000.caffemodel"
    assert reasons["DeepLab-MSc-CRF", "val"] == f"{file} is missing"
    file = tmp_path / "DeepLab-4x4" / "train_iter_6000.caffemodel"
    unreleased = f"no weights were released, and {file} is missing"
    assert reasons["DeepLab-CRF-4x4", "val"] == unreleased


def test_train2_weights_are_looked_for_where_test_has_labels(with_test, tmp_path):
    runs = [run for run in paper_runs(tmp_path) if run.split == "test"]
    reasons = {run.model: outcome_of(with_test, run, tmp_path).reason for run in runs}
    for model, reason in reasons.items():
        released = MODELS[model].train2_weights or MODELS["DeepLab"].train2_weights
        assert str(tmp_path / model / released.file) in reason


def test_without_published_crf_parameters_there_is_the_net_alone(devkit, tmp_path):
    weights = tmp_path / "w.caffemodel"
    weights.write_bytes(b"not looked at")
    run = Run("DeepLab-CRF-7x7", "DeepLab-7x7", "val", weights, with_crf=True)
    reason = "no CRF parameters of DeepLab-7x7 are published"
    assert outcome_of(devkit, run, tmp_path) == NotRun(reason)


def test_broken_weights_are_the_reason_and_others_still_run(devkit, ran, tmp_path):
    weights = tmp_path / "broken.caffemodel"
    weights.write_bytes(MODELS[TOY].shipped_weights.read_bytes()[:-500])
    broken = Run("DeepLab-MSc", TOY, "val", weights, with_crf=False)
    shutil.copytree(ran[0] / "predictions", tmp_path / "predictions")
    shutil.rmtree(tmp_path / "predictions" / TOY / "net")
    outcomes = reproduce(devkit, [broken, CRF], tmp_path)
    assert "broken.caffemodel" in outcomes["DeepLab-MSc", "val"].reason
    assert isinstance(outcomes["DeepLab-CRF", "val"], Measured)


def test_weights_that_have_seen_val_are_marked(devkit, tmp_path):
    model = MODELS[TOY]
    net = read_net(model.test_prototxt, {"EXP": model.exp})
    load_weights(net, model.shipped_weights)
    weights = tmp_path / "train2_iter_8000.caffemodel"
    write_caffemodel(net, weights)
    outcome = outcome_of(devkit, Run("DeepLab", TOY, "val", weights, with_crf=False), tmp_path)
    assert "was trained on trainval_aug, which has images of val" in outcome.remark


def test_refused(devkit, with_test, ran, tmp_path):
    (with_test.root / "SegmentationClass" / f"{with_test.ids('val')[0]}.png").unlink()
    with pytest.raises(FileError, match="does not exist, but split 'val' names it"):
        reproduce(with_test, [NET], tmp_path)
    (tmp_path / "classes.txt").write_text("nothing\nsky\n")
    with pytest.raises(ArgumentError) as error:
        reproduce(open_devkit(devkit.root, tmp_path / "classes.txt"), [NET], tmp_path)
    assert_one_line(error, "has 2 classes", "PASCAL VOC's 21")
    other = tmp_path / "other.caffemodel"
    shutil.copy(MODELS[TOY].shipped_weights, other)
    with open(other, "r+b") as file:
        file.seek(-1, 2)
        file.write(b"\1")
    with pytest.raises(ArgumentError, match="give another folder"):
        reproduce(devkit, [Run("DeepLab", TOY, "val", other, with_crf=False)], ran[0])
