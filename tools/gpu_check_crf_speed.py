"""How fast the CRF runs on the GPU, by stage, and how many bytes its kernels ask for."""

import itertools
import statistics
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from gpu_check_rates import Rates
from gpu_check_steps import Finding, Job, gpu_memory_taken, milliseconds, photo, spread, times_of

from deeplab_repro.arrays import dims
from deeplab_repro.crf.cuda.device import SIMULATED, plain_errors
from deeplab_repro.crf.dense_crf import refine_scores
from deeplab_repro.crf.params import CrfParams
from deeplab_repro.files.images import UInt8
from deeplab_repro.net.scores import CoarseScores

MOST_MS = 3.0
PARAMS = CrfParams(4, 121, 5)
STRIDE = 8
STAGES = ("scores in, enlarged", "begin", "image in", "lattice", "iterations", "labels out")
_RUNS = 60
_IN_TURN = ((375, 500), (333, 500), (500, 333), (400, 500))


def check_crf_speed(job: Job) -> Iterator[Finding]:
    """From coarse scores to labels on a photo: in all, by stage and by kernel."""
    size, labels, iterations = job.size(375, 500), 21, 10
    if SIMULATED:
        size, labels, iterations = (5, 6), 3, 2
    image, coarse = photo(size), random_scores(size, labels)
    taken = gpu_memory_taken(job)

    def refine(marginals: bool = False) -> object:
        return refine_scores(
            image, coarse, PARAMS, iterations, device=job.crf_device, marginals=marginals
        )

    first = milliseconds(refine)  # compiles, or loads what was compiled
    found = spread(times_of(refine, _runs(job)))
    with_marginals = statistics.median(times_of(partial(refine, True), _runs(job)))
    in_turn = _times_in_turn(labels, iterations, job)
    facts = {
        "image": dims(size),
        "labels": labels,
        "iterations": iterations,
        "first ms": first,
        **found,
        "with marginals ms": with_marginals,
        "other sizes in turn ms": in_turn,
        "bar ms": MOST_MS,
    }
    memory = gpu_memory_taken(job)
    if taken is not None and memory is not None:
        facts["GPU MB"] = (memory - taken) / 1e6
    yield Finding("CRF speed", facts, job.bar(found["median ms"] < MOST_MS))
    if job.crf_device == "cuda":
        with plain_errors():
            yield from time_stages(image, coarse, iterations, job)


def _times_in_turn(labels: int, iterations: int, job: Job) -> float:
    """The median milliseconds for an image where each has another size than the one before."""
    sizes = [(5, 6), (6, 5)] if SIMULATED else [job.size(*size) for size in _IN_TURN]
    turns = itertools.cycle([(photo(size), random_scores(size, labels)) for size in sizes])

    def refine() -> object:
        image, coarse = next(turns)
        return refine_scores(
            image, coarse, PARAMS, iterations, device=job.crf_device, marginals=False
        )

    return statistics.median(times_of(refine, _runs(job)))


def _runs(job: Job) -> int:
    return 1 if SIMULATED else job.count(_RUNS)


def random_scores(size: tuple[int, int], labels: int) -> CoarseScores:
    """Seeded scores that cover an image; the CRF takes as long over them as over a net's."""
    height, width = (-(-(n - 1) // STRIDE) + 1 for n in size)
    rng = np.random.default_rng(0)
    return CoarseScores(3 * rng.standard_normal((labels, height, width), np.float32), STRIDE)


def time_stages(image: UInt8, coarse: CoarseScores, iterations: int, job: Job) -> Iterator[Finding]:
    """What each stage takes on the GPU, and how long the host is busy asking for it.

    The lattice's host time has a wait in it: for the number of vertices.
    """
    from numba import cuda

    from deeplab_repro.crf.cuda.device import Workspace
    from deeplab_repro.crf.cuda.lattice import SEGMENTS, build_lattice
    from deeplab_repro.crf.cuda.mean_field import MeanField
    from deeplab_repro.crf.cuda.scores import enlarged_probs

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
        field = MeanField(probs, space)
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
    runs = [staged() for _ in range(_runs(job))]
    on_gpu, on_host = (np.median([run[i] for run in runs], axis=0) for i in range(2))
    for name, gpu, host in zip(STAGES, on_gpu, on_host, strict=True):
        facts = {"stage": name, "GPU ms": float(gpu), "host ms": float(host)}
        yield Finding("CRF stages", facts)
    segments = int(lattice.counters.copy_to_host()[SEGMENTS])
    counts = n, len(coarse.values), lattice.vertices, segments, iterations
    yield from kernel_floors(*counts, Rates.of(job))


def kernel_floors(
    n: int, labels: int, m: int, segments: int, iterations: int, rates: Rates
) -> Iterator[Finding]:
    """The megabytes that each kernel asks for, and what they take at the memory's rate.

    At most: of the neighbours about half exist, and much of what is read is in the L2 cache.
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
    splat = entries * (8 + row) + segments * (8 + 2 * row)
    return [
        ("enlarge", 1, "20 N L", 20 * n * labels),
        ("begin", 1, "N (12 L + row)", n * (12 * labels + row)),
        ("clear", 1, "4 slots", 4 * slots),
        ("embed, both", 1, "N (2*3 + 9*12)", n * (6 + 108)),
        ("insert", 1, "9N (8 + 4 + 8 + 4) + 16 M", entries * 24 + 16 * m),
        ("find_neighbours", 1, "6M (12 + 2*16 + 8)", 6 * m * 52),
        ("count", 1, "9N (4 + 4 + 4 + 8)", entries * 20),
        ("allocate", 1, "16 M + 8 S", 16 * m + 8 * segments),
        ("fill", 1, "9N (8 + 8 + 8)", entries * 24),
        ("splat", iterations, "9N (8 + row) + S (8 + 2 row)", splat),
        ("blur_sums", iterations, "M (24 + 9*8 + 19 row)", m * (96 + 19 * row)),
        ("blur, two axes", 2 * iterations, "M (24 + 10 row)", m * (24 + 10 * row)),
        ("update", iterations, "N (9 (8 + row) + 8 L)", n * (9 * (8 + row) + 8 * labels)),
        ("find_labels", 1, "N (row + 1)", n * (row + 1)),
    ]
