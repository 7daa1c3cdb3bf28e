"""Which of several designs is the fastest that is right: of the CRF's mean field, and of a net.

Each is measured in turns with the others: those of DESIGNS and of ENGINES.
"""

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from crf import (
    MOST_ERROR,
    PARAMS,
    Case,
    golden_cases,
    golden_error,
    golden_labels_off,
    random_scores,
    read_case,
)
from crf_kernels import keep_waiting
from nets import is_right, same_labels, scores_error
from numba import cuda
from steps import (
    LARGE_FOV,
    PRECISIONS,
    Checking,
    Finding,
    in_turns,
    largest,
    left_out,
    photo,
    spread,
)

from deeplab_repro.arrays import F32, HW, UInt8, dims
from deeplab_repro.crf.cuda.device import SIMULATED, Workspace, plain_errors
from deeplab_repro.crf.cuda.field import MeanField
from deeplab_repro.crf.cuda.lattice import build_lattice
from deeplab_repro.crf.cuda.mean_field import DESIGNS
from deeplab_repro.crf.cuda.scores import enlarged_probs
from deeplab_repro.engines.opencv import OpenCVEngine
from deeplab_repro.errors import one_line
from deeplab_repro.machine.device import Device, Precision
from deeplab_repro.net.net import Net
from deeplab_repro.net.preprocess import preprocess

# The first of each is what the others are compared with: so it is of the CRF's DESIGNS.
ENGINES: dict[str, Callable[[Net, Device, Precision], OpenCVEngine]] = {
    "plain": partial(OpenCVEngine, phases=False),
    "conv5 in phases": partial(OpenCVEngine, phases=True),  # PHASES_ON_CUDA of engines/opencv.py
}

_ITERATIONS, _LABELS, _ROUNDS = 10, 21, 7
_SIZE, _LARGE = (375, 500), (1500, 2000)
if SIMULATED:
    _ITERATIONS, _LABELS, _SIZE, _LARGE = 1, 2, (2, 3), (3, 3)
_HEAD_START = 10_000_000  # nanoseconds, in which the host launches all iterations
_NET_ROUNDS = 30
_CROP = (513, 513)


def check_mean_fields(job: Checking) -> Iterator[Finding]:
    """The designs of the mean field on a golden case, and on images that are hard in other ways."""
    if job.crf_device == "cpu":
        yield left_out("the designs of the mean field need a GPU or Numba's simulator")
        return
    findings = []
    for case in crf_cases(job):
        for finding in compare_mean_fields(case, job):
            yield finding
            findings.append(finding)
    yield to_keep("mean field", findings)


def crf_cases(job: Checking) -> Iterator[Case]:
    """Two golden cases, a photo, an image of one colour, one of noise, and a large photo."""
    paths = golden_cases(job.golden)
    yield from map(read_case, {paths[0]: None, paths[-1]: None})
    noise = np.random.default_rng(0).integers(0, 256, (*_SIZE, 3), np.uint8)
    images: dict[str, UInt8] = {
        "photo": photo(_SIZE),
        "flat": np.full((*_SIZE, 3), 90, np.uint8),
        "noise": noise,
        "large": photo(_LARGE),
    }
    for name, image in images.items():
        scores = random_scores((image.shape[0], image.shape[1]), _LABELS)
        yield Case(name, image, scores, PARAMS, _ITERATIONS, None)


def compare_mean_fields(case: Case, job: Checking) -> Iterator[Finding]:
    """A case by each design: how far it is off the original or the first design, and its times."""
    facts = {"image": case.name, "size": dims(case.image.shape[:2])}
    runs = {name: MeanFieldRun(case, design) for name, design in DESIGNS.items()}
    results = {}
    for name, run in runs.items():
        try:
            with plain_errors():
                results[name] = run.whole(), run.marginals(), run.whole()
        except Exception as error:  # the others are measured all the same
            yield failed("mean field", name, facts, error)
    rounds, right = job.count(_ROUNDS), {name: runs[name] for name in results}
    times = in_turns({name: run.whole for name, run in right.items()}, rounds)
    on_gpu = [{name: run.iterations() for name, run in right.items()} for _ in range(rounds)]
    for name, (labels, marginals, again) in results.items():
        if case.golden is None:
            first_labels, first, _ = next(iter(results.values()))
            off = largest(marginals - first)
            others = int(np.count_nonzero(labels != first_labels))
        else:
            off = golden_error(marginals, case.golden)
            others = golden_labels_off(labels, case.golden)
        same = np.array_equal(labels, again)
        found = {
            "design": name,
            **facts,
            "marginals off": off,
            "labels off": others,
            "same twice": same,
            **spread(times[name]),
            "iterations, GPU ms": statistics.median(each[name] for each in on_gpu),
        }
        good = off <= MOST_ERROR and others == 0 and same
        yield Finding("mean field", found, "pass" if good else "fail")


