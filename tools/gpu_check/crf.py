"""Whether the CRF on the GPU gives what the original program and the CPU give, and how fast."""

import itertools
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numba import cuda
from rates import Rates
from steps import (
    Checking,
    Finding,
    GpuMemory,
    largest,
    left_out,
    milliseconds,
    photo,
    spread,
    times_of,
)

from deeplab_repro.arrays import F32, HW, UInt8, dims
from deeplab_repro.crf.cuda.device import SIMULATED, Workspace, plain_errors
from deeplab_repro.crf.cuda.lattice import Lattice, build_lattice
from deeplab_repro.crf.cuda.lists import SEGMENTS
from deeplab_repro.crf.cuda.mean_field import DESIGN, DESIGNS
from deeplab_repro.crf.cuda.scores import enlarged_probs
from deeplab_repro.crf.dense_crf import CrfResult, dense_crf, refine_scores
from deeplab_repro.crf.params import CrfParams
from deeplab_repro.errors import FileError, one_line
from deeplab_repro.machine.device import Device
from deeplab_repro.net.scores import CoarseScores, softmax

MOST_ERROR = 1e-5  # of a marginal
STRIDE = 8  # of the golden scores
MOST_MS = 3.0
PARAMS = CrfParams(4, 121, 5)
STAGES = ("scores in, enlarged", "begin", "image in", "lattice", "iterations", "labels out")
_LABELS, _ITERATIONS, _RUNS = 21, 10, 60
_IN_TURN: tuple[HW, ...] = ((375, 500), (333, 500), (500, 333), (400, 500))
if SIMULATED:  # sizes for which the simulator takes seconds
    _LABELS, _ITERATIONS, _IN_TURN = 2, 1, ((2, 3), (3, 2))


@dataclass(frozen=True)
class Case:
    """An image with its coarse scores, and the original's results: none for a part of an image."""

    name: str
    image: UInt8
    coarse: CoarseScores
    params: CrfParams
    iterations: int
    golden: dict[str, Any] | None

    def refine(self, device: Device) -> tuple[UInt8, F32]:
        """Labels and marginals."""
        result = self._refine(device, True)
        assert result.marginals is not None
        return result.labels, result.marginals

    def labels(self, device: Device) -> UInt8:
        """The labels alone: marginals stay on the GPU."""
        return self._refine(device, False).labels

    def _refine(self, device: Device, marginals: bool) -> CrfResult[F32 | None]:
        arguments = self.image, self.coarse, self.params, self.iterations
        return refine_scores(*arguments, device=device, marginals=marginals)


def golden_cases(folder: Path) -> list[Path]:
    """The files of the golden cases; on the simulator, which is slow, the first of them."""
    paths = sorted(folder.glob("crf/*.npz"))
    if not paths:
        raise FileError(f"{one_line(folder)}: has no crf/*.npz")
    return paths[:1] if SIMULATED else paths


def read_case(path: Path) -> Case:
    """A golden case; on the simulator a part of it."""
    with np.load(path) as case:
        golden = dict(case)
    image, scores, iterations = golden["image"], golden["scores"], int(golden["iterations"])
    if SIMULATED:
        height, width = _IN_TURN[0]
        image, scores, iterations = image[:height, :width], scores[:_LABELS], _ITERATIONS
    size = image.shape[0], image.shape[1]
    coarse = CoarseScores(scores, STRIDE).covering(size)
    params = CrfParams(*map(float, golden["params"]))
    return Case(path.stem, image, coarse, params, iterations, None if SIMULATED else golden)


def check_crf(job: Checking) -> Iterator[Finding]:
    """Every golden case, from coarse scores to labels."""
    for path in golden_cases(job.golden):
        yield check_case(path, job)


def check_case(path: Path, job: Checking) -> Finding:
    """One case: `refine_scores` twice, once more without marginals, and `dense_crf`."""
    case, on = read_case(path), job.crf_device
    size = case.image.shape[0], case.image.shape[1]
    labels, marginals, same = twice(case, on)
    _, on_cpu = case.refine("cpu")
    probs = softmax(case.coarse.enlarged(size))
    plain = dense_crf(case.image, probs, case.params, case.iterations, device=on)
    errors = {
        "off the CPU's": largest(marginals - on_cpu),
        "dense_crf's": largest(plain.marginals - on_cpu),
    }
    wrong = {}
    if case.golden is not None:
        errors["off the original's"] = golden_error(marginals, case.golden)
        wrong["other labels than the original"] = golden_labels_off(labels, case.golden)
        if on == "cuda":
            expected = int(case.golden["lattice_vertices"].sum())
            wrong["vertices too many"] = _vertices(case.image, case.params) - expected
    good = same and max(errors.values()) <= MOST_ERROR and not any(wrong.values())
    facts = {"case": case.name, "image": dims(size), **errors, **wrong, "same bits twice": same}
    return Finding("CRF", facts, "pass" if good else "fail")


