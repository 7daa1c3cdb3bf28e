"""Runs a net on the CPU with the fastest of several engines, once it is measured which that is."""

import logging
import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from deeplab_repro.arrays import Shape, dims
from deeplab_repro.engines.calibration import Measured, find, keep, size_class
from deeplab_repro.engines.engine import Engine
from deeplab_repro.errors import DeepLabError, ResourceError
from deeplab_repro.machine.device import Device, Precision
from deeplab_repro.machine.memory import available_memory
from deeplab_repro.machine.opencv import cv2
from deeplab_repro.net.net import Net

logger = logging.getLogger(__name__)

# After so many runs and seconds of one class of sizes it is measured which engine is the fastest.
# That takes about half as long again, once; shorter work would not gain as much.
_RUNS, _SECONDS = 25, 30.0
_ROUNDS = 3  # of which the least times count: other work may slow some of them down
# Another engine takes over where it is so many times faster: each has its own copy of the weights.
_GAIN = 1.03
# How far apart scores may be, in their standard deviations: sums are in other orders.
_AGREEMENT = 1e-3


class FastestEngine:
    """A net on the CPU, with whichever of several engines is the fastest here. One for a thread.

    What was measured before on this computer says which (see calibration.py). Else the first one
    runs until there was enough work to measure the others. Scores differ by rounding only.
    """

    device: Device = "cpu"
    precision: Precision = "float32"

    def __init__(self, net: Net, makers: Sequence[Callable[[], Engine]]) -> None:
        """makers: of the engines."""
        self.net = net
        self._engines = {engine.name: engine for engine in (make() for make in makers)}
        self._makers = dict(zip(self._engines, makers, strict=True))
        self._ran: list[str] = []
        self._largest: dict[str, Shape] = {}  # that those which are built have run
        self._chosen: dict[int, str] = {}  # by class of sizes
        self._measured: set[int] = set()
        self._runs: Counter[int] = Counter()
        self._seconds: defaultdict[int, float] = defaultdict(float)
        self.name = self._name(net.input_shape)

    def build(self) -> None:
        """Build what the first run would build otherwise, as the engine's own `build` does."""
        self._engines[self._name(self.net.input_shape)].build()

    def blobs(self, data: np.ndarray, names: Iterable[str]) -> dict[str, np.ndarray]:
        """The named blobs; takes, gives and raises what the engine's own `blobs` does.

        The engines are measured after a run that makes the work long enough for it.
        """
        names = list(names)
        name = self._name(data.shape)
        found, seconds = _timed(self._engines[name], data, names)
        self._remember(name, data.shape)
        size = size_class(data.shape)
        self._runs[size] += 1
        self._seconds[size] += seconds
        enough = self._runs[size] >= _RUNS and self._seconds[size] >= _SECONDS
        if enough and size not in self._measured:
            self._measured.add(size)
            self._choose(size, self._known(size) or self._measure(name, data, found))
            self._free_others()
        return found

    def memory_needed(self, shape: Shape) -> int:
        """About how many bytes it takes to run on images of up to this NxCxHxW."""
        shapes = self._largest | {self._name(shape): shape}
        return sum(self._engines[name].memory_needed(each) for name, each in shapes.items())

    def _name(self, shape: Shape) -> str:
        """The engine for images of NxCxHxW."""
        size = size_class(shape)
        if size not in self._chosen:
            self._choose(size, find(self.net, size, self._engines))
        return self._chosen[size]

    def _choose(self, size: int, measured: Measured | None) -> None:
        first = next(reversed(self._largest), next(iter(self._engines)))
        if measured:
            seconds = {name: each or math.inf for name, each in measured.seconds.items()}
            fastest = min(seconds, key=lambda name: seconds[name])
            if not self._largest or seconds[first] > _GAIN * seconds[fastest]:
                first = fastest
        self._chosen[size] = first

    def _known(self, size: int) -> Measured | None:
        """What was measured at just this class, by another process perhaps."""
        found = find(self.net, size, self._engines)
        return found if found and found.size == size else None

    def _remember(self, name: str, shape: Shape) -> None:
        largest = max(shape, self._largest.pop(name, shape), key=math.prod)
        self._largest[name] = largest  # the last to run is the last
        if name not in self._ran:
            self._ran.append(name)
        self.name = " and ".join(self._ran)

    def _free_others(self) -> None:
        """Make the engines anew that no size is run with: these hold no memory."""
        for name in self._engines.keys() - self._chosen.values():
            self._engines[name] = self._makers[name]()
            self._largest.pop(name, None)

    def _measure(
        self, first: str, data: np.ndarray, expected: Mapping[str, np.ndarray]
    ) -> Measured | None:
        """Run all engines in turns. None where the memory does not suffice for that."""
        others = self._engines.keys() - self._largest
        needed = sum(self._engines[name].memory_needed(data.shape) for name in others)
        if needed > (available_memory() or math.inf):
            return None
        times: dict[str, list[float]] = {name: [] for name in self._engines}
        try:
            for name in self._engines:
                if name != first and not self._agrees(name, data, expected):
                    del times[name]
            for _ in range(_ROUNDS):
                for name, each in times.items():
                    each.append(_timed(self._engines[name], data, expected)[1])
        except ResourceError:
            return None
        seconds = {name: min(times[name]) if name in times else None for name in self._engines}
        told = ", ".join(f"{name} {each:.3f} s" for name, each in seconds.items() if each)
        logger.info("net '%s' at %s: %s", self.net.name, dims(data.shape), told)
        return keep(self.net, size_class(data.shape), cv2.getNumThreads(), seconds)

    def _agrees(self, name: str, data: np.ndarray, expected: Mapping[str, np.ndarray]) -> bool:
        """Whether an engine runs the net, and gives what the first one gave. It is ready then."""
        try:
            found = self._engines[name].blobs(data, expected)
        except ResourceError:
            raise
        except DeepLabError as error:
            logger.warning("%s is left out: %s", name, error)
            return False
        for blob, values in expected.items():
            difference = np.abs(found[blob] - values).max(initial=0)
            if not difference <= _AGREEMENT * max(1, values.std()):  # NaN too
                logger.warning("%s is left out: it gives other values of '%s'", name, blob)
                return False
        return True


def _timed(
    engine: Engine, data: np.ndarray, names: Iterable[str]
) -> tuple[dict[str, np.ndarray], float]:
    """What an engine gives, and the seconds that it took."""
    start = time.perf_counter()
    found = engine.blobs(data, names)
    return found, time.perf_counter() - start
