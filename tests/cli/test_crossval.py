"""deeplab-repro crossval: what it prints and writes, and every kind of bad input."""

import json
import sys

import numba
import numpy as np
import pytest

from deeplab_repro.errors import ArgumentError
from deeplab_repro.files.pictures import write_image, write_labels
from deeplab_repro.net.scores import softmax

ONE = ("--w1", "4", "--sigma-alpha", "10", "--sigma-beta", "5", "--iterations", "1")


@pytest.fixture
def crossval(tmp_path, photo, monkeypatch):
    """The arguments for two images with maps, of three classes, and results in out/."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(numba, "get_num_threads", lambda: 1)
    for folder in ("data/ImageSets/Segmentation", "data/JPEGImages", "data/SegmentationClass"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "classes.txt").write_text("sky\nroad\ncar\n")
    (tmp_path / "data/ImageSets/Segmentation/val.txt").write_text("a\nb\n")
    (tmp_path / "maps").mkdir()
    for seed, name in enumerate("ab"):
        write_image(f"data/JPEGImages/{name}.jpg", photo(40, 50, seed))
        scores = np.random.default_rng(seed).standard_normal((3, 40, 50)).astype(np.float32)
        np.save(f"maps/{name}.npy", softmax(scores))
        write_labels(f"data/SegmentationClass/{name}.png", scores.argmax(axis=0).astype(np.uint8))
    where = ("--voc", "data", "--split", "val", "--classes", "classes.txt", "--scores", "maps")
    return ("crossval", *where, "--out", "out", "--workers", "0")


def test_tables_and_files(command, crossval, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        "deeplab_repro.voc.crossval_files.write_heat_map", lambda path, _: drawn.append(str(path))
    )
    more = ("--model", "DeepLab", "--model", "DeepLab-LargeFOV")
    status, out, err = command(*crossval, *ONE, *more, "--sigma-beta", "5:1:6")
    assert status == 0
    lines = [line.split() for line in out.splitlines() if line.strip()]
    assert " ".join(lines[0]) == "mean IOU on 2 images of val, seed 10"
    found = json.loads((tmp_path / "out/crossval.json").read_text())
    summary = {tuple(line[:-1]): line[-1] for line in lines}
    assert summary["net", "alone"] == f"{found['net_mean_iou']:.2f}" == "100.00"
    for name, text in (("DeepLab", "5,50,10"), ("DeepLab-LargeFOV", "4,121,5")):
        score = f"{found['released'][name]['mean_iou']:.2f}"
        assert summary["released:", name, text] == score
    assert {"5.0", "6.0"} <= {str(each["sigma_beta"]) for each in found["settings"]}
    best = ",".join(f"{found['best'][name]:g}" for name in ("w1", "sigma_alpha", "sigma_beta"))
    assert lines[-1] == ["best:", "--crf", best]
    top = [line for line in lines if line[0] == "1"]
    assert top == [["1", *best.split(","), f"{found['best']['mean_iou']:.2f}"]]
    assert (tmp_path / "out/crossval.csv").is_file()
    assert drawn == ["out/heatmap.png"]
    assert err == "deeplab-repro: all settings are in out\n"


def test_json_and_no_plot(command, crossval, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    status, out, err = command(*crossval, *ONE, "--images", "1", "--seed", "3", "--json")
    assert status == 0
    assert json.loads(out) == json.loads((tmp_path / "out/crossval.json").read_text())
    assert json.loads(out)["images"] == 1
    assert "heatmap.png is not drawn: matplotlib is not installed: pip install" in err
    assert not (tmp_path / "out/heatmap.png").exists()


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("5,10", (5.0, 10.0)),
        ("40:20:100", (40.0, 60.0, 80.0, 100.0)),
        ("1:0.1:1.3", (1.0, 1.1, 1.2, 1.3)),
        ("3:2:4", (3.0,)),
    ],
)
def test_ranges_are_matlabs(refused, crossval, monkeypatch, text, values):
    def search(devkit, split, scores, out, grid, **_):  # noqa: ARG001
        raise ArgumentError(f"w1 is {grid.w1}")

    monkeypatch.setattr("deeplab_repro.voc.crossval.search", search)
    assert refused(*crossval, *ONE, "--w1", text).endswith(f"w1 is {values}\n")


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("--w1", "5:x:7"), "'5:x:7' is neither numbers as 5,10 nor first:step:last"),
        (("--w1", "1:2"), "is neither numbers"),
        (("--w1", ""), "is neither numbers"),
        (("--w1", "nan"), "is neither numbers"),
        (("--sigma-beta", "5:-1:3"), "is not first:step:last of 1 to"),
        (("--sigma-beta", "5:0:3"), "is not first:step:last of 1 to"),
        (("--sigma-alpha", "1:1e-9:1000"), "is not first:step:last of 1 to"),
        (("--sigma-alpha", "5:1:3"), "is not first:step:last of 1 to"),
        (("--w1", "10,5"), "w1 is 10,5, expected numbers that increase"),
        (("--sigma-alpha", "0:10:50"), "sigma_alpha is 0,10,20,30,40,50, expected"),
        (("--model", "nothing"), "there is no model 'nothing'"),
        (("--model", "DeepLab-4x4"), "no CRF parameters are published for DeepLab-4x4"),
        (("--images", "0"), "'0' is not a whole number from 1"),
        (("--split", "test"), "the splits here are val"),
        (("--scores", "nowhere"), "nowhere: is not a folder"),
        (("--out", "classes.txt"), "classes.txt: is a file, expected a folder"),
    ],
)
def test_bad_input(refused, crossval, arguments, part):
    assert part in refused(*crossval, *ONE, *arguments)


def test_run_again(command, crossval):
    _, out, err = command(*crossval, *ONE)
    assert "left to do" not in err
    status, again, err = command(*crossval, *ONE)
    assert (status, again) == (0, out)
    assert "nothing was left to do: an earlier run in out has counted all settings" in err


def test_settings_that_score_alike(command, crossval):
    told = "All settings score alike: these images say nothing about the CRF."
    assert told in command(*crossval, *ONE, "--iterations", "0", "--model", "DeepLab")[1]


def test_another_search_in_the_same_folder(command, refused, crossval):
    assert command(*crossval, *ONE)[0] == 0
    assert "was made with seed 10, not with 11" in refused(*crossval, *ONE, "--seed", "11")
