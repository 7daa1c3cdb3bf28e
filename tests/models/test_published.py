import json
from pathlib import Path

import pytest

from deeplab_repro.models.published import published

REFERENCE = Path(__file__).resolve().parents[3] / "shared" / "reference" / "paper.json"


def test_every_number_is_the_papers():
    if not REFERENCE.is_file():
        pytest.skip(f"nothing to compare with: {REFERENCE} is absent")
    reference = json.loads(REFERENCE.read_text(encoding="utf-8"))
    paper = published()
    crf = dict(reference.pop("released_crf_parameters"))
    assert "(w2, sigma_gamma) is (3, 3) in every model; 10 iterations" in crf.pop("note")
    ours = {
        "source": paper["source"],
        "classes": paper["classes"],
        "table1_val_mean_iou": paper["table1"]["val_mean_iou"],
        "table1_test_mean_iou": paper["table1"]["test_mean_iou"],
        "table2": paper["table2"],
        "table3_test_iou": {
            method: {
                **dict(zip(paper["classes"], row["iou"], strict=True)),
                "mean": row["mean_iou"],
            }
            for method, row in paper["table3"].items()
        },
        "figure5_trimap_width_pixels": paper["figure5"]["trimap_width_pixels"],
        "figure5": {
            measure: curves
            for measure, curves in paper["figure5"].items()
            if measure != "trimap_width_pixels"
        },
        "claims": paper["claims"],
    }
    assert ours == reference
    assert paper["crf_parameters"]["released"] == crf
    constants = [paper["crf_parameters"][key] for key in ("w2", "sigma_gamma", "iterations")]
    assert constants == [3, 3, 10]


def test_tables_agree_with_each_other():
    paper = published()
    table1 = paper["table1"]
    for row in paper["table2"]:
        if row["method"] in table1["val_mean_iou"]:
            assert row["val_mean_iou"] == table1["val_mean_iou"][row["method"]]
    assert {m: row["mean_iou"] for m, row in paper["table3"].items()} == table1["test_mean_iou"]


def test_class_scores_average_to_the_mean():
    for method, row in published()["table3"].items():
        if None not in row["iou"]:
            assert sum(row["iou"]) / 21 == pytest.approx(row["mean_iou"], abs=0.051), method


def test_curves_have_a_score_for_every_width():
    figure5 = dict(published()["figure5"])
    widths = figure5.pop("trimap_width_pixels")
    assert widths == list(range(1, 41))
    for curves in figure5.values():
        assert all(len(curve) == len(widths) for curve in curves.values())
        assert all(curve == sorted(curve) for curve in curves.values())
