"""deeplab-repro doctor: what is installed, what would run where, what is wrong."""

import os
import sys
from importlib import metadata
from pathlib import Path

import cv2
import pytest

from deeplab_repro.cli import doctor
from deeplab_repro.engines import choose, opencv_cuda
from deeplab_repro.machine import gpus, jit, packages
from deeplab_repro.machine.gpus import Gpu
from deeplab_repro.models.registry import MODELS


def found(command):
    status, out, err = command("doctor")
    assert err == ""
    assert max(map(len, out.splitlines())) <= 80
    table = out.partition("\nproblem: ")[0]
    rows = table.replace("\n" + 23 * " ", " ").splitlines()  # what goes on in a second line
    return status, {row[:22].strip(): row[23:] for row in rows}


def test_what_is_installed(command, monkeypatch):
    monkeypatch.setattr(packages, "OPENCVS", ())  # whatever this machine has of them
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
    monkeypatch.setattr(doctor, "_PACKAGES", {"no-such-package": ()})
    _, rows = found(command)
    assert rows["no-such-package"] == "not installed"


def test_two_opencvs(command, monkeypatch):
    monkeypatch.setattr(packages, "OPENCVS", ("numpy", "rich"))
    status, out, _ = command("doctor")
    assert status == 2
    told = " ".join(out[out.index("problem: ") :].split())
    assert told.startswith(
        "problem: 2 OpenCV packages overwrite each other's cv2: pip uninstall -y numpy rich && pip "
    )


@pytest.mark.parametrize(
    ("module", "loaded_in", "expected"),
    [
        ("cv2", "opencv", "cv2 does not import"),
        ("numba", "jit", "numba does not import"),
    ],
)
def test_what_does_not_import(command, monkeypatch, module, loaded_in, expected):
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, f"deeplab_repro.machine.{loaded_in}", raising=False)
    status, out, err = command("doctor")
    assert (status, err) == (2, "")
    assert f"problem: {expected}" in out
    assert "cannot run" in out


def test_a_package_of_two_versions_and_one_that_is_half_there(command, monkeypatch, tmp_path):
    for version in ("1.0", "2.0"):
        folder = tmp_path / f"twofold-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Name: twofold\nVersion: {version}\n")
    (tmp_path / "half").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(doctor, "_PACKAGES", {"twofold": (), "half": ("half", "whole")})
    status, rows = found(command)
    assert status == 2
    assert rows["twofold"] == "1.0 and 2.0"
    assert rows["half"] == "not installed"
    told = " ".join(command("doctor")[1].split())
    assert "problem: twofold is there in 2 versions, 1.0 and 2.0, over each other: pip un" in told
    # A path that is longer than a line is broken anywhere.
    path = f"{tmp_path / 'half'}hasno'whole':pipinstall"
    assert f"problem:halfisnotwhole:{path}" in told.replace(" ", "")
    assert "net on cpu" not in rows  # it may need what is broken


def test_where_compiled_code_is_kept(command, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("f.nbc").write_bytes(bytes(1_500_000))
    monkeypatch.setattr(jit, "folder_of", lambda _: Path())
    assert found(command)[1]["compiled code"] == "1.5 MB in ."
    assert os.listdir() == ["f.nbc"]  # nothing is left of the trial
    for folder, expected in (
        (Path("f.nbc/x"), "f.nbc/x: compiled code cannot be kept there: Not a directory, so each"),
        (None, "there is no folder to keep compiled code in, so each run compiles the CRF again"),
    ):
        monkeypatch.setattr(jit, "folder_of", lambda _, folder=folder: folder)
        status, out, _ = command("doctor")
        told = " ".join(out[out.index("problem: ") :].split())
        assert status == 2
        assert f"problem: {expected}" in told
        assert "set NUMBA_CACHE_DIR to a folder that can be written" in told


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
