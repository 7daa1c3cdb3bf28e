"""Loads OpenCV's `cv2`, in one place; where that fails, DeviceError says what is missing.

A build with CUDA does not load without NVIDIA's libraries, whatever device is used, and looks for
them only beside itself. Here they are found wherever Python finds NVIDIA's packages.
"""

import contextlib
import ctypes
import importlib.util
import io
import re
import sys
from pathlib import Path

from deeplab_repro.errors import DeviceError, one_line
from deeplab_repro.machine.packages import load

_MISSING = re.compile(r"(lib(cublas|cudnn)\w*\.so\.(\d+)): cannot open shared object file")


def _load() -> None:
    """Import cv2. Raises DeviceError where that fails, or only a part of it is there."""
    tried = set()
    while True:
        path = list(sys.path)
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # it prints there what it also raises
                load("cv2", "__version__", "error", "dnn", "getNumThreads")
            return
        except DeviceError as error:
            missing = _MISSING.search(str(error.__cause__))
            if missing is None or missing[1] in tried:
                raise
            _load_nvidias(*missing.groups())
            tried.add(missing[1])
            # A failed import of cv2 leaves these behind; the next would think it a recursion.
            sys.path = path
            vars(sys).pop("OpenCV_LOADER", None)


def _load_nvidias(name: str, kind: str, version: str) -> None:
    """Load a library of NVIDIA's packages, so that cv2 finds it loaded."""
    nvidia = importlib.util.find_spec("nvidia")
    for folder in (nvidia and nvidia.submodule_search_locations) or ():
        for path in Path(folder).glob(f"*/lib/{name}"):
            try:
                ctypes.CDLL(str(path))
            except OSError as error:
                raise DeviceError(
                    f"OpenCV is built with CUDA, and {name} does not load: {one_line(error)}; "
                    f"{_mend(kind, version)}"
                ) from error
            return
    raise DeviceError(
        f"OpenCV is built with CUDA, and does not load without {name}: {_mend(kind, version)}"
    )


def _mend(kind: str, version: str) -> str:
    if kind == "cudnn":
        package = "nvidia-cudnn-cu13 (-cu12 for a build with CUDA 12)"
    else:  # named by CUDA's version up to 12
        package = "nvidia-cublas" if int(version) > 12 else f"nvidia-cublas-cu{version}"
    return (
        f"pip install {package}; or, for an OpenCV without CUDA, "
        "pip install --force-reinstall opencv-python-headless"
    )


_load()

import cv2 as cv2  # noqa: E402 - for others to import from here


def told_by(error: cv2.error) -> tuple[str, int | None, str]:
    """An OpenCV error's message on one line, its code, and the function that raised it."""
    text, code, where = (getattr(error, name, None) for name in ("err", "code", "func"))
    # OpenCV keeps these on the class: an error without its own has those of the error before.
    if not text or text not in str(error):
        text, code, where = str(error), None, None
    return " ".join(text.split()), code, where or "dnn"
