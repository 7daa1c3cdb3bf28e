"""Figure 5: the curves as numbers, and drawn."""

import csv

import numpy as np
import pytest
from PIL import Image

from deeplab_repro.models.published import published
from deeplab_repro.paper import figure5
from deeplab_repro.paper.figure5 import draw_curves, write_curves
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


def test_numbers(tmp_path):
    write_curves(tmp_path / "trimap.csv", CURVES)
    ours = [row for row in rows_of(tmp_path / "trimap.csv") if row["of"] == "ours"]
    assert [(row["curve"], row["width"]) for row in ours] == [
        ("DeepLab-CRF", "1"),
        ("DeepLab-CRF", "20"),
        ("DeepLab-CRF", "40"),
        ("of mine, absent", "3"),
    ]
    assert float(ours[0]["pixel_accuracy"]) == float(ours[0]["class_accuracy"]) == 100 * 11 / 21
    assert float(ours[2]["mean_iou"]) == 100 * 50 / 70
    assert (ours[3]["mean_iou"], ours[3]["class_accuracy"]) == ("", "100.0")
    assert (ours[3]["classes_present"], ours[3]["mean_iou_of_present"]) == ("1", "100.0")


def test_the_authors_own_curves_are_beside(tmp_path):
    write_curves(tmp_path / "trimap.csv", {})
    rows = rows_of(tmp_path / "trimap.csv")
    assert len(rows) == 4 * 40
    assert {row["of"] for row in rows} == {"paper"}
    theirs = published()["figure5"]
    for key in ("mean_iou", "pixel_accuracy", "class_accuracy"):
        found = [float(row[key]) for row in rows if row["curve"] == "DeepLab-MSc-CRF"]
        assert found == theirs[key]["DeepLab-MSc-CRF"]


def test_pictures(tmp_path):
    pytest.importorskip("matplotlib")
    stem = tmp_path / "of.5"  # with_suffix would cut it
    png, pdf = draw_curves(stem, CURVES)
    assert (png, pdf) == (tmp_path / "of.5.png", tmp_path / "of.5.pdf")
    picture = np.asarray(Image.open(png).convert("RGB")).astype(int)
    assert picture.shape[1] > 2 * picture.shape[0]
    colours = np.unique(picture.reshape(-1, 3), axis=0)
    orange = [0xE6, 0x9F, 0x00]  # of the authors' second curve
    assert np.abs(colours - orange).sum(axis=1).min() == 0
    assert pdf.read_bytes().startswith(b"%PDF")


def test_curves_differ_without_their_colours(tmp_path, monkeypatch):
    """In grey print, and for the colour-blind: by dashes and markers, in the legend too."""
    pytest.importorskip("matplotlib")
    drawn = []
    monkeypatch.setattr(figure5, "write_figure", lambda _, figure: drawn.append(figure))
    draw_curves(tmp_path / "trimap", {**CURVES, "another": CURVES["of mine, absent"]})
    for axes in drawn[0].axes:
        looks = {
            line.get_label(): (
                line.get_linestyle(),
                line.get_marker(),
                line.get_markerfacecolor() == "white",
            )
            for line in axes.lines
        }
        assert len(set(looks.values())) == len(looks) >= 4 + len(CURVES)
