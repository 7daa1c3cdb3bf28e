"""How long work is told of where there is no terminal."""

import time

from deeplab_repro.cli.console import progress


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
