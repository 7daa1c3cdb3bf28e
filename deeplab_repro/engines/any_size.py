"""Runs a net on images of any size: as a whole where that fits memory, or else in tiles."""

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal

from deeplab_repro.arrays import F32, HW
from deeplab_repro.engines.engine import Engine
from deeplab_repro.engines.tiles import EngineOf, Tiling, find_tiling, least_tile, why_whole
from deeplab_repro.errors import ArgumentError, ResourceError
from deeplab_repro.machine import memory
from deeplab_repro.machine.gpus import free_memory
from deeplab_repro.machine.memory import gigabytes
from deeplab_repro.machine.work_space import free_memory as free_kept_memory
from deeplab_repro.net.net import Net
from deeplab_repro.net.stages import up_to

TileSize = int | Literal["auto", "never"] | None

# Tiles for which a net takes this many bytes mostly overlap little. They get more where they come
# to more than so many times the work of the whole.
_ENOUGH = 2_000_000_000
_TOO_MUCH_WORK = 1.4

# Where memory runs out, the next tiles are to take this share of what the last were to take.
_LESS = 0.6

_MORE = "free some, or use a machine with more memory"

OnTiles = Callable[[str, int], Callable[[], object]]
"""Takes how a photo is run in tiles, in words, and how many there are; gives what each calls."""


def check_tile(tile: TileSize) -> None:
    """Raise ArgumentError unless this is a size of tiles, or how to choose one."""
    is_size = isinstance(tile, int) and not isinstance(tile, bool) and tile > 0
    if not (is_size or tile is None or tile in ("auto", "never")):
        raise ArgumentError(
            f"tile is {tile!r}, expected 'auto', 'never' or the largest side of a tile in pixels"
        )


@dataclass(frozen=True)
class Way:
    """How an image is to be run: as a whole, or in tiles, and why in tiles (in words).

    n_bytes: what the net takes.
    """

    n_bytes: int
    tiling: Tiling | None = None
    why: str = ""

    @property
    def count(self) -> int:
        """How many tiles there are; 0 for the whole image at once."""
        return self.tiling.count if self.tiling else 0

    def __str__(self) -> str:
        if self.tiling is None:
            return "as a whole"
        height, width = self.tiling.tile
        return f"in {self.count} tiles of up to {width}x{height} pixels{self.why}"


