"""tools/gpu_check.py without a GPU: its steps in small, and that they find what is wrong."""

import importlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deeplab_repro.caffe import read_net
from deeplab_repro.crf.dense_crf import refine_scores
from deeplab_repro.crf.params import CrfParams
from deeplab_repro.models.loading import read_model
from tests.tools.gpu_check_functions import finds_then_dies, finds_then_fails, finds_then_hangs

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / "tools"


@pytest.fixture
def tool(monkeypatch):
    """A module of tools/ by its name."""
    monkeypatch.syspath_prepend(TOOLS)
    return importlib.import_module


@pytest.fixture
def job(tool, tmp_path):
    return tool("gpu_check_steps").Job(tmp_path, rehearsal=True)


# --- steps


@pytest.mark.parametrize(
    ("check", "budget", "error"),
    [
        (finds_then_fails, 60, "the GPU is gone"),
        (finds_then_dies, 60, f"its process ended with exit status {-signal.SIGSEGV}, see"),
        (finds_then_hangs, 0.5, "took longer than 0.5 s and was ended"),
    ],
)
def test_what_a_step_found_stays_however_it_ends(tool, job, check, budget, error):
    steps = tool("gpu_check_steps")
    outcome = steps.run_step(steps.Step("step", check, budget), job)
    assert outcome.error.startswith(error)
    assert outcome.failed
    if check is finds_then_hangs:  # perhaps before it found anything
        assert not any(is_running(each.facts["child"]) for each in outcome.findings)
    else:
        assert outcome.findings == [steps.Finding("kind", {"rehearsal": True}, "pass")]


def is_running(pid: int) -> bool:
    """Whether a process runs; one that has ended may have nobody to tell."""
    status = Path(f"/proc/{pid}/status")
    return status.exists() and "State:\tZ" not in status.read_text()


def test_a_whole_rehearsal_is_told_and_written(tool, job, tmp_path, capsys, monkeypatch):
    main, steps = tool("gpu_check"), tool("gpu_check_steps")
    found = {
        "first": [steps.Finding("a", {"x": 1 / 3, "text": "one\ntwo"}, "met")],
        "second": [
            steps.Finding("a", {"x": None}, "fail"),
            steps.Finding("b", {"y": 1}, "not met"),
        ],
    }

    def run_step(step, given):
        assert list(given.found) == list(found)[: len(given.found)]
        return steps.Outcome(step.name, 30, 0.1, found[step.name], None)

    monkeypatch.setattr(main, "run_step", run_step)
    out = tmp_path / "out.json"
    wanted = [steps.Step(name, None, 30) for name in found]
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


def test_budgets_are_less_than_eight_minutes(tool):
    assert sum(step.budget for step in tool("gpu_check").STEPS) < 480


