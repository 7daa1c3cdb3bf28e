"""The paper's tables and figure 5 as rows of cells, each with the paper's number and ours.

Nothing is measured or laid out here: measured scores come in by the paper's names of methods, and
layout.py makes texts of the tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import isnan
from typing import TYPE_CHECKING, Any

from deeplab_repro.models.published import published
from deeplab_repro.paper.figure5 import CURVES

if TYPE_CHECKING:
    from deeplab_repro.voc.metrics import Scores

VAL, TEST = "val", "test"


@dataclass(frozen=True)
class Measured:
    """A method's scores on a split, as measured here.

    scores: over whole images. trimap: by the trimap's width; empty if not asked for. images: how
    many were scored; missing: how many of the split have no result. remark: what the reader of the
    scores has to know.
    """

    scores: Scores
    trimap: Mapping[int, Scores]
    images: int
    missing: int = 0
    remark: str | None = None


@dataclass(frozen=True)
class NotRun:
    """Why a method was not measured."""

    reason: str


Outcomes = Mapping[tuple[str, str], Measured | NotRun]
"""What came of each method and split."""


@dataclass(frozen=True)
class NetFacts:
    """The columns of table 2 that a prototxt determines; lengths in pixels of fc6's input."""

    kernel: tuple[int, int]
    input_stride: int
    receptive_field: int
    parameters: int


@dataclass(frozen=True)
class Cell:
    """The paper's number and ours; None if there is none.

    why_not: why ours is missing, in short before a colon ("not run: ..."). remark: what the reader
    of ours has to know.
    """

    theirs: float | str | None = None
    ours: float | str | None = None
    why_not: str | None = None
    remark: str | None = None

    @property
    def difference(self) -> float | None:
        """Ours minus theirs, where both are numbers."""
        if isinstance(self.theirs, int | float) and isinstance(self.ours, int | float):
            return self.ours - self.theirs
        return None


@dataclass(frozen=True)
class Column:
    """A column's name, its number of decimals, and whether it shows differences."""

    name: str
    digits: int = 0
    is_score: bool = True


@dataclass(frozen=True)
class Table:
    """Rows of cells by name. `heading` says what the names are.

    is_wide: there are too many columns to put ours beside the paper's.
    """

    title: str
    caption: str
    heading: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]
    remarks: tuple[str, ...] = ()
    is_wide: bool = False

    def as_json(self) -> dict[str, Any]:
        """The table as plain data; None for a missing number."""
        return {
            "title": self.title,
            "caption": self.caption,
            "rows": [
                {self.heading: name, "cells": self._cells_as_json(cells)}
                for name, cells in self.rows
            ],
            "remarks": list(self.remarks),
        }

    def _cells_as_json(self, cells: tuple[Cell, ...]) -> list[dict[str, Any]]:
        return [
            {
                "column": column.name,
                "paper": cell.theirs,
                "ours": cell.ours,
                "difference": cell.difference if column.is_score else None,
                "why_not": cell.why_not,
                "remark": cell.remark,
            }
            for column, cell in zip(self.columns, cells, strict=True)
        ]


def all_tables(outcomes: Outcomes, facts: Mapping[str, NetFacts]) -> dict[str, Table]:
    """The paper's tables 1 to 3, the three panels of figure 5, and v2's scores, by a short name."""
    v2, on_voc = published()["v2"], "Mean IOU in percent on PASCAL VOC 2012"
    return {
        "table1": _mean_ious(outcomes, "Table 1", f"{on_voc}.", published()["table1"]),
        "table2": _table2(outcomes, facts),
        "table3": _table3(outcomes),
        **{f"figure5_{key}": _figure5(outcomes, key) for key in CURVES},
        "v2_vgg16": _mean_ious(
            outcomes,
            "DeepLab v2: VGG-16",
            f"{on_voc} (arXiv 1606.00915). DeepLabv2-VGG16 is the paper's ASPP-L.",
            v2["vgg16"],
        ),
        "v2_resnet101": _mean_ious(
            outcomes,
            "DeepLab v2: ResNet-101",
            f"{on_voc} (arXiv 1606.00915). DeepLabv2-ResNet101 has MSC (three scales), COCO "
            "(trained on MS COCO before), Aug (images of random size in training) and ASPP.",
            v2["resnet101"],
        ),
    }


def _mean_ious(
    outcomes: Outcomes, title: str, caption: str, theirs: Mapping[str, Mapping[str, float]]
) -> Table:
    val, test = theirs["val_mean_iou"], theirs["test_mean_iou"]
    methods = [*(name for name in test if name not in val), *val]
    return Table(
        title,
        caption,
        "method",
        (Column("val", 2), Column("test", 1)),
        tuple(
            (
                method,
                (
                    _score(outcomes, method, VAL, val.get(method), _mean_iou),
                    _score(outcomes, method, TEST, test.get(method), _mean_iou),
                ),
            )
            for method in methods
        ),
    )


