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


@pytest.fixture(autouse=True)
def nothing_remembered():
    gpu._check_cuda.cache_clear()
    yield
    gpu._check_cuda.cache_clear()


def start(*arguments, **environment):
    return subprocess.Popen(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_on_the_simulator():
    """It has to be chosen before Numba is loaded, so in processes of their own: two, as each is
    slow and keeps to one core."""
    if crf_cuda_problem() is None:
        pytest.skip("the tests run on a GPU here")
    command = (
        "-m",
        "pytest",
        "-n0",
        "-p",
        "no:cacheprovider",
        "--no-header",
        HERE / "test_mean_field.py",
    )
    halves = [
        start(*command, HERE / "test_scores.py", "-k", which, NUMBA_ENABLE_CUDASIM="1")
        for which in ("same_result", "not same_result")
    ]
    for half, (said, _) in [(half, half.communicate()) for half in halves]:
        assert half.returncode == 0, said
        assert re.search(r"\d+ passed", said), said
        assert "skipped" not in said, said


def test_a_machine_without_a_driver_is_told_so(monkeypatch):
    monkeypatch.setattr(gpu, "SIMULATED", False)
    monkeypatch.setattr(gpu, "driver_problem", lambda: "there is no driver: install it")
    assert crf_cuda_problem() == "there is no driver: install it"


def test_a_driver_that_numba_does_not_use_is_told_so():
    program = "import deeplab_repro.crf.cuda.device as gpu; gpu.driver_problem = lambda: None\n"
    program += "print(gpu.crf_cuda_problem())"
    said, _ = start("-c", program, NUMBA_DISABLE_CUDA="1", NUMBA_ENABLE_CUDASIM="0").communicate()
    assert said.count("\n") == 1, said
    assert "NUMBA_DISABLE_CUDA" in said
    assert "--device cpu" in said


NO_COMPILER = """
import sys
from types import SimpleNamespace as Fake
import deeplab_repro.crf.cuda.device as gpu
driver = Fake(driver=Fake(is_available=True, initialization_error=None))
cuda = Fake(is_available=lambda: False)
modules = {"": cuda, ".cudadrv": Fake(driver=driver, nvvm=Fake(is_available=lambda: False))}
import numba
numba.cuda = cuda
sys.modules.update({"numba.cuda" + name: module for name, module in modules.items()})
gpu.driver_problem = lambda: None
gpu.TOOLKIT = sys.argv[1]
print(gpu.crf_cuda_problem())
"""


@pytest.mark.parametrize(
    ("has_toolkit", "home", "mend"),
    [
        (True, {}, r"set CUDA_HOME=\S+, the toolkit that is there"),
        (True, {"CUDA_HOME": "/elsewhere"}, r'pip install "numba-cuda\[cu13\]"'),
        (False, {}, r'pip install "numba-cuda\[cu13\]"'),
    ],
)
def test_a_compiler_that_numba_does_not_find_is_told(tmp_path, has_toolkit, home, mend):
    if has_toolkit:
        (tmp_path / "nvvm").mkdir()
    said, _ = start(
        "-c", NO_COMPILER, str(tmp_path), NUMBA_ENABLE_CUDASIM="0", **home
    ).communicate()
    assert re.match(rf"Numba finds no CUDA compiler \(libNVVM\): {mend}", said), said


def test_success_is_remembered_and_failure_is_not(monkeypatch):
    if crf_cuda_problem() is None:
        pytest.skip("the tests run on a GPU here")
    monkeypatch.setattr(gpu, "SIMULATED", True)  # counts as success
    assert crf_cuda_problem() is None
    monkeypatch.setattr(gpu, "SIMULATED", False)
    monkeypatch.setattr(gpu, "driver_problem", lambda: pytest.fail("asked again"))
    assert crf_cuda_problem() is None


def test_a_numba_without_cuda_is_told_so(monkeypatch):
    monkeypatch.delattr(numba, "cuda", raising=False)
    monkeypatch.setitem(sys.modules, "numba.cuda", None)
    assert re.match(r"Numba has no CUDA here \(.*\): pip install", crf_cuda_problem())


def test_asking_is_free_of_numba_until_it_is_done():
    program = "import sys, deeplab_repro.crf.cuda.device; sys.exit('numba' in sys.modules)"
    assert start("-c", program).wait() == 0


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
