"""What was measured on this computer of how fast the engines run each net, kept for later runs.

It is a convenience: without it, or where its file is damaged, all is measured again.
"""

import json
import logging
import math
import os
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from deeplab_repro.arrays import Shape
from deeplab_repro.errors import DeepLabError
from deeplab_repro.files.made_of import sha256_of_text
from deeplab_repro.files.whole import open_to_read, write_atomically
from deeplab_repro.machine.cpu import cpu_name
from deeplab_repro.machine.home import cache_folder
from deeplab_repro.machine.opencv import cv2
from deeplab_repro.net.net import Net

logger = logging.getLogger(__name__)

_FILE = "engines.json"
_MOST_BYTES = 1 << 20
_MOST_KEPT = 200


@dataclass(frozen=True)
class Measured:
    """How fast engines ran a net.

    cpu: its model. threads: of each engine. net: its name. layers: a digest of them. size: the
    `size_class` of the images. seconds: of a run by the engine's name with its version; None where
    it could not run.
    """

    cpu: str
    threads: int
    net: str
    layers: str
    size: int
    seconds: dict[str, float | None]


def size_class(shape: Shape) -> int:
    """Images of NxCxHxW by their pixels: a class has twice as many as the one before."""
    return round(math.log2(max(1, math.prod((*shape[:1], *shape[2:])))))


def layers_digest(net: Net) -> str:
    """A digest of what the time of a net depends on."""
    return sha256_of_text(repr([(layer.op, layer.bottoms, layer.tops) for layer in net.layers]))


def find(net: Net, size: int, engines: Collection[str]) -> Measured | None:
    """What was measured here of a net and these engines, at the size that is nearest to a class."""
    layers = layers_digest(net)
    found = [
        each
        for each in on_this_machine()
        if (each.threads, each.layers) == (cv2.getNumThreads(), layers)
        and each.seconds.keys() == set(engines)
    ]
    return min(found, key=lambda each: abs(each.size - size), default=None)


def on_this_machine() -> list[Measured]:
    """All that was measured on CPUs of this computer's kind, the latest last."""
    return [each for each in _read(_path()) if each.cpu == _cpu()]


def keep(net: Net, size: int, threads: int, seconds: dict[str, float | None]) -> Measured:
    """Keep what was measured, if the user's folder lets us. The arguments are as in `Measured`."""
    new = Measured(_cpu(), threads, net.name, layers_digest(net), size, seconds)
    if path := _path():
        # Of two processes that do this at once the later one's counts: the other measures again.
        kept = [each for each in _read(path) if _what(each) != _what(new)]
        content = json.dumps([asdict(each) for each in [*kept, new][-_MOST_KEPT:]], indent=1)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with write_atomically(path) as file:
                file.write(content.encode())
        except (DeepLabError, OSError) as error:
            logger.debug("the engines' times are not kept: %s", error)
    return new


def _cpu() -> str:
    return f"{os.cpu_count()} cores of {cpu_name()}"


def _what(each: Measured) -> tuple[str, int, str, int]:
    return each.cpu, each.threads, each.layers, each.size


def _path() -> Path | None:
    folder = cache_folder()
    return folder / _FILE if folder else None


def _read(path: Path | None) -> list[Measured]:
    if path is None:
        return []
    try:
        with open_to_read(path) as (file, _):
            values = json.loads(file.read(_MOST_BYTES))
    except (DeepLabError, OSError, RecursionError, ValueError) as error:
        logger.debug("the engines' times are not read: %s", error)
        return []
    listed = values if isinstance(values, list) else []
    return [each for value in listed if (each := _measured(value))]


def _measured(value: Any) -> Measured | None:
    """An entry of the file; None for one that is none of ours."""
    try:
        each = Measured(**value)
        texts = [each.cpu, each.net, each.layers, *each.seconds]
        times = [time for time in each.seconds.values() if time is not None]
        good = all(isinstance(text, str) and text.isprintable() for text in texts)
        good &= all(type(number) is int for number in (each.threads, each.size))
        good &= bool(times) and all(type(time) is float and 0 < time < math.inf for time in times)
    except (AttributeError, TypeError):
        return None
    return each if good else None
