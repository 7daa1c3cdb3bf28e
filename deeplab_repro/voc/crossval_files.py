"""Writes what a search for CRF parameters found: a table, JSON, and a heat map of the grid."""

import csv
import io
import json
import textwrap
from pathlib import Path

import numpy as np

from deeplab_repro.files.marks import write_noted
from deeplab_repro.show.plot import new_figure, write_figure
from deeplab_repro.voc.crossval import Found
from deeplab_repro.voc.grid import bilateral, numbers_text

_MOST_COLUMNS = 3
_CELL = (0.55, 0.38)  # width and height in inches


OUTPUTS = ("crossval.csv", "crossval.json", "heatmap.png")


def write_found(out: Path, found: Found) -> None:
    """Write crossval.csv, every setting with its score, and crossval.json, all numbers.

    Raises FileError if they cannot be written.
    """
    text = io.StringIO(newline="")
    table = csv.writer(text)
    names = ("w1", "sigma_alpha", "sigma_beta", "mean_iou", "classes_present")
    table.writerow(["round", *names, "mean_iou_of_present"])
    for name, tried in found.rounds.items():
        for params, score in tried.items():
            there = found.of_present[params]
            numbers = (*bilateral(params), score, there.present, there.mean_iou)
            table.writerow([name, *numbers])
    write_noted(out / "crossval.csv", text.getvalue().encode())
    write_noted(out / "crossval.json", json.dumps(found.as_json(), indent=1).encode())


def write_heat_map(path: Path, found: Found) -> None:
    """Draw the scores on the grid as a .png: sigma_alpha by sigma_beta, a panel for each w1.

    The grid's best is framed. Raises PlotError without matplotlib, FileError if the file cannot be
    written.
    """
    grid, scores = found.grid, found.scores
    columns = min(len(grid.w1), _MOST_COLUMNS)
    rows = -(-len(grid.w1) // columns)
    width = max(6, columns * (_CELL[0] * len(grid.sigma_alpha) + 0.7) + 1)
    title = [line for text in _title(found) for line in textwrap.wrap(text, int(12 * width))]
    height = rows * (_CELL[1] * len(grid.sigma_beta) + 0.8) + 0.2 + 0.2 * len(title)
    figure = new_figure(width, height)
    figure.suptitle("\n".join(title), fontsize="medium")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in panels[len(grid.w1) :]:
        axes.remove()
    shape = (len(grid.w1), len(grid.sigma_alpha), len(grid.sigma_beta))
    values = np.reshape([scores[params] for params in grid.settings()], shape)
    framed = np.unravel_index(values.argmax(), shape)
    low, high = values.min(), values.max()
    for k, axes in enumerate(panels[: len(grid.w1)]):
        image = axes.imshow(values[k].T, vmin=low, vmax=high, aspect="auto", origin="lower")
        axes.set(title=f"w1 = {grid.w1[k]:.9g}", xlabel="sigma_alpha", ylabel="sigma_beta")
        axes.set_xticks(range(shape[1]), [f"{each:.9g}" for each in grid.sigma_alpha])
        axes.set_yticks(range(shape[2]), [f"{each:.9g}" for each in grid.sigma_beta])
        for (x, y), value in np.ndenumerate(values[k]):
            colour = "black" if value > (low + high) / 2 else "white"
            axes.text(x, y, f"{value:.2f}", color=colour, ha="center", va="center", fontsize=8)
        if k == framed[0]:
            xs = framed[1] + np.array([-0.5, 0.5, 0.5, -0.5, -0.5])
            ys = framed[2] + np.array([-0.5, -0.5, 0.5, 0.5, -0.5])
            axes.plot(xs, ys, color="red", linewidth=2.5, solid_joinstyle="miter")
    figure.colorbar(image, ax=panels[: len(grid.w1)], label="mean IOU (%)")
    write_figure(path, figure)


def _title(found: Found) -> list[str]:
    best = numbers_text(bilateral(found.best))
    texts = [
        f"mean IOU on {len(found.names)} images of {found.split}: net alone {found.net:.2f}, "
        f"best of all {best}: {found.scores[found.best]:.2f}"
    ]
    if found.lacks_classes:
        net, of_best = found.of_present[None], found.of_present[found.best]
        texts.append(
            f"over the classes that are there: net alone {net.mean_iou:.2f} "
            f"({net.present} of {net.labels}), best of all {of_best.mean_iou:.2f} "
            f"({of_best.present} of {of_best.labels})"
        )
    return texts
