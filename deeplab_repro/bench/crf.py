"""Measure the dense CRF: beside pydensecrf2, and as pixels and labels grow."""

import importlib
import importlib.util
import math
import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from deeplab_repro.arrays import HW, dims
from deeplab_repro.bench.hardware import peak_above, reset_peak, this_machine
from deeplab_repro.bench.measures import growth, seconds_of, slope, times_faster
from deeplab_repro.bench.process import call_apart
from deeplab_repro.crf.arguments import memory_needed
from deeplab_repro.crf.params import CrfParams
from deeplab_repro.files.images import read_image
from deeplab_repro.machine.device import Device
from deeplab_repro.machine.memory import require_memory
from deeplab_repro.work.progress import Progress, unwatched

LABEL_COUNTS = (2, 8, 21, 32, 64)
"""Numbers of labels for which the growth with labels is measured."""

SCALES = (0.5, 1, 2, 4)
"""Scales of the image's sides for the growth with pixels, 1 among them; a large bench adds 8."""

_ROUNDS_OF_GROWTH = 3

_SCENE = (375, 500)
_REGIONS = 25
_STRIDE = 8  # of a net's scores
_BYTES_PER_PROB = 4 * 2  # of the inputs, while they are made

Outcome = tuple[np.ndarray, np.ndarray]
"""Labels, HxW uint8, and marginals, CxHxW float32."""


@dataclass(frozen=True)
class Work:
    """What is measured: a drawn scene, or a picture file, with label probabilities over it.

    size: (H, W), to which the scene or the picture is cropped, or repeated side by side: so the
    lattices grow in proportion to the pixels.
    """

    size: HW = _SCENE
    labels: int = 21
    params: CrfParams = field(default_factory=lambda: CrfParams(4, 121, 5))
    iterations: int = 10
    picture: str | None = None

    @property
    def told(self) -> str:
        """What it is, in words."""
        return f"{dims(self.size[::-1])} pixels with {self.labels} labels"

    def check_memory(self) -> None:
        """Raise ResourceError if it does not fit memory."""
        pixels = math.prod(self.size)
        n_bytes = memory_needed(self.labels, pixels) + _BYTES_PER_PROB * self.labels * pixels
        require_memory(n_bytes, self.told, "use a smaller --size, or do without --large")

    def inputs(self) -> Outcome:
        """The image, HxWx3 uint8 RGB, and the probabilities, CxHxW float32; the same every time."""
        image, probs = draw_scene(self.labels)
        if self.picture:
            image = read_image(self.picture)
        return _fill(image, self.size, axis=0), _fill(probs, self.size, axis=1)


def bench_crf(
    work: Work,
    repeat: int = 10,
    large: bool = False,
    progress: Progress = unwatched,
    sizes: Sequence[HW] = (),
) -> dict[str, Any]:
    """Measure everything, as plain data: times in milliseconds, memory in bytes.

    repeat: rounds, in each of which all contenders run once. large: 64 times the pixels too. sizes:
    (H, W), at which the growth with pixels is measured besides the work's own; none for SCALES.
    Raises DeepLabErrors: for pictures that cannot be read, arguments that the CRF refuses, and too
    little memory.
    """
    from deeplab_repro.bench.roofline import limits_ms, machine_rates

    few = min(repeat, 5)
    of_size = [replace(work, size=size) for size in _sizes(work, large, sizes)]
    of_labels = [replace(work, labels=labels) for labels in LABEL_COUNTS]
    for each in (work, *of_size, *of_labels):
        each.check_memory()
    contenders, absent = find_contenders(work)
    by_pixels, by_labels = [], []
    with progress("measuring", repeat + len(of_size) + len(of_labels)) as advance:
        runs, outcomes = race(contenders, repeat, advance)
        rates = _apart(work, machine_rates)
        for each in of_size:
            by_pixels.append(_apart(each, measure_peers, each, min(repeat, _ROUNDS_OF_GROWTH)))
            advance()
        for each in of_labels:
            by_labels.append(_apart(each, measure, each, few))
            advance()
    for row in by_pixels:
        row["floor_ms"] = work.iterations * max(limits_ms(row["iteration"], rates).values())
    own = next(row for row in by_pixels if (row["height"], row["width"]) == work.size)
    return {
        "machine": this_machine(),
        "work": {**asdict(work), "params": list(astuple(work.params))},
        "repeat": repeat,
        "runs": {
            name: {"median_ms": 1e3 * statistics.median(times), "ms": [1e3 * t for t in times]}
            for name, times in runs.items()
        },
        "absent": absent,
        "against_pydensecrf2": compare(runs, outcomes),
        "memory": _memory(own, by_labels),
        "rates": rates,
        "pixels": {
            **growth(by_pixels),
            "slope_of_memory": slope(by_pixels, "pixels", "peak_bytes"),
        },
        "labels": {"rows": by_labels, "slope_of_time": slope(by_labels, "labels", "median_ms")},
    }


