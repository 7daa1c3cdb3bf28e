import os
import re
import subprocess
import sys
from pathlib import Path

import numba
import pytest

from deeplab_repro.crf.cuda import device as gpu
from deeplab_repro.crf.cuda.device import crf_cuda_problem, crf_device, roomy
from deeplab_repro.errors import ArgumentError, DeviceError

HERE = Path(__file__).parent
ROOT = HERE.parents[2]


def run(*arguments, **environment):
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


def test_on_the_simulator():
    """It has to be chosen before Numba is loaded, so in a process of its own."""
    if crf_cuda_problem() is None:
        pytest.skip("the tests run on a GPU here")
    files = [HERE / "test_mean_field.py", HERE / "test_scores.py"]
    options = ("-m", "pytest", "-p", "no:cacheprovider", "--no-header")
    done = run(*options, *files, NUMBA_ENABLE_CUDASIM="1")
    assert done.returncode == 0, done.stdout
    assert re.search(r"\d+ passed", done.stdout), done.stdout
    assert "skipped" not in done.stdout, done.stdout


def test_a_machine_without_a_driver_is_told_so(monkeypatch):
    monkeypatch.setattr(gpu, "SIMULATED", False)
    monkeypatch.setattr(gpu, "driver_problem", lambda: "there is no driver: install it")
    assert crf_cuda_problem() == "there is no driver: install it"


def test_a_driver_that_numba_does_not_use_is_told_so():
    program = "import deeplab_repro.crf.cuda.device as gpu; gpu.driver_problem = lambda: None\n"
    program += "print(gpu.crf_cuda_problem())"
    done = run("-c", program, NUMBA_DISABLE_CUDA="1", NUMBA_ENABLE_CUDASIM="0")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    assert "NUMBA_DISABLE_CUDA" in done.stdout
    assert "--device cpu" in done.stdout


def test_a_numba_without_cuda_is_told_so(monkeypatch):
    monkeypatch.delattr(numba, "cuda", raising=False)
    monkeypatch.setitem(sys.modules, "numba.cuda", None)
    assert re.match(r"Numba has no CUDA here \(.*\): pip install", crf_cuda_problem())


def test_asking_is_free_of_numba_until_it_is_done():
    program = "import sys, deeplab_repro.crf.cuda.device; sys.exit('numba' in sys.modules)"
    assert run("-c", program).returncode == 0


def test_where_a_crf_runs(monkeypatch):
    monkeypatch.setattr(gpu, "crf_cuda_problem", lambda: None)
    assert [crf_device(each) for each in ("auto", "cpu", "cuda")] == ["cpu", "cpu", "cuda"]
    with pytest.raises(ArgumentError, match="'gpu', expected one of auto, cpu, cuda"):
        crf_device("gpu")
    monkeypatch.setattr(gpu, "crf_cuda_problem", lambda: "there is no GPU: buy one")
    with pytest.raises(DeviceError, match=r"^CUDA was asked for, but there is no GPU: buy one$"):
        crf_device("cuda")


def test_arrays_are_a_quarter_too_long_at_most():
    for rows in [*range(1, 2000), 85_915, 5_000_001]:
        assert rows <= roomy(rows) <= 1.25 * rows
    assert roomy(85_915) == roomy(86_500)
