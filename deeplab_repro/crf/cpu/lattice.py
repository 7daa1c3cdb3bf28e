"""The permutohedral lattice (Adams, Baek and Davis, Eurographics 2010) on the CPU.

A Gaussian filter in d dimensions: each point spreads its values over the d + 1 corners of the
simplex that encloses it (splat), the lattice is blurred along its d + 1 axes, and each point
collects what its corners now hold (slice).

Several filters over the same N points (the CRF's kernels) share one array of rows of values here.
The points are cut into chunks, each with rows of its own, so that chunks can be splat at the same
time. A vertex that several chunks touch is owned by the first; the others' rows are its ghosts.
How many chunks there are depends on N only, hence no result depends on the number of threads.

Corners and rounding are those of the dense CRF that the DeepLab authors ran, in single precision,
so that the same simplices come out.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from deeplab_repro.arrays import F32
from deeplab_repro.crf.cpu.simplices import embed, find_chains, merge
from deeplab_repro.crf.cpu.vectors import LANES
from deeplab_repro.crf.features import axis_scales
from deeplab_repro.errors import ArgumentError

I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]

LEAST_IN_A_CHUNK = 15_000  # points
MOST_CHUNKS = 16
KEY_LIMIT = 1 << 62
PARTS = 64  # in which the blur is shared among threads


class Lattice(NamedTuple):
    """The lattices of one or more kernels around N points, with K corners a point in all.

    corners: N x K uint32 (and a few rows more), offsets of rows of values from the first row of the
    point's chunk; weights: the same shape, float32, barycentric coordinates. kernel_starts: where
    each kernel's corners start, and K. points: where each chunk's points start, and N; rows: where
    its rows start, and their number; kernel_rows: chunks x (kernels + 1), where the rows of its
    kernels start, and where they end. ghosts: G x 2, rows and their owners; ghost_starts: where
    each chunk's start. chains: rows, axis after axis; each is followed by its neighbour along the
    axis, the last of a chain is there as ~row, and rows without neighbours are left out. parts:
    axes x (PARTS + 1), ends of chains that cut an axis's about evenly.
    """

    corners: npt.NDArray[np.uint32]
    weights: F32
    kernel_starts: I64
    points: I64
    rows: I64
    kernel_rows: I64
    ghosts: I32
    ghost_starts: I64
    chains: I32
    parts: I64


def build_lattice(features: Sequence[F32], lanes: int) -> Lattice:
    """The lattice of each kernel's d x N float32 features, already divided by their deviations.

    lanes: how many float32 a row of values has.

    Raises ArgumentError for features that reach so far that keys of vertices do not fit 124 bits.
    """
    n = features[0].shape[1]
    # The original takes four points at a time and fills up the last four with zero vectors. These
    # carry no values, but their vertices exist and pass values on in the blur, so they do here.
    n_with_zero = n + (n % 4 > 0)
    n_padded = -(-n_with_zero // LANES) * LANES
    kernel_starts = np.cumsum([0, *(len(f) + 1 for f in features)])
    corners = np.empty((n_padded, kernel_starts[-1]), np.uint32)
    weights = np.empty((n_padded, kernel_starts[-1]), np.float32)
    points = chunk_starts(n_with_zero, kernel_starts[-1] * lanes)
    kernels = []
    for f, start in zip(features, kernel_starts, strict=False):
        padded = np.zeros((len(f), n_padded), np.float32)
        padded[:, :n] = f
        units = key_units(padded)
        kernels.append((corners, weights, start, padded, axis_scales(len(f)), *units, lanes))

    def embed_chunk(first: int, last: int) -> list[I64]:
        """The keys of each kernel's vertices; their rows follow each other in this order."""
        keys: list[I64] = []
        for kernel in kernels:
            keys.append(embed(*kernel, first, last, sum(map(len, keys))))
        return keys

    def merge_kernel(k: int) -> tuple[I32, I64, I32]:
        """Rows, keys and hash table of one kernel's vertices; writes the owners of ghosts."""
        keys = [chunk[k] for chunk in chunks]
        return merge(
            np.concatenate(keys), np.cumsum([0, *map(len, keys)]), first_rows[:, k], owners
        )

    def find_chains_of(k: int, axis: int) -> I32:
        return find_chains(*merged[k], kernels[k][5], axis, len(owners))

    with ThreadPoolExecutor(numba.get_num_threads()) as pool:
        chunks = list(pool.map(embed_chunk, points[:-1], points[1:]))
        sizes = [len(keys) for chunk in chunks for keys in chunk]
        first_rows = np.cumsum([0, *sizes])[:-1].reshape(len(chunks), len(kernels))
        owners = np.arange(sum(sizes), dtype=np.int32)
        merged = list(pool.map(merge_kernel, range(len(kernels))))
        found = [
            [pool.submit(find_chains_of, k, axis) for k, f in enumerate(features) if axis <= len(f)]
            for axis in range(max(map(len, features)) + 1)
        ]
        axes = [np.concatenate([chains.result() for chains in axis]) for axis in found]
    starts = np.cumsum([0, *map(len, axes)])
    ghosts = np.flatnonzero(owners != np.arange(len(owners)))
    rows = np.append(first_rows[:, 0], len(owners))
    points[-1] = n
    return Lattice(
        corners=corners,
        weights=weights,
        kernel_starts=kernel_starts,
        points=points,
        rows=rows,
        kernel_rows=np.column_stack([first_rows, np.append(first_rows[1:, 0], len(owners))]),
        ghosts=np.column_stack([ghosts, owners[ghosts]]).astype(np.int32),
        ghost_starts=np.searchsorted(ghosts, rows),
        chains=np.concatenate(axes),
        parts=np.stack([cut(axis) + start for axis, start in zip(axes, starts, strict=False)]),
    )


