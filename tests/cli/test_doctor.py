"""deeplab-repro doctor: what is installed, what would run where, what is wrong."""

import sys
from importlib import metadata

import cv2
import pytest

from deeplab_repro.cli import doctor
from deeplab_repro.engines import choose, opencv_cuda
from deeplab_repro.machine import gpus
from deeplab_repro.machine.gpus import Gpu
from deeplab_repro.models.registry import MODELS


def found(command):
    status, out, err = command("doctor")
    assert err == ""
    return status, {line[:22].strip(): line[23:] for line in out.splitlines()}


def test_what_is_installed(command, monkeypatch):
    monkeypatch.setattr(doctor, "_OPENCV_PACKAGES", ())  # whatever this machine has of them
    status, rows = found(command)
    assert status == 0
    assert rows["numpy"] == metadata.version("numpy")
    assert rows["opencv packages"] == "none (another build?)"
    assert rows["cv2"].startswith(cv2.__version__)
    assert rows["net on cpu"].startswith("yes")
    assert rows["net on auto"].split(",")[0] in ("cpu", "cuda")
    assert rows["CRF on cpu"].startswith("yes")
    assert rows["nets"].startswith(f"{len(MODELS)} in ")


def test_a_package_that_is_missing(command, monkeypatch):
    monkeypatch.setattr(doctor, "_PACKAGES", ("no-such-package",))
    _, rows = found(command)
    assert rows["no-such-package"] == "not installed"


def test_two_opencvs(command, monkeypatch):
    monkeypatch.setattr(doctor, "_OPENCV_PACKAGES", ("numpy", "rich"))
    status, out, _ = command("doctor")
    assert status == 2
    assert "problem: 2 OpenCV packages overwrite each other's cv2" in out


@pytest.mark.parametrize(
    ("module", "loaded_in", "expected"),
    [
        ("cv2", "opencv", "OpenCV does not import"),
        ("numba", "jit", "Numba does not import"),
    ],
)
def test_what_does_not_import(command, monkeypatch, module, loaded_in, expected):
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, f"deeplab_repro.machine.{loaded_in}", raising=False)
    status, out, err = command("doctor")
    assert (status, err) == (2, "")
    assert f"problem: {expected}" in out
    assert "cannot run" in out


def test_by_which_importer_the_nets_go(command):
    importer = "Caffe" if cv2.__version__.startswith("4.") else "ONNX"
    assert f"by OpenCV's {importer} importer" in command("doctor")[1]


def test_a_machine_with_two_gpus(command, monkeypatch):
    found_gpus = [Gpu("RTX", (8, 6), 12 << 30), Gpu("H100", (9, 0), 80 << 30)]
    build = opencv_cuda.CudaBuild((13, 0), (9, 13), "sm_86, sm_90")
    monkeypatch.setattr(gpus, "driver_problem", lambda: None)
    monkeypatch.setattr(gpus, "cuda_version", lambda: (13, 1))
    monkeypatch.setattr(gpus, "find_gpus", lambda: found_gpus)
    monkeypatch.setattr(opencv_cuda, "cuda_build", lambda: build)
    monkeypatch.setattr(opencv_cuda, "cuda_problem", {"float32": None, "float16": "no halves"}.get)
    monkeypatch.setattr(choose, "cuda_problem", lambda _: None)
    _, rows = found(command)
    assert rows["NVIDIA driver"] == "for CUDA up to 13.1"
    assert rows["GPU 0"] == "RTX, sm_86, 12 GiB"
    assert rows["GPU 1"] == "H100, sm_90, 80 GiB"
    assert rows["CUDA in cv2"] == "CUDA 13.0, cuDNN 9.13, for GPUs of sm_86, sm_90"
    assert rows["net on cuda"] == "yes"
    assert rows["net on cuda, float16"] == "no: no halves"
    assert rows["net on auto"] == "cuda, with OpenCV"


def test_a_machine_without_a_gpu(command, monkeypatch):
    monkeypatch.setattr(gpus, "driver_problem", lambda: "the driver finds no GPU")
    monkeypatch.setattr(gpus, "cuda_version", lambda: (13, 0))
    monkeypatch.setattr(opencv_cuda, "cuda_build", lambda: None)
    monkeypatch.setattr(opencv_cuda, "cuda_problem", lambda _: "there is no CUDA")
    _, rows = found(command)
    assert rows["GPU"] == "none: the driver finds no GPU"
    assert rows["CUDA in cv2"] == "none"
    assert rows["net on cuda"] == "no: there is no CUDA"
    assert rows["net on cuda, float16"] == "as in float32"
    assert rows["CRF on auto"] == "cpu"
    assert rows["net on auto"].startswith("cpu, with ")
    monkeypatch.setattr(gpus, "cuda_version", lambda: (0, 0))
    _, rows = found(command)
    assert rows["NVIDIA driver"] == rows["GPU"] == "none"