def look_at_crf(job: Checking) -> Iterator[Finding]:
    """Every golden case on the GPU alone, beside the original's results, and its time."""
    for path in golden_cases(job.golden):
        case = read_case(path)
        run = partial(case.labels, job.crf_device)
        first = milliseconds(run)
        labels, marginals, same = twice(case, job.crf_device)
        off = others = None  # for a part of an image there is no result of the original
        if case.golden is not None:
            off = golden_error(marginals, case.golden)
            others = golden_labels_off(labels, case.golden)
        facts = {
            "case": case.name,
            "image": dims(labels.shape),
            "labels off": others,
            "marginals off": off,
            "NaN": int(np.isnan(marginals).sum()),
            "same bits twice": same,
            "first ms": first,
            **spread(times_of(run, job.count(_RUNS))),
        }
        good = same and not others and (off or 0) <= MOST_ERROR
        yield Finding("CRF", facts, "pass" if good else "fail")


def twice(case: Case, device: Device) -> tuple[UInt8, F32, bool]:
    """The labels and marginals; whether a second run, and one without marginals, repeat them."""
    labels, marginals = case.refine(device)
    again_labels, again = case.refine(device)
    same = (
        np.array_equal(marginals, again)
        and np.array_equal(labels, again_labels)
        and np.array_equal(labels, case.labels(device))
    )
    return labels, marginals, same


def golden_error(marginals: F32, golden: dict[str, Any]) -> float:
    """The largest difference from the original's marginals; some cases have only part of them."""
    if "marginals" in golden:
        return largest(marginals - golden["marginals"])
    return largest(marginals[:, ::4, ::4] - golden["marginals_every_4th_pixel"])


def golden_labels_off(labels: UInt8, golden: dict[str, Any]) -> int:
    """How many pixels have another label than in the original."""
    return int(np.count_nonzero(labels != golden["label"]))


def _vertices(image: UInt8, params: CrfParams) -> int:
    """The number of vertices of both lattices on the GPU."""
    height, width = image.shape[:2]
    with plain_errors():
        points = cuda.to_device(np.ascontiguousarray(image).reshape(-1, 3))
        return build_lattice(points, height, width, params, Workspace()).vertices


def check_crf_speed(job: Checking) -> Iterator[Finding]:
    """From coarse scores to labels on a photo: in all, by stage and by kernel."""
    sizes = _IN_TURN if SIMULATED else [job.size(*size) for size in _IN_TURN]
    inputs = [(photo(size), random_scores(size, _LABELS)) for size in sizes]
    memory = GpuMemory(job)
    runs = job.count(_RUNS)

    def refine(turns: Iterator[tuple[UInt8, CoarseScores]], marginals: bool = False) -> object:
        image, coarse = next(turns)
        return refine_scores(
            image, coarse, PARAMS, _ITERATIONS, device=job.crf_device, marginals=marginals
        )

    image, coarse = inputs[0]
    one = partial(refine, itertools.repeat(inputs[0]))
    first = milliseconds(one)  # compiles, or loads what was compiled
    found = spread(times_of(one, runs))
    facts = {
        "image": dims(sizes[0]),
        "labels": _LABELS,
        "iterations": _ITERATIONS,
        "first ms": first,
        **found,
        "with marginals ms": statistics.median(times_of(partial(one, marginals=True), runs)),
        # Each image has another size than the one before.
        "other sizes in turn ms": statistics.median(
            times_of(partial(refine, itertools.cycle(inputs)), runs)
        ),
        "bar ms": MOST_MS,
        **memory.facts(),
    }
    yield Finding("CRF speed", facts, job.bar(found["median ms"] < MOST_MS))
    if job.crf_device == "cpu":
        yield left_out("the CRF's stages need a GPU or Numba's simulator (NUMBA_ENABLE_CUDASIM=1)")
        return
    with plain_errors():
        yield from time_stages(image, coarse, _ITERATIONS, job)