def cut(chains: I32) -> I64:
    """Where to cut chains into PARTS, each between two chains, and their length."""
    ends = np.append(0, np.flatnonzero(chains < 0) + 1)
    even = np.arange(PARTS + 1) * (len(chains) / PARTS)
    return ends[np.searchsorted(ends, even.astype(np.int64))]


def chunk_starts(n: int, floats_a_point: int) -> I64:
    """Where each chunk of n points starts, whole vectors apart, and n.

    Chunks are the units of parallel work, but each brings ghosts: a few for small images, more for
    large ones, and as many as it takes for offsets of rows to fit 32 bits.
    """
    count = 1
    while n >= 2 * LEAST_IN_A_CHUNK * count and count < MOST_CHUNKS:
        count *= 2
    count = max(count, -(-n * floats_a_point // 2**31))
    starts = n * np.arange(count + 1) // count
    starts[:-1] -= starts[:-1] % LANES
    return starts


def key_units(features: F32) -> tuple[I64, I64]:
    """How to write a vertex of the lattice around d x N features as two integers, its key.

    A vertex has d + 1 coordinates, which sum to 0 and leave the same remainder when divided by
    d + 1. Its key is the sum of that remainder and of the first d quotients, each counted from its
    lowest and times its unit; the units say which of the two integers a quotient is in. So a step
    from one vertex to another adds a constant to the key.

    Returns (d+1) x 2 int64 units, 0 for the last axis, which follows from the others, and 2 int64,
    the key of the lowest quotients.
    """
    d = len(features)
    scales = axis_scales(d).astype(np.float64)
    low, high = features.min(axis=1) * scales, features.max(axis=1) * scales
    units = np.zeros((d + 1, 2), np.int64)
    origin = np.zeros(2, np.int64)
    word, unit = 0, 1 << d.bit_length()
    for j in range(d):
        # Bounds of the elevated coordinate. Rounding, and the way to the corners of a simplex and
        # to their neighbours, take a quotient further by less than 5.
        before_low, before_high = (low[j - 1], high[j - 1]) if j else (0, 0)
        lowest = int((low[j:].sum() - j * before_high) // (d + 1)) - 5
        highest = int((high[j:].sum() - j * before_low) // (d + 1)) + 6
        if unit * (highest - lowest + 1) > KEY_LIMIT:
            word, unit = word + 1, 1
        if word == 2 or highest - lowest >= KEY_LIMIT:
            raise ArgumentError(
                f"the kernel's features in {d} dimensions reach up to {np.abs(features).max():.3g}"
                " standard deviations; the lattice has no room for so many: use fewer dimensions"
                " or larger deviations"
            )
        units[j, word] = unit
        origin[word] += lowest * unit
        unit *= highest - lowest + 1
    return units, origin
