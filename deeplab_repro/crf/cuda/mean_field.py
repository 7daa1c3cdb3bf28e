"""Mean-field inference on the GPU: the CUDA twin of crf/cpu/mean_field.py.

Everything happens on the GPU: the image and the scores go in, the labels come out, and the host
learns one number in between, that of the lattice's vertices. Rows are pixels or vertices, a thread
of a row is a label. One more label holds ones: what the kernels make of it is what the messages
are divided by, so it needs no pass of its own.

Splatting adds up whole numbers, multiples of 2^-30, whose sum does not depend on the order. That
makes the result the same bits on each run, though the lattice is built by threads that race. It
cuts less than 1e-9 off each term; the sum, in 64 bits, is exact.
"""

import math
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import cuda, float32

from deeplab_repro.arrays import F32, UInt8
from deeplab_repro.crf.cuda.device import BLOCKS, THREADS, Workspace, kernel, plain_errors, roomy
from deeplab_repro.crf.cuda.lattice import CORNERS, POSITIONAL, SEGMENTS, Lattice, build_lattice
from deeplab_repro.crf.cuda.scores import NEVER, ZERO, enlarged_probs, find_labels
from deeplab_repro.crf.params import CrfParams
from deeplab_repro.net.scores import CoarseScores

UNITS = np.float32(2.0**30)
UNIT = np.float32(2.0**-30)
HALF = np.float32(0.5)
# A row is folded into so many numbers by as many threads; each thread then folds these.
FOLDS = 8

# The work space is shared by all calls, and one GPU has nothing to gain from two at a time.
_one_at_a_time = threading.Lock()


@plain_errors()
@cuda.require_context  # or each launch asks the driver for it
def infer(
    image: UInt8,
    probs: F32 | CoarseScores,
    params: CrfParams,
    iterations: int,
    marginals: bool = True,
    on_iteration: Callable[[int, F32], object] | None = None,
) -> tuple[UInt8, F32 | None]:
    """The labels and, if wanted, the marginals of `dense_crf`, computed on the current CUDA device.

    probs: probabilities, or a net's coarse scores, whose softmax at the image's size is taken. The
    caller has checked all arguments. The twin of `crf.cpu.mean_field.infer`.

    The same input gives the same bits on the same GPU. Memory on the GPU is kept for the next
    call. Raises ResourceError where it does not suffice, ArgumentError for deviations so small
    that lattice keys overflow, and DeviceError where CUDA fails.
    """
    size = height, width = image.shape[0], image.shape[1]
    with _one_at_a_time:
        space = work_space()
        if isinstance(probs, CoarseScores):
            given = enlarged_probs(probs, size, space)
        else:
            rows = np.ascontiguousarray(probs).reshape(len(probs), -1)
            given = space.array("probs", rows.shape, np.float32)
            given.copy_to_device(rows)
        field = MeanField(given, space)
        if iterations:
            points = space.array("image", (height * width, 3), np.uint8)
            points.copy_to_device(np.ascontiguousarray(image).reshape(-1, 3))
            field.connect(build_lattice(points, height, width, params, space), params)
        for iteration in range(1, iterations + 1):
            field.step()
            if on_iteration is not None:
                on_iteration(iteration, field.marginals().reshape(-1, *size))
        labels = field.labels().reshape(size)
        return labels, field.marginals().reshape(-1, *size) if marginals else None


def work_space() -> Workspace:
    """The arrays of the current CUDA context, which go when it goes (`cuda.close()`)."""
    context = cuda.current_context()
    if not hasattr(context, "crf_work_space"):  # contexts cannot be keys of a dictionary
        context.crf_work_space = Workspace()
    space: Workspace = context.crf_work_space
    return space


