"""The demo's scores: every model alone and with its CRF, scored as in the paper."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest

from deeplab_repro.crf.dense_crf import CrfResult
from deeplab_repro.crf.params import CrfParams
from deeplab_repro.errors import ArgumentError
from deeplab_repro.models.registry import VOC_CLASSES
from deeplab_repro.net.scores import CoarseScores
from deeplab_repro.segmentation import Segmentation
from deeplab_repro.segmenter import DeepLab
from deeplab_repro.toy.demo import TRIMAP_WIDTH, DemoResult, measure, notes, table
from deeplab_repro.toy.scenes import make_scene
from deeplab_repro.voc.metrics import confusion, image_scores, trimap_confusions, trimap_scores
from tests.conftest import TINY
from tests.watched import Watched

SEED = 5


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A tiny net of VOC's labels, random."""
    path = tmp_path_factory.mktemp("tiny") / "tiny.prototxt"
    path.write_text(TINY.replace("num_output: 4", "num_output: 21"))
    return DeepLab(path, "random:0", device="cpu", crf=CrfParams(4, 20, 5), iterations=2)


@pytest.fixture(scope="module")
def progress():
    return Watched()


@pytest.fixture(scope="module")
def result(model, progress):
    """Two scenes, and the net twice."""
    return measure([("a", model), ("b", model)], 2, SEED, progress)


@dataclass
class Knowing:
    """Knows the scenes, but says `wrong` for the void; with its CRF it says 0 for all."""

    wrong: int = 0
    at: int = -1

    def run_net(self, image: np.ndarray) -> Segmentation:
        self.at += 1
        scene = make_scene(SEED, self.at, "val")
        np.testing.assert_array_equal(image, scene.image)
        labels = np.where(scene.labels == 255, self.wrong, scene.labels).astype(np.uint8)
        scores = CoarseScores((labels == np.arange(21)[:, None, None]).astype(np.float32), 1)
        return Segmentation(image.shape[:2], scores, net_seconds=0.2)

    def refine(self, image: np.ndarray, result: Segmentation) -> Segmentation:
        refined = CrfResult(np.zeros(image.shape[:2], np.uint8), None, "cpu")
        return replace(result, refined=refined, crf_seconds=0.1 * self.at)


def test_every_model_has_a_row_alone_and_one_with_its_crf(model, result, progress):
    assert progress.told == [
        ("drawing", 2, 2),
        ("segmenting with a", 2, 2),
        ("segmenting with b", 2, 2),
    ]
    assert [row.title for row in result.rows] == ["a", "a + CRF", "b", "b + CRF"]
    alone, refined = result.rows[:2]
    for index, scene in enumerate(result.scenes):
        np.testing.assert_array_equal(scene.image, make_scene(SEED, index, "val").image)
        expected = model(scene.image)
        np.testing.assert_array_equal(refined.labels[index], expected.labels)
        np.testing.assert_array_equal(alone.labels[index], expected.scores.argmax(axis=0))
    assert any((a != b).any() for a, b in zip(alone.labels, refined.labels, strict=True))
    assert 0 < alone.ms < refined.ms


def test_scores_are_those_of_all_scenes_together(result):
    for row in result.rows:
        counts, near = 0, 0
        for scene, labels in zip(result.scenes, row.labels, strict=True):
            counts += confusion(scene.labels, labels, 21)
            near += trimap_confusions(scene.labels, labels, 21, [TRIMAP_WIDTH])[0]
        assert row.scores.mean_iou == image_scores(counts).mean_iou
        assert row.near_borders.pixel_accuracy == trimap_scores(near).pixel_accuracy < 100


def test_void_is_not_scored_and_times_are_medians():
    alone, refined = measure([("knowing", Knowing(wrong=7))], 3, SEED).rows
    assert alone.scores.pixel_accuracy == alone.near_borders.pixel_accuracy == 100
    assert refined.scores.pixel_accuracy < 100
    assert alone.ms > 200  # with the enlarging
    assert refined.ms == pytest.approx(300)


def test_what_few_scenes_lack_is_told():
    result = measure([("knowing", Knowing())], 1, SEED)
    there = np.unique(result.scenes[0].labels)
    assert len(result.absent) + len(there) == 21 + 1  # void
    assert VOC_CLASSES[there[1]] not in result.absent
    assert f"None of these scenes has {', '.join(result.absent)}:" in notes(result)[-1]
    # The authors' trimap has no mean IOU where a class is missing.
    row = result.as_json()["rows"][0]
    assert row["trimap_mean_iou"] is None
    assert row["mean_iou"] == pytest.approx(100 * (len(there) - 1) / 21)
    assert [line[3] for line in table(result)[1:]] == ["-", "-"]
    assert (row["classes_present"], row["mean_iou_of_present"]) == (len(there) - 1, 100)
    assert table(result)[1][5:] == [f"100.00 ({row['classes_present']})"] * 2
    assert "'of those there'" in notes(result)[2]


def test_enough_scenes_have_every_class(scenes):
    result = DemoResult(0, scenes, [])
    assert result.absent == []
    assert len(notes(result)) == 2
    assert "DeepLab-LargeFOV 62.25, + CRF 67.64, DeepLab-MSc-LargeFOV 64.21" in notes(result)[1]


def test_json_and_table_say_the_same(result):
    data = json.loads(json.dumps(result.as_json(), allow_nan=False))
    assert (data["seed"], data["scenes"], data["trimap_width"]) == (SEED, 2, 3)
    assert [(row["model"], row["crf"]) for row in data["rows"][:2]] == [("a", False), ("a", True)]
    for row, line in zip(data["rows"], table(result)[1:], strict=True):
        assert line[1:3] == [f"{row['mean_iou']:.2f}", f"{row['pixel_accuracy']:.2f}"]
        assert line[4] == f"{row['ms']:.0f}"
        assert np.mean(row["iou"]) == pytest.approx(row["mean_iou"])
        assert len(row["iou"]) == len(data["classes"]) == 21


def test_refused(model):
    with pytest.raises(ArgumentError, match="scenes: are 0, expected 1 or more"):
        measure([("a", model)], 0, SEED)
    with pytest.raises(ArgumentError, match="seed"):
        measure([("a", model)], 1, -1)
