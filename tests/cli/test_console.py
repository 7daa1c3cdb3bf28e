"""What commands print: tables at any width, and how long work is told of without a terminal."""

import re
import time

import pytest

from deeplab_repro.cli.console import print_table, progress

WIDTHS = (40, 60, 80, 113)


@pytest.fixture
def terminal(monkeypatch):
    """Make the standard output a terminal of a width."""

    def make(width: int) -> None:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("COLUMNS", str(width))

    return make


def lines_of(out: str) -> list[str]:
    return re.sub(r"\x1b\[[\d;]*m", "", out).splitlines()  # without bold


@pytest.mark.parametrize("width", WIDTHS)
def test_no_number_of_a_table_is_cut_at_any_width(terminal, capsys, width):
    terminal(width)
    heading = ["released parameters", *(f"a long heading {n}" for n in range(9)), "ours"]
    rows = [
        [f"released: DeepLab-MSc-{at}-LargeFOV", *(f"{at + 1:,}{n}34.56" for n in range(9)), "[1]"]
        for at in (0, 1448)
    ]
    print_table(heading, rows, beside=(10,))
    lines = lines_of(capsys.readouterr().out)
    assert max(map(len, lines)) <= width
    words = [word for line in lines for word in line.split()]
    assert [words.count(number) for row in rows for number in row[1:10]] == [1] * 18
    for row in rows:
        (last,) = [line for line in lines if row[9] in line.split()]
        assert last.split()[-1] == "[1]"


@pytest.mark.parametrize("width", WIDTHS)
def test_table_2_of_the_paper_at_any_width(terminal, command, tmp_path, width):
    terminal(width)
    lines = lines_of(command("paper", "--out", tmp_path)[1])
    assert max(map(len, lines)) <= width
    cells = "3x3 3x3 12 12 224 224 20.5 20.5 67.64 not run [1] 4.84"
    rows = [line.split() for line in lines if line.startswith(" DeepLab-CRF-LargeFOV")]
    found = " ".join(word for row in rows for word in row[1:])
    if width == 40:  # there the name itself is in two lines, beside these two columns
        assert [line for line in lines if "DeepLab-CRF-  " in line and "67.64  not run [1]" in line]
        cells = cells.replace("67.64 not run [1] ", "")
    assert found == cells
    assert len(rows) == {40: 5, 60: 3, 80: 2, 113: 1}[width]


def test_what_is_wider_than_the_terminal_is_there_whole(terminal, capsys):
    terminal(20)
    print_table(["image", "score"], [["2007_000032_2007_000039", "1,234,567.89"]])
    lines = lines_of(capsys.readouterr().out)
    assert " 2007_000032_2007_000039  1,234,567.89 " in lines


def test_a_line_every_minute_without_a_terminal(monkeypatch, capsys):
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with progress("segmenting", 1449) as step:
        for _ in range(1000):  # done by an earlier run: at once
            step()
        assert capsys.readouterr().err == ""
        for _ in range(100):
            now += 1.5
            step()
    # The first minute has those that went by at once, the second goes by its own pace.
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("deeplab-repro: segmenting: 1,040 of 1,449, 0:00:")
    assert lines[1:] == ["deeplab-repro: segmenting: 1,080 of 1,449, 0:09:14 left"]


def test_nothing_is_told_of_one_step(monkeypatch, capsys):
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with progress("segmenting", 1) as step:
        now += 100
        step()
    assert capsys.readouterr().err == ""
