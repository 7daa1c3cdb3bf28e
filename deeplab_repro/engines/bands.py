"""Runs the first layers of a net in bands of rows: their maps are the largest of all.

As a whole these maps, and what OpenCV makes of them on the way, would take half of the net's memory
and leave the caches between any two layers.
"""

import math
from collections.abc import Callable

import numpy as np

from deeplab_repro.arrays import Shape
from deeplab_repro.engines.engine import Engine
from deeplab_repro.engines.tiles import Stage
from deeplab_repro.errors import NetError
from deeplab_repro.net.layers import LayerType, Pooling
from deeplab_repro.net.net import Net
from deeplab_repro.net.stages import between, waists
from deeplab_repro.net.tiles import axes_of

# Of the largest map of a band. OpenCV takes up to twice that to transform it, which is then less
# than the 32 MB beyond which glibc always gives memory back. Smaller bands overlap by more rows.
MOST_BYTES = 16 << 20

_MOST_COMPUTED = 1.2  # rows for each row


def up_to_poolings(net: Net) -> list[Net]:
    """A net up to each pooling that makes its maps smaller, where one blob alone goes on; the rest.

    Each layer must change no blob. The nets share the layers.
    """

    def shrinks(op: LayerType) -> bool:
        return isinstance(op, Pooling) and op.stride != (1, 1)

    starts = [(at, blob) for at, blob in waists(net) if not at or shrinks(net.layers[at - 1].op)]
    stops = [*(at for at, _ in starts[1:]), len(net.layers)]
    return [
        between(net, net.input_shape, start, stop)
        for start, stop in zip(starts, stops, strict=True)
    ]


def bands_of(net: Net, shape: Shape) -> Stage | None:
    """The bands in which a net runs on an input of this shape; None for as a whole."""
    shapes = net.blob_shapes(shape).values()
    largest = 4 * max(map(math.prod, shapes))
    if largest <= MOST_BYTES:
        return None
    try:
        rows, columns = axes_of(net, shape)
    except NetError:  # the net does not run in tiles
        return None
    for count in range(min(-(-largest // MOST_BYTES), rows.most), 1, -1):
        length = rows.length(count)
        if len(list(rows.pieces(length))) * length <= _MOST_COMPUTED * rows.size:
            return Stage(net, shape, (rows, columns), (length, shape[3]))
    return None


class InBands:
    """Runs a net up to each of its poolings, in bands where its maps are large there.

    net: from one blob to one. engine: makes what runs a part of it.
    """

    def __init__(self, net: Net, engine: Callable[[Net], Engine]) -> None:
        self._engines = [engine(part) for part in up_to_poolings(net)]

    def build(self) -> None:
        """Build all engines, as their own `build` does."""
        for engine in self._engines:
            engine.build()

    def run(self, data: np.ndarray) -> np.ndarray:
        """The net's output. Raises what the engines raise."""
        for engine in self._engines:
            net = engine.net
            if bands := bands_of(net, data.shape):
                height, width = net.output_shape(data.shape)[2:]
                data = bands.run(engine, data, (height, width), None)
            else:
                data = engine.blobs(data, [net.output])[net.output]
        return data
