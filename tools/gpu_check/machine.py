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
from steps import PHOTO, ROOT, Checking, Finding, Verdict
from versions import installed, too_old

from deeplab_repro.bench.hardware import this_machine
from deeplab_repro.cli.doctor import check
from deeplab_repro.engines.opencv_cuda import cuda_build
from deeplab_repro.machine.opencv import cv2
from deeplab_repro.work.stages import in_threads, n_cores

_SECONDS = 60  # that one command may take
_ERROR = "deeplab-repro: error: "  # which our line begins with
_OF_GPU = "driver_version,clocks.max.sm,clocks.max.mem,power.limit,pcie.link.gen.max"


def check_machine(job: Checking) -> Iterator[Finding]:  # noqa: ARG001 - every step takes it
    """What `doctor` finds, what is older than needed, and what nvidia-smi tells of the GPU."""
    yield Finding("machine", {"what": "machine", "found": this_machine()})
    for name, found, problem in check():
        # An OpenCV with CUDA may lie before one that cannot be taken away: then cv2 is the first.
        shadowed = name == "opencv packages" and cuda_build() is not None
        verdict: Verdict | None = "fail" if problem and not shadowed else None
        yield Finding("machine", {"what": name, "found": found}, verdict)
    for line in too_old(installed()):
        yield Finding("machine", {"what": "too old", "found": line})
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
        runs = [
            (lack, command)
            for lack in lacks(folder)
            for command in (segment, crf)
            if command is segment or "cuDNN" not in lack.name  # which the CRF does not need
        ]
        # Most of the time is that of loading libraries, in each of them.
        yield from in_threads(
            lambda run: without(*run, job), runs, min(n_cores(), len(runs)), "errors"
        )


def lacks(folder: Path) -> list[Lack]:
    """What can be hidden, by files written into `folder`."""
    driver = folder / "driver"
    driver.mkdir(parents=True)
    for name in ("libcuda.so", "libcuda.so.1"):  # found first, and not libraries
        (driver / name).touch()
    no_driver = {
        "LD_LIBRARY_PATH": _before(os.environ.get("LD_LIBRARY_PATH"), driver),
        "NUMBA_CUDA_DRIVER": str(driver / "libcuda.so.1"),
    }
    return [
        Lack("GPU", {"CUDA_VISIBLE_DEVICES": ""}, "GPU"),
        Lack("driver", no_driver, "driver"),
        Lack("cuDNN", {"PYTHONPATH": str(_packages(folder / "none"))}, "cudnn"),
        Lack("parts of cuDNN", {"PYTHONPATH": str(_packages(folder / "one", True))}, "cuDNN"),
    ]


def _before(paths: str | None, *first: Path) -> str:
    """Folders before those that a variable lists."""
    return os.pathsep.join(filter(None, (*map(str, first), paths)))


def _packages(folder: Path, first_of_cudnn: bool = False) -> Path:
    """Copy OpenCV, which looks beside itself for NVIDIA's packages, without cuDNN's libraries.

    first_of_cudnn: with the one library of cuDNN that loads the others when they are needed.
    """
    assert cv2.__file__
    own = Path(cv2.__file__).resolve().parent
    shutil.copytree(own, folder / "cv2")
    for libraries in own.parent.glob("opencv*.libs"):
        (folder / libraries.name).symlink_to(libraries)
    nvidia = folder / "nvidia"
    nvidia.mkdir()
    (nvidia / "__init__.py").touch()  # else Python would look in the real folder too
    found = importlib.util.find_spec("nvidia")
    for real in (found and found.submodule_search_locations) or ():
        # Parts of one package may lie in several site-packages; the first has each file.
        for part in Path(real).resolve().glob("*/*"):
            package, name = part.relative_to(part.parents[1]).parts
            if package != "cudnn":
                _link(part, nvidia / package / name)
            elif first_of_cudnn and name == "lib":
                (nvidia / package / name).mkdir(parents=True, exist_ok=True)
                for path in part.glob("libcudnn.so*"):
                    shutil.copy(path, nvidia / package / name)
    return folder


def _link(real: Path, here: Path) -> None:
    """Link to a file or to the files of a folder, except where something is linked already."""
    if real.is_dir():
        here.mkdir(parents=True, exist_ok=True)
        for each in real.iterdir():
            if not os.path.lexists(here / each.name):
                (here / each.name).symlink_to(each)
    elif not os.path.lexists(here):
        here.parent.mkdir(parents=True, exist_ok=True)
        here.symlink_to(real)


def without(lack: Lack, arguments: tuple[str, ...], job: Checking) -> Finding:
    """A command with --device cuda that must fail: exit status 2, and one line that says why.

    Lines that libraries print beside ours are noted, and are no failure; a traceback is one. Where
    the piece was found anyway and the command ran on the GPU, nothing was tested.
    """
    environment = {**os.environ, **lack.variables}
    own = lack.variables.get("PYTHONPATH")
    environment["PYTHONPATH"] = _before(
        os.environ.get("PYTHONPATH"), *([Path(own)] if own else []), ROOT
    )
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
    errors = [line for line in lines if line.startswith(_ERROR)]
    others = [line for line in lines if line not in errors]
    told = (errors or others or [""])[0]
    facts |= {"exit status": done.returncode, "told": told, "other lines": len(others)}
    if done.returncode == 0 and "ran on cuda" in done.stderr:
        return Finding("plain errors", {**facts, "told": "not hidden: it ran on the GPU"})
    good = done.returncode == 2 and len(errors) == 1 and not done.stdout
    good = good and "Traceback (most recent call last):" not in others
    # In a rehearsal OpenCV without CUDA is the first to be told.
    good = good and (job.rehearsal or lack.told.lower() in told.lower())
    return Finding("plain errors", facts, "pass" if good else "fail")
