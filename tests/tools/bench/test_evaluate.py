"""tools/bench/evaluate.py: it measures what it says, and all find the same."""

import re
import sys

from deeplab_repro.toy.dataset import write_dataset


def test_a_few_masks(tool, tmp_path, capsys, monkeypatch):
    write_dataset(tmp_path, 0, 2)
    monkeypatch.setattr(sys, "argv", ["evaluate", "--voc", str(tmp_path), "--repeat", "1"])
    evaluate = tool("bench/evaluate")
    monkeypatch.delitem(evaluate.OURS, "evaluate --trimap 1:40")  # a process less
    evaluate.main()
    heading, *rows = capsys.readouterr().out.splitlines()
    assert heading.endswith("; 2 images, medians of 1")
    names = ["np.histogram2d", "np.unique", "evaluate"]
    assert [row[:24].strip() for row in rows] == names
    assert all(re.search(r"\d\.\d\d s +\d+\.\d times evaluate's$", row) for row in rows)
