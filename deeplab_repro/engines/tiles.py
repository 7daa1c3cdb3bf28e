"""Runs a net on images that it could not take as a whole, in tiles that make what the whole makes.

Tiles overlap by what their scores depend on, which for a whole net is some hundred pixels. So a net
runs in stages, where one blob alone goes on: each in tiles with its own, smaller overlap, and only
that blob is kept of the whole image.
"""

import bisect
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from deeplab_repro.arrays import F32, HW, Shape
from deeplab_repro.engines.engine import Engine
from deeplab_repro.errors import NetError
from deeplab_repro.net.net import Net
from deeplab_repro.net.stages import between, waists
from deeplab_repro.net.tiles import Axis, axes_of

EngineOf = Callable[[Net], Engine]

# To build a stage's engine takes about as long as this share of all the net's work.
_COST_OF_A_STAGE = 0.01
_MOST_WAISTS = 20


@dataclass(frozen=True)
class Stage:
    """A part of a net from one blob to another, and the tiles in which it runs.

    shape: of the blob that it takes, of the whole image. tile: the (H, W) of its tiles there.
    """

    net: Net
    shape: Shape
    axes: tuple[Axis, Axis]
    tile: HW

    @property
    def count(self) -> int:
        """How many tiles there are."""
        return math.prod(len(list(self._pieces(axis))) for axis in (0, 1))

    def run(self, engine: Engine, data: F32, size: HW, on_tile: Callable[[], object] | None) -> F32:
        """The first (H, W) values of the output, 1xCxHxW, from the whole of the input."""
        blob = self.net.output
        made = np.empty((*self.net.output_shape(self.shape)[:2], *size), np.float32)
        for rows in self._pieces(0):
            for columns in self._pieces(1):
                tile = np.ascontiguousarray(data[:, :, rows.input, columns.input])
                found = engine.blobs(tile, [blob])[blob][:, :, rows.made, columns.made]
                place = made[:, :, rows.output, columns.output]
                place[...] = found[:, :, : place.shape[2], : place.shape[3]]
                if on_tile:
                    on_tile()
        return made

    def _pieces(self, axis: int) -> Iterator:
        return self.axes[axis].pieces(self.tile[axis])


@dataclass(frozen=True)
class Tiling:
    """How a net makes a blob of an image in tiles. n_bytes: about what that takes."""

    stages: tuple[Stage, ...]
    n_bytes: int

    @property
    def count(self) -> int:
        """How many tiles there are in all stages."""
        return sum(stage.count for stage in self.stages)

    def __str__(self) -> str:
        height, width = self.stages[0].tile
        several = f" (in {len(self.stages)} stages)" if len(self.stages) > 1 else ""
        return f"{self.count} tiles of up to {width}x{height} pixels{several}"

    def run(
        self,
        engine_of: EngineOf,
        data: F32,
        size: HW,
        on_tile: Callable[[], object] | None = None,
    ) -> F32:
        """The first (H, W) values of the net's output, 1xCxHxW float32.

        engine_of: makes what runs a stage; it is dropped when the stage is done. data: the input,
        1x3xHxW float32. on_tile: called after each tile. Raises what the engines raise.
        """
        for number, stage in enumerate(self.stages, start=1):
            whole = stage.net.output_shape(stage.shape)
            wanted = size if number == len(self.stages) else (whole[2], whole[3])
            data = stage.run(engine_of(stage.net), data, wanted, on_tile)
        return data


def find_tiling(
    net: Net,
    shape: Shape,
    engine_of: EngineOf,
    room: float = math.inf,
    longest: float = math.inf,
) -> Tiling | None:
    """How to make a net's output of an image with the least work; None where there is no way.

    net: without layers that its output does not need. shape: of the input, 1x3xHxW. room: bytes
    that all may take. longest: no side of a tile is longer, in pixels of the image.
    """
    starts = _candidates(net, shape)
    ends = [*(at for at, _ in starts[1:]), len(net.layers)]
    # By the number of stages' ends passed: the least work so far, and the stages.
    best: dict[int, tuple[float, tuple[Stage, ...], int]] = {0: (0.0, (), 0)}
    whole_work = max(1, net.operations(net.output, shape))
    for number, start in enumerate(starts):
        if start[0] not in best:
            continue
        work, stages, n_bytes = best[start[0]]
        for end in ends[number:]:
            part = between(net, shape, start, end)
            taken = net.blob_shapes(shape)[part.input]
            kept = 4 * (math.prod(taken) + math.prod(part.output_shape(taken)))
            kept += 4 * math.prod(shape) if number else 0
            limit = longest * taken[2] / shape[2]
            found = _least_overlap(part, taken, engine_of(part), room - kept, limit)
            if found is None:
                continue
            stage, overlap, needs = found
            share = part.operations(part.output, taken) / whole_work * overlap + _COST_OF_A_STAGE
            if end not in best or work + share < best[end][0]:
                best[end] = work + share, (*stages, stage), max(n_bytes, needs + kept)
    if len(net.layers) not in best:
        return None
    _, stages, n_bytes = best[len(net.layers)]
    return Tiling(stages, n_bytes)


def least_tile(net: Net, shape: Shape, engine_of: EngineOf) -> int:
    """The least `longest` for which `find_tiling` finds a way."""

    def has_way(longest: int) -> bool:
        return find_tiling(net, shape, engine_of, longest=longest) is not None

    return 1 + bisect.bisect_left(range(1, max(shape[2:])), True, key=has_way)


def why_whole(net: Net, shape: Shape) -> str:
    """Why a net does not run in tiles from its input to its output; empty where it does."""
    try:
        axes_of(net, shape)
    except NetError as error:
        return f"{error}"
    return ""


def _candidates(net: Net, shape: Shape) -> list[tuple[int, str]]:
    """Waists to divide the net at: the last of each blob that layers change in place."""
    shapes = net.blob_shapes(shape)
    maps = {blob: (at, blob) for at, blob in waists(net) if len(shapes[blob]) == 4}
    found = list(maps.values())
    apart = -(-len(found) // _MOST_WAISTS)
    return found[::apart]


def _least_overlap(
    net: Net, shape: Shape, engine: Engine, room: float, longest: float
) -> tuple[Stage, float, int] | None:
    """The tiles that compute least twice: the stage, what is computed per value, and its bytes."""
    n, channels, *size = shape
    try:
        axes = axes_of(net, shape)
    except NetError:  # it runs as a whole, or not at all
        made = net.output_shape(shape)[2:]
        axes = Axis(size[0], made[0]), Axis(size[1], made[1])
        counts: list[list[int]] = [[1], [1]]
    else:
        counts = [_counts(axis.most) for axis in axes]
    lengths = [
        {axis.length(count): count for count in reversed(each)}
        for axis, each in zip(axes, counts, strict=True)
    ]
    ways = [
        (rows * lengths[0][rows] * columns * lengths[1][columns], (rows, columns))
        for rows in lengths[0]
        for columns in lengths[1]
        if max(rows, columns) <= longest
    ]
    too_large = math.inf
    for computed, tile in sorted(ways):
        area = math.prod(tile)
        if area < too_large:
            needs = engine.memory_needed((n, channels, *tile)) + 4 * channels * area
            if needs <= room:
                return Stage(net, shape, axes, tile), computed / math.prod(size), needs
            too_large = area
    return None


def _counts(most: int) -> list[int]:
    """Numbers of tiles along an axis that are worth a try: all small ones, and some large ones."""
    found = [1]
    while found[-1] < most:
        found.append(min(most, max(found[-1] + 1, found[-1] * 5 // 4)))
    return found
