"""The paper's figure 5: scores near borders, our curves beside the authors'."""

import csv
import io
from collections.abc import Callable, Mapping
from math import isnan
from pathlib import Path
from typing import Any

from deeplab_repro.files.marks import write_noted
from deeplab_repro.models.published import published
from deeplab_repro.show.plot import COLOURS, MARKERS, new_figure, write_figure
from deeplab_repro.voc.metrics import Scores

CURVES: dict[str, tuple[str, Callable[[Scores], float]]] = {
    "mean_iou": ("mean IOU", lambda scores: scores.mean_iou),
    "pixel_accuracy": ("pixel accuracy", lambda scores: scores.pixel_accuracy),
    "class_accuracy": ("mean class accuracy", lambda scores: scores.mean_class_accuracy),
}
"""The figure's panels by their key in `published()["figure5"]`: title, and the score shown."""

# A line through fewer points has a marker at each; another one at every eighth.
_FEW_POINTS, _STEP = 10, 8

_Points = dict[int, tuple[float, ...]]


def write_curves(path: Path, curves: Mapping[str, Mapping[int, Scores]]) -> None:
    """Write our curves and the authors' four as CSV, atomically.

    curves: for each name the scores by the trimap's width in pixels, as `trimap_scores` gives them.
    The columns are the curve, whose it is, the width, the scores of the three panels in percent,
    empty if not defined, and of ours how many classes are in the trimap and the mean IOU over them.

    Raises FileError if the file cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("curve", "of", "width", *CURVES, "classes_present", "mean_iou_of_present"))
    for of, by_name in (("ours", _ours(curves)), ("paper", _authors())):
        for name, points in by_name.items():
            for width, values in points.items():
                shown = ["" if isnan(value) else repr(value) for value in values]
                there = curves[name][width] if of == "ours" else None
                of_these = (there.n_present, repr(there.mean_iou_of_present)) if there else ("", "")
                writer.writerow((name, of, width, *shown, *of_these))
    write_noted(path, text.getvalue().encode())


def draw_curves(stem: Path, curves: Mapping[str, Mapping[int, Scores]]) -> list[Path]:
    """Draw the curves that `write_curves` writes as <stem>.png and .pdf; their paths.

    A curve with the name of one of the authors' four, as DeepLab-CRF, has its colour and marker;
    theirs are dashed, with hollow markers. Where the mean IOU is not defined, that over the classes
    in the trimap is drawn with dots.

    Raises PlotError without matplotlib, FileError if a file cannot be written.
    """
    figure = new_figure(13, 4.8)
    ours, authors = _ours(curves), _authors()
    numbers = {name: number for number, name in enumerate({**authors, **ours})}
    panels = figure.subplots(1, len(CURVES))
    for index, (axes, (title, _)) in enumerate(zip(panels, CURVES.values(), strict=True)):
        for of, by_name in (("paper", authors), ("ours", ours)):
            for name, points in by_name.items():
                axes.plot(
                    list(points),
                    [values[index] for values in points.values()],
                    label=f"{name} ({of})" if name in authors else name,
                    **_look(numbers[name], "--" if of == "paper" else "-", len(points)),
                )
        for name, scores in curves.items() if index == 0 else ():
            if any(isnan(each.mean_iou) for each in scores.values()):
                axes.plot(
                    sorted(scores),
                    [scores[width].mean_iou_of_present for width in sorted(scores)],
                    label=f"{name}: over the classes that are there",
                    **_look(numbers[name], ":", len(scores)),
                )
        axes.set(title=title, xlabel="trimap width (pixels)", ylabel="percent")
        axes.grid(alpha=0.3)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    paths = [stem.with_name(f"{stem.name}.{kind}") for kind in ("png", "pdf")]
    for path in paths:
        write_figure(path, figure)
    return paths


def _look(number: int, style: str, n_points: int) -> dict[str, Any]:
    """How the curve of a method is drawn: matplotlib's options for a line."""
    colour = COLOURS[number % len(COLOURS)]
    return {
        "linestyle": style,
        "linewidth": 1.2 if style == "--" else 2.2,
        "color": colour,
        "marker": MARKERS[number % len(MARKERS)],
        "markerfacecolor": colour if style == "-" else "white",
        # Where curves run close together, their markers stand side by side.
        "markevery": 1 if n_points < _FEW_POINTS else (2 * number % _STEP, _STEP),
    }


def _ours(curves: Mapping[str, Mapping[int, Scores]]) -> dict[str, _Points]:
    return {
        name: {
            width: tuple(pick(scores[width]) for _, pick in CURVES.values())
            for width in sorted(scores)
        }
        for name, scores in curves.items()
    }


def _authors() -> dict[str, _Points]:
    figure = published()["figure5"]
    widths = figure["trimap_width_pixels"]
    return {
        method: dict(
            zip(widths, zip(*(figure[key][method] for key in CURVES), strict=True), strict=True)
        )
        for method in figure["mean_iou"]
    }