class MeanFieldRun:
    """One design of the mean field on one case, with a work space of its own."""

    def __init__(self, case: Case, design: Callable[[Any, Workspace], MeanField]) -> None:
        self._case, self._design, self._space = case, design, Workspace()
        self._size: HW = (case.image.shape[0], case.image.shape[1])
        self._field: MeanField

    @cuda.require_context  # as `infer` has it
    def whole(self) -> UInt8:
        """From coarse scores to labels HxW, as `infer` does it."""
        self._connected()
        for _ in range(self._case.iterations):
            self._field.step()
        return self._field.labels().reshape(self._size)

    def marginals(self) -> F32:
        """Those of the last run, CxHxW."""
        return self._field.marginals().reshape(-1, *self._size)

    @cuda.require_context
    def iterations(self) -> float:
        """The GPU's milliseconds in the iterations, which do not wait for the host."""
        self._connected()
        before, after = cuda.event(), cuda.event()
        keep_waiting(_HEAD_START)
        before.record()
        for _ in range(self._case.iterations):
            self._field.step()
        after.record()
        after.synchronize()
        return float(before.elapsed_time(after))

    def _connected(self) -> None:
        case, space = self._case, self._space
        probs = enlarged_probs(case.coarse, self._size, space)
        self._field = self._design(probs, space)
        points = space.array("image", (math.prod(self._size), 3), np.uint8)
        points.copy_to_device(np.ascontiguousarray(case.image).reshape(-1, 3))
        self._field.connect(build_lattice(points, *self._size, case.params, space), case.params)


def check_engines(job: Checking) -> Iterator[Finding]:
    """The ways to run LargeFOV on the GPU, at its own size and in both precisions."""
    net = job.net(LARGE_FOV)
    name, size = net.coarse_output[0], job.size(*_CROP)
    data = preprocess(photo(size), size)
    for precision in PRECISIONS:
        facts = {"precision": job.precision(precision)}
        runs, results, findings = {}, {}, []
        for way, make in ENGINES.items():
            try:
                engine = make(net, job.device, job.precision(precision))
                runs[way] = partial(engine.blobs, data, [name])
                results[way] = runs[way]()[name]
            except Exception as error:  # the others are measured all the same
                findings.append(failed("engine", way, facts, error))
        times = in_turns({way: runs[way] for way in results}, job.count(_NET_ROUNDS))
        for way, scores in results.items():
            first = next(iter(results.values()))
            off, agreement = scores_error(scores, first), same_labels(scores, first)
            found = {
                "design": way,
                **facts,
                "scores off": off,
                "same labels": agreement,
                **spread(times[way]),
            }
            good = is_right(off, agreement, precision)
            findings.append(Finding("engine", found, "pass" if good else "fail"))
        yield from findings
        yield to_keep(f"engine, {precision}", findings)


def failed(kind: str, design: str, facts: dict[str, Any], error: Exception) -> Finding:
    """The finding on a design that does not run."""
    text = f"{type(error).__name__}: {one_line(error)}"
    return Finding(kind, {"design": design, **facts, "error": text}, "fail")


def to_keep(what: str, findings: Sequence[Finding]) -> Finding:
    """Name the fastest of the designs that are never wrong, by the mean of its times' ratios."""
    wrong = {each.facts["design"] for each in findings if each.verdict == "fail"}
    times: dict[str, list[float]] = {}
    for each in findings:
        if each.facts["design"] not in wrong:
            times.setdefault(each.facts["design"], []).append(each.facts["median ms"])
    if not times:
        return Finding("to keep", {"of": what, "design": None}, "fail")
    first = next(iter(times.values()))
    ratios = {
        name: statistics.geometric_mean(a / b for a, b in zip(own, first, strict=True))
        for name, own in times.items()
    }
    told = ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items())
    facts = {"of": what, "design": min(ratios, key=ratios.__getitem__), "times": told}
    return Finding("to keep", facts | {"wrong": ", ".join(sorted(wrong)) or None})
