"""tools/gpu_check/smoke.py: its parts run without a GPU, on Numba's simulator and the CPU."""

import json
import os
import subprocess
import sys

import pytest

from tests.tools.conftest import TOOLS

ROOT = TOOLS.parent

# In one process: in a process each, most of the time would be that of loading libraries.
REHEARSED = """
import json, sys
from pathlib import Path
import crf, designs, smoke
from steps import Checking, photo
from deeplab_repro.crf.cuda.field import MeanField

class Wrong(MeanField):
    def labels(self):
        return 1 - super().labels()

def broken(probs, space):
    raise ValueError("no such\\nkernel")

cases = designs.crf_cases
designs.crf_cases = lambda job: list(cases(job))[:1]
designs.DESIGNS |= {"wrong": Wrong, "broken": broken}
job = Checking(Path(sys.argv[1]), rehearsal=True)
found = {part.name: list(part.findings(job)) for part in smoke.PARTS}
size = 2, 3
found["CRF stages"] = list(crf.time_stages(photo(size), crf.random_scores(size, 2), 1, job))
for findings in found.values():
    for finding in findings:
        smoke.show(finding)
print(json.dumps({n: [[e.kind, e.verdict, e.facts] for e in f] for n, f in found.items()}))
"""


@pytest.fixture(scope="module")
def rehearsed(golden):
    """What each part finds, and the lines that it prints, in a rehearsal with bad designs added."""
    environment = {**os.environ, "PYTHONPATH": f"{TOOLS / 'gpu_check'}{os.pathsep}{ROOT}"}
    environment |= {"NUMBA_ENABLE_CUDASIM": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, "-c", REHEARSED, golden],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    *lines, last = done.stdout.splitlines()
    return json.loads(last), lines


@pytest.mark.golden
def test_each_part_finds_something_right(rehearsed):
    found, lines = rehearsed
    assert len(lines) == sum(map(len, found.values()))
    assert all(len(findings) > 0 for findings in found.values())
    for name in ("Numba", "CRF", "nets", "net designs"):
        verdicts = {verdict for _, verdict, _ in found[name]}
        assert verdicts <= {"pass", None}, name
        assert "pass" in verdicts, name


@pytest.mark.golden
def test_every_kernel_is_timed_once_it_is_launched(rehearsed):
    found, _ = rehearsed
    launches = {facts["kernel"]: facts["launches"] for kind, _, facts in found["CRF kernels"][1:]}
    assert launches["embed"] == 2
    assert {"enlarge", "insert", "find_labels"} <= launches.keys()
    assert launches.pop("all") == sum(launches.values())
    stages = [facts["stage"] for kind, _, facts in found["CRF stages"] if kind == "CRF stages"]
    assert stages == [
        *("scores in, enlarged", "begin", "image in", "lattice", "iterations", "labels out")
    ]


@pytest.mark.golden
def test_a_wrong_design_and_a_broken_one_are_not_kept(rehearsed):
    found, _ = rehearsed
    *findings, (_, verdict, kept) = found["CRF designs"]
    assert (verdict, kept["wrong"]) == (None, "broken, wrong")
    verdicts = {facts["design"]: verdict for _, verdict, facts in findings}
    assert verdicts.pop("wrong") == verdicts.pop("broken") == "fail"
    assert verdicts.pop(kept["design"]) == "pass"
    assert set(verdicts.values()) <= {"pass"}
    error = next(facts["error"] for _, _, facts in findings if facts["design"] == "broken")
    assert error == "ValueError: no such kernel"


def test_the_faster_of_two_right_designs_is_kept(tool):
    designs, steps = tool("gpu_check/designs"), tool("gpu_check/steps")
    times = {"a": (2.0, 8.0), "b": (1.0, 9.0), "c": (0.1, 0.1)}  # b: ratios of 0.5 and 1.125
    findings = [
        steps.Finding("x", {"design": name, "median ms": time}, "fail" if name == "c" else "pass")
        for name, each in times.items()
        for time in each
    ]
    facts = designs.to_keep("x", findings).facts
    assert facts == {"of": "x", "design": "b", "times": "a 1.00, b 0.75", "wrong": "c"}
    assert designs.to_keep("x", findings[-2:]).verdict == "fail"


@pytest.mark.parametrize(("error", "status"), [(None, 0), ("gone", 1)])
def test_the_last_line_names_the_bad_parts(tool, monkeypatch, tmp_path, capsys, error, status):
    smoke, steps = tool("gpu_check/smoke"), tool("gpu_check/steps")

    def run_steps(parts, *others):
        for part in parts[:2]:
            others[-1](steps.Finding("kind", {"what": 1 / 3, "none": None}, "pass"))
            yield steps.Outcome(part.name, 30, 0.1, [], error)

    monkeypatch.setattr(smoke, "run_steps", run_steps)
    assert smoke.main(["--golden", str(tmp_path)]) == status
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "     pass kind: what 0.3333, none -"
    assert lines[1].startswith("BAD  versions, 0.1 s gone" if error else "ok   versions, 0.1 s")
    assert lines[-1].startswith("BAD: versions, Numba; " if error else "all parts are ok; ")
