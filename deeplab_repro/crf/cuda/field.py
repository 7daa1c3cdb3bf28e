"""The mean field of one image on the GPU: q, its scores, and the step that filters q.

Rows are pixels or vertices, a thread of a row is a label. The first of a row is no label: it holds
ones. What the kernels make of it is what the messages are divided by, so it needs no pass of its
own.

Splatting adds up whole numbers, multiples of 2^-30, whose sum does not depend on the order. That
makes the result the same bits on each run, though the lattice is built by threads that race. It
cuts less than 1e-9 off each term; the sum, in 64 bits, is exact.
"""

import math
from typing import Any

import numpy as np
from numba import cuda, float32

from deeplab_repro.arrays import F32, UInt8
from deeplab_repro.crf.cuda.device import BLOCKS, THREADS, Workspace, kernel, roomy
from deeplab_repro.crf.cuda.lattice import POSITIONAL, Lattice
from deeplab_repro.crf.cuda.lists import ALONE, CORNERS, SEGMENTS
from deeplab_repro.crf.cuda.scores import NEVER, ZERO, find_labels
from deeplab_repro.crf.params import CrfParams

UNITS = np.float32(2.0**30)
UNIT = np.float32(2.0**-30)
HALF = np.float32(0.5)
# A row is folded into so many numbers by as many threads; each thread then folds these.
FOLDS = 8


