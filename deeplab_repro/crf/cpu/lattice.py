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

import itertools
from collections.abc import Iterable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from deeplab_repro.arrays import F32
from deeplab_repro.crf.cpu.keys import Points
from deeplab_repro.crf.cpu.simplices import embed, find_chains, merge
from deeplab_repro.crf.cpu.threads import is_small, run_all, run_here
from deeplab_repro.crf.cpu.vectors import LANES
from deeplab_repro.machine.work_space import empty

I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]

LEAST_IN_A_CHUNK = 15_000  # points
MOST_CHUNKS = 16
PARTS = 64  # in which the blur is shared among threads


class Lattice(NamedTuple):
    """The lattices of one or more kernels around N points, with K corners a point in all.

    corners: N x K uint32 (and a few rows more), offsets of rows of values from the first row of the
    point's chunk; weights: the same shape, float32, barycentric coordinates. kernel_starts: where
    each kernel's corners start, and K. points: where each chunk's points start, and N; rows: where
    its rows start, and their number; kernel_rows: chunks x (kernels + 1), where the rows of its
    kernels start, and where they end. ghosts: G x 2, rows and their owners; ghost_starts: where
    each chunk's start. chains: rows, axis after axis of each kernel; each is followed by its
    neighbour along the axis, the last of a chain is there as ~row, and rows without neighbours are
    left out. parts: axes x (PARTS + 1), ends of chains that cut an axis's about evenly; axes x 2 in
    small lattices.
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

    lanes: how many float32 a row of values has. The features may be of any size.
    """
    n = features[0].shape[1]
    # The original takes four points at a time and fills up the last four with zero vectors. These
    # carry no values, but their vertices exist and pass values on in the blur, so they do here.
    n_with_zero = n + (n % 4 > 0)
    n_padded = -(-n_with_zero // LANES) * LANES
    small = is_small(n, lanes)
    run = run_here if small else run_all
    kernels = [Points(f, n_padded) for f in features]
    kernel_starts = summed(len(f) + 1 for f in features)
    n_corners = kernel_starts[-1]
    corners = empty((n_padded, n_corners), np.uint32)
    weights = empty((n_padded, n_corners))
    points = chunk_starts(n_with_zero, n_corners * lanes)

    def embed_chunk(first: int, last: int) -> list[I64]:
        """The keys of each kernel's vertices; their rows follow each other in this order."""
        keys: list[I64] = []
        for kernel, start in zip(kernels, kernel_starts, strict=False):
            row = sum(map(len, keys))
            keys.append(
                embed(corners, weights, start, *kernel.part(first, last), lanes, first, last, row)
            )
        return keys

    def merge_kernel(k: int) -> tuple[I32, I64, I32]:
        """Rows, keys and hash table of one kernel's vertices; writes the owners of ghosts."""
        keys = [chunk[k] for chunk in chunks]
        starts = np.ascontiguousarray(first_rows[:, k])
        return merge(np.concatenate(keys), summed(map(len, keys)), starts, owners)

    def find_chains_of(k: int, *axes: int) -> tuple[I32, I64]:
        return find_chains(*merged[k], kernels[k].units, len(owners), *axes)

    chunks = run([partial(embed_chunk, *ends) for ends in itertools.pairwise(points)])
    firsts = summed(len(keys) for chunk in chunks for keys in chunk)
    first_rows = firsts[:-1].reshape(len(chunks), len(kernels))
    owners = np.arange(firsts[-1], dtype=np.int32)
    merged = run([partial(merge_kernel, k) for k in range(len(kernels))])
    found = run(
        [
            partial(find_chains_of, k, first, last)
            for k, f in enumerate(features)
            for first, last in (
                [(0, len(f) + 1)] if small else itertools.pairwise(range(len(f) + 2))
            )
        ]
    )
    chains = np.concatenate([rows for rows, _ in found])
    starts = summed(length for _, lengths in found for length in lengths.tolist()).tolist()
    passes = itertools.pairwise(starts)
    ghosts = np.flatnonzero(owners != np.arange(len(owners)))
    rows = firsts[:: len(kernels)].copy()
    points[-1] = n
    return Lattice(
        corners=corners,
        weights=weights,
        kernel_starts=kernel_starts,
        points=points,
        rows=rows,
        kernel_rows=np.column_stack([first_rows, rows[1:]]),
        ghosts=np.column_stack([ghosts, owners[ghosts]]).astype(np.int32),
        ghost_starts=np.searchsorted(ghosts, rows),
        chains=chains,
        parts=np.array([ends if small else cut(chains, *ends) for ends in passes]),
    )


def summed(lengths: Iterable[int]) -> I64:
    """Where each of the things of these lengths starts that follow each other, and the end."""
    return np.array(list(itertools.accumulate(lengths, initial=0)), np.int64)


def cut(chains: I32, start: int, stop: int) -> I64:
    """Where to cut the chains from start to stop into PARTS, each between two chains."""
    ends = np.append(start, np.flatnonzero(chains[start:stop] < 0) + start + 1)
    even = np.arange(PARTS + 1) * ((stop - start) / PARTS)
    return ends[np.searchsorted(ends, start + even.astype(np.int64))]


def chunk_starts(n: int, floats_a_point: int) -> I64:
    """Where each chunk of n points starts, whole vectors apart, and n.

    Chunks are the units of parallel work, but each brings ghosts: a few for small images, more for
    large ones, and as many as it takes for offsets of rows to fit 32 bits.
    """
    count = 1
    while n >= 2 * LEAST_IN_A_CHUNK * count and count < MOST_CHUNKS:
        count *= 2
    count = max(count, -(-n * floats_a_point // 2**31))
    if count == 1:
        return np.array([0, n])
    starts = n * np.arange(count + 1) // count
    starts[:-1] -= starts[:-1] % LANES
    return starts
