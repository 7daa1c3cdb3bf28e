"""Divides a net where one blob alone goes on, into nets that run one after the other."""

import math
from collections.abc import Iterable
from dataclasses import replace

from deeplab_repro.arrays import Shape
from deeplab_repro.net.layers import Concat, Eltwise
from deeplab_repro.net.net import Layer, Net


def needed(layers: Iterable[Layer], blobs: Iterable[str]) -> list[Layer]:
    """The layers that these blobs need, in order."""
    wanted, found = set(blobs), []
    for layer in reversed(list(layers)):
        if not wanted.isdisjoint(layer.tops):
            found.append(layer)
            wanted.update(layer.bottoms)
    return found[::-1]


def up_to(net: Net, blob: str) -> Net:
    """The net that makes this blob and no other. The layers are shared."""
    return replace(net, layers=needed(net.layers, [blob]))


def branches(net: Net) -> list[Net]:
    """The nets that make what the last layer joins; none where they share layers, or there is one.

    What the last layer makes of values in one place must depend on no other.
    """
    last = net.layers[-1]
    joins = isinstance(last.op, Eltwise) or last.op == Concat(axis=1)
    found = [needed(net.layers[:-1], [bottom]) for bottom in last.bottoms]
    shared = sum(map(len, found)) > len(net.layers) - 1
    if not joins or shared or len(found) < 2 or not all(found):
        return []
    return [replace(net, layers=layers) for layers in found]


def waists(net: Net) -> list[tuple[int, str]]:
    """Where one blob alone goes on: after so many layers, and its name.

    The input is the first, after no layer. The output is not among them.
    """
    alive = _alive(net)
    return [(at, min(names)) for at, names in enumerate(alive[:-1]) if len(names) == 1]


def peak_bytes(net: Net, shape: Shape) -> int:
    """Bytes of the blobs that must be there at once (float32), where each goes after its last use.

    A layer's bottoms and tops are; one that changes its bottom in place needs it once.
    """
    shapes = net.blob_shapes(shape)
    return max(
        4 * sum(math.prod(shapes[blob]) for blob in before | set(layer.tops))
        for before, layer in zip(_alive(net), net.layers, strict=False)
    )


def _alive(net: Net) -> list[set[str]]:
    """The blobs that later layers take, or that nothing takes, before and after each layer."""
    last = {bottom: at for at, layer in enumerate(net.layers) for bottom in layer.bottoms}
    alive = [{net.input}]
    for at, layer in enumerate(net.layers):
        there = alive[-1] | set(layer.tops)
        alive.append({blob for blob in there if last.get(blob, len(net.layers)) > at})
    return alive


def between(net: Net, shape: Shape, start: tuple[int, str], end: int) -> Net:
    """The net of the layers from a waist up to the one of this number, the whole's input given.

    Its input is the waist's blob, with the shape that it has there. The layers are shared.
    """
    at, blob = start
    shape = net.blob_shapes(shape)[blob]
    return replace(net, input=blob, input_shape=shape, layers=net.layers[at:end])