def find_contenders(work: Work) -> tuple[dict[str, Callable[[], Outcome]], dict[str, str]]:
    """Find what can run the work here, and why the others cannot.

    pydensecrf2 is given its unary before the clock starts; our time includes the logarithm of the
    probabilities.
    """
    from deeplab_repro.crf.dense_crf import dense_crf
    from deeplab_repro.machine.jit import numba

    image, probs = work.inputs()

    def ours(device: Device, threads: int) -> Callable[[], Outcome]:
        def run() -> Outcome:
            before = numba.get_num_threads()
            numba.set_num_threads(threads)
            try:
                result = dense_crf(image, probs, work.params, work.iterations, device=device)
            finally:
                numba.set_num_threads(before)
            return result.labels, result.marginals

        return run

    contenders = {"all_threads": ours("cpu", numba.get_num_threads()), "one_thread": ours("cpu", 1)}
    absent = {}
    if problem := _cuda_problem():
        absent["cuda"] = problem
    else:
        contenders["cuda"] = ours("cuda", 1)
    if importlib.util.find_spec("pydensecrf"):
        contenders["pydensecrf2"] = _pydensecrf(work, image, probs)
    else:
        absent["pydensecrf2"] = "not installed: pip install pydensecrf2"
    return contenders, absent


def race(
    contenders: Mapping[str, Callable[[], Outcome]],
    repeat: int,
    advance: Callable[[], None] = lambda: None,
) -> tuple[dict[str, list[float]], dict[str, Outcome]]:
    """Run all in turns, `repeat` times: the seconds of each run, and the first outcomes.

    Each runs once before that, which may compile and is not counted.
    """
    outcomes = {name: run() for name, run in contenders.items()}
    return _in_turns(contenders, repeat, advance), outcomes


def _in_turns(
    contenders: Mapping[str, Callable[[], object]],
    repeat: int,
    advance: Callable[[], None] = lambda: None,
) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(repeat):
        for name, run in contenders.items():
            seconds[name] += seconds_of(run, 1)
        advance()
    return seconds


def compare(
    seconds: Mapping[str, list[float]],
    outcomes: Mapping[str, Outcome],
    yardstick: str = "pydensecrf2",
) -> dict[str, dict[str, float]]:
    """How many times faster than the yardstick the others are, and how far from its results."""
    if yardstick not in seconds:
        return {}
    theirs, (labels, marginals) = seconds[yardstick], outcomes[yardstick]
    return {
        name: {
            **times_faster(theirs, ours),
            "labels_differing": int(np.count_nonzero(outcomes[name][0] != labels)),
            "largest_difference": float(np.abs(outcomes[name][1] - marginals).max()),
        }
        for name, ours in seconds.items()
        if name != yardstick
    }


def measure(work: Work, repeat: int) -> dict[str, Any]:
    """Measure time and memory of a work, in a process that has done nothing else."""
    from deeplab_repro.crf.dense_crf import dense_crf

    small, few = replace(work, size=(8, 8)).inputs()
    dense_crf(small, few, work.params, work.iterations, device="cpu")  # compiles, starts threads
    image, probs = work.inputs()
    before = reset_peak()
    run = partial(dense_crf, image, probs, work.params, work.iterations, device="cpu")
    times = seconds_of(run, repeat)
    return {
        "width": work.size[1],
        "height": work.size[0],
        "pixels": math.prod(work.size),
        "labels": work.labels,
        "median_ms": 1e3 * statistics.median(times),
        "peak_bytes": peak_above(before),
    }


def measure_peers(work: Work, repeat: int) -> dict[str, Any]:
    """Measure our memory, then the time of all contenders in turns, and count an iteration.

    Like `measure` in a process that has done nothing else. "iteration" is what `work_of` counts.
    """
    from deeplab_repro.bench.roofline import work_of
    from deeplab_repro.crf.cpu.mean_field import MeanField, photo_kernels

    row = measure(work, 1)
    contenders, _ = find_contenders(work)
    for run in contenders.values():
        run()
    seconds = _in_turns(contenders, repeat)
    del contenders, run
    image, probs = work.inputs()
    field = MeanField(probs.reshape(work.labels, -1), photo_kernels(image, work.params))
    field.run(1)  # it knows all of its factors then
    return row | {
        "median_ms": {name: 1e3 * statistics.median(times) for name, times in seconds.items()},
        "iteration": work_of(field),
    }