class AnySize:
    """A net, and the engine that runs it, up to its coarse scores, on images of any size.

    engine_of: makes an engine of a net; part_of: of a part of it that runs in tiles, if another.
    tile: what `check_tile` takes. engine: runs the whole.
    """

    def __init__(
        self, net: Net, engine_of: EngineOf, tile: TileSize, part_of: EngineOf | None = None
    ) -> None:
        self.engine: Engine = engine_of(net)
        self._engine_of, self._part_of = engine_of, part_of or engine_of
        self._in_tiles = tile not in (None, "never")
        self._longest = tile if isinstance(tile, int) else math.inf  # side of a tile
        self._bytes_held = 0  # what the engine took for earlier images, it has not given back

    def fits(self, size: HW, net_bytes: int, rest: int) -> bool:
        """Whether images of the least size (H, W) run as a whole. The others are as for `way`.

        Raises ResourceError where there is too little memory for any way.
        """
        free, on_gpu = self._free()
        if net_bytes > min(free - rest, on_gpu):
            with suppress(ArgumentError):  # at other sizes smaller tiles may do
                self.way(size, net_bytes, rest, lambda _: _MORE)
        return self._fits(size, net_bytes, rest, free, on_gpu)

    def way(self, size: HW, net_bytes: int, rest: int, smaller: Callable[[float], str]) -> Way:
        """How to run an image of this size (H, W), which the net takes.

        net_bytes, rest: what the whole net takes, and what the CRF and all else do. smaller: tells
        what to do with so many free bytes. Raises ResourceError where there is too little memory
        for any way, and ArgumentError where tiles are too small for what their scores depend on.
        """
        more = net_bytes - self._bytes_held
        if self._fits(size, more, rest, *self._free()):
            return Way(net_bytes)
        free_kept_memory()  # of earlier images
        if self._fits(size, more, rest, *self._free()):
            return Way(net_bytes)
        if self._in_tiles:
            self._drop_engine()
        free, on_gpu = self._free()
        needs = f"{gigabytes(net_bytes + rest)} and {gigabytes(free)} are free"
        if found := self.way_within(size, net_bytes, rest, free, on_gpu):
            limited = self._longest < max(size)
            return replace(found, why="" if limited else f", as the whole needs {needs}")
        if self._longest < max(size):
            self._check_longest(size)
        why_not = "let it run in tiles (--tile auto)"
        if self._in_tiles:
            why_not = why_whole(*self._to_scores(size))
        mends = ", or ".join(filter(None, [why_not, smaller(free)]))
        raise ResourceError(
            f"{what(self.engine.net, size)}: needs {gigabytes(net_bytes + rest)} of memory, "
            f"{gigabytes(free)} are free: {mends}"
        )

    def way_within(
        self, size: HW, net_bytes: int, rest: int, free: float, on_gpu: float = math.inf
    ) -> Way | None:
        """How to run an image in so many free bytes; None where there is no way.

        The others are as for `way`.
        """
        if self._fits(size, net_bytes, rest, free, on_gpu):
            return Way(net_bytes)
        if not self._in_tiles or rest > free:
            return None
        # The net is gone when the CRF begins, but that of the image before may still run.
        found = self._tiling(size, min(on_gpu, max(free - rest, free / 3)))
        if found is None:
            return None
        return Way(found.n_bytes, found if found.count > 1 else None)

    def run(
        self, way: Way, data: F32, size: HW, on_tiles: OnTiles | None = None
    ) -> tuple[F32, Way]:
        """The first (H, W) of the coarse scores, CxHxW float32, and how they were made.

        As a whole, all of them. Where memory runs out all the same, it is tried again in smaller
        tiles. data: the input, 1x3xHxW float32. Raises what the engine raises.
        """
        while True:
            on_tile = on_tiles(str(way), way.count) if on_tiles and way.tiling else None
            try:
                return self._run(way, data, size, on_tile), way
            except (ResourceError, MemoryError) as error:
                self._drop_engine()
                failed = error.with_traceback(None)  # which would keep what is to be freed
            found = None
            if self._in_tiles:
                found = self._tiling((data.shape[2], data.shape[3]), _LESS * way.n_bytes)
            if found is None:
                raise failed
            way = Way(found.n_bytes, found, ", as memory ran out")

    def _run(self, way: Way, data: F32, size: HW, on_tile: Callable[[], object] | None) -> F32:
        if way.tiling:
            return way.tiling.run(self._part_of, data, size, on_tile)[0]
        blob = self.engine.net.coarse_output[0]
        values = self.engine.blobs(data, [blob])[blob][0]
        self._bytes_held = max(self._bytes_held, way.n_bytes)
        return values

    def _fits(self, size: HW, net_bytes: int, rest: int, free: float, on_gpu: float) -> bool:
        """Whether an image runs as a whole."""
        return net_bytes <= min(free - rest, on_gpu) and max(size) <= self._longest

    def _drop_engine(self) -> None:
        """Give back what the engine holds."""
        self.engine, self._bytes_held = self._engine_of(self.engine.net), 0

    def _free(self) -> tuple[float, float]:
        """The free bytes of memory, and of the GPU if the net runs there."""
        free = memory.available_memory()
        on_gpu = free_memory() if self.engine.device == "cuda" else None
        return math.inf if free is None else free, math.inf if on_gpu is None else on_gpu

    def _to_scores(self, size: HW) -> tuple[Net, tuple[int, int, int, int]]:
        net = self.engine.net
        return up_to(net, net.coarse_output[0]), (1, 3, *size)

    def _tiling(self, size: HW, room: float) -> Tiling | None:
        net, shape = self._to_scores(size)
        enough = min(_ENOUGH, room) if self._longest == math.inf else room
        while True:
            found = find_tiling(net, shape, self._part_of, enough, self._longest)
            work = found.work / max(1, net.operations(net.output, shape)) if found else math.inf
            if work <= _TOO_MUCH_WORK or enough == room:
                return found
            enough = min(2 * enough, room)

    def _check_longest(self, size: HW) -> None:
        """Raise ArgumentError where there is no way in tiles of this size, in any memory."""
        net, shape = self._to_scores(size)
        if find_tiling(net, shape, self._part_of, longest=self._longest):
            return
        least = least_tile(net, shape, self._part_of)
        why = why_whole(net, shape)
        raise ArgumentError(
            f"{what(net, size)}: tiles of {self._longest} pixels are too small for what their "
            f"scores depend on{why and f' ({why})'}, expected {least} or more: use --tile {least}"
        )


def what(net: Net, size: HW) -> str:
    """What a message is about: a net on an image of this size (H, W)."""
    return f"net '{net.name}' on an image of {size[1]}x{size[0]} pixels"
