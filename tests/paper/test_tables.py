"""The paper's tables filled with ours, and how they are laid out as text."""

import json
from dataclasses import replace

import numpy as np
import pytest

from deeplab_repro.models.published import published
from deeplab_repro.paper.layout import lay_out
from deeplab_repro.paper.reproduce import net_facts
from deeplab_repro.paper.tables import Cell, Column, Measured, NotRun, Table, all_tables
from deeplab_repro.voc.metrics import Scores

OURS = "DeepLab-CRF-LargeFOV"


def scores(mean, of_class=50.0):
    each = np.full(21, of_class)
    return Scores(mean + 20, each, mean + 10, each, mean, 21, mean, mean + 10)


@pytest.fixture(scope="module")
def facts():
    return net_facts()


@pytest.fixture
def tables(facts):
    return lambda outcomes: {name: t.as_json() for name, t in all_tables(outcomes, facts).items()}


def column(table, name):
    return {
        row.get("method", row.get("width")): cell
        for row in table["rows"]
        for cell in row["cells"]
        if cell["column"] == name
    }


# --- what is in them


def test_every_number_of_the_paper_is_there(tables):
    made, paper = tables({}), published()
    for split in ("val", "test"):
        theirs = {name: cell["paper"] for name, cell in column(made["table1"], split).items()}
        given = {name: number for name, number in theirs.items() if number is not None}
        assert given == paper["table1"][f"{split}_mean_iou"]
        for net in ("vgg16", "resnet101"):
            cells = column(made[f"v2_{net}"], split).items()
            given = {name: cell["paper"] for name, cell in cells if cell["paper"] is not None}
            assert given == paper["v2"][net][f"{split}_mean_iou"]
    for row in made["table2"]["rows"]:
        (theirs,) = (each for each in paper["table2"] if each["method"] == row["method"])
        _, kernel, *others = theirs.values()
        expected = ["x".join(map(str, kernel)), *others]
        assert [cell["paper"] for cell in row["cells"]] == expected
    for row in made["table3"]["rows"]:
        theirs = paper["table3"][row["method"]]
        assert [cell["paper"] for cell in row["cells"]] == [*theirs["iou"], theirs["mean_iou"]]
    for name in ("mean_iou", "pixel_accuracy", "class_accuracy"):
        for method, curve in paper["figure5"][name].items():
            cells = column(made[f"figure5_{name}"], method)
            assert [cell["paper"] for cell in cells.values()] == curve


def test_the_prototxt_files_give_the_papers_columns(tables):
    for row in tables({})["table2"]["rows"]:
        kernel, stride, view, parameters, *_ = row["cells"]
        for cell in (kernel, stride, view):
            assert cell["ours"] == cell["paper"]
        assert round(parameters["ours"], 1) == parameters["paper"]


def test_a_result_fills_the_cells_of_its_method_and_no_others(tables):
    result = Measured(scores(66.5), {}, 1449, remark="a remark")
    made = tables({(OURS, "val"): result})
    for cells in (column(made["table1"], "val"), column(made["table2"], "val mean IOU")):
        cell = cells.pop(OURS)
        assert (cell["ours"], cell["remark"]) == (66.5, "a remark")
        assert cell["difference"] == pytest.approx(66.5 - 67.64)
        assert all(other["ours"] is None for other in cells.values())
    assert all(cell["ours"] is None for cell in column(made["table1"], "test").values())


def test_table3_has_every_class(tables):
    of_class = np.arange(21.0)
    result = Measured(Scores(0.0, of_class, 0.0, of_class, 71.0, 21, 71.0, 0.0), {}, 1456)
    rows = {
        row["method"]: row["cells"] for row in tables({(OURS, "test"): result})["table3"]["rows"]
    }
    assert [cell["ours"] for cell in rows[OURS]] == [*of_class, 71.0]
    assert rows[OURS][0]["difference"] == pytest.approx(-92.6)
    assert all(cell["ours"] is None for cell in rows["DeepLab-CRF"])


def test_figure5_takes_each_curve_at_its_widths(tables):
    result = Measured(scores(60.0), {1: scores(30.0), 40: scores(55.0)}, 1449)
    made = tables({("DeepLab", "val"): result})
    for name, ours in (("mean_iou", 30), ("pixel_accuracy", 50), ("class_accuracy", 40)):
        cells = column(made[f"figure5_{name}"], "DeepLab")
        assert cells["1"]["ours"] == ours
        assert cells["2"]["ours"] is None
        assert cells["40"]["ours"] == ours + 25


