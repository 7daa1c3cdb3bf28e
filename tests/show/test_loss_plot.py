"""The plot of a loss curve."""

import os
import sys

import pytest

from deeplab_repro.files.images import read_image
from deeplab_repro.show.loss_plot import plot_losses
from deeplab_repro.show.plot import PlotError
from deeplab_repro.train.curve import LossRow, write_curve

ROWS = [
    LossRow(0, 0.1, 3, 3, 0.5, 0.25, 0.125, 0.0625, 1),
    LossRow(1, 0.1, 2.5, 2.75, *[float("nan")] * 4, 2),
]


def test_no_plot_without_matplotlib(tmp_path, monkeypatch):
    write_curve(ROWS, tmp_path / "it_loss.csv")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(PlotError, match="matplotlib is not installed"):
        plot_losses(tmp_path / "it_loss.csv")
    assert os.listdir(tmp_path) == ["it_loss.csv"]


def test_the_plot(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install .[plot]")
    write_curve(ROWS * 100, tmp_path / "it_loss.csv")
    plot = plot_losses(tmp_path / "it_loss.csv")
    assert plot == tmp_path / "it_loss.png"
    picture = read_image(plot)
    assert picture.shape == (540, 960, 3)
    blue = picture[picture[..., 2] > picture[..., 0] + 30.0]
    grey = blue @ [0.299, 0.587, 0.114]  # as it is printed
    assert (grey < 90).any()  # the mean
    assert (grey > 150).any()  # each batch


def test_a_single_iteration_is_seen(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install .[plot]")
    write_curve(ROWS[:1], tmp_path / "it_loss.csv")
    picture = read_image(plot_losses(tmp_path / "it_loss.csv")).astype(int)
    assert (picture[..., 2] > picture[..., 0] + 30).any()
