"""What the machine has, and whether the commands say plainly what it lacks."""

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from steps import PHOTO, ROOT, Checking, Finding

from deeplab_repro.bench.hardware import this_machine
from deeplab_repro.cli.doctor import check
from deeplab_repro.machine.opencv import cv2

_SECONDS = 60  # that one command may take
_OF_GPU = "driver_version,clocks.max.sm,clocks.max.mem,power.limit,pcie.link.gen.max"


def check_machine(job: Checking) -> Iterator[Finding]:  # noqa: ARG001 - every step takes it
    """What `doctor` finds, and what nvidia-smi tells of the GPU."""
    yield Finding("machine", {"what": "machine", "found": this_machine()})
    for name, found, problem in check():
        yield Finding("machine", {"what": name, "found": found}, "fail" if problem else None)
    if smi := shutil.which("nvidia-smi"):
        command = [smi, f"--query-gpu={_OF_GPU}", "--format=csv,noheader"]
        told = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS).stdout
        yield Finding("machine", {"what": _OF_GPU, "found": told.strip()})


@dataclass(frozen=True)
class Lack:
    """A piece hidden from a process by variables, and a word that its error must contain."""

    name: str
    variables: dict[str, str]
    told: str


def check_errors(job: Checking) -> Iterator[Finding]:
    """Commands that ask for CUDA, without a GPU, a driver, cuDNN and parts of cuDNN."""
    with tempfile.TemporaryDirectory(prefix="gpu_check_") as temporary:
        folder = Path(temporary)
        probs = folder / "probs.npy"
        np.save(probs, np.full((2, 375, 500), 0.5, np.float32))
        segment = "segment", str(PHOTO), "--model", "ToyVOC-LargeFOV", "--out", str(folder / "out")
        crf = "crf", str(PHOTO), "--probs", str(probs), "--out", str(folder / "labels.png")
        for lack in lacks(folder):
            yield without(lack, segment, job)
            if "cuDNN" not in lack.name:  # which the CRF does not need
                yield without(lack, crf, job)


def lacks(folder: Path) -> list[Lack]:
    """What can be hidden, by files written into `folder`."""
    driver = folder / "driver"
    driver.mkdir(parents=True)
    for name in ("libcuda.so", "libcuda.so.1"):  # found first, and not libraries
        (driver / name).touch()
    no_driver = {"LD_LIBRARY_PATH": str(driver), "NUMBA_CUDA_DRIVER": str(driver / "libcuda.so.1")}
    return [
        Lack("GPU", {"CUDA_VISIBLE_DEVICES": ""}, "GPU"),
        Lack("driver", no_driver, "driver"),
        Lack("cuDNN", {"PYTHONPATH": str(_packages(folder / "none"))}, "cudnn"),
        Lack("parts of cuDNN", {"PYTHONPATH": str(_packages(folder / "one", True))}, "cuDNN"),
    ]


def _packages(folder: Path, first_of_cudnn: bool = False) -> Path:
    """Copy OpenCV, which looks beside itself for NVIDIA's packages, without cuDNN's libraries.

    first_of_cudnn: with the one library of cuDNN that loads the others when they are needed.
    """
    assert cv2.__file__
    own = Path(cv2.__file__).parent
    shutil.copytree(own, folder / "cv2")
    for libraries in own.parent.glob("opencv*.libs"):
        (folder / libraries.name).symlink_to(libraries)
    nvidia = folder / "nvidia"
    nvidia.mkdir()
    (nvidia / "__init__.py").touch()  # else Python would look in the real folder too
    found = importlib.util.find_spec("nvidia")
    for real in (found and found.submodule_search_locations) or ():
        for package in Path(real).iterdir():
            here = nvidia / package.name
            if here.exists():  # from another site-packages
                continue
            if package.name != "cudnn":
                here.symlink_to(package)
            elif first_of_cudnn:
                (here / "lib").mkdir(parents=True)
                for path in package.glob("lib/libcudnn.so*"):
                    shutil.copy(path, here / "lib")
    return folder


def without(lack: Lack, arguments: tuple[str, ...], job: Checking) -> Finding:
    """A command with --device cuda that must fail: exit status 2, and one line that says why.

    Where the piece was found anyway and the command ran on the GPU, nothing was tested.
    """
    environment = {**os.environ, **lack.variables}
    paths = lack.variables.get("PYTHONPATH"), str(ROOT), os.environ.get("PYTHONPATH")
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    command = [sys.executable, "-m", "deeplab_repro", *arguments, "--device", "cuda"]
    facts: dict[str, Any] = {"without": lack.name, "command": arguments[0]}
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=_SECONDS
        )
    except subprocess.TimeoutExpired:
        told = f"nothing within {_SECONDS} s"
        return Finding("plain errors", {**facts, "exit status": None, "told": told}, "fail")
    lines = done.stderr.splitlines()
    facts |= {"exit status": done.returncode, "told": lines[0] if lines else ""}
    if done.returncode == 0 and "ran on cuda" in done.stderr:
        return Finding("plain errors", {**facts, "told": "not hidden: it ran on the GPU"})
    good = done.returncode == 2 and len(lines) == 1 and not done.stdout
    # In a rehearsal OpenCV without CUDA is the first to be told.
    good = good and (job.rehearsal or lack.told.lower() in lines[0].lower())
    return Finding("plain errors", facts, "pass" if good else "fail")