class MeanField:
    """The mean field of one image: q, its scores and its lattice, on the GPU."""

    def __init__(self, probs: Any, space: Workspace) -> None:
        """probs: C x N float32 on the device, made to sum to 1 here."""
        self._labels, self._n = probs.shape
        rows = self._labels + 1
        # Rows start on a sector of 32 bytes, or share one evenly.
        self._lanes = -(-rows // 8) * 8 if rows > 4 else 1 << (rows - 1).bit_length()
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
        self._sums = self._space.array("sums", (lattice.segments.shape[0], self._lanes), np.int64)

    def step(self) -> None:
        """One mean-field iteration: splat, blur, slice, normalise; all pixels in parallel."""
        of, rows = self._lattice, self._lattice.vertices + 1
        splat[BLOCKS, self._block](
            of.pixels, of.shares, of.segments, of.counters, self._q, self._sums
        )
        blur_sums[BLOCKS, self._block](rows, of.neighbours, of.pieces, self._sums, self._here)
        blur[BLOCKS, self._block](rows, of.neighbours, 2, self._here, self._there)
        blur[BLOCKS, self._block](rows, of.neighbours, 4, self._there, self._here)
        update[BLOCKS, self._block, 0, self._shared](
            self._scores, of.corners, of.weights, self._here, *self._weights, self._q
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
    """scores = log probs; q = probs over their sum; a label of ones. N x lanes, from C x N."""
    labels = probs.shape[0]
    for i in range(cuda.grid(1), probs.shape[1], cuda.gridsize(1)):
        total = ZERO
        for label in range(labels):
            total += probs[label, i]
        for label in range(labels):
            p = probs[label, i]
            scores[i, label] = np.float32(math.log(p)) if p > ZERO else NEVER
            q[i, label] = p / total
        q[i, labels] = np.float32(1)


@kernel
def finish(q: Any, marginals: Any) -> None:
    """C x N marginals from N x lanes q."""
    for i in range(cuda.grid(1), marginals.shape[1], cuda.gridsize(1)):
        for label in range(marginals.shape[0]):
            marginals[label, i] = q[i, label]


@kernel
def splat(pixels: Any, shares: Any, segments: Any, counters: Any, q: Any, sums: Any) -> None:
    """sums, int64 in units of 2^-30: q, weighted, of the pixels of each segment."""
    label = cuda.threadIdx.x
    first = cuda.blockIdx.x * cuda.blockDim.y + cuda.threadIdx.y
    for segment in range(first, counters[SEGMENTS], cuda.gridDim.x * cuda.blockDim.y):
        total = np.int64(0)
        for place in range(segments[segment, 0], segments[segment, 1]):
            total += np.int32(shares[place] * q[pixels[place], label] * UNITS)
        sums[segment, label] = total


@cuda.jit(device=True)
def gathered(vertex, label, pieces, sums):  # type: ignore[no-untyped-def]
    """What was splat on a vertex: the sum of its segments."""
    total = np.int64(0)
    for segment in range(pieces[vertex, 0], pieces[vertex, 1]):
        total += sums[segment, label]
    return np.float32(total) * UNIT


@cuda.jit(device=True)
def gathered_along(axis, vertex, label, neighbours, pieces, sums):  # type: ignore[no-untyped-def]
    """The same, blurred along one axis by (1/2, 1, 1/2)."""
    before = gathered(neighbours[axis, vertex, 0], label, pieces, sums)
    after = gathered(neighbours[axis, vertex, 1], label, pieces, sums)
    return gathered(vertex, label, pieces, sums) + HALF * (before + after)


@kernel
def blur_sums(rows: Any, neighbours: Any, pieces: Any, sums: Any, blurred: Any) -> None:
    """What was splat, rows x lanes float32, blurred along axes 0 and 1. Row 0 becomes 0.

    Two axes at once, as in `blur`: a launch costs more than the additions that are done twice.
    """
    label = cuda.threadIdx.x
    first = cuda.blockIdx.x * cuda.blockDim.y + cuda.threadIdx.y
    for vertex in range(first, rows, cuda.gridDim.x * cuda.blockDim.y):
        before = gathered_along(0, neighbours[1, vertex, 0], label, neighbours, pieces, sums)
        after = gathered_along(0, neighbours[1, vertex, 1], label, neighbours, pieces, sums)
        middle = gathered_along(0, vertex, label, neighbours, pieces, sums)
        blurred[vertex, label] = middle + HALF * (before + after)


@cuda.jit(device=True)
def along(axis, vertex, label, neighbours, values):  # type: ignore[no-untyped-def]
    """The value of a vertex, blurred along one axis."""
    before = values[neighbours[axis, vertex, 0], label]
    after = values[neighbours[axis, vertex, 1], label]
    return values[vertex, label] + HALF * (before + after)


@kernel
def blur(rows: Any, neighbours: Any, axis: Any, values: Any, blurred: Any) -> None:
    """values, rows x lanes float32, blurred along `axis` and along the next one."""
    label = cuda.threadIdx.x
    first = cuda.blockIdx.x * cuda.blockDim.y + cuda.threadIdx.y
    for vertex in range(first, rows, cuda.gridDim.x * cuda.blockDim.y):
        before = along(axis, neighbours[axis + 1, vertex, 0], label, neighbours, values)
        after = along(axis, neighbours[axis + 1, vertex, 1], label, neighbours, values)
        middle = along(axis, vertex, label, neighbours, values)
        blurred[vertex, label] = middle + HALF * (before + after)


@kernel
def update(scores: Any, corners: Any, weights: Any, values: Any, w2: Any, w1: Any, q: Any) -> None:
    """q = softmax over labels of (scores + w2 positional message + w1 bilateral message).

    The messages are slices of values, over those of the last label, which holds ones.
    """
    shared = cuda.shared.array(0, float32)
    label = cuda.threadIdx.x
    y = cuda.threadIdx.y
    labels = cuda.blockDim.x - 1
    ones = cuda.blockDim.y * (cuda.blockDim.x + FOLDS) + 2 * y
    n = q.shape[0]
    # All threads of a block go round together, as they wait for each other.
    for base in range(cuda.blockIdx.x * cuda.blockDim.y, n, cuda.gridDim.x * cuda.blockDim.y):
        i = base + y if base + y < n else n - 1
        positional = ZERO
        for entry in range(CORNERS * i, CORNERS * i + POSITIONAL):
            positional += weights[entry] * values[corners[entry], label]
        bilateral = ZERO
        for entry in range(CORNERS * i + POSITIONAL, CORNERS * i + CORNERS):
            bilateral += weights[entry] * values[corners[entry], label]
        if label == labels:
            shared[ones] = positional
            shared[ones + 1] = bilateral
        cuda.syncthreads()
        score = NEVER
        if label < labels:
            message = w2 * positional / shared[ones] + w1 * bilateral / shared[ones + 1]
            score = scores[i, label] + message
        share = np.float32(math.exp(score - fold(score, True, shared)))
        total = fold(share, False, shared)
        if label < labels and base + y < n:
            q[i, label] = share / total


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
