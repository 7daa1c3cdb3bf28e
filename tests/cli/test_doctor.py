"""deeplab-repro doctor: what is installed, what would run where, what is wrong."""

import sys
from importlib import metadata

import cv2
import pytest

from deeplab_repro.cli import doctor
from deeplab_repro.models import MODELS


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
    assert rows["net on auto"] in ("cpu", "cuda")
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
    ("module", "expected"), [("cv2", "OpenCV does not import"), ("numba", "Numba does not import")]
)
def test_what_does_not_import(command, monkeypatch, module, expected):
    monkeypatch.setitem(sys.modules, module, None)
    status, out, err = command("doctor")
    assert (status, err) == (2, "")
    assert f"problem: {expected}" in out


def test_by_which_importer_the_nets_go(command):
    importer = "Caffe" if cv2.__version__.startswith("4.") else "ONNX"
    assert f"by OpenCV's {importer} importer" in command("doctor")[1]
