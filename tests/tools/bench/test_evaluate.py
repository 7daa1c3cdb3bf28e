"""tools/bench_evaluate.py: it measures what it says, and all find the same."""

import importlib.util
import re
import sys
from pathlib import Path

from deeplab_repro.toy.dataset import write_dataset

TOOL = Path(__file__).resolve().parents[2] / "tools" / "bench_evaluate.py"


def test_a_few_masks(tmp_path, capsys, monkeypatch):
    write_dataset(tmp_path, 0, 3)
    spec = importlib.util.spec_from_file_location("bench_evaluate", TOOL)
    assert spec
    assert spec.loader
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    monkeypatch.setattr(sys, "argv", ["bench_evaluate", "--voc", str(tmp_path), "--repeat", "1"])
    tool.main()
    heading, *rows = capsys.readouterr().out.splitlines()
    assert heading.endswith("; 3 images, medians of 1")
    names = ["np.histogram2d", "np.unique", "evaluate", "evaluate --trimap 1:40"]
    assert [row[:24].strip() for row in rows] == names
    assert all(re.search(r"\d\.\d\d s +\d+\.\d times evaluate's$", row) for row in rows)