def random_scores(size: HW, labels: int) -> CoarseScores:
    """Seeded scores that cover an image; the CRF takes as long over them as over a net's."""
    height, width = (-(-(n - 1) // STRIDE) + 1 for n in size)
    rng = np.random.default_rng(0)
    return CoarseScores(3 * rng.standard_normal((labels, height, width), np.float32), STRIDE)


def time_stages(
    image: UInt8, coarse: CoarseScores, iterations: int, job: Checking
) -> Iterator[Finding]:
    """What each stage takes on the GPU, and how long the host is busy asking for it.

    The lattice's host time includes waiting for the number of vertices.
    """
    height, width = image.shape[:2]
    n, space = height * width, Workspace()
    lattice: Any = None

    @cuda.require_context  # as in `infer`
    def staged() -> tuple[list[float], list[float]]:
        nonlocal lattice
        events = [cuda.event() for _ in range(len(STAGES) + 1)]
        clock: list[float] = []

        def mark() -> None:
            events[len(clock)].record()
            clock.append(1e3 * time.perf_counter())

        mark()
        probs = enlarged_probs(coarse, (height, width), space)
        mark()
        field = DESIGNS[DESIGN](probs, space)
        mark()
        points = space.array("image", (n, 3), np.uint8)
        points.copy_to_device(image.reshape(n, 3))
        mark()
        lattice = build_lattice(points, height, width, PARAMS, space)
        field.connect(lattice, PARAMS)
        mark()
        for _ in range(iterations):
            field.step()
        mark()
        field.labels()
        mark()
        events[-1].synchronize()
        on_gpu = [a.elapsed_time(b) for a, b in itertools.pairwise(events)]
        return on_gpu, [b - a for a, b in itertools.pairwise(clock)]

    staged()
    runs = [staged() for _ in range(job.count(_RUNS))]
    on_gpu, on_host = (np.median([run[i] for run in runs], axis=0) for i in range(2))
    for name, gpu, host in zip(STAGES, on_gpu, on_host, strict=True):
        yield Finding("CRF stages", {"stage": name, "GPU ms": float(gpu), "host ms": float(host)})
    counts = n, len(coarse.values), lattice.vertices, segments_of(lattice), iterations
    yield from kernel_floors(*counts, Rates.of(job))


def segments_of(lattice: Lattice) -> int:
    """How many segments the lists of pixels around vertices are cut into."""
    return int(lattice.lists.counters.copy_to_host()[SEGMENTS])


def kernel_floors(
    n: int, labels: int, m: int, segments: int, iterations: int, rates: Rates
) -> Iterator[Finding]:
    """The megabytes that each kernel asks for, and their time at the memory's rate.

    These are upper bounds: about half of the neighbours exist, and the L2 cache holds much.
    """
    kernels = traffic(n, labels, m, segments, iterations)
    together = sum(launches * size for _, launches, _, size in kernels)
    for name, launches, formula, size in (*kernels, ("all", 1, "", together)):
        facts = {
            "kernel": name,
            "launches": launches,
            "MB each": size / 1e6,
            "floor ms, all": 1e3 * launches * size / rates.memory,
            "at rates": rates.source,
            "bytes": formula,
        }
        yield Finding("CRF kernels", facts)


def traffic(
    n: int, labels: int, m: int, segments: int, iterations: int
) -> list[tuple[str, int, str, int]]:
    """Each kernel's name, launches, formula and bytes a launch, if every neighbour existed.

    N pixels, L labels, M vertices, S segments of the lists of pixels around them.
    """
    row = 4 * (labels + 1)  # of q or of lattice values: one more label holds ones
    entries = 9 * n
    slots = 1 << (2 * entries - 1).bit_length()
    splat = entries * (8 + row) + segments * (16 + row)
    return [
        ("enlarge", 1, "20 N L", 20 * n * labels),
        ("begin", 1, "N (12 L + row)", n * (12 * labels + row)),
        ("clear", 1, "4 slots", 4 * slots),
        ("embed, both", 1, "N (2*3 + 9*12)", n * (6 + 108)),
        ("insert", 1, "9N (8 + 4 + 8 + 4) + 16 M", entries * 24 + 16 * m),
        ("find_neighbours", 1, "6M (12 + 2*16 + 8)", 6 * m * 52),
        ("count", 1, "9N (4 + 4 + 4 + 8 + 4)", entries * 24),
        ("allocate", 1, "8 M + 16 S", 8 * m + 16 * segments),
        ("fill", 1, "9N (4 + 8 + 4 + 8)", entries * 24),
        ("splat", iterations, "9N (8 + row) + S (16 + row)", splat),
        ("blur, two axes", 3 * iterations, "M (24 + 10 row)", m * (24 + 10 * row)),
        ("update", iterations, "N (9 (8 + row) + 8 L)", n * (9 * (8 + row) + 8 * labels)),
        ("find_labels", 1, "N (row + 1)", n * (row + 1)),
    ]
