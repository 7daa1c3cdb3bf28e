"""How long each kernel of the CRF works on the GPU, whatever kernels there are."""

import statistics
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from crf import Case, golden_cases, read_case, segments_of
from numba import cuda
from steps import Checking, Finding, left_out, times_of

from deeplab_repro.arrays import dims
from deeplab_repro.crf.cuda.device import SIMULATED, Workspace, plain_errors
from deeplab_repro.crf.cuda.lattice import Lattice, build_lattice
from deeplab_repro.crf.cuda.lists import CORNERS

_PACKAGE = "deeplab_repro.crf.cuda."
_RUNS = 20
_MICROSECOND = 1000  # in nanoseconds
_BLOCKS = 128  # that do nothing: Numba warns of fewer
_LAUNCHED_AFTER = 300 * _MICROSECOND  # far longer than Numba takes for a launch

Launch = tuple[str, Any, Any]
"""A kernel's name, and the events before and after it."""


def check_kernels(job: Checking) -> Iterator[Finding]:
    """The lattice and each kernel of the CRF, on the largest golden case."""
    if job.crf_device == "cpu":
        yield left_out("kernels have no times without a GPU")
        return
    case = max(map(read_case, golden_cases(job.golden)), key=lambda case: case.image.size)
    with plain_errors():
        yield time_lattice(case, job)
        yield from time_kernels(case, job)


@cuda.require_context  # as in `infer`
def time_lattice(case: Case, job: Checking) -> Finding:
    """The host's time for the lattice, its waiting included, and how large the lattice is."""
    height, width = case.image.shape[:2]
    points = cuda.to_device(np.ascontiguousarray(case.image).reshape(-1, 3))
    space = Workspace()

    def build() -> Lattice:
        lattice = build_lattice(points, height, width, case.params, space)
        cuda.synchronize()
        return lattice

    times = times_of(build, job.count(_RUNS))
    lattice = build()
    of_vertices = np.bincount(lattice.corners.copy_to_host()[: CORNERS * height * width])
    facts = {
        "image": dims(case.image.shape[:2]),
        "vertices": lattice.vertices,
        "of the original": int(case.golden["lattice_vertices"].sum()) if case.golden else None,
        "segments": segments_of(lattice),
        "most pixels of one vertex": int(of_vertices.max()),
        "host ms": statistics.median(times),
    }
    return Finding("lattice", facts)


def time_kernels(case: Case, job: Checking) -> Iterator[Finding]:
    """The GPU's time for each kernel, and for all of them, in one CRF."""
    case.labels("cuda")  # compiles
    runs = job.count(_RUNS)
    with noted_launches() as launches:
        for _ in range(runs):
            case.labels("cuda")
    cuda.synchronize()
    times: dict[str, list[float]] = {}
    for name, before, after in launches:
        times.setdefault(name, []).append(1e3 * before.elapsed_time(after))
    for name, each in times.items():
        facts = {
            "kernel": name,
            "launches": len(each) // runs,
            "median us": statistics.median(each),
            "us in one CRF": sum(each) / runs,
        }
        yield Finding("kernels", facts)
    total = sum(map(sum, times.values())) / runs
    together = {"kernel": "all", "launches": len(launches) // runs, "us in one CRF": total}
    yield Finding("kernels", together)


class Noted:
    """A kernel that notes each of its launches, with the GPU's time before and after it.

    The GPU is kept waiting first, until the launch has reached it: what Numba takes on the host is
    not the kernel's.
    """

    def __init__(self, name: str, kernel: Any, launches: list[Launch]) -> None:
        self._name, self._kernel, self._launches = name, kernel, launches

    def __getitem__(self, configuration: Any) -> Callable[..., None]:
        """Called with the kernel's arguments it launches it, as the kernel's own does."""

        def launch(*arguments: Any) -> None:
            before, after = cuda.event(), cuda.event()
            keep_waiting(_LAUNCHED_AFTER)
            before.record()
            self._kernel[configuration](*arguments)
            after.record()
            self._launches.append((self._name, before, after))

        return launch


@contextmanager
def noted_launches() -> Iterator[list[Launch]]:
    """Yield a list of the launches of the CRF's kernels in the block, as it grows."""
    launches: list[Launch] = []
    replaced = []
    for module in [sys.modules[name] for name in sys.modules if name.startswith(_PACKAGE)]:
        for name, value in list(vars(module).items()):
            if _is_kernel(value):
                replaced.append((module, name, value))
                setattr(module, name, Noted(name, value, launches))
    try:
        yield launches
    finally:
        for module, name, kernel in replaced:
            setattr(module, name, kernel)


def _is_kernel(value: object) -> bool:
    """Whether it can be launched: device functions cannot. The simulator has classes of its own."""
    if SIMULATED:
        return getattr(value, "_device", None) is False
    options = getattr(value, "targetoptions", None)
    return options is not None and not options.get("device")


def keep_waiting(nanoseconds: int) -> None:
    """Let the GPU do nothing for so long; not on the simulator, which has no time."""
    if not SIMULATED:
        wait[_BLOCKS, 1](nanoseconds)


@cuda.jit
def wait(nanoseconds: Any) -> None:
    """Do nothing. One sleep takes a millisecond at most."""
    for _ in range(nanoseconds // _MICROSECOND // 10):
        cuda.nanosleep(10 * _MICROSECOND)