def test_without_a_gpu_it_is_one_line(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    environment.pop("NUMBA_ENABLE_CUDASIM", None)
    command = [sys.executable, TOOLS / "gpu_check.py", "--golden", tmp_path]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("deeplab-repro: error: ")
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_bad_paths_are_one_line(tool, tmp_path, capsys):
    main = tool("gpu_check").main
    missing = str(tmp_path / "missing")
    assert main(["--golden", missing, "--rehearse"]) == 2
    assert "missing: is no folder" in capsys.readouterr().err
    assert main(["--golden", str(tmp_path), "--rehearse", "--out", f"{missing}/a.json"]) == 2
    assert "there is no folder" in capsys.readouterr().err


# --- nets


@pytest.mark.golden
def test_a_net_is_compared_with_the_originals(tool, job, golden, monkeypatch):
    nets = tool("gpu_check_nets")
    folder = golden / "nets" / "DeepLab-LargeFOV"
    finding = nets.check_net(folder, job, "float32")
    assert finding.verdict == "pass"
    assert 0 < max(finding.facts[f] for f in ("its error", "scores' error")) < 1e-4
    assert finding.facts["same bits twice"]
    net, data, expected = nets.golden_net(folder)
    monkeypatch.setattr(nets, "MOST_ERROR", 1e-9)
    assert nets.check_net(folder, job, "float32").verdict == "fail"
    assert nets.check_net(folder, job, "float16").verdict == "pass"  # for its labels are the same
    monkeypatch.setattr(nets, "golden_net", lambda _: (net, data, -expected))
    finding = nets.check_net(folder, job, "float16")
    assert finding.verdict == "fail"
    assert finding.facts["same labels"] < 0.5


def test_what_is_no_number_is_a_large_error(tool):
    nets = tool("gpu_check_nets")
    scores = np.zeros((1, 2, 3, 3), np.float32)
    assert nets.scores_error(scores + 0.5, scores) == 0.5
    scores[0, 0, 0, 0] = np.nan
    assert 1e38 < nets.scores_error(scores, np.zeros_like(scores)) < np.inf  # JSON has no NaN


# --- floors and speed


def test_floors_are_counted_from_the_net(tool, tiny):
    rates = tool("gpu_check_rates")
    net = read_net(tiny)  # the input 33x41, conv 5x5x6 in place rectified, fc8 4x5x6, enlarged
    slow = rates.Rates(float32=1e6, float16=1e6, memory=1e9, source="here")
    operations = 2 * 30 * (5 * 27 + 4 * 5)
    numbers = (3 * 33 * 41 + 150 + 5 * 28) + (150 + 120 + 4 * 6)
    floor = rates.net_floor(net, net.input_shape, "float16", slow)
    assert floor == pytest.approx(
        {"GFLOP": operations / 1e9, "MB": 2 * numbers / 1e6, "floor ms": operations / 1e3}
    )
    bound_by_memory = replace(slow, float32=1e15)
    floor = rates.net_floor(net, net.input_shape, "float32", bound_by_memory)
    assert floor["floor ms"] == pytest.approx(4 * numbers / 1e6)


def test_the_papers_net_takes_257_gflop(tool):
    rates = tool("gpu_check_rates")
    steps = tool("gpu_check_steps")
    measured = {"float32": 50e12, "float16": 500e12, "memory": 3e12, "to the GPU": 1e10}
    found = [steps.Finding("rates", {"what": w, "a second": a}) for w, a in measured.items()]
    of = rates.Rates.of(steps.Job(Path(), found={"rates": found}))
    assert of == rates.Rates(50e12, 500e12, 3e12, "measured")
    without = rates.Rates.of(steps.Job(Path(), found={"rates": found[1:]}))
    assert without == rates.Rates(67e12, 990e12, 3.35e12, "an H100's datasheet")
    floor = rates.net_floor(read_model("DeepLab-LargeFOV"), (1, 3, 513, 513), "float32", of)
    assert floor["GFLOP"] == pytest.approx(257, abs=0.5)
    assert floor["floor ms"] == pytest.approx(257 / 50, rel=0.1)


def test_nets_are_timed_beside_their_floors(tool, job):
    speed = tool("gpu_check_speed")
    net = job.net("DeepLab-LargeFOV")
    cases = speed.Case((200, 306), bars=(10, 5)), speed.Case((306, 306), batch=2)
    *timed, built = speed.time_net(net, cases, job, "float16")
    assert [each.facts["input"] for each in timed] == ["1x3x25x33", "2x3x33x33"]
    assert [each.facts["bar ms"] for each in timed] == [5, None]
    assert all(each.verdict is None for each in timed)  # in a rehearsal
    assert all(each.facts["median ms"] > each.facts["floor ms"] > 0 for each in timed)
    assert built.facts["build ms"] > 0
    assert replace(job, rehearsal=False).bar(False) == "not met"


# --- CRF


@pytest.fixture
def crf_case(tool, photo, tmp_path):
    """Make a case as the golden ones are, with so many labels that are wrong."""

    def make(wrong: int) -> Path:
        image, size = photo(20, 30), (20, 30)
        coarse = tool("gpu_check_crf_speed").random_scores(size, 21)
        params = CrfParams(4, 20, 10)
        result = refine_scores(image, coarse, params, 2, device="cpu")
        labels = result.labels.copy()
        labels.ravel()[:wrong] = 99
        values = (params.w1, params.sigma_alpha, params.sigma_beta, params.w2, params.sigma_gamma)
        path = tmp_path / f"{wrong}.npz"
        np.savez(
            path,
            image=image,
            scores=coarse.values,
            params=values,
            iterations=2,
            label=labels,
            marginals_every_4th_pixel=result.marginals[:, ::4, ::4],
        )
        return path

    return make


def test_the_crf_is_compared_with_the_originals(tool, job, crf_case):
    check = tool("gpu_check_crf").check_case
    assert check(crf_case(0), job).verdict == "pass"
    finding = check(crf_case(2), job)
    assert finding.verdict == "fail"
    assert finding.facts["other labels than the original"] == 2


def test_the_crf_is_timed(tool, job):
    (finding,) = tool("gpu_check_crf_speed").check_crf_speed(job)  # no stages on the CPU
    assert finding.facts["median ms"] >= finding.facts["least ms"] > 0


STAGED = """
import sys
from pathlib import Path
from gpu_check_crf_speed import random_scores, time_stages
from gpu_check_steps import Job, photo
sys.setswitchinterval(1e-4)
job = Job(Path(), rehearsal=True, found={})
for finding in time_stages(photo((2, 3)), random_scores((2, 3), 2), 1, job):
    print(finding.facts.get("stage"))
"""


def test_stages_of_the_crf_on_the_simulator():
    environment = {**os.environ, "PYTHONPATH": f"{TOOLS}{os.pathsep}{ROOT}"}
    environment |= {"NUMBA_ENABLE_CUDASIM": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, "-c", STAGED], env=environment, capture_output=True, text=True, check=True
    )
    stages = ["scores in, enlarged", "begin", "image in", "lattice", "iterations", "labels out"]
    assert done.stdout.splitlines()[: len(stages)] == stages


