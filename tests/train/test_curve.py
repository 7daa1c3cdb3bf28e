"""The file of a loss curve, and its plot."""

import os
import sys

import numpy as np
import pytest

from deeplab_repro.errors import FormatError
from deeplab_repro.files.images import read_image
from deeplab_repro.train.curve import LossRow, read_curve, write_curve, write_plot
from tests.conftest import assert_one_line

HEADER = ",".join(LossRow._fields)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"a,b\n1,2\n",
        f"{HEADER}\n1,2,3\n".encode(),
        f"{HEADER}\nx,1,1,1,1,1,1,1\n".encode(),
        b"\x89PNG\r\n\x1a\n\0",
        f"{HEADER}\n1,1,1,1,1,1,1,1,1\n".encode(),
    ],
)
def test_a_file_that_is_no_curve(tmp_path, content):
    path = tmp_path / "it_loss.csv"
    path.write_bytes(content)
    with pytest.raises(FormatError) as caught:
        read_curve(path)
    assert_one_line(caught, path, "is not a loss curve", "move it")


ROWS = [
    LossRow(0, 0.1, 3, 3, 0.5, 0.25, 0.125, 1),
    LossRow(1, 0.1, 2.5, 2.75, *[float("nan")] * 3, 2),
]


def test_no_plot_without_matplotlib(tmp_path, monkeypatch):
    write_curve(ROWS, tmp_path / "it_loss.csv")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert write_plot(tmp_path / "it_loss.csv") is None
    assert os.listdir(tmp_path) == ["it_loss.csv"]


def test_the_plot(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install .[plot]")
    write_curve(ROWS * 100, tmp_path / "it_loss.csv")
    plot = write_plot(tmp_path / "it_loss.csv")
    assert plot == tmp_path / "it_loss.png"
    picture = read_image(plot)
    assert picture.shape == (540, 960, 3)
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 10  # there is something on it
