"""The packages that this one needs: which are installed, and what is wrong with one that is broken.

A package may be half there: after one of two that share a folder was uninstalled, after a full
disk, or beside versions that do not suit it.
"""

import importlib
import os
import traceback
from importlib import metadata
from types import ModuleType

from deeplab_repro.errors import DeviceError, one_line
from deeplab_repro.machine.shortage import shortage

OPENCVS = (
    *("opencv-python", "opencv-python-headless"),
    *("opencv-contrib-python", "opencv-contrib-python-headless"),
)
"""Packages that all install the one module cv2, over each other."""

_NAMES = {"PIL": "pillow", "google": "protobuf", "llvmlite": "numba"}


def load(module: str, *parts: str) -> ModuleType:
    """Import a module that has these parts.

    Raises DeviceError, with a mend, where it does not import or lacks a part.
    """
    try:
        loaded = importlib.import_module(module)
    except Exception as error:  # a broken package raises whatever it likes
        raise DeviceError(f"{module} does not import: {_explained(module, error)}") from error
    lacking = [part for part in parts if not hasattr(loaded, part)]
    if lacking:
        where = one_line(getattr(loaded, "__file__", None) or next(iter(loaded.__path__), "it"))
        raise DeviceError(
            f"{module} is not whole: {where} has no '{lacking[0]}': {mend_of(module)}"
        )
    return loaded


def _explained(module: str, error: Exception) -> str:
    cause: BaseException = error
    while cause.__cause__ or cause.__context__:  # the first of a chain says most
        cause = cause.__cause__ or cause.__context__ or cause
    if shortage(cause):
        return (
            "no memory is left for it: raise the limit on memory (ulimit -v), or use a machine "
            "with more"
        )
    return f"{one_line(error)}: {mend_of(module)}"


def mend_of(module: str) -> str:
    """What makes a module import: most often, the commands that install its package again."""
    top = module.partition(".")[0]
    if setting := _wrong_setting(top):
        return f"unset {setting}"
    if top == "cv2":
        there = [package for package in OPENCVS if installed(package)]
        again = "pip install opencv-python-headless (or your own build of OpenCV)"
        return f"pip uninstall -y {' '.join(there)} && {again}" if there else again
    if top == "onnxruntime" and installed("onnxruntime-gpu"):
        top = "onnxruntime-gpu"
    return f"pip install --force-reinstall {package_of(top)}"


def package_of(module: str) -> str:
    """The name under which pip knows a module."""
    return _NAMES.get(module, module)


def _wrong_setting(module: str) -> str | None:
    """The environment variable that keeps a module from being imported."""
    if module == "google" and "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION" in os.environ:
        return "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"
    threads = os.environ.get("NUMBA_NUM_THREADS", "").strip()
    if module == "numba" and threads.lstrip("-").isdecimal() and int(threads) < 1:
        return f"NUMBA_NUM_THREADS={threads}, or set it to 1 or more"
    return None


def installed(package: str) -> str | None:
    """The version of a package, or None where it is not installed."""
    return next(iter(versions(package)), None)


def versions(package: str) -> list[str]:
    """The versions of a package in the folder where Python finds it: several are a fault."""
    found = [
        (str(each.locate_file("")), each.version) for each in metadata.distributions(name=package)
    ]
    return sorted({version or "?" for folder, version in found if folder == found[0][0]})


def blamed(error: Exception) -> str | None:
    """The other package whose import raised an error, or None where that came from elsewhere."""
    if isinstance(error, ImportError) and error.name:
        return error.name.partition(".")[0]
    for frame, _ in traceback.walk_tb(error.__traceback__):
        package = str(frame.f_globals.get("__name__")).partition(".")[0]
        if frame.f_code.co_name == "<module>" and package not in ("__main__", "deeplab_repro"):
            return package
    return None
