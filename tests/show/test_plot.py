"""Plots: written as PNG, SVG and PDF, and one line without matplotlib."""

import sys

import pytest

from deeplab_repro.errors import FileError
from deeplab_repro.files.images import read_image
from deeplab_repro.show.plot import PlotError, new_figure, write_figure
from tests.conftest import assert_one_line


def test_png_and_a_pdf_and_svg_without_the_time(tmp_path):
    pytest.importorskip("matplotlib")
    for name in ("a.png", "a.pdf", "b.pdf", "a.svg", "b.svg"):
        figure = new_figure(2, 1)
        figure.add_subplot().plot([1, 3, 2])
        write_figure(tmp_path / name, figure)
    assert read_image(tmp_path / "a.png").shape == (120, 240, 3)
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")
    assert (tmp_path / "a.pdf").read_bytes() == (tmp_path / "b.pdf").read_bytes()
    assert b"<svg" in (tmp_path / "a.svg").read_bytes()
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    with pytest.raises(FileError, match="there is no folder"):
        write_figure(tmp_path / "missing/a.png", figure)


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(PlotError) as error:
        new_figure(2, 1)
    assert_one_line(error, 'matplotlib is not installed: pip install "deeplab-repro[plot]"')
