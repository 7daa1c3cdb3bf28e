"""Figure 5: the curves as numbers, and drawn."""

import csv
import sys

import numpy as np
import pytest
from PIL import Image

from deeplab_repro.models.published import published
from deeplab_repro.paper.figure5 import write_figure5
from deeplab_repro.voc.metrics import trimap_scores


def scores(right):
    return trimap_scores(np.array([[right, 10], [10, right]]))


CURVES = {
    "DeepLab-CRF": {width: scores(10 + width) for width in (40, 1, 20)},
    "of mine, absent": {3: trimap_scores(np.diag([7, 0]))},
}


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def no_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)


@pytest.mark.usefixtures("no_matplotlib")
def test_numbers(tmp_path):
    path, *_ = write_figure5(tmp_path / "trimap", CURVES)
    assert path == tmp_path / "trimap.csv"
    ours = [row for row in rows_of(path) if row["of"] == "ours"]
    assert [(row["curve"], row["width"]) for row in ours] == [
        ("DeepLab-CRF", "1"),
        ("DeepLab-CRF", "20"),
        ("DeepLab-CRF", "40"),
        ("of mine, absent", "3"),
    ]
    assert float(ours[0]["pixel_accuracy"]) == float(ours[0]["class_accuracy"]) == 100 * 11 / 21
    assert float(ours[2]["mean_iou"]) == 100 * 50 / 70
    assert (ours[3]["mean_iou"], ours[3]["class_accuracy"]) == ("", "100.0")


@pytest.mark.usefixtures("no_matplotlib")
def test_the_authors_own_curves_are_beside(tmp_path):
    path, *_ = write_figure5(tmp_path / "trimap", {})
    rows = rows_of(path)
    assert len(rows) == 4 * 40
    assert {row["of"] for row in rows} == {"paper"}
    theirs = published()["figure5"]
    for key in ("mean_iou", "pixel_accuracy", "class_accuracy"):
        found = [float(row[key]) for row in rows if row["curve"] == "DeepLab-MSc-CRF"]
        assert found == theirs[key]["DeepLab-MSc-CRF"]


def test_pictures(tmp_path):
    pytest.importorskip("matplotlib")
    stem = tmp_path / "of.5"  # with_suffix would cut it
    _, png, pdf = write_figure5(stem, CURVES)
    assert (png, pdf) == (tmp_path / "of.5.png", tmp_path / "of.5.pdf")
    picture = np.asarray(Image.open(png).convert("RGB")).astype(int)
    assert picture.shape[1] > 2 * picture.shape[0]
    colours = np.unique(picture.reshape(-1, 3), axis=0)
    orange = [0xFF, 0x7F, 0x0E]  # of the authors' second curve
    assert np.abs(colours - orange).sum(axis=1).min() == 0
    assert pdf.read_bytes().startswith(b"%PDF")
    assert b"CreationDate" not in pdf.read_bytes()  # the same curves make the same file


@pytest.mark.usefixtures("no_matplotlib")
def test_without_matplotlib_the_numbers_alone(tmp_path):
    assert write_figure5(tmp_path / "trimap", CURVES) == [tmp_path / "trimap.csv"]
    assert list(tmp_path.iterdir()) == [tmp_path / "trimap.csv"]
