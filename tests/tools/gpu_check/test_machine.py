"""tools/gpu_check/machine.py: errors have to be plain."""

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("status", "told", "verdict"),
    [
        (2, "deeplab-repro: error: no GPU\n", "pass"),
        (2, "deeplab-repro: error: no luck\n", "fail"),  # which does not say what is missing
        (2, "a library warns\ndeeplab-repro: error: no GPU\nand again\n", "pass"),
        (2, "Traceback (most recent call last):\ndeeplab-repro: error: no GPU\n", "fail"),
        (2, "deeplab-repro: error: no GPU\ndeeplab-repro: error: no GPU\n", "fail"),
        (2, "no GPU\n", "fail"),  # which is not ours
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
        assert env["PYTHONPATH"].split(os.pathsep) == [str(machine.ROOT), "given", "more"]
        if status is None:
            raise subprocess.TimeoutExpired(command, 1)
        return subprocess.CompletedProcess(command, status, "", told)

    machine = tool("gpu_check/machine")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(("given", "more")))
    monkeypatch.setattr(machine.subprocess, "run", run)
    hidden = machine.Lack("GPU", {"CUDA_VISIBLE_DEVICES": ""}, "GPU")
    finding = machine.without(hidden, ("segment",), replace(job, rehearsal=False))
    assert finding.verdict == verdict
    assert finding.facts["exit status"] == status


def test_cudnn_is_hidden_from_a_copy_of_opencv(tool, tmp_path, monkeypatch):
    machine = tool("gpu_check/machine")
    files = (
        "first/nvidia/cu13/lib/libcublas.so.13",
        "first/nvidia/cudnn/lib/libcudnn.so.9",
        "first/nvidia/cudnn/lib/libcudnn_cnn.so.9",
        "second/nvidia/cu13/lib/libcublas.so.13",
        "second/nvidia/cu13/lib/libcublasLt.so.13",
        "second/nvidia/cu13/nvvm/libdevice/libdevice.10.bc",
        "second/nvidia/cudnn/lib/libcudnn.so.9",
        "first/cv2/__init__.py",
    )
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(file)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(machine.cv2, "__file__", "first/cv2/__init__.py")
    monkeypatch.syspath_prepend("second")  # relative, as PYTHONPATH may be
    monkeypatch.syspath_prepend("first")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/given")
    _, driver, cudnn, parts = machine.lacks(tmp_path / "lacks")
    assert driver.variables["LD_LIBRARY_PATH"].endswith(f"{os.pathsep}/given")
    for lack, kept in ((cudnn, []), (parts, ["libcudnn.so.9"])):
        folder = Path(lack.variables["PYTHONPATH"])
        assert (folder / "cv2/__init__.py").is_file()
        cublas = folder / "nvidia/cu13/lib/libcublas.so.13"
        assert cublas.read_text() == "first/nvidia/cu13/lib/libcublas.so.13"
        assert (folder / "nvidia/cu13/lib/libcublasLt.so.13").is_file()
        assert (folder / "nvidia/cu13/nvvm/libdevice/libdevice.10.bc").is_file()
        assert [path.name for path in folder.glob("nvidia/cudnn/lib/*")] == kept


@pytest.mark.parametrize(("built", "verdict"), [("CUDA 13.0", None), (None, "fail")])
def test_an_opencv_without_cuda_may_lie_behind_one_with_it(tool, job, monkeypatch, built, verdict):
    machine = tool("gpu_check/machine")
    rows = [("opencv packages", "a 4.14, b 4.12", "2 OpenCV packages"), ("net", "-", "cannot run")]
    monkeypatch.setattr(machine, "check", lambda: iter(rows))
    monkeypatch.setattr(machine, "cuda_build", lambda: built)
    found = {each.facts["what"]: each.verdict for each in machine.check_machine(job)}
    assert (found["opencv packages"], found["net"]) == (verdict, "fail")
