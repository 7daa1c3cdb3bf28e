"""deeplab-repro paper: what it prints and writes, and what it refuses."""

import json
import os

import pytest

from deeplab_repro.files.images import read_image
from deeplab_repro.files.marks import NOTE
from deeplab_repro.files.pictures import write_image
from deeplab_repro.toy.dataset import write_dataset
from deeplab_repro.toy.scenes import make_scene

FILES = {"index.html", "paper.md", "paper.json", NOTE}


@pytest.fixture
def scene(tmp_path):
    path = tmp_path / "scene.png"
    write_image(path, make_scene(0, 0, "val").image[60:156, 40:136])
    return path


def test_with_nothing_it_checks_table_2(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, err = command("paper")
    assert status == 0
    lines = {line.split()[0]: line.split() for line in out.splitlines() if line.strip()}
    both = [each for each in ("3x3", "12", "224", "20.5") for _ in ("paper", "ours")]
    assert lines["DeepLab-CRF-LargeFOV"][1:9] == both
    assert lines["DeepLab-CRF"][9:] == ["63.74", "not", "run", "[1]", "2.90"]
    assert "0 of the papers' 21 scores" in out
    assert "paper/index.html" in err
    assert {path.name for path in (tmp_path / "paper").iterdir()} == FILES


def test_json(command, tmp_path):
    status, out, _ = command("paper", "--json", "--out", tmp_path / "out")
    assert status == 0
    assert json.loads(out) == json.loads((tmp_path / "out" / "paper.json").read_bytes())


def test_with_a_data_set_it_looks_for_the_weights(command, tmp_path):
    write_dataset(tmp_path / "voc", 0, 1)
    (tmp_path / "models" / "DeepLab").mkdir(parents=True)
    broken = tmp_path / "models" / "DeepLab" / "train_iter_6000.caffemodel"
    broken.write_bytes(b"\0 no caffemodel")
    status, out, err = command(
        "paper", "--voc", tmp_path / "voc", "--models", tmp_path / "models", "--out", tmp_path
    )
    assert status == 0
    assert "Table 1" in out
    assert "index.html" in err
    named = (tmp_path / "paper.md").read_text()
    assert f"not run: {broken}: broken" in named
    assert str(tmp_path / "models" / "DeepLab-MSc" / "train_iter_6000.caffemodel") in named


def test_figure2(command, scene, tmp_path, monkeypatch):
    arguments = ("paper", "--figure2", scene, "--model", "ToyVOC-LargeFOV", "--out", tmp_path / "f")
    status, out, _ = command(*arguments)
    target = tmp_path / "f" / "figure2_scene.png"
    assert status == 0
    assert out == f"{target}: background, sofa, bottle\n"
    assert read_image(target).shape[1] > 1000
    monkeypatch.setattr("deeplab_repro.paper.figure2.MOST_LABELS", 1)
    status, out, err = command(*arguments, "--json")
    expected = {"figure2": str(target), "labels": ["background"], "left_out": ["sofa", "bottle"]}
    assert json.loads(out) == expected
    assert "left out: sofa, bottle" in err


def test_refused(refused, tmp_path):
    file, voc, missing = tmp_path / "file", tmp_path / "voc", tmp_path / "missing"
    file.write_text("")
    write_dataset(voc, 0, 1)
    out = ("--out", tmp_path / "out")
    assert "--models is given without --voc" in refused("paper", "--models", tmp_path, *out)
    assert "--voc is given without --models" in refused("paper", "--voc", voc, *out)
    both = ("--voc", voc, "--models", missing)
    assert f"{missing}: is no folder" in refused("paper", *both, *out)
    assert f"{file}: is no folder" in refused("paper", "--voc", voc, "--models", file, *out)
    for folder in (missing, file):
        both = ("--voc", folder, "--models", tmp_path)
        assert f"{folder}: has no ImageSets/Segmentation" in refused("paper", *both, *out)
    assert "expected a folder for the results" in refused("paper", "--out", file)
    assert "is for --figure2" in refused("paper", "--model", "DeepLab", *out)
    assert "is for --figure2" in refused("paper", "--weights", file, *out)
    assert not (tmp_path / "out").exists()


def test_figure2_refused(refused, scene, tmp_path):
    file, missing = tmp_path / "file.jpg", tmp_path / "missing.jpg"
    file.write_text("no picture")
    out, toy = ("--out", tmp_path / "out"), ("--model", "ToyVOC-LargeFOV")
    assert "takes neither" in refused("paper", "--figure2", scene, "--voc", tmp_path, *out)
    assert "needs weights" in refused("paper", "--figure2", scene, *out)
    assert "cannot be read" in refused("paper", "--figure2", missing, *toy, *out)
    assert "is not an image" in refused("paper", "--figure2", file, *toy, *out)
    assert "is a folder" in refused("paper", "--figure2", tmp_path, *toy, *out)
    assert "expected a folder" in refused("paper", "--figure2", scene, *toy, "--out", file)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_no_permission(refused, tmp_path):
    (tmp_path / "out").mkdir(mode=0o500)
    assert "cannot be written to" in refused("paper", "--out", tmp_path / "out")
