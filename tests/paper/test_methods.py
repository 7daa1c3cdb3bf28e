"""What the paper gives for a method."""

import pytest

from deeplab_repro.errors import ArgumentError
from deeplab_repro.models.registry import MODELS
from deeplab_repro.paper.methods import check_method, method_of, published_scores


def test_methods_of_models():
    assert method_of("DeepLab-LargeFOV", with_crf=True) == "DeepLab-CRF-LargeFOV"
    assert method_of("DeepLab-LargeFOV", with_crf=False) == "DeepLab-LargeFOV"
    assert method_of("DeepLab-COCO-LargeFOV", with_crf=True) is None
    assert method_of("somebody's", with_crf=False) is None
    for model in MODELS.values():
        for split, theirs in (("val", model.val_mean_iou_crf), ("test", model.test_mean_iou_crf)):
            found = published_scores(method_of(model.name, True), split)
            assert (found and found.mean_iou) == theirs


def test_scores_on_val():
    found = published_scores("DeepLab-MSc", "val")
    assert (found.method, found.mean_iou) == ("DeepLab-MSc", 61.3)
    assert found.iou == (None,) * 21
    assert published_scores("DeepLab-CRF-4x4", "val").mean_iou == 67.14  # table 2's alone
    assert published_scores("DeepLab-4x4", "val") is None


def test_scores_on_test():
    found = published_scores("DeepLab-CRF", "test")
    assert (found.mean_iou, found.iou[0], found.iou[20]) == (66.4, 92.1, 56.2)
    assert published_scores("DeepLab", "test") is None


def test_no_scores():
    assert published_scores(None, "val") is None
    assert published_scores("DeepLab-CRF", "train") is None


def test_names():
    for name in ("DeepLab", "DeepLab-CRF-4x4", "MSRA-CFM"):
        check_method(name)
    with pytest.raises(
        ArgumentError, match=r"no method 'DeepLab-LargeFOV-CRF'.* DeepLab-CRF-LargeFOV"
    ):
        check_method("DeepLab-LargeFOV-CRF")
    with pytest.raises(ArgumentError, match=r"tables: it has .*, DeepLab-7x7, "):
        check_method("???")
