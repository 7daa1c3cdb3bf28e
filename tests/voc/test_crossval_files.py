"""What a search for CRF parameters leaves as files: table, JSON, heat map."""

import csv
import json

import numpy as np
import pytest

from deeplab_repro.crf.params import CrfParams
from deeplab_repro.files.images import read_image
from deeplab_repro.voc.crossval import Found, OfPresent
from deeplab_repro.voc.crossval_files import write_found, write_heat_map
from deeplab_repro.voc.grid import SearchGrid, bilateral


@pytest.fixture
def found():
    grid = SearchGrid((2.5, 5, 7, 9), (40, 50), (3, 4, 5))
    scores = {p: 60 + p.w1 - p.sigma_beta / 7 for p in grid.settings()}
    around = {CrfParams(9, 45, 2): 69.1}
    rounds = {"1-grid": scores, "2-around": around}
    there = {params: OfPresent(12, 21, score * 21 / 12) for params, score in scores.items()}
    there |= {None: OfPresent(12, 21, 71.0), CrfParams(9, 45, 2): OfPresent(13, 21, 80.5)}
    released = {"DeepLab": CrfParams(5, 50, 3)}
    return Found("val", ["a", "b"], 10, 5, grid, 61.5, released, rounds, there)


def test_numbers_as_files(found, tmp_path):
    write_found(tmp_path, found)
    with open(tmp_path / "crossval.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 25
    for row, (params, score) in zip(rows, found.scores.items(), strict=True):
        assert [float(row[name]) for name in ("w1", "sigma_alpha", "sigma_beta")] == list(
            bilateral(params)
        )
        assert float(row["mean_iou"]) == score
    assert [rows[0]["round"], rows[-1]["round"]] == ["1-grid", "2-around"]
    written = json.loads((tmp_path / "crossval.json").read_text())
    assert written == json.loads(json.dumps(found.as_json()))
    assert written["best"] == {
        **{"w1": 9, "sigma_alpha": 45, "sigma_beta": 2, "mean_iou": 69.1},
        **{"classes_present": 13, "mean_iou_of_present": 80.5},
    }
    assert written["net_classes_present"] == 12
    assert [rows[-1][name] for name in ("classes_present", "mean_iou_of_present")] == ["13", "80.5"]
    assert written["rounds"][0]["best"]["sigma_alpha"] == 40
    assert written["released"]["DeepLab"]["mean_iou"] == found.scores[CrfParams(5, 50, 3)]


def test_the_heat_map(found, tmp_path):
    pytest.importorskip("matplotlib")
    path = tmp_path / "heatmap.png"
    write_heat_map(path, found)
    image = read_image(path)
    red = (image == (255, 0, 0)).all(axis=2)
    assert red.any()  # the frame, in the panel of the largest w1, the first of the second row
    rows, columns = np.nonzero(red)
    assert rows.min() > image.shape[0] / 2
    assert columns.max() < image.shape[1] / 2
