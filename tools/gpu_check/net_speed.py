"""How fast nets run on the GPU, beside the least time for their operations and bytes."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from rates import Rates, net_floor
from steps import (
    LARGE_FOV,
    PRECISIONS,
    Checking,
    Finding,
    GpuMemory,
    largest,
    milliseconds,
    photo,
    spread,
    times_of,
)

from deeplab_repro.arrays import F32, HW, dims
from deeplab_repro.engines.opencv import OpenCVEngine
from deeplab_repro.machine.device import Precision
from deeplab_repro.machine.opencv import cv2
from deeplab_repro.net.net import Net
from deeplab_repro.net.preprocess import preprocess


@dataclass(frozen=True)
class Case:
    """What a net is timed at; bars: the most milliseconds an image in float32 and in float16."""

    size: HW
    batch: int = 1
    bars: tuple[float, float] | None = None


CROP = (513, 513)
SMALL = (306, 306)  # the paper has 8 images a second on a Titan; the bar is 200

# The first is the net's own size; the first run at another shows what a change of size costs.
CASES: dict[str, tuple[Case, ...]] = {
    LARGE_FOV: (
        Case(CROP, bars=(10, 5)),
        Case(SMALL, bars=(1e3 / 200, 1e3 / 200)),
        Case(SMALL, batch=8),
        Case((769, 1025)),
    ),
    "DeepLab": (Case((514, 514)),),
    "DeepLab-MSc-LargeFOV": (Case(CROP),),
}
_RUNS, _WHOLE_RUNS = 60, 15


def check_speed(job: Checking) -> Iterator[Finding]:
    """Every net in both precisions: building it, and running it from input to coarse scores."""
    for name, cases in CASES.items():
        net = job.net(name)
        for precision in PRECISIONS:
            yield from time_net(net, cases, job, precision)
            if name == LARGE_FOV:
                yield time_phases(net, cases[0], job, precision)


def time_net(
    net: Net, cases: tuple[Case, ...], job: Checking, precision: Precision
) -> Iterator[Finding]:
    """One net in one precision at several sizes, and at the first once more."""
    which = {"net": net.name, "precision": job.precision(precision)}
    memory = GpuMemory(job)
    engine = job.engine(net, precision)
    building = milliseconds(engine.build)
    taken = memory.facts()
    coarse = net.coarse_output[0]
    inputs = [_input(job.size(*case.size), case.batch) for case in cases]
    for case, data in zip(cases, inputs, strict=True):
        run = partial(engine.blobs, data, [coarse])
        first = milliseconds(run)
        found = spread(times_of(run, job.count(_RUNS)))
        in_layers = _in_layers(engine)
        whole = spread(times_of(partial(engine.blobs, data, [net.output]), job.count(_WHOLE_RUNS)))
        rates = Rates.of(job)
        floor = net_floor(net, data.shape, precision, rates)
        facts = {
            **which,
            "input": dims(data.shape),
            "first ms": first,
            **found,
            "in layers ms": in_layers,
            "full-size ms": whole["median ms"],
            "images/s": 1e3 * case.batch / found["median ms"],
            **floor,
            "times floor": found["median ms"] / floor["floor ms"],
            "at rates": rates.source,
        }
        most = case.bars and case.bars[PRECISIONS.index(precision)]
        verdict = job.bar(found["median ms"] < most) if most else None
        yield Finding("net speed", {**facts, "bar ms": most}, verdict)
    back = milliseconds(partial(engine.blobs, inputs[0], [coarse]))
    facts = {**which, "build ms": building, "back to the first size ms": back, **taken}
    yield Finding("nets built", facts)


def time_phases(net: Net, case: Case, job: Checking, precision: Precision) -> Finding:
    """The net with its convolutions with holes in phases, beside the plain one.

    Where phases gain in both precisions, PHASES_ON_CUDA of engines/opencv.py is to be True.
    """
    data, coarse = _input(job.size(*case.size), case.batch), net.coarse_output[0]
    times, scores = {}, []
    for phases in (False, True):
        engine = OpenCVEngine(net, job.device, job.precision(precision), phases=phases)
        run = partial(engine.blobs, data, [coarse])
        scores.append(run()[coarse])
        times[phases] = spread(times_of(run, job.count(_RUNS)))["median ms"]
    plain, other = scores
    facts = {
        "net": net.name,
        "precision": job.precision(precision),
        "input": dims(data.shape),
        "plain ms": times[False],
        "in phases ms": times[True],
        "faster": "in phases" if times[True] < times[False] else "plain",
        "largest difference": largest(other - plain),
        "deviation of scores": float(plain.std()),
    }
    return Finding("phases", facts)


def _input(size: HW, batch: int) -> F32:
    return np.repeat(preprocess(photo(size), size), batch, axis=0)


def _in_layers(engine: OpenCVEngine) -> float:
    """The host's milliseconds in the layers of the last run: on CUDA, to launch them."""
    net = list(engine._built.values())[-1]
    ticks, _ = net.getPerfProfile()
    return float(1e3 * ticks / cv2.getTickFrequency())
