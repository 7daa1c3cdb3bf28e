"""tools/gpu_check/machine.py: errors have to be plain."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest


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

    machine = tool("gpu_check/machine")
    monkeypatch.setattr(machine.subprocess, "run", run)
    hidden = machine.Lack("GPU", {"CUDA_VISIBLE_DEVICES": ""}, "GPU")
    finding = machine.without(hidden, ("segment",), replace(job, rehearsal=False))
    assert finding.verdict == verdict
    assert finding.facts["exit status"] == status


def test_cudnn_is_hidden_from_a_copy_of_opencv(tool, tmp_path, monkeypatch):
    machine = tool("gpu_check/machine")
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
