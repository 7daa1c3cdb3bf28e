"""The chart of time against size."""

import os
import re

import numpy as np
import pytest

from deeplab_repro.errors import FileError
from deeplab_repro.files.images import read_image
from deeplab_repro.files.marks import made_here
from deeplab_repro.show.time_chart import _around, _ticks, write_time_chart

pytest.importorskip("matplotlib", reason='matplotlib is not installed: pip install ".[plot]"')

TITLES = {"ours": "deeplab-repro", "plain": "a peer", "absent": "one that is absent"}
ROWS = [
    {"pixels": n, "floor_ms": n / 1e4, "median_ms": {"ours": n / 5e3, "plain": n / 2e3}}
    for n in (100_000, 400_000, 3_000_000)
]


def write(path, rows=ROWS, title=("a net, 2 threads", "2 cores of a machine")):
    write_time_chart(path, title, rows, TITLES, ["ours"], "floor: at full speed")
    return path


def test_a_png_with_a_line_for_each(tmp_path):
    picture = read_image(write(tmp_path / "a.png")).astype(int)
    assert picture.shape == (720, 960, 3)
    ours, plain = (
        np.abs(picture - colour).max(axis=2) < 40 for colour in ((0, 114, 178), (230, 159, 0))
    )
    assert ours.sum() > 1000
    assert plain.sum() > 500
    # White all around, so nothing is cut.
    for edge in (picture[0], picture[-1], picture[:, 0], picture[:, -1]):
        assert (edge == 255).all()


def test_an_svg_of_the_same_bytes(tmp_path):
    first, second = (write(tmp_path / name).read_bytes() for name in ("a.svg", "b.svg"))
    assert first == second
    assert not re.search(rb"20\d\d-\d\d", first)
    assert made_here(tmp_path / "a.svg")
    (tmp_path / "a.svg").write_bytes(first.replace(b"<dc:title>deeplab-repro", b"<dc:title>Ink"))
    assert not made_here(tmp_path / "a.svg")


def test_names_of_any_letters_and_a_single_size(tmp_path):
    write(tmp_path / "a.png", ROWS[:1], ("$x^$ \u7f51\n" + 90 * "long ", "b"))
    picture = read_image(tmp_path / "a.png")
    assert (picture[:, [0, -1]] == 255).all()


def test_nothing_is_left_of_a_chart_that_cannot_be_written(tmp_path):
    with pytest.raises(FileError, match="there is no folder"):
        write(tmp_path / "missing" / "a.png")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.1, 0.79, [0.1, 0.2, 0.5, 1]),
        (3.0, 3.0, [2, 5]),
        (1.0, 1.0, [1, 2]),
        (0.3, 9000.0, [0.1, 1, 10, 100, 1000, 10_000]),
    ],
)
def test_ticks(low, high, ticks):
    assert _ticks(low, high) == pytest.approx(ticks)
    start, end = _around([low, high])
    assert start < low <= high < end
    assert sum(start <= tick <= end for tick in ticks) >= 2