class MeanField:
    """The mean field of one image: q, its scores and its lattice, on the GPU."""

    def __init__(self, probs: Any, space: Workspace) -> None:
        """probs: C x N float32 on the device, made to sum to 1 here."""
        self._labels, self._n = probs.shape
        rows = self._labels + 1
        # Rows start on a sector of 32 bytes, or share one evenly; four floats are loaded at once.
        self._lanes = -(-rows // 8) * 8 if rows > 4 else 4
        self._block = rows, max(1, THREADS // rows)
        # Of each row: the values to fold, what they are folded into, and both responses to ones.
        self._shared = 4 * self._block[1] * (rows + FOLDS + 2)
        self._space = space
        self._scores = space.array("scores", (self._n, self._lanes), np.float32)
        self._q = space.array("q", (self._n, self._lanes), np.float32)
        begin[BLOCKS, THREADS](probs, self._scores, self._q)

    def connect(self, lattice: Lattice, params: CrfParams) -> None:
        """Set the lattice that `step` filters with, and the weights of its kernels."""
        self._lattice = lattice
        self._weights = np.float32(params.w2), np.float32(params.w1)
        shape = (roomy(lattice.vertices + 1), self._lanes)
        self._here = self._space.array("here", shape, np.float32)
        self._there = self._space.array("there", shape, np.float32)
        crowds = lattice.lists.crowds.size
        self._sums = self._space.array("sums", (crowds, self._lanes), np.int64)
        self._arrived = self._space.array("arrived", (crowds, self._lanes), np.int32)
        zero[BLOCKS, THREADS](self._sums, self._arrived)

    def step(self) -> None:
        """One mean-field iteration: splat, blur, slice, normalise; all pixels in parallel."""
        of, lists, rows = self._lattice, self._lattice.lists, self._lattice.vertices + 1
        splat[BLOCKS, self._block](
            *(lists.pixels, lists.shares, lists.segments, lists.crowds, lists.counters),
            *(self._q, self._sums, self._arrived, self._here),
        )
        blur[BLOCKS, self._block](rows, of.neighbours, 0, self._here, self._there)
        blur[BLOCKS, self._block](rows, of.neighbours, 2, self._there, self._here)
        blur[BLOCKS, self._block](rows, of.neighbours, 4, self._here, self._there)
        update[BLOCKS, self._block, 0, self._shared](
            self._scores, of.corners, of.weights, self._there, *self._weights, self._q
        )

    def labels(self) -> UInt8:
        """N uint8, on the host: the most probable labels, ties to the lowest."""
        result = self._space.array("labels", (self._n,), np.uint8)
        find_labels[BLOCKS, THREADS](self._q, self._labels, result)
        labels: UInt8 = result.copy_to_host()
        return labels

    def marginals(self) -> F32:
        """C x N float32, on the host."""
        result = self._space.array("marginals", (self._labels, self._n), np.float32)
        finish[BLOCKS, THREADS](self._q, result)
        marginals: F32 = result.copy_to_host()
        return marginals


@kernel
def begin(probs: Any, scores: Any, q: Any) -> None:
    """scores = log probs; q = probs over their sum; ones. N x lanes, from C x N.

    What is no label has no score, and past the labels q is 0.
    """
    labels, n = probs.shape
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        total = ZERO
        for label in range(labels):
            total += probs[label, i]
        scores[i, 0] = NEVER
        q[i, 0] = np.float32(1)
        for label in range(labels):
            p = probs[label, i]
            scores[i, label + 1] = np.float32(math.log(p)) if p > ZERO else NEVER
            q[i, label + 1] = p / total
        for lane in range(labels + 1, q.shape[1]):
            scores[i, lane] = NEVER
            q[i, lane] = ZERO


@kernel
def zero(sums: Any, arrived: Any) -> None:
    """No crowd has anything yet."""
    for place in range(cuda.grid(1), sums.size, cuda.gridsize(1)):
        crowd, lane = place // sums.shape[1], place % sums.shape[1]
        sums[crowd, lane] = 0
        arrived[crowd, lane] = 0


@kernel
def finish(q: Any, marginals: Any) -> None:
    """C x N marginals from N x lanes q."""
    for i in range(cuda.grid(1), marginals.shape[1], cuda.gridsize(1)):
        for label in range(marginals.shape[0]):
            marginals[label, i] = q[i, label + 1]


@kernel
def splat(
    pixels: Any,
    shares: Any,
    segments: Any,
    crowds: Any,
    counters: Any,
    q: Any,
    sums: Any,
    arrived: Any,
    values: Any,
) -> None:
    """values of each vertex: q, weighted, of the pixels in its list.

    sums: int64 in units of 2^-30, 0 before and after. The last segment of a crowd to arrive there
    writes the crowd's values.
    """
    lane = cuda.threadIdx.x
    first = cuda.blockIdx.x * cuda.blockDim.y + cuda.threadIdx.y
    for segment in range(first, counters[SEGMENTS], cuda.gridDim.x * cuda.blockDim.y):
        total = np.int64(0)
        for place in range(segments[segment, 0], segments[segment, 1]):
            total += np.int32(shares[place] * q[pixels[place], lane] * UNITS)
        vertex = segments[segment, 2]
        crowd = segments[segment, 3]
        if crowd == ALONE:
            values[vertex, lane] = np.float32(total) * UNIT
        else:
            cuda.atomic.add(sums, (crowd, lane), total)
            cuda.threadfence()  # who sees the arrival sees the sum
            if cuda.atomic.add(arrived, (crowd, lane), 1) == crowds[crowd] - 1:
                total = cuda.atomic.exch(sums, (crowd, lane), np.int64(0))
                arrived[crowd, lane] = 0
                values[vertex, lane] = np.float32(total) * UNIT


@cuda.jit(device=True)
def along(axis, vertex, lane, neighbours, values):  # type: ignore[no-untyped-def]
    """The value of a vertex, blurred along one axis by (1/2, 1, 1/2)."""
    before = values[neighbours[axis, vertex, 0], lane]
    after = values[neighbours[axis, vertex, 1], lane]
    return values[vertex, lane] + HALF * (before + after)


@kernel
def blur(rows: Any, neighbours: Any, axis: Any, values: Any, blurred: Any) -> None:
    """values, rows x lanes float32, blurred along `axis` and along the next one.

    Two axes at once: a launch costs more than the additions that are done twice.
    """
    lane = cuda.threadIdx.x
    first = cuda.blockIdx.x * cuda.blockDim.y + cuda.threadIdx.y
    for vertex in range(first, rows, cuda.gridDim.x * cuda.blockDim.y):
        before = along(axis, neighbours[axis + 1, vertex, 0], lane, neighbours, values)
        after = along(axis, neighbours[axis + 1, vertex, 1], lane, neighbours, values)
        middle = along(axis, vertex, lane, neighbours, values)
        blurred[vertex, lane] = middle + HALF * (before + after)


@kernel
def update(scores: Any, corners: Any, weights: Any, values: Any, w2: Any, w1: Any, q: Any) -> None:
    """q = softmax over labels of (scores + w2 positional message + w1 bilateral message).

    The messages are slices of values, over those of the lane of ones.
    """
    shared = cuda.shared.array(0, float32)
    lane = cuda.threadIdx.x
    y = cuda.threadIdx.y
    ones = cuda.blockDim.y * (cuda.blockDim.x + FOLDS) + 2 * y
    n = q.shape[0]
    # All threads of a block go round together, as they wait for each other.
    for base in range(cuda.blockIdx.x * cuda.blockDim.y, n, cuda.gridDim.x * cuda.blockDim.y):
        i = base + y if base + y < n else n - 1
        positional = ZERO
        for entry in range(CORNERS * i, CORNERS * i + POSITIONAL):
            positional += weights[entry] * values[corners[entry], lane]
        bilateral = ZERO
        for entry in range(CORNERS * i + POSITIONAL, CORNERS * i + CORNERS):
            bilateral += weights[entry] * values[corners[entry], lane]
        if lane == 0:
            shared[ones] = positional
            shared[ones + 1] = bilateral
        cuda.syncthreads()
        message = w2 * positional / shared[ones] + w1 * bilateral / shared[ones + 1]
        score = scores[i, lane] + message
        share = np.float32(math.exp(score - fold(score, True, shared)))
        total = fold(share, False, shared)
        if lane > 0 and base + y < n:
            q[i, lane] = share / total


@cuda.jit(device=True)
def fold(value, find_largest, shared):  # type: ignore[no-untyped-def]
    """The largest or the sum of the values that the threads of a row bring, in a fixed order."""
    x = cuda.threadIdx.x
    count = cuda.blockDim.x
    start = cuda.threadIdx.y * count
    folds = cuda.blockDim.y * count + cuda.threadIdx.y * FOLDS
    shared[start + x] = value
    cuda.syncthreads()
    if x < FOLDS:
        for k in range(x + FOLDS, count, FOLDS):
            value = combine(value, shared[start + k], find_largest)
        shared[folds + x] = value
    cuda.syncthreads()
    result = shared[folds]
    for k in range(1, FOLDS if count > FOLDS else count):
        result = combine(result, shared[folds + k], find_largest)
    return result


@cuda.jit(device=True)
def combine(a, b, find_largest):  # type: ignore[no-untyped-def]
    if find_largest:
        return a if a > b else b
    return a + b
