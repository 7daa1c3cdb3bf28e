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
from deeplab_repro.engines.exact import layer_tops
from deeplab_repro.errors import NetError
from deeplab_repro.machine.heap import give_back_excess
from deeplab_repro.machine.work_space import empty
from deeplab_repro.net.net import Layer, Net
from deeplab_repro.net.stages import between, branches, waists
from deeplab_repro.net.tiles import Axis, axes_of

EngineOf = Callable[[Net], Engine]
OnTile = Callable[[], object]

# To build a stage's engine takes about as long as this share of all the net's work.
_COST_OF_A_STAGE = 0.01
_COST_OF_A_TILE = 200  # values of the image or a blob: to start an engine takes as long
_MOST_WORK = 10  # times the whole's: beyond it small tiles take hours, and then thousands
_MOST_WAISTS = 12  # among which the stages are chosen
_GUESSED = 1.05  # times the room: a guess of a tile's bytes may be so much too high


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

    def run(self, engine: Engine, data: F32, size: HW, on_tile: OnTile | None) -> F32:
        """The first (H, W) values of the output, 1xCxHxW, from the whole of the input."""
        blob = self.net.output
        made = empty((*self.net.output_shape(self.shape)[:2], *size))
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
class InStages:
    """How a net makes its output of an image: in stages, one after the other.

    n_bytes: about what that takes. work: the operations, of which some are computed several times.
    """

    stages: tuple[Stage, ...]
    n_bytes: int
    work: float

    @property
    def count(self) -> int:
        """How many tiles there are in all stages."""
        return sum(stage.count for stage in self.stages)

    @property
    def tile(self) -> HW:
        """The (H, W) of tiles of the image."""
        return self.stages[0].tile

    def run(self, engine_of: EngineOf, data: F32, size: HW, on_tile: OnTile | None = None) -> F32:
        """The first (H, W) values of the net's output, 1xCxHxW float32.

        engine_of: makes what runs a stage; it is dropped when the stage is done. data: the input,
        1x3xHxW float32. on_tile: called after each tile. Raises what the engines raise.
        """
        for number, stage in enumerate(self.stages, start=1):
            whole = stage.net.output_shape(stage.shape)
            wanted = size if number == len(self.stages) else (whole[2], whole[3])
            data = stage.run(engine_of(stage.net), data, wanted, on_tile)
            give_back_excess()
        return data


@dataclass(frozen=True)
class InBranches:
    """How a net makes its output of an image: in branches, which its last layer joins.

    n_bytes, work: as for `InStages`.
    """

    branches: "tuple[Tiling, ...]"
    join: Layer
    n_bytes: int
    work: float

    @property
    def count(self) -> int:
        """How many tiles there are in all branches."""
        return sum(branch.count for branch in self.branches)

    @property
    def tile(self) -> HW:
        """The (H, W) of tiles of the image, in the branch whose tiles are the largest."""
        return max((branch.tile for branch in self.branches), key=math.prod)

    def run(self, engine_of: EngineOf, data: F32, size: HW, on_tile: OnTile | None = None) -> F32:
        """As `InStages.run`."""
        made = [branch.run(engine_of, data, size, on_tile) for branch in self.branches]
        return layer_tops(self.join, *made)[0]


Tiling = InStages | InBranches


def find_tiling(
    net: Net,
    shape: Shape,
    engine_of: EngineOf,
    room: float = math.inf,
    longest: float = math.inf,
) -> Tiling | None:
    """How to make a net's output of an image with the least work; None where there is no good way.

    net: without layers that its output does not need. shape: of the input, 1x3xHxW. room: bytes
    that all may take. longest: no side of a tile is longer, in pixels of the image.
    """
    found: list[Tiling] = []
    if in_stages := _in_stages(net, shape, engine_of, room, longest):
        found.append(in_stages)
    if parts := branches(net):
        kept = 4 * (len(parts) + 1) * math.prod(net.output_shape(shape))
        tilings = [find_tiling(part, shape, engine_of, room - kept, longest) for part in parts]
        ways = tuple(way for way in tilings if way)
        if len(ways) == len(parts):
            n_bytes = kept + max(way.n_bytes for way in ways)
            work = sum(way.work for way in ways)
            found.append(InBranches(ways, net.layers[-1], n_bytes, work))
    most = _MOST_WORK * net.operations(net.output, shape)
    return min((way for way in found if way.work <= most), key=lambda way: way.work, default=None)


def _in_stages(
    net: Net, shape: Shape, engine_of: EngineOf, room: float, longest: float
) -> InStages | None:
    """`find_tiling` in stages alone: the way from waist to waist that costs least."""
    starts = _candidates(net, shape)
    ends = [*(at for at, _ in starts[1:]), len(net.layers)]
    a_stage = _COST_OF_A_STAGE * net.operations(net.output, shape)
    best = {0: InStages((), 0, 0.0)}  # by the number of layers that are done
    for number, start in enumerate(starts):
        if start[0] not in best:
            continue
        before = best[start[0]]
        for end in ends[number:]:
            part = between(net, shape, start, end)
            taken = part.input_shape
            kept = 4 * (math.prod(taken) + math.prod(part.output_shape()))
            kept += 4 * math.prod(shape) if number else 0
            limit = longest * taken[2] / shape[2]
            found = _least_overlap(part, taken, engine_of(part), room - kept, limit)
            if found is None:
                continue
            stage, overlap, needs = found
            work = before.work + part.operations(part.output) * overlap + a_stage
            if end not in best or work < best[end].work:
                n_bytes = max(before.n_bytes, needs + kept)
                best[end] = InStages((*before.stages, stage), n_bytes, work)
    return best.get(len(net.layers))


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
    axes = _axes_or_whole(net, shape)
    rows, columns = ({axis.length(each): each for each in _counts(axis.most)} for axis in axes)
    tiles = [(h, w) for h in rows for w in columns if max(h, w) <= longest]
    if not tiles:
        return None

    def computed(tile: HW) -> int:
        return rows[tile[0]] * columns[tile[1]] * (math.prod(tile) + _COST_OF_A_TILE)

    def needs(tile: HW) -> int:
        return engine.memory_needed((n, channels, *tile)) + 4 * channels * math.prod(tile)

    # What a tile takes grows about as its area does, and to guess it is fast.
    least, most = min(tiles, key=math.prod), max(tiles, key=math.prod)
    base = needs(least)
    a_value = (needs(most) - base) / max(1, math.prod(most) - math.prod(least))
    for tile in sorted(tiles, key=computed):
        guess = base + a_value * (math.prod(tile) - math.prod(least))
        if guess <= _GUESSED * room and (n_bytes := needs(tile)) <= room:
            return Stage(net, shape, axes, tile), computed(tile) / math.prod(size), n_bytes
    return None


def _axes_or_whole(net: Net, shape: Shape) -> tuple[Axis, Axis]:
    """The rows and the columns of a net; of one that does not run in tiles, for a single tile."""
    try:
        return axes_of(net, shape)
    except NetError:
        (rows, columns), made = shape[2:], net.output_shape(shape)[2:]
        return Axis(rows, made[0], before=made[0]), Axis(columns, made[1], before=made[1])


def _counts(most: int) -> list[int]:
    """Numbers of tiles along an axis that are worth a try, falling: all small, some large ones."""
    found = [1]
    while found[-1] < most:
        found.append(min(most, max(found[-1] + 1, found[-1] * 5 // 4)))
    return found[::-1]
