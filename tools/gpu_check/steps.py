"""What gpu_check.py and smoke.py are made of: steps, each in its own process, and what they find.

A step is a generator of findings. It may be ended when its time is over, or end itself, killed by
the driver perhaps: what it had found by then stands, and the next step begins with a clean GPU.
"""

import importlib
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from deeplab_repro.arrays import F32, HW, UInt8
from deeplab_repro.bench.measures import seconds_of
from deeplab_repro.bench.process import Process
from deeplab_repro.crf.cuda.device import SIMULATED
from deeplab_repro.errors import DeepLabError, one_line
from deeplab_repro.files.images import read_image
from deeplab_repro.machine.device import Device, Precision
from deeplab_repro.net.net import Net

if TYPE_CHECKING:
    from deeplab_repro.engines.opencv import OpenCVEngine

ROOT = Path(__file__).resolve().parents[2]
PHOTO = ROOT / "examples" / "street.jpg"
PRECISIONS: tuple[Precision, Precision] = ("float32", "float16")
LARGE_FOV = "DeepLab-LargeFOV"

Verdict = Literal["pass", "fail", "met", "not met"]

_WARM_UP = 5
_SMI_SECONDS = 20  # that nvidia-smi may take
_LEAST_SECONDS = 1.0  # a step with less time left is not begun

# In a rehearsal the sides of images and the widths of nets are divided by it.
_SMALLER = 8
_TOYS = {
    "DeepLab": "ToyVOC-LargeFOV",
    "DeepLab-LargeFOV": "ToyVOC-LargeFOV",
    "DeepLab-MSc-LargeFOV": "ToyVOC-MSc-LargeFOV",
}


@dataclass(frozen=True)
class Finding:
    """Facts by name, which are a row in the table of their kind.

    verdict: "pass" or "fail" of a check, "met" or "not met" of a bar of speed, otherwise None.
    """

    kind: str
    facts: dict[str, Any]
    verdict: Verdict | None = None


@dataclass(frozen=True)
class Checking:
    """What is checked: a GPU, or in a rehearsal whether the check itself works without one.

    golden: folder of the original software's outputs. found: the earlier steps' findings, by name.
    """

    golden: Path
    rehearsal: bool = False
    found: dict[str, list[Finding]] = field(default_factory=dict)

    @property
    def device(self) -> Device:
        """The device that nets run on."""
        return "cpu" if self.rehearsal else "cuda"

    @property
    def crf_device(self) -> Device:
        """The CRF's device: a rehearsal may have Numba's simulator (NUMBA_ENABLE_CUDASIM=1)."""
        return "cpu" if self.rehearsal and not SIMULATED else "cuda"

    def precision(self, precision: Precision) -> Precision:
        """The precision that a net runs in: on the CPU there is float32 only."""
        return "float32" if self.rehearsal else precision

    def engine(self, net: Net, precision: Precision) -> "OpenCVEngine":
        """Make what runs a net on the device."""
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
        """A size in pixels; in a rehearsal about an eighth, which fits the nets' strides."""
        if not self.rehearsal:
            return height, width
        return height // _SMALLER // 8 * 8 + 1, width // _SMALLER // 8 * 8 + 1

    def count(self, count: int) -> int:
        """How many runs or photos: in a rehearsal two, on Numba's simulator one."""
        return min(count, 1 if SIMULATED else 2) if self.rehearsal else count

    def bar(self, is_met: bool) -> Verdict | None:
        """The verdict on a bar; none in a rehearsal."""
        if self.rehearsal:
            return None
        return "met" if is_met else "not met"


@dataclass(frozen=True)
class Step:
    """A part of the check, and the seconds that it may take.

    check: a generator function of a Checking, by its module and name. The step's process imports
    it: a library that does not load is the failure of the steps that need it, and no other's.
    """

    name: str
    check: str
    budget: float

    def findings(self, job: Checking) -> Iterator[Finding]:
        """Run the check in this process."""
        if SIMULATED:
            sys.setswitchinterval(1e-4)  # the simulator's threads wait for each other in a loop
        module, _, function = self.check.rpartition(".")
        yield from getattr(importlib.import_module(module), function)(job)


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


