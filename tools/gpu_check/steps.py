"""What tools/gpu_check/gpu_check.py is made of: steps, each in a process of its own, and what they find.

A step is a generator of findings. It may be ended when its time is over, or end itself, killed by
the driver perhaps: what it had found by then stands, and the next step begins with a clean GPU.
"""

import contextlib
import multiprocessing
import os
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from deeplab_repro.arrays import HW
from deeplab_repro.crf.cuda.device import SIMULATED, plain_errors
from deeplab_repro.errors import DeepLabError, one_line
from deeplab_repro.files.images import UInt8, read_image
from deeplab_repro.machine.device import Device
from deeplab_repro.net.net import Net
from deeplab_repro.net.scores import Precision

if TYPE_CHECKING:
    from deeplab_repro.engines.opencv import OpenCVEngine

ROOT = Path(__file__).resolve().parents[2]
PHOTO = ROOT / "examples" / "street.jpg"
PRECISIONS: tuple[Precision, Precision] = ("float32", "float16")
LARGE_FOV = "DeepLab-LargeFOV"

Verdict = Literal["pass", "fail", "met", "not met"]

_WARM_UP = 5

# In a rehearsal sides are so many times shorter, and nets as much narrower.
_SMALLER = 8
_TOYS = {
    "DeepLab": "ToyVOC-LargeFOV",
    "DeepLab-LargeFOV": "ToyVOC-LargeFOV",
    "DeepLab-MSc-LargeFOV": "ToyVOC-MSc-LargeFOV",
}


@dataclass(frozen=True)
class Finding:
    """Facts by name, of a kind whose findings make one table, and what they amount to.

    verdict: of a check "pass" or "fail", of a bar of speed "met" or "not met", else None.
    """

    kind: str
    facts: dict[str, Any]
    verdict: Verdict | None = None


@dataclass(frozen=True)
class Job:
    """What is checked: a GPU, or in a rehearsal whether the check itself works without one.

    golden: folder of the original software's outputs. found: of the steps before, by their names.
    """

    golden: Path
    rehearsal: bool = False
    found: dict[str, list[Finding]] = field(default_factory=dict)

    @property
    def device(self) -> Device:
        """Where nets run."""
        return "cpu" if self.rehearsal else "cuda"

    @property
    def crf_device(self) -> Device:
        """Where the CRF runs: a rehearsal may have Numba's simulator (NUMBA_ENABLE_CUDASIM=1)."""
        return "cpu" if self.rehearsal and not SIMULATED else "cuda"

    def precision(self, precision: Precision) -> Precision:
        """What a net runs in: on the CPU there is float32 only."""
        return "float32" if self.rehearsal else precision

    def engine(self, net: Net, precision: Precision) -> "OpenCVEngine":
        """A net on the device."""
        from deeplab_repro.engines.opencv import OpenCVEngine

        return OpenCVEngine(net, self.device, self.precision(precision))

    def model(self, name: str) -> str:
        """A model of the paper by its name; in a rehearsal a small one of ToyVOC."""
        return _TOYS[name] if self.rehearsal else name

    def net(self, name: str) -> Net:
        """A model's net with random weights."""
        from deeplab_repro.models.loading import load_net

        return load_net(self.model(name), "random:1").ending_in_scores()

    def size(self, height: int, width: int) -> HW:
        """A size in pixels; in a rehearsal an eighth, rounded to what the nets' strides fit."""
        if not self.rehearsal:
            return height, width
        return height // _SMALLER // 8 * 8 + 1, width // _SMALLER // 8 * 8 + 1

    def count(self, count: int) -> int:
        """How many runs or photos; in a rehearsal two."""
        return min(count, 2) if self.rehearsal else count

    def bar(self, is_met: bool) -> Verdict | None:
        """What to say of a bar; nothing in a rehearsal."""
        if self.rehearsal:
            return None
        return "met" if is_met else "not met"


@dataclass(frozen=True)
class Step:
    """A part of the check, and the seconds that it may take."""

    name: str
    check: Callable[[Job], Iterator[Finding]]
    budget: float


@dataclass(frozen=True)
class Outcome:
    """What came of a step; error: why it ended early, on one line."""

    step: str
    budget: float
    seconds: float
    findings: list[Finding]
    error: str | None

    @property
    def failed(self) -> bool:
        """Whether something is wrong; a bar of speed that is not met is not."""
        return self.error is not None or any(each.verdict == "fail" for each in self.findings)


def run_step(step: Step, job: Job) -> Outcome:
    """Run a step in a process of its own, which is ended when its budget is spent.

    A DeepLabError becomes the outcome's error; of any other exception the traceback goes to stderr,
    and the error says that the process ended.
    """
    start = time.monotonic()
    context = multiprocessing.get_context("spawn")
    listening, telling = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(step.check, job, telling))
    process.start()
    telling.close()
    findings: list[Finding] = []
    try:
        while True:
            if not listening.poll(max(0, start + step.budget - time.monotonic())):
                error = f"took longer than {step.budget:g} s and was ended"
                break
            told = listening.recv()
            if not isinstance(told, Finding):
                error = told
                break
            findings.append(told)
    except EOFError:
        process.join()
        error = f"its process ended with exit status {process.exitcode}, see what it said"
    finally:
        _end(process)
    return Outcome(step.name, step.budget, time.monotonic() - start, findings, error)


def _end(process: Any) -> None:
    """End a step's process, and those that it has started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):  # all have gone
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()  # where it was ended before it had a group
    process.join()


def _serve(check: Callable[[Job], Iterator[Finding]], job: Job, telling: Connection) -> None:
    os.setpgid(0, 0)
    if SIMULATED:
        sys.setswitchinterval(1e-4)  # the simulator's threads wait for each other in a loop
    try:
        for finding in check(job):
            telling.send(finding)
        telling.send(None)
    except DeepLabError as error:
        telling.send(one_line(error))


def photo(size: HW) -> UInt8:
    """The example photo at a size, HxWx3 uint8 RGB."""
    from PIL import Image

    height, width = size
    return np.asarray(Image.fromarray(read_image(PHOTO)).resize((width, height)))


def largest(difference: npt.NDArray[np.float32]) -> float:
    """The largest absolute value; NaN counts as the largest float32, which JSON has a text for."""
    return float(np.nan_to_num(np.abs(difference), nan=np.finfo(np.float32).max).max())


def milliseconds(run: Callable[[], object]) -> float:
    """What one run takes."""
    start = time.perf_counter()
    run()
    return 1e3 * (time.perf_counter() - start)


def times_of(run: Callable[[], object], runs: int) -> list[float]:
    """The milliseconds of each of some runs, after a few that are not counted."""
    for _ in range(min(runs, _WARM_UP)):
        run()
    return [milliseconds(run) for _ in range(runs)]


def spread(times: list[float]) -> dict[str, float]:
    """The median and the least of times in milliseconds, as facts."""
    return {"median ms": statistics.median(times), "least ms": min(times)}


def gpu_memory_taken(job: Job) -> int | None:
    """The bytes of the GPU's memory that are in use by all; None without a GPU."""
    if job.rehearsal:
        return None
    from numba import cuda

    with plain_errors():
        memory = cuda.current_context().get_memory_info()
        return int(memory.total - memory.free)
