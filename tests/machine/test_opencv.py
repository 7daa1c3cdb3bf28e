"""OpenCV's loading, of a build with CUDA that does not find NVIDIA's libraries.

A module in cv2's place asks the system for them as the build does, by versions that no machine has,
and leaves behind what OpenCV's own loader leaves when it fails.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import deeplab_repro

ROOT = Path(deeplab_repro.__file__).parents[1]

FAKE_CV2 = """
import ctypes, sys
if hasattr(sys, "OpenCV_LOADER"):
    raise ImportError("recursion is detected")
sys.OpenCV_LOADER = True
sys.path.insert(1, "cv2s own")
try:
    for name in ("libcublas.so.4013", "libcudnn.so.4009"):
        ctypes.CDLL(name)
except OSError as error:
    raise ImportError(str(error))
sys.path.remove("cv2s own")
del sys.OpenCV_LOADER
error = Exception
__version__, dnn, getNumThreads = "5", None, None
"""

LOAD = """
import sys
from deeplab_repro.errors import DeviceError
try:
    from deeplab_repro.machine.opencv import cv2
    print(cv2.error, hasattr(sys, "OpenCV_LOADER"), "cv2s own" in sys.path)
except DeviceError as error:
    print(error)
"""


def load(*folders):
    """What a process of its own says that loads OpenCV from these folders."""
    path = os.pathsep.join(map(str, [ROOT, *folders]))
    done = subprocess.run(
        [sys.executable, "-S", "-c", LOAD],  # without what is installed
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert (done.stderr, done.stdout.count("\n")) == ("", 1)
    return done.stdout[:-1]


@pytest.fixture
def build(tmp_path):
    """A folder with the module in cv2's place."""
    if sys.platform != "linux":
        pytest.skip("the libraries are named as on Linux")
    folder = tmp_path / "build"
    folder.mkdir()
    (folder / "cv2.py").write_text(FAKE_CV2)
    return folder


def library(folder, package, name):
    """Make a library of a package of NVIDIA's."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no C compiler to make a library with")
    path = folder / "nvidia" / package / "lib" / name
    path.parent.mkdir(parents=True)
    command = [compiler, "-shared", "-x", "c", "/dev/null", f"-Wl,-soname,{name}", "-o", path]
    subprocess.run(command, check=True)


def test_libraries_in_another_folder_than_cv2(build, tmp_path):
    library(tmp_path / "a", "cu13", "libcublas.so.4013")
    said = load(build, tmp_path / "a")
    assert "does not load without libcudnn.so.4009: pip install nvidia-cudnn-cu13" in said
    library(tmp_path / "b", "cudnn", "libcudnn.so.4009")
    assert load(build, tmp_path / "a", tmp_path / "b") == "<class 'Exception'> False False"


def test_no_libraries(build):
    said = load(build)
    assert said.startswith(
        "OpenCV is built with CUDA, and does not load without libcublas.so.4013: "
    )
    assert "pip install nvidia-cublas; or, for an OpenCV without CUDA, pip install " in said
    missing = "libcublas.so.12: cannot open shared object file"
    (build / "cv2.py").write_text(f"raise ImportError('{missing}')")
    assert "pip install nvidia-cublas-cu12; or" in load(build)


def test_a_library_that_is_none(build, tmp_path):
    broken = tmp_path / "nvidia" / "cu13" / "lib" / "libcublas.so.4013"
    broken.parent.mkdir(parents=True)
    broken.write_text("cut off")
    said = load(build, tmp_path)
    assert said.startswith("OpenCV is built with CUDA, and libcublas.so.4013 does not load: ")
    assert "pip install nvidia-cublas; or" in said


def test_another_reason(build):
    (build / "cv2.py").write_text("raise ImportError('libGL.so.1:\\nno such file')")
    assert load(build) == (
        "cv2 does not import: libGL.so.1: no such file: "
        "pip install opencv-python-headless (or your own build of OpenCV)"
    )


def test_a_library_for_which_there_is_no_memory(build):
    (build / "cv2.py").write_text("raise ImportError('x.so: failed to map segment from shared')")
    said = load(build)
    assert said.startswith("cv2 does not import: no memory is left for it: raise")
    assert "pip" not in said


def test_half_an_opencv(tmp_path):
    """What is left where two packages of OpenCV were installed, and one was uninstalled."""
    left = tmp_path / "build/cv2"
    (left / "data").mkdir(parents=True)
    said = load(left.parent)
    assert said.startswith(f"cv2 is not whole: {left} has no '__version__': ")
    assert said.endswith("pip install opencv-python-headless (or your own build of OpenCV)")
    (left / "__init__.py").write_text("print('to be read')\nimport nothing.less")
    assert load(left.parent).startswith("cv2 does not import: No module named 'nothing': pip")
    (left / "__init__.py").write_text("raise AttributeError('_ARRAY_API not found')")
    assert load(left.parent).startswith("cv2 does not import: _ARRAY_API not found: pip install")
