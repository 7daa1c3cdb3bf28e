"""deeplab-repro models: the table, one model's page, and where weights are."""

import json
import os
import re

import pytest

from deeplab_repro.models.fetched import Fetched, remember
from deeplab_repro.models.registry import MODELS

NAME = "DeepLab-LargeFOV"


@pytest.fixture
def fetched(tmp_path, monkeypatch):
    """What counts as fetched: a file of five bytes."""
    monkeypatch.setenv("DEEPLAB_REPRO_HOME", str(tmp_path / "home"))
    (tmp_path / "home" / NAME).mkdir(parents=True)
    path = tmp_path / "train_iter_6000.caffemodel"
    path.write_bytes(b"12345")
    remember(Fetched(NAME, str(path), 5, "abc", None, "train_aug"))
    return path


def test_the_table(command, fetched, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    status, out, err = command("models")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert max(len(line) for line in lines if str(fetched) not in line) <= 80
    rows = {line.split()[0]: re.split(r"  +", line.strip()) for line in lines if " DeepLab" in line}
    assert rows[NAME] == [NAME, "fetched", "20.5M", "224", "8", "62.25", "67.64"]
    assert rows["DeepLab-4x4"] == ["DeepLab-4x4", "not released", "65.1M", "224", "8", "67.14"]
    assert rows["DeepLabv2-VGG16"][1] == "to be fetched"
    assert re.search(r"ToyVOC-LargeFOV +shipped +0.3M", out)
    assert f"{NAME}: {fetched}" in lines


def test_json_has_all_models(command, fetched):
    models = {facts["name"]: facts for facts in json.loads(command("models", "--json")[1])}
    assert list(models) == list(MODELS)
    for name, facts in models.items():
        model = MODELS[name]
        assert facts["val_mean_iou_crf"] == model.val_mean_iou_crf
        assert all(os.path.exists(path) for path in facts["prototxt"].values())
        assert facts["knows"] == ("drawings" if name.startswith("ToyVOC") else "photos")
    assert models["ToyVOC-LargeFOV"]["parameters"] == 323_645
    assert models["DeepLabv2-ResNet101"]["field_of_view"] is None
    train, train2 = models[NAME]["weights"]
    assert (train["state"], train["path"]) == ("fetched", str(fetched))
    assert (train2["state"], train2["path"]) == ("not here", None)
    assert json.loads(command("models", NAME, "--json")[1]) == models[NAME]


def test_one_model(command, fetched):
    status, out, err = command("models", NAME)
    assert (status, err) == (0, "")
    for line in (
        "parameters     20,505,429 (20.5M)",
        "CRF            w1 4, sigma_alpha 121, sigma_beta 5, w2 3, sigma_gamma 3",
        "val mean IOU   62.25 alone, as published",
        "in table 2     kernel 3x3, input stride 12, field of view 224, 20.5M parameters",
        f"test file      {MODELS[NAME].test_prototxt}",
        f"weights        {fetched}, of train_aug",
        "get them by    deeplab-repro fetch DeepLab-LargeFOV --train2",
        "run it by      deeplab-repro segment photo.jpg --model DeepLab-LargeFOV",
    ):
        assert line in out.splitlines()
    assert "deeplab-repro fetch DeepLab-LargeFOV\n" not in out
    fetched.unlink()
    out = command("models", NAME)[1]
    assert f"weights        {fetched}: was fetched as {NAME}'s weights, but is gone" in out
    assert "get them by    deeplab-repro fetch DeepLab-LargeFOV\n" in out


def test_the_commands_that_it_names_are_right(command):
    """They parse, and give what the model needs and the command cannot know."""
    from deeplab_repro.cli import all_arguments
    from deeplab_repro.cli.parser import parse

    for name in (NAME, "DeepLab-4x4", "DeepLab-COCO-LargeFOV", "ToyVOC-LargeFOV"):
        model, out = MODELS[name], command("models", name)[1]
        commands = re.findall(r"by +deeplab-repro (.*)", out)
        assert len(commands) == (3 if model.train_weights else 1)
        for line in commands:
            read = parse(all_arguments(), line.split())
        assert (read.crf is None) == (model.crf is None)
        assert (read.weights is None) == bool(model.train_weights or model.shipped_weights)


def test_a_model_that_there_is_not(refused):
    assert "did you mean DeepLab-LargeFOV" in refused("models", "Deeplab-LargeFOW")