def test_traffic_is_of_the_kernels_that_there_are(tool):
    speed = tool("gpu_check_crf_speed")
    rates = tool("gpu_check_rates").Rates(67e12, 990e12, 3.35e12, "here")
    *kernels, together = speed.kernel_floors(375 * 500, 21, 10_000, 20_000, 10, rates)
    sources = "".join(path.read_text() for path in (ROOT / "deeplab_repro/crf/cuda").glob("*.py"))
    for finding in kernels:
        assert f"\ndef {finding.facts['kernel'].split(',')[0]}(" in sources
    total = sum(each.facts["floor ms, all"] for each in kernels)
    assert together.facts["floor ms, all"] == pytest.approx(total)
    assert 0.5 < total < 5


# --- photos


def test_a_folder_goes_through_predict(tool, job):
    first, *stages, second = [
        each
        for each in tool("gpu_check_predict").check_predict(job)
        if each.kind == "predict" or each.facts["stage"] != "write"
    ][:5]
    assert first.facts["photos"] == first.facts["written"] == second.facts["written"] == 2
    assert [each.facts["stage"] for each in stages] == ["read", "net", "CRF"]


def test_photos_vary_in_size_and_are_the_same_every_time(tool, job, tmp_path):
    predict = tool("gpu_check_predict")
    files = []
    for name in ("a", "b"):
        devkit = predict.make_devkit(tmp_path / name, job)
        assert len(devkit.ids("float16")) == 2
        files.append([devkit.photo(each).read_bytes() for each in devkit.ids("float32")])
    assert files[0] == files[1]
    assert files[0][0] != files[0][1]


# --- plain errors


@pytest.mark.parametrize(
    ("status", "told", "verdict"),
    [
        (2, "deeplab-repro: error: no GPU\n", "pass"),
        (2, "deeplab-repro: error: no luck\n", "fail"),  # which does not say what is missing
        (2, "Traceback\nno GPU\n", "fail"),
        (1, "no GPU\n", "fail"),
        (0, "no GPU: net 'x' ran on cpu\n", "fail"),
        (0, "net 'x' ran on cuda in float32\n", None),  # the GPU could not be hidden
        (None, "", "fail"),  # it hangs
    ],
)
def test_errors_have_to_be_plain(tool, job, monkeypatch, status, told, verdict):
    def run(command, env, **_):
        assert command[-2:] == ["--device", "cuda"]
        assert env["CUDA_VISIBLE_DEVICES"] == ""
        if status is None:
            raise subprocess.TimeoutExpired(command, 1)
        return subprocess.CompletedProcess(command, status, "", told)

    machine = tool("gpu_check_machine")
    monkeypatch.setattr(machine.subprocess, "run", run)
    hidden = machine.Lack("GPU", {"CUDA_VISIBLE_DEVICES": ""}, "GPU")
    finding = machine.without(hidden, ("segment",), replace(job, rehearsal=False))
    assert finding.verdict == verdict
    assert finding.facts["exit status"] == status


def test_cudnn_is_hidden_from_a_copy_of_opencv(tool, tmp_path, monkeypatch):
    machine = tool("gpu_check_machine")
    opencv, nvidia = tmp_path / "site/cv2", tmp_path / "site/nvidia"
    for file in (
        "cu13/lib/libcublas.so.13",
        "cudnn/lib/libcudnn.so.9",
        "cudnn/lib/libcudnn_cnn.so.9",
    ):
        (nvidia / file).parent.mkdir(parents=True, exist_ok=True)
        (nvidia / file).touch()
    opencv.mkdir()
    (opencv / "__init__.py").touch()
    monkeypatch.setattr(machine.cv2, "__file__", str(opencv / "__init__.py"))
    monkeypatch.syspath_prepend(tmp_path / "site")
    *_, cudnn, parts = machine.lacks(tmp_path / "lacks")
    for lack, kept in ((cudnn, []), (parts, ["libcudnn.so.9"])):
        folder = Path(lack.variables["PYTHONPATH"])
        assert (folder / "cv2/__init__.py").is_file()
        assert (folder / "nvidia/cu13/lib/libcublas.so.13").is_file()
        assert [path.name for path in folder.glob("nvidia/cudnn/lib/*")] == kept
