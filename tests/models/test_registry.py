import subprocess
import sys
from pathlib import Path

import pytest

from deeplab_repro.crf.params import CrfParams
from deeplab_repro.errors import ArgumentError, FileError
from deeplab_repro.models import registry as models
from deeplab_repro.models.registry import MODELS, VOC_CLASSES, Weights, get_model


def test_classes():
    assert len(VOC_CLASSES) == 21
    assert (VOC_CLASSES[0], VOC_CLASSES[15], VOC_CLASSES[20]) == (
        "background",
        "person",
        "tvmonitor",
    )


def test_every_model_has_a_folder_and_every_folder_a_model():
    assert sorted(MODELS) == sorted(
        path.name for path in models.prototxt_folder().iterdir() if path.is_dir()
    )
    for name, model in MODELS.items():
        assert model.name == name
        for path in (model.test_prototxt, model.train_prototxt, model.solver_prototxt):
            assert path.is_file()
            assert path.parent == model.folder


@pytest.mark.parametrize(
    ("name", "scores"),
    [
        ("DeepLab", (59.8, 63.74, 66.4)),
        ("DeepLab-4x4", (None, 67.14, None)),
        ("DeepLab-7x7", (64.38, 67.64, 70.3)),
        ("DeepLab-MSc", (61.3, 65.21, 67.1)),
        ("DeepLab-LargeFOV", (62.25, 67.64, 70.3)),
        ("DeepLab-MSc-LargeFOV", (64.21, 68.7, 71.6)),
        ("DeepLab-COCO-LargeFOV", (None, None, None)),
        ("DeepLab-MSc-COCO-LargeFOV", (None, None, None)),
        ("DeepLabv2-VGG16", (68.96, 71.57, None)),
        ("DeepLabv2-ResNet101", (76.35, 77.69, 79.7)),
    ],
)
def test_published_scores(name, scores):
    model = get_model(name)
    assert (model.val_mean_iou, model.val_mean_iou_crf, model.test_mean_iou_crf) == scores


def test_crf_parameters():
    assert get_model("DeepLab-LargeFOV").crf == CrfParams(
        w1=4.0, sigma_alpha=121.0, sigma_beta=5.0, w2=3.0, sigma_gamma=3.0
    )
    assert get_model("DeepLabv2-ResNet101").crf == CrfParams(4.0, 67.0, 3.0, 3.0, 1.0)
    without = [name for name, model in MODELS.items() if model.crf is None]
    assert without == ["DeepLab-4x4", "DeepLab-7x7"]


def test_released_weights():
    deeplab, large_fov = get_model("DeepLab"), get_model("DeepLab-LargeFOV")
    assert deeplab.train_weights == Weights("train_iter_6000.caffemodel", "train_aug")
    assert deeplab.train2_weights == Weights("train2_iter_12000.caffemodel", "trainval_aug")
    assert large_fov.train2_weights == Weights("train2_iter_8000.caffemodel", "trainval_aug")
    for name in ("DeepLabv2-VGG16", "DeepLabv2-ResNet101"):
        v2 = get_model(name)
        assert v2.train_weights == Weights("train_iter_20000.caffemodel", "train_aug")
        assert v2.train2_weights == Weights("train2_iter_20000.caffemodel", "trainval_aug")
    for name in ("DeepLab-4x4", "DeepLab-7x7"):
        assert get_model(name).train_weights is None
        assert get_model(name).train2_weights is None


@pytest.mark.parametrize(
    ("wrong", "nearest"),
    [("deeplab-largefov", "DeepLab-LargeFOV"), ("MSc-LargeFOV", "DeepLab-MSc-LargeFOV")],
)
def test_an_unknown_model_names_the_nearest(wrong, nearest):
    with pytest.raises(ArgumentError, match=f"'{wrong}'.*{nearest}"):
        get_model(wrong)


def test_a_model_like_no_other():
    with pytest.raises(ArgumentError, match="no model 'xyz': deeplab-repro models lists them"):
        get_model("xyz")


def test_installed_files_go_before_the_checkouts(tmp_path, monkeypatch):
    package = tmp_path / "deeplab_repro"
    package.mkdir()
    monkeypatch.setattr(models, "__file__", str(package / "models" / "registry.py"))
    with pytest.raises(FileError, match="missing"):
        models.prototxt_folder()
    (tmp_path / "prototxt").mkdir()
    assert models.prototxt_folder() == (tmp_path / "prototxt").resolve()
    (package / "prototxt").mkdir()
    assert models.prototxt_folder() == (package / "prototxt").resolve()


def test_importing_the_registry_is_cheap():
    code = (
        "import sys, deeplab_repro.models.registry; "
        "print(*{'numpy', 'google.protobuf', 'cv2', 'numba', 'scipy'} & set(sys.modules))"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""