def _table2(outcomes: Outcomes, facts: Mapping[str, NetFacts]) -> Table:
    def cells(row: Mapping[str, Any]) -> tuple[Cell, ...]:
        net = facts[row["method"]]
        return (
            Cell("x".join(map(str, row["kernel"])), "x".join(map(str, net.kernel))),
            Cell(row["input_stride"], net.input_stride),
            Cell(row["receptive_field"], net.receptive_field),
            Cell(row["parameters_millions"], net.parameters / 1e6),
            _score(outcomes, row["method"], VAL, row["val_mean_iou"], _mean_iou),
            Cell(row["training_images_per_second"]),
        )

    return Table(
        "Table 2",
        "The nets' field of view: kernel and input stride of fc6, its receptive field in pixels, "
        "millions of parameters, all four from the prototxt alone; mean IOU in percent on val; "
        "images a second in training.",
        "method",
        (
            Column("kernel", is_score=False),
            Column("input stride", is_score=False),
            Column("receptive field", is_score=False),
            Column("params, M", 1, is_score=False),
            Column("val mean IOU", 2),
            Column("training speed", 2, is_score=False),
        ),
        tuple((row["method"], cells(row)) for row in published()["table2"]),
        remarks=(
            "The training speed is that of the authors' GPU, a Titan; it is not measured here.",
        ),
    )


def _table3(outcomes: Outcomes) -> Table:
    def iou_of(label: int) -> Callable[[Scores], float]:
        return lambda scores: float(scores.iou[label])

    def cells(method: str, row: Mapping[str, Any]) -> tuple[Cell, ...]:
        of_classes = (
            _score(outcomes, method, TEST, iou, iou_of(label))
            for label, iou in enumerate(row["iou"])
        )
        mean = _score(outcomes, method, TEST, row["mean_iou"], _mean_iou)
        return (*of_classes, mean)

    return Table(
        "Table 3",
        "IOU of every class in percent on PASCAL VOC 2012 test.",
        "method",
        (*(Column(name, 1) for name in published()["classes"]), Column("mean", 1)),
        tuple((method, cells(method, row)) for method, row in published()["table3"].items()),
        is_wide=True,
    )


def _figure5(outcomes: Outcomes, key: str) -> Table:
    what, pick = CURVES[key]
    curves = published()["figure5"][key]
    widths = published()["figure5"]["trimap_width_pixels"]
    # Said once below the table, not in each of its forty rows.
    not_run: dict[str, list[str]] = {}
    for method in curves:
        outcome = outcomes.get((method, VAL))
        if isinstance(outcome, NotRun):
            not_run.setdefault(outcome.reason, []).append(method)

    def cell(method: str, row: int) -> Cell:
        theirs = curves[method][row]
        outcome = outcomes.get((method, VAL))
        if isinstance(outcome, Measured) and widths[row] in outcome.trimap:
            return _cell(theirs, pick(outcome.trimap[widths[row]]), outcome.remark)
        return Cell(theirs)

    return Table(
        f"Figure 5: {what}",
        f"{what[0].upper()}{what[1:]} in percent on val within the trimap: the pixels up to that "
        "width from the void along the true borders.",
        "width",
        tuple(Column(method, 2) for method in curves),
        tuple(
            (str(width), tuple(cell(method, row) for method in curves))
            for row, width in enumerate(widths)
        ),
        remarks=(
            *(f"{', '.join(methods)}: not run: {reason}" for reason, methods in not_run.items()),
            *(_remarks_on_classes(outcomes) if key == "mean_iou" else ()),
        ),
    )


def _remarks_on_classes(outcomes: Outcomes) -> Iterator[str]:
    """What the mean IOU is over the classes that are there, for methods of which some are not."""
    for (method, _), outcome in outcomes.items():
        trimap = outcome.trimap if isinstance(outcome, Measured) else {}
        if any(each.n_present < each.n_labels for each in trimap.values()):
            first, last = min(trimap), max(trimap)
            means = ", ".join(
                f"{trimap[width].mean_iou_of_present:.2f} at width {width} "
                f"({trimap[width].n_present} of {trimap[width].n_labels} classes)"
                for width in dict.fromkeys((first, last))
            )
            yield f"{method}: the mean IOU over the classes that are there is {means}."


def _mean_iou(scores: Scores) -> float:
    return scores.mean_iou


def _score(
    outcomes: Outcomes,
    method: str,
    split: str,
    theirs: float | None,
    pick: Callable[[Scores], float],
) -> Cell:
    """The cell of a method's score; without ours for methods of other groups."""
    outcome = outcomes.get((method, split))
    if isinstance(outcome, Measured):
        return _cell(theirs, pick(outcome.scores), outcome.remark)
    return Cell(theirs, why_not=f"not run: {outcome.reason}" if outcome else None)


def _cell(theirs: float | None, ours: float, remark: str | None) -> Cell:
    if isnan(ours):
        return Cell(theirs, why_not="not defined: a class has no pixels there")
    return Cell(theirs, ours, remark=remark)
