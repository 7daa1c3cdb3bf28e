"""Which versions are installed, where they come from, and which are older than what is needed."""

import os
import platform
import re
from collections.abc import Iterator, Mapping
from importlib import metadata

from steps import Checking, Finding

from deeplab_repro.crf.cuda.device import SIMULATED

PACKAGES = (
    *("numpy", "numba", "numba-cuda", "llvmlite"),
    *("cuda-bindings", "cuda-core", "cuda-pathfinder"),
    *("nvidia-nvvm", "nvidia-cuda-nvrtc", "nvidia-nvjitlink"),
    *("nvidia-cublas", "nvidia-cudnn-cu13"),
    *("opencv-python", "opencv-python-headless"),
    *("opencv-contrib-python", "opencv-contrib-python-headless"),
    "protobuf",
)
_VARIABLES = ("CUDA_HOME", "LD_LIBRARY_PATH", "PYTHONPATH", "CUDA_VISIBLE_DEVICES")
_CUDA_EXTRA = 'pip install --upgrade "numba-cuda[cu13]"'


def check_versions(job: Checking) -> Iterator[Finding]:  # noqa: ARG001 - every step takes it
    """Versions and paths; cv2 is loaded last, as it may fail."""
    found = installed()
    yield Finding("versions", {name: found.get(name) for name in ("python", "glibc", *PACKAGES)})
    for line in too_old(found):
        yield Finding("too old", {"told": line})
    for variable in _VARIABLES:
        yield Finding("places", {variable: os.environ.get(variable)})
    for what, where in numba_paths():
        yield Finding("places", {what: where})
    from deeplab_repro.machine.opencv import cv2

    yield Finding("places", {"cv2": cv2.__file__})
    from deeplab_repro.engines.opencv_cuda import cuda_build

    yield Finding("places", {"CUDA in cv2": str(cuda_build() or "none")})


def installed() -> dict[str, str]:
    """The versions of Python, of glibc where that is the C library, and of what is installed."""
    found = {"python": platform.python_version()}
    library, version = platform.libc_ver()
    if library == "glibc":
        found[library] = version
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def too_old(found: Mapping[str, str]) -> Iterator[str]:
    """A line for each version that is less than what is needed; what is absent is not told."""
    least = [
        ("numba-cuda", "0.30", _CUDA_EXTRA),
        ("nvidia-cudnn-cu13", "9.13", "pip install --upgrade nvidia-cudnn-cu13"),
        ("glibc", "2.35", "build OpenCV with tools/opencv_cuda/build.py on this machine"),
    ]
    if "numba-cuda" in found and "numpy" in found and _numbers(found["numpy"]) >= (2, 5):
        least.append(("numba", "0.68.1", 'pip install --upgrade numba, or "numpy<2.5"'))
    for name, version, mend in least:
        if name in found and _numbers(found[name]) < _numbers(version):
            yield f"{name} is {found[name]}, expected {version} or later: {mend}"


def _numbers(version: str) -> tuple[int, ...]:
    """What a version begins with: 0.68.1 is (0, 68, 1), and so is 0.68.1rc1."""
    start = re.match(r"[\d.]*\d", version)
    return tuple(map(int, start[0].split("."))) if start else ()


def numba_paths() -> Iterator[tuple[str, str]]:
    """Where Numba's CUDA is, and where it finds NVIDIA's compiler and libraries."""
    import numba.cuda

    yield "numba.cuda", str(numba.cuda.__file__)
    if SIMULATED:
        return
    from numba.cuda.cuda_paths import get_cuda_paths

    for name, decided in get_cuda_paths().items():
        yield name, f"{decided.info} (by {decided.by})" if decided else "not found"
