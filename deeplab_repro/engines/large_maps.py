"""Runs the first layers of a net in tiles: their maps are the largest of all.

As a whole these maps, and what OpenCV makes of them on the way, would take half of the net's memory
and leave the caches between any two layers.
"""

import math
from collections.abc import Iterable, Iterator

import numpy as np

from deeplab_repro.arrays import Shape
from deeplab_repro.engines.engine import Engine
from deeplab_repro.engines.tiles import Stage
from deeplab_repro.errors import NetError
from deeplab_repro.net.layers import LayerType, Pooling
from deeplab_repro.net.net import Net
from deeplab_repro.net.stages import between, waists
from deeplab_repro.net.tiles import axes_of

# Of the largest map of a tile. OpenCV takes up to twice that to transform it. With twice as much
# LargeFOV took 1.2 times as long at 1025x769; smaller tiles overlap by more.
MOST_BYTES = 8 << 20

_MOST_COMPUTED = 1.2  # values for each value


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


def tiles_of(net: Net, shape: Shape) -> Stage | None:
    """The tiles in which a net runs on an input of this shape; None for as a whole."""
    shapes = net.blob_shapes(shape).values()
    wanted = -(-4 * max(map(math.prod, shapes)) // MOST_BYTES)
    if wanted == 1:
        return None
    try:
        rows, columns = axes_of(net, shape)
    except NetError:  # the net does not run in tiles
        return None

    def ways() -> Iterator[tuple[int, Stage]]:
        for count in range(1, min(wanted, rows.most) + 1):
            tile = rows.length(count), columns.length(min(-(-wanted // count), columns.most))
            stage = Stage(net, shape, (rows, columns), tile)
            yield stage.count * math.prod(tile), stage

    computed, best = min(ways(), key=lambda way: way[0])
    return best if computed <= _MOST_COMPUTED * rows.size * columns.size else None


def run_in_tiles(engines: Iterable[Engine], data: np.ndarray) -> np.ndarray:
    """The output of the last net of several, of which each takes what the one before it makes.

    Each runs in tiles where its maps are large. Raises what the engines raise.
    """
    for engine in engines:
        net = engine.net
        if tiles := tiles_of(net, data.shape):
            height, width = net.output_shape(data.shape)[2:]
            data = tiles.run(engine, data, (height, width), None)
        else:
            data = engine.blobs(data, [net.output])[net.output]
    return data
