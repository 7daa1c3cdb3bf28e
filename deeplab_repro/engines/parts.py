"""Divides a net into parts for the CPU, and runs them: faster than OpenCV runs it as a whole.

OpenCV is fast at ordinary 3x3 convolutions, and slow at those with holes. Here these become
ordinary convolutions of a batch, the phases of their bottom (see phases.py); a block of them with
the same hole is divided into phases and put together again once. Convolutions with large holes or
kernels, and 1x1, become a product of matrices.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np

from deeplab_repro.arrays import HW, in_brief
from deeplab_repro.engines.engine import Engine
from deeplab_repro.engines.exact import layer_tops
from deeplab_repro.engines.large_maps import MOST_BYTES, run_in_tiles, up_to_poolings
from deeplab_repro.engines.phases import clear_beyond, from_phases, phases_shape, to_phases
from deeplab_repro.engines.product import convolve
from deeplab_repro.machine.work_space import empty
from deeplab_repro.net.layers import Convolution, Dropout, LayerType, ReLU
from deeplab_repro.net.net import Layer, Net
from deeplab_repro.net.stages import needed

Way = Literal["whole", "phases", "product", "join"]


def faster_way(op: LayerType, channels: int) -> Way:
    """The fastest way to run a layer on so many channels: "whole" where that is OpenCV's own.

    Measured on 2 cores at 65x65, as shares of OpenCV 4.14's own time: in phases 512 channels take
    0.2 with hole 2 and 0.26 with hole 4, and 128 take 0.35; but with hole 6 it is 1.5, since the
    phases are small then and all weights are read for each. As products fc6 (3x3, hole 12, 512 to
    1024) takes 0.5 and fc7 (1x1, 1024 to 1024) 0.45.
    Layers of fewer channels gain less, and lose where BLAS's threads have to share the cores. On 64
    channels and fewer the gain is smaller than what it costs to run a net in parts.
    """
    if not isinstance(op, Convolution) or op.group > 1 or op.stride != (1, 1):
        return "whole"
    if op.kernel == (3, 3):
        if op.hole == (1, 1):
            return "whole"
        # Padded by its hole, it pads each phase by one.
        if op.pad == op.hole and max(op.hole) <= 4:
            return "phases" if min(channels, op.num_output) >= 128 else "whole"
    return "product" if channels >= 512 and op.num_output >= 1024 else "whole"


@dataclass(eq=False)
class Part:
    """Layers that run together in one way, and the blobs that they take and give.

    whole: as a net, from one blob. phases: convolutions with one hole, one after the other.
    product: one convolution. join: an Eltwise, or the like, of what several parts give.
    """

    way: Way
    bottoms: tuple[str, ...]
    layers: list[Layer]
    tops: tuple[str, ...] = ()

    __repr__ = in_brief


def parts(net: Net, outputs: Iterable[str]) -> list[Part]:
    """The layers that the blobs `outputs` need, in parts to run in this order.

    Each layer of the net must change no blob. Parts share the net's weights. A block of phases ends
    where one of the outputs is made. A net with blobs that are no images is one part.
    """
    outputs = dict.fromkeys(outputs)
    layers = needed(net.layers, outputs)
    shapes = net.blob_shapes()
    if any(len(shapes[top]) != 4 for layer in layers for top in layer.tops):
        return [Part("whole", (net.input,), layers, tuple(outputs))]
    takes = [bottom for layer in layers for bottom in set(layer.bottoms)]
    found: list[Part] = []
    makers: dict[str, Part] = {}
    holders: dict[str, Part] = {}  # the part run whole that takes or makes a blob
    for layer in layers:
        first = layer.bottoms[0]
        way = faster_way(layer.op, shapes[first][1])
        before, holder = makers.get(first), holders.get(first)
        passed_on = takes.count(first) == 1 and first not in outputs
        if before and passed_on and _continues(before, layer, way):
            part = before
        elif way == "whole" and holder and all(holders.get(b) is holder for b in layer.bottoms):
            part = holder
        else:
            bottoms = tuple(dict.fromkeys(layer.bottoms))
            part = Part(way if len(bottoms) == 1 else "join", bottoms, [])
            found.append(part)
        part.layers.append(layer)
        makers.update(dict.fromkeys(layer.tops, part))
        if part.way == "whole":
            holders.update(dict.fromkeys((first, *layer.tops), part))
    for part in found:
        wanted = set(outputs).union(*(other.bottoms for other in found if other is not part))
        part.tops = tuple(top for layer in part.layers for top in layer.tops if top in wanted)
    return found


def stages_of(net: Net, part: Part) -> list[Net]:
    """The nets that run a part one after the other, in tiles where that saves memory; else none."""
    if part.way != "whole" or len(part.tops) > 1:
        return []
    (bottom,) = part.bottoms
    shape = net.blob_shapes()[bottom]
    return up_to_poolings(replace(net, input=bottom, input_shape=shape, layers=part.layers))


def _continues(part: Part, layer: Layer, way: Way) -> bool:
    """Whether a layer, the only one that takes what the part makes, belongs to the part."""
    if part.way == way == "phases":
        return convolution(layer).hole == convolution(part.layers[0]).hole
    if isinstance(layer.op, ReLU):
        return part.way == "phases" or (part.way == "product" and not layer.op.negative_slope)
    return isinstance(layer.op, Dropout) and part.way in ("phases", "product")


def convolution(layer: Layer) -> Convolution:
    """What a layer that is a convolution does."""
    assert isinstance(layer.op, Convolution)
    return layer.op


# --- running them


_Run = Callable[..., Iterable[np.ndarray]]  # from the blobs that a part takes to those it gives


class InParts:
    """Runs a net in `parts`, up to the blobs `outputs`. engine: makes what runs a part as a net."""

    def __init__(self, net: Net, outputs: Sequence[str], engine: Callable[[Net], Engine]) -> None:
        self.parts = parts(net, outputs)
        self.outputs = tuple(outputs)
        self._input = net.input
        self._engines: list[Engine] = []
        shapes = net.blob_shapes()

        def engine_of(layers: list[Layer], hole: HW = (1, 1)) -> Engine:
            bottom = layers[0].bottoms[0]
            shape = phases_shape(shapes[bottom], hole)
            self._engines.append(
                engine(replace(net, input=bottom, input_shape=shape, layers=layers))
            )
            return self._engines[-1]

        def run_of(part: Part) -> _Run:
            first = part.layers[0]
            if part.way == "join":
                return partial(_join, first)
            if part.way == "product":
                return partial(_product, first, any(isinstance(x.op, ReLU) for x in part.layers))
            if part.way == "whole":
                if stages := stages_of(net, part):
                    return partial(_in_tiles, [engine_of(stage.layers) for stage in stages])
                return partial(_whole, engine_of(part.layers), part.tops)
            hole = convolution(first).hole
            steps = [engine_of(layers, hole) for layers in ordinary(part.layers)]
            return partial(_phases, steps, hole)

        self._runs = [run_of(part) for part in self.parts]

    def build(self) -> None:
        """Build all engines, as their own `build` does."""
        for engine in self._engines:
            engine.build()

    def blobs(self, data: np.ndarray) -> dict[str, np.ndarray]:
        """The outputs by name. Raises what the engines raise, and WeightsError."""
        blobs = {self._input: data}
        for number, (part, run) in enumerate(zip(self.parts, self._runs, strict=True), start=1):
            tops = run(*(blobs[name] for name in part.bottoms))
            blobs.update(zip(part.tops, tops, strict=True))
            kept = set(self.outputs).union(*(later.bottoms for later in self.parts[number:]))
            blobs = {name: blob for name, blob in blobs.items() if name in kept}
        return blobs


def _whole(engine: Engine, tops: Sequence[str], data: np.ndarray) -> Iterable[np.ndarray]:
    return engine.blobs(data, tops).values()


def _in_tiles(engines: Sequence[Engine], data: np.ndarray) -> Iterable[np.ndarray]:
    return [run_in_tiles(engines, data)]


def ordinary(layers: Sequence[Layer]) -> list[list[Layer]]:
    """A block's layers as they run on the phases, one list for each convolution."""
    steps: list[list[Layer]] = []
    for layer in layers:
        if isinstance(layer.op, Convolution):
            layer = replace(layer, op=replace(layer.op, hole=(1, 1), pad=(1, 1)))
            steps.append([])
        steps[-1].append(layer)
    return steps


