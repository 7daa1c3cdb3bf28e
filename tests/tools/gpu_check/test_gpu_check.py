"""tools/gpu_check/gpu_check.py without a GPU: what it tells and writes."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest

from tests.tools.conftest import TOOLS

ROOT = TOOLS.parent


def test_a_whole_rehearsal_is_told_and_written(tool, job, tmp_path, capsys, monkeypatch):
    main, steps = tool("gpu_check/gpu_check"), tool("gpu_check/steps")
    found = {
        "first": [steps.Finding("a", {"x": 1 / 3, "text": "one\ntwo"}, "met")],
        "second": [
            steps.Finding("a", {"x": None}, "fail"),
            steps.Finding("b", {"y": 1}, "not met"),
        ],
    }

    def run_step(step, given, _):
        assert list(given.found) == list(found)[: len(given.found)]
        return steps.Outcome(step.name, 30, 0.1, found[step.name], None)

    monkeypatch.setattr(steps, "run_step", run_step)
    out = tmp_path / "out.json"
    wanted = [steps.Step(name, "", 30) for name in found]
    assert main.check(wanted[:1], replace(job, rehearsal=False), out) == 0
    assert "all checks pass; 1 of 1 bars are met; " in capsys.readouterr().out
    assert main.check(wanted, job, out) == 1
    printed = capsys.readouterr().out
    assert "    met  0.3333  one\\ntwo\n" in printed
    assert printed.splitlines()[-1].startswith("failed: second; a rehearsal; ")
    written = json.loads(out.read_text())
    assert written["rehearsal"] is True
    assert written["failed"] == ["second"]
    assert (written["bars met"], written["bars not met"]) == (1, 1)
    assert written["steps"][1]["findings"][1] == {
        "kind": "b",
        "facts": {"y": 1},
        "verdict": "not met",
    }


def test_a_kill_loses_only_the_running_step(tool, job, tmp_path, monkeypatch):
    main, steps = tool("gpu_check/gpu_check"), tool("gpu_check/steps")

    def run_step(step, *_):
        if step.name == "second":
            raise SystemExit(143)
        return steps.Outcome(step.name, 30, 0.1, [steps.Finding("a", {"x": 1})], None)

    monkeypatch.setattr(steps, "run_step", run_step)
    out = tmp_path / "out.json"
    with pytest.raises(SystemExit):
        main.check([steps.Step(name, "", 30) for name in ("first", "second")], job, out)
    assert [step["step"] for step in json.loads(out.read_text())["steps"]] == ["first"]


def test_every_step_is_there(tool):
    for step in (*tool("gpu_check/gpu_check").STEPS, *tool("gpu_check/smoke").PARTS):
        module, _, name = step.check.rpartition(".")
        assert callable(getattr(tool(f"gpu_check/{module}"), name))


def test_without_a_gpu_it_is_one_line(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    environment.pop("NUMBA_ENABLE_CUDASIM", None)
    command = [sys.executable, TOOLS / "gpu_check/gpu_check.py", "--golden", tmp_path]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("deeplab-repro: error: ")
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_bad_paths_are_one_line(tool, tmp_path, capsys):
    main = tool("gpu_check/gpu_check").main
    missing = str(tmp_path / "missing")
    assert main(["--golden", missing, "--rehearse"]) == 2
    assert "missing: is no folder" in capsys.readouterr().err
    assert main(["--golden", str(tmp_path), "--rehearse", "--out", f"{missing}/a.json"]) == 2
    assert "there is no folder" in capsys.readouterr().err