def draw_scene(labels: int) -> Outcome:
    """Draw a scene of 375x500 pixels, uint8 RGB, and label probabilities, Cx375x500 float32.

    It has regions of one colour, shaded, with a camera's noise, so that its lattices have as many
    vertices as a photo's. The probabilities are like a net's: of stride 8, enlarged, near 1 inside
    the regions and lower at their borders.
    """
    rng = np.random.default_rng(0)
    height, width = _SCENE
    waves = 0.03 * _enlarge(rng.standard_normal((2, 12, 16)), _SCENE)
    y = np.linspace(0, 1, height)[:, None] + waves[0]
    x = np.linspace(0, 1, width) + waves[1]
    centres = rng.random((_REGIONS, 2))
    regions = np.argmin([(y - cy) ** 2 + (x - cx) ** 2 for cy, cx in centres], axis=0)
    colours = rng.uniform(30, 225, (_REGIONS, 3))
    image = colours[regions] + 18 * _enlarge(rng.standard_normal((3, 8, 10)), _SCENE).transpose(
        1, 2, 0
    )
    image += rng.normal(0, 7, (height, width, 1)) + rng.normal(0, 1.5, image.shape)
    label_of = rng.integers(0, labels, _REGIONS)
    coarse = label_of[regions[::_STRIDE, ::_STRIDE]] == np.arange(labels)[:, None, None]
    scores = _enlarge(6.0 * coarse + rng.standard_normal(coarse.shape), _SCENE)
    probs = np.exp(scores - scores.max(axis=0))
    probs /= probs.sum(axis=0)
    return image.clip(0, 255).astype(np.uint8), probs.astype(np.float32)


def _enlarge(scores: np.ndarray, size: HW) -> np.ndarray:
    """Cxhxw to CxHxW, bilinear with aligned corners."""
    for axis, length in ((1, size[0]), (2, size[1])):
        at = np.linspace(0, scores.shape[axis] - 1, length)
        low = np.minimum(at.astype(int), scores.shape[axis] - 2)
        share = (at - low).reshape(-1, 1) if axis == 1 else at - low
        scores = scores.take(low, axis) * (1 - share) + scores.take(low + 1, axis) * share
    return scores


def _fill(array: np.ndarray, size: HW, axis: int) -> np.ndarray:
    """Repeat or crop the two axes from `axis` on to a size."""
    for along, length in ((axis, size[0]), (axis + 1, size[1])):
        array = array.take(np.arange(length) % array.shape[along], along)
    return array


def _pydensecrf(work: Work, image: np.ndarray, probs: np.ndarray) -> Callable[[], Outcome]:
    densecrf: Any = importlib.import_module("pydensecrf.densecrf")
    labels, height, width = probs.shape
    unary = -np.log(probs).reshape(labels, -1)
    params, after = work.params, densecrf.NORMALIZE_AFTER

    def run() -> Outcome:
        crf = densecrf.DenseCRF2D(width, height, labels)
        crf.setUnaryEnergy(unary)
        crf.addPairwiseGaussian(params.sigma_gamma, params.w2, normalization=after)
        crf.addPairwiseBilateral(
            params.sigma_alpha, params.sigma_beta, image, params.w1, normalization=after
        )
        marginals = np.array(crf.inference(work.iterations), np.float32).reshape(probs.shape)
        return marginals.argmax(axis=0).astype(np.uint8), marginals

    return run


def _cuda_problem() -> str | None:
    if os.environ.get("NUMBA_ENABLE_CUDASIM", "0") != "0":
        return "Numba simulates it, which says nothing of its speed"
    from deeplab_repro.crf.cuda.device import crf_cuda_problem

    return crf_cuda_problem()


def _sizes(work: Work, large: bool, sizes: Sequence[HW]) -> list[HW]:
    """The sizes at which the growth with pixels is measured, from small to large."""

    def scaled(scale: float) -> HW:
        return math.ceil(work.size[0] * scale), math.ceil(work.size[1] * scale)

    grown = {work.size, *(sizes or map(scaled, SCALES))} | ({scaled(8)} if large else set())
    return sorted(grown, key=math.prod)


def _apart(work: Work, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a process of its own, so that the peak of memory is its own only."""
    return call_apart(work.told, function, *arguments)


def _memory(at_work: Mapping[str, Any], by_labels: list[dict[str, Any]]) -> dict[str, Any]:
    """The peak of memory above the inputs, the results included, and how it grows with labels."""
    peak = at_work["peak_bytes"]
    if peak is None:
        return {"peak_bytes": None, "arrays": None, "arrays_a_label": None, "fixed_bytes": None}
    # Over multiples of eight labels memory is a straight line: its slope is the arrays a label, and
    # its value at no labels the lattices.
    full = [row for row in by_labels if row["labels"] % 8 == 0]
    labels, peaks = (np.array([row[of] for row in full], float) for of in ("labels", "peak_bytes"))
    per_label, fixed = map(float, np.polyfit(labels, peaks, 1))
    one = 4 * at_work["pixels"]
    return {
        "peak_bytes": peak,
        "arrays": peak / (one * at_work["labels"]),
        "arrays_a_label": per_label / one,
        "fixed_bytes": fixed,
    }