def _phases(engines: Sequence[Engine], hole: HW, data: np.ndarray) -> Iterable[np.ndarray]:
    n, _, height, width = data.shape
    phases = to_phases(data, hole)
    for engine in engines:
        clear_beyond(phases, hole, (height, width))
        phases = _a_few_at_once(engine, phases)
    return [from_phases(phases, hole, (n, phases.shape[1], height, width))]


def _a_few_at_once(engine: Engine, images: np.ndarray) -> np.ndarray:
    """The output of a net of all images of a batch, which are run together as far as they fit."""
    few = max(1, MOST_BYTES // images[0].nbytes)
    if few >= len(images):
        return engine.blobs(images, [engine.net.output])[engine.net.output]
    made = empty(engine.net.output_shape(images.shape))
    for first in range(0, len(images), few):
        some = images[first : first + few]
        made[first : first + few] = engine.blobs(some, [engine.net.output])[engine.net.output]
    return made


def _product(layer: Layer, relu: bool, data: np.ndarray) -> Iterable[np.ndarray]:
    return [convolve(data, convolution(layer), **layer.weights(), relu=relu)]


def _join(layer: Layer, *arrays: np.ndarray) -> Iterable[np.ndarray]:
    named = dict(zip(dict.fromkeys(layer.bottoms), arrays, strict=True))
    return layer_tops(layer, *(named[name] for name in layer.bottoms))