def run_steps(
    steps: Sequence[Step],
    job: Checking,
    seconds: float,
    on_finding: Callable[[Finding], object] = lambda _: None,
) -> Iterator[Outcome]:
    """Run steps in their order, each knowing what those before it found.

    seconds: all that they may take together. A step gets its budget or what is left, so that the
    last ones are cut short, or left out, where the first ones are slow.
    """
    end = time.monotonic() + seconds
    for step in steps:
        left = end - time.monotonic()
        if left < _LEAST_SECONDS:
            outcome = Outcome(step.name, 0, 0, [], f"not run: all {seconds:g} s are spent")
        else:
            outcome = run_step(replace(step, budget=min(step.budget, left)), job, on_finding)
        job = replace(job, found={**job.found, step.name: outcome.findings})
        yield outcome


def run_step(
    step: Step, job: Checking, on_finding: Callable[[Finding], object] = lambda _: None
) -> Outcome:
    """Run a step in its own process, which is ended when its budget is spent.

    on_finding: called with each finding as it comes. An exception ends the step, and its text is
    the outcome's error. For any but a DeepLabError, the traceback goes to stderr too.
    """
    start = time.monotonic()
    findings: list[Finding] = []
    error = None
    with Process(step.name, step, seconds=step.budget, quiet=False) as process:
        try:
            for finding in process.each("findings", job):
                findings.append(finding)
                on_finding(finding)
        except DeepLabError as raised:
            error = str(raised)
    return Outcome(step.name, step.budget, time.monotonic() - start, findings, error)


def photo(size: HW) -> UInt8:
    """The example photo at a size, HxWx3 uint8 RGB."""
    from PIL import Image

    height, width = size
    return np.asarray(Image.fromarray(read_image(PHOTO)).resize((width, height)))


def fact_text(fact: object) -> str:
    """A fact as it is printed, on one line."""
    if fact is None:
        return "-"
    return f"{fact:.4g}" if isinstance(fact, float) else one_line(str(fact))


def largest(difference: F32) -> float:
    """The largest absolute value; NaN counts as the largest float32, because JSON has no NaN."""
    return float(np.nan_to_num(np.abs(difference), nan=np.finfo(np.float32).max).max())


def milliseconds(run: Callable[[], object]) -> float:
    """The milliseconds of one run."""
    return 1e3 * seconds_of(run, 1)[0]


def times_of(run: Callable[[], object], runs: int) -> list[float]:
    """The milliseconds of each of some runs, after a few that are not counted."""
    seconds_of(run, min(runs, _WARM_UP))
    return [1e3 * seconds for seconds in seconds_of(run, runs)]


def in_turns(runs: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """The milliseconds of each of several ways by its name; one after the other in each round.

    So all of them meet the same clocks. One round is not counted.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds + 1):
        for name, run in runs.items():
            times[name].append(milliseconds(run))
    return {name: each[1:] for name, each in times.items()}


def left_out(why: str) -> Finding:
    """What a rehearsal finds where there is nothing to do without a GPU."""
    return Finding("left out", {"why": why})


def spread(times: list[float]) -> dict[str, float]:
    """The median and the least of times in milliseconds, as facts."""
    return {"median ms": statistics.median(times), "least ms": min(times)}


class GpuMemory:
    """The GPUs' memory that has been taken since this was made, as facts.

    nvidia-smi tells it, so that nets are timed where Numba has no CUDA. Without nvidia-smi, and in
    a rehearsal, there are no facts.
    """

    def __init__(self, job: Checking) -> None:
        self._smi = None if job.rehearsal else shutil.which("nvidia-smi")
        self._before = self._taken()

    def facts(self) -> dict[str, float]:
        """Megabytes taken, by all programs."""
        return {"GPU MB": self._taken() - self._before} if self._smi else {}

    def _taken(self) -> float:
        if self._smi is None:
            return 0
        command = [self._smi, "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
        told = subprocess.run(command, capture_output=True, text=True, timeout=_SMI_SECONDS).stdout
        mebibytes = [float(line) for line in told.splitlines() if line.strip().isdecimal()]
        return sum(mebibytes) * 2**20 / 1e6