def test_why_there_is_nothing_of_ours(tables):
    missing = NotRun("w.caffemodel is missing")
    made = tables({("DeepLab-CRF", "val"): missing, ("DeepLab", "val"): missing})
    assert column(made["table1"], "val")["DeepLab"]["why_not"] == f"not run: {missing.reason}"
    assert made["figure5_mean_iou"]["remarks"] == [
        f"DeepLab, DeepLab-CRF: not run: {missing.reason}"
    ]
    # Other groups' methods are none of ours to run.
    assert column(made["table1"], "test")["FCN-8s"]["why_not"] is None


def test_a_score_that_is_not_defined_is_not_a_number_of_json(tables):
    result = Measured(scores(60.0), {7: scores(np.nan)}, 3)
    made = tables({("DeepLab", "val"): result})
    cell = column(made["figure5_mean_iou"], "DeepLab")["7"]
    assert cell["ours"] is None
    assert cell["why_not"].startswith("not defined: ")
    json.dumps(made, allow_nan=False)


def test_trimaps_that_lack_classes_have_another_mean(tables):
    lacking = {
        width: replace(scores(np.nan), n_present=9, mean_iou_of_present=44.5)
        for width in (1, 20, 40)
    }
    made = tables({("DeepLab", "val"): Measured(scores(60.0), lacking, 3)})
    assert made["figure5_mean_iou"]["remarks"] == [
        "DeepLab: the mean IOU over the classes that are there is 44.50 at width 1 (9 of 21 "
        "classes), 44.50 at width 40 (9 of 21 classes)."
    ]
    assert made["figure5_pixel_accuracy"]["remarks"] == []


# --- how they are laid out


def table(*rows, is_wide=False, is_score=True):
    columns = (Column("a", 1, is_score), Column("b", 2))
    return Table("T", "C", "method", columns, rows, ("a remark",), is_wide)


NOTHING = Cell(1.0)


def test_ours_beside_theirs_with_signs_and_notes():
    texts = lay_out(
        table(
            ("one", (Cell(60.0, 61.25, remark="few images"), Cell(2.0, 1.999))),
            ("two", (Cell(60.0, 59.0), Cell(why_not="not run: no weights"))),
            ("three", (Cell(60.0, 59.96, remark="few images"), Cell(2.0, why_not="not run: no"))),
        )
    )
    assert texts.heading == (
        ("method", ""),
        *(("a", whose) for whose in ("paper", "ours", "diff.")),
        *(("b", whose) for whose in ("paper", "ours", "diff.")),
    )
    assert texts.lines == (
        ("one", "60.0", "61.2 [1]", "+1.2", "2.00", "2.00", "0.00"),
        ("two", "60.0", "59.0", "-1.0", "", "not run [2]", ""),
        ("three", "60.0", "60.0 [1]", "0.0", "2.00", "not run [3]", ""),
    )
    assert texts.notes == (
        "[1] few images",
        "[2] not run: no weights",
        "[3] not run: no",
        "a remark",
    )


def test_columns_with_nothing_in_them_are_left_out():
    texts = lay_out(table(("one", (NOTHING, Cell(2.0, 2.5))), ("two", (NOTHING, NOTHING))))
    assert [whose for _, whose in texts.heading] == ["", "paper", "paper", "ours", "diff."]
    facts = lay_out(table(("one", (Cell(3, 3), Cell("3x3", "3x3"))), is_score=False))
    assert [whose for _, whose in facts.heading] == ["", "paper", "ours", "paper", "ours"]


def test_ours_below_theirs_in_a_wide_table():
    reason = "not run: no weights"
    texts = lay_out(
        table(
            ("one", (Cell(60.0, 61.0), Cell(2.0, 1.5))),
            ("two", (Cell(1.0, why_not=reason), Cell(1.0, why_not=reason))),
            ("three", (NOTHING, Cell())),
            is_wide=True,
        )
    )
    assert [name for name, _ in texts.heading] == ["method", "", "a", "b"]
    assert texts.lines == (
        ("one", "paper", "60.0", "2.00"),
        ("", "ours", "61.0", "1.50"),
        ("", "diff.", "+1.0", "-0.50"),
        ("two", "paper", "1.0", "1.00"),
        ("", "ours: not run [1]", "", ""),
        ("three", "paper", "1.0", ""),
    )
    assert texts.notes == (f"[1] {reason}", "a remark")
