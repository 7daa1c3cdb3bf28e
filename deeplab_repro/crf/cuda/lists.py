"""Lists of the pixels around each vertex of the lattices: what splatting adds up.

A list is cut into segments, so that a vertex with many pixels keeps no thread waiting. In a flat
area one vertex has 100,000 pixels.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import cuda

from deeplab_repro.crf.cuda.device import BLOCKS, THREADS, Workspace, kernel

CORNERS = 9  # of a pixel, in both lattices together
SEGMENT = 128  # the most pixels in one segment
STRIP = 8  # vertices that one thread makes lists for
ALONE = -1  # the crowd of a vertex with one segment
# What the elements of `counters` count.
VERTICES, ENTRIES, SEGMENTS, CROWDS = range(4)


@dataclass(frozen=True)
class Lists:
    """The pixels around M vertices, as device arrays.

    pixels, shares: 9 N int32 and float32, the pixels around each vertex and their weights, vertex
    by vertex. segments: S x 4 int32, where a stretch of these starts and stops, its vertex, and the
    number of its crowd. A crowd is a vertex with several segments; crowds: int32, how many. Each
    vertex has a segment, if only an empty one, and so has vertex 0. counters: int32, see VERTICES.
    Arrays may have more rows than are in use.
    """

    pixels: Any
    shares: Any
    segments: Any
    crowds: Any
    counters: Any


def build_lists(
    m: int, corners: Any, weights: Any, numbers: Any, lengths: Any, counters: Any, space: Workspace
) -> Lists:
    """The lists of vertices 0 to m, in arrays of `space`; corners become vertices.

    corners: at least 9 N int32, the entry that stands for each corner's vertex, and numbers: that
    entry's vertex. weights: 9 N float32. lengths: int32, zeros; it is used up.
    """
    n_entries = weights.size
    ranks = space.array("ranks", (n_entries,), np.int32)
    most_crowds = n_entries // SEGMENT
    segments = space.array("segments", (lengths.size + most_crowds, 4), np.int32)
    crowds = space.array("crowds", (most_crowds + 1,), np.int32)
    pixels = space.array("pixels", (n_entries,), np.int32)
    shares = space.array("shares", (n_entries,), np.float32)
    count[BLOCKS, THREADS](corners, numbers, lengths, ranks)
    allocate[BLOCKS, THREADS](m, lengths, segments, crowds, counters)
    fill[BLOCKS, THREADS](corners, weights, ranks, lengths, pixels, shares)
    return Lists(pixels, shares, segments, crowds, counters)


@kernel
def count(corners: Any, numbers: Any, lengths: Any, ranks: Any) -> None:
    """Turn each entry's owner into its vertex, in place, and count the entries of each vertex.

    ranks: how many entries of the same vertex came before.
    """
    for entry in range(cuda.grid(1), ranks.size, cuda.gridsize(1)):
        vertex = numbers[corners[entry]]
        corners[entry] = vertex
        ranks[entry] = cuda.atomic.add(lengths, vertex, 1)


@cuda.jit(device=True)
def segments_of(length):  # type: ignore[no-untyped-def]
    return (length + SEGMENT - 1) // SEGMENT if length > SEGMENT else 1


@kernel
def allocate(m: Any, lengths: Any, segments: Any, crowds: Any, counters: Any) -> None:
    """A list for each vertex, cut into segments; lengths become the lists' starts.

    A thread serves STRIP vertices, so that fewer threads queue for the counters.
    """
    for base in range(STRIP * cuda.grid(1), m + 1, STRIP * cuda.gridsize(1)):
        last = base + STRIP if base + STRIP <= m else m + 1
        entries = 0
        parts = 0
        for vertex in range(base, last):
            entries += lengths[vertex]
            parts += segments_of(lengths[vertex])
        start = cuda.atomic.add(counters, ENTRIES, entries)
        segment = cuda.atomic.add(counters, SEGMENTS, parts)
        for vertex in range(base, last):
            stop = start + lengths[vertex]
            parts = segments_of(lengths[vertex])
            lengths[vertex] = start
            crowd = ALONE
            if parts > 1:
                crowd = cuda.atomic.add(counters, CROWDS, 1)
                crowds[crowd] = parts
            for _ in range(parts):
                segments[segment, 0] = start
                start = start + SEGMENT if stop - start > SEGMENT else stop
                segments[segment, 1] = start
                segments[segment, 2] = vertex
                segments[segment, 3] = crowd
                segment += 1


@kernel
def fill(corners: Any, weights: Any, ranks: Any, starts: Any, pixels: Any, shares: Any) -> None:
    """Put every pixel into the lists of its nine corners."""
    for entry in range(cuda.grid(1), pixels.size, cuda.gridsize(1)):
        place = starts[corners[entry]] + ranks[entry]
        pixels[place] = entry // CORNERS
        shares[place] = weights[entry]
