"""Runs a net on images of any size: as a whole where that fits memory, or else in tiles."""

import math
from collections.abc import Callable
from dataclasses import dataclass
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
        self._tile = "never" if tile is None else tile
        self._bytes_held = 0  # what the engine took for earlier images, it has not given back

    def way(self, size: HW, net_bytes: int, rest: int, smaller: Callable[[float], str]) -> Way:
        """How to run an image of this size (H, W), which the net takes.

        net_bytes, rest: what the whole net takes, and what the CRF and all else do. smaller: tells
        what to do with so many free bytes. Raises ResourceError where there is too little memory
        for any way, and ArgumentError where tiles are smaller than what their scores depend on.
        """
        longest = self._tile if isinstance(self._tile, int) else math.inf
        free, on_gpu = self._free()
        wanted = net_bytes - self._bytes_held
        if wanted > min(free - rest, on_gpu):
            free_kept_memory()  # of earlier images
            free, on_gpu = self._free()
        if wanted <= min(free - rest, on_gpu) and max(size) <= longest:
            return Way(net_bytes)
        needs = float(net_bytes + rest)
        why_not = "let it run in tiles (--tile auto)"
        if self._tile != "never":
            self.engine, self._bytes_held = self._engine_of(self.engine.net), 0
            free, on_gpu = self._free()
            why = f", as the whole needs {gigabytes(needs)} and {gigabytes(free)} are free"
            # The net is gone when the CRF begins, but that of the image before may still run.
            room = min(on_gpu, max(free - rest, free / 3))
            tiling = self._tiling(size, longest, room)
            if tiling and max(tiling.n_bytes, rest) <= free:
                return Way(tiling.n_bytes, tiling, "" if longest < math.inf else why)
            needs = max(tiling.n_bytes, rest) if tiling else needs
            mend = "use a smaller --tile" if longest < math.inf else ""
            why_not = why_whole(*self._to_scores(size)) or mend
        mends = ", or ".join(filter(None, [why_not, smaller(free)]))
        raise ResourceError(
            f"{what(self.engine.net, size)}: needs {gigabytes(needs)} of memory, {gigabytes(free)} "
            f"are free: {mends}"
        )

    def run(
        self, way: Way, data: F32, size: HW, on_tile: Callable[[], object] | None = None
    ) -> F32:
        """The first (H, W) of the coarse scores, CxHxW float32; as a whole, all of them.

        data: the input, 1x3xHxW float32. on_tile: called after each tile. Raises what the engine
        raises.
        """
        if way.tiling:
            return way.tiling.run(self._part_of, data, size, on_tile)[0]
        blob = self.engine.net.coarse_output[0]
        values = self.engine.blobs(data, [blob])[blob][0]
        self._bytes_held = max(self._bytes_held, way.n_bytes)
        return values

    def _free(self) -> tuple[float, float]:
        """The free bytes of memory, and of the GPU if the net runs there."""
        free = memory.available_memory()
        on_gpu = free_memory() if self.engine.device == "cuda" else None
        return math.inf if free is None else free, math.inf if on_gpu is None else on_gpu

    def _to_scores(self, size: HW) -> tuple[Net, tuple[int, int, int, int]]:
        net = self.engine.net
        return up_to(net, net.coarse_output[0]), (1, 3, *size)

    def _tiling(self, size: HW, longest: float, room: float) -> Tiling | None:
        net, shape = self._to_scores(size)
        if longest == math.inf:
            enough = min(_ENOUGH, room)
            while True:
                found = find_tiling(net, shape, self._part_of, enough)
                work = found.work / max(1, net.operations(net.output, shape)) if found else math.inf
                if work <= _TOO_MUCH_WORK or enough == room:
                    return found
                enough = min(2 * enough, room)
        found = find_tiling(net, shape, self._part_of, longest=longest)
        if found is None:
            least = least_tile(net, shape, self._part_of)
            raise ArgumentError(
                f"{what(net, size)}: tiles of {longest} pixels are smaller than what their scores "
                f"depend on, expected {least} or more: use --tile {least}"
            )
        return found


def what(net: Net, size: HW) -> str:
    """What a message is about: a net on an image of this size (H, W)."""
    return f"net '{net.name}' on an image of {size[1]}x{size[0]} pixels"
