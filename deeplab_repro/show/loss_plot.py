"""Plot a training's loss curve."""

from pathlib import Path

import numpy as np

from deeplab_repro.show.plot import new_figure, write_figure
from deeplab_repro.train.curve import read_curve

_LIGHT, _DARK = "#A6C8E0", "#00406B"


def plot_losses(curve: Path) -> Path:
    """Plot a loss curve's CSV as a PNG of the same name; returns its path.

    Raises PlotError without matplotlib, FormatError for a file that is not a loss curve, and
    FileError if the PNG cannot be written.
    """
    figure = new_figure(8, 4.5)
    rows = read_curve(curve)
    axes = figure.add_subplot(xlabel="iteration", ylabel="loss")
    iterations, losses = [row.iteration for row in rows], [row.loss for row in rows]
    axes.locator_params(axis="x", integer=True)
    span = len(rows) // 100
    if span < 2:
        axes.plot(iterations, losses, marker=".", color=_DARK)
    else:  # grey print tells the two lines apart too
        axes.plot(iterations, losses, lw=0.5, color=_LIGHT, label="of each batch")
        means = np.convolve(losses, np.full(span, 1 / span), "valid")
        axes.plot(iterations[span - 1 :], means, lw=1.8, color=_DARK, label=f"mean of {span}")
        axes.legend()
    target = curve.with_suffix(".png")
    write_figure(target, figure)
    return target
