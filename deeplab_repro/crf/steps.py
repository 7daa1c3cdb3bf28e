"""The two steps of a mean-field iteration, over all pixels and labels, on all threads.

Splat and blur of one kernel; slice of both kernels with the softmax that follows. Each pixel and
each vertex is computed by one thread in a fixed order, so the number of threads changes no bit.
"""

from typing import Any

import numba
import numpy as np

from deeplab_repro.crf.jit import jit

# Pixels are splat in so many parts, each into its own lattice. The number is fixed, so that the
# order of additions does not depend on the threads, and small, as each part costs memory.
PARTS = 2

FAST = {"contract", "reassoc", "nnan", "nsz"}  # not ninf: a probability of 0 is a score of -inf
LOG2_E = np.float32(1.4426950408889634)
SMALLEST = np.float32(-20.0)  # the original's exp is 0 below


@jit(parallel=True, fastmath=FAST)
def splat_and_blur(
    q: Any, corners: Any, weights: Any, neighbours: Any, parts: Any, there: Any
) -> Any:
    """One kernel's lattice values for q (N x L float32), blurred along all axes.

    corners, weights, neighbours: see Lattice. parts: PARTS x (M+1) x L float32 and there: (M+1)
    x L float32, work space whose last rows are 0, for missing neighbours. Returns (M+1) x L values.
    """
    n, lanes = q.shape
    m = neighbours.shape[1]
    half = np.float32(0.5)
    count = parts.shape[0]
    for part in numba.prange(count):
        values = parts[part]
        values[:] = np.float32(0.0)
        for i in range(n * int(part) // count, n * (int(part) + 1) // count):
            source = q[i]
            for k in range(corners.shape[1]):
                weight = weights[i, k]
                row = values[corners[i, k]]
                for lane in range(lanes):
                    row[lane] += weight * source[lane]
    here = parts[0]
    for v in numba.prange(m):
        row = here[v]
        for part in range(1, count):
            source = parts[part, v]
            for lane in range(lanes):
                row[lane] += source[lane]
    for axis in range(neighbours.shape[0]):
        for v in numba.prange(m):
            row = there[v]
            middle = here[v]
            before = here[neighbours[axis, v, 0]]
            after = here[neighbours[axis, v, 1]]
            for lane in range(lanes):
                row[lane] = middle[lane] + half * (before[lane] + after[lane])
        here, there = there, here
    return here


@jit(parallel=True, fastmath=FAST)
def slice_and_normalise(
    scores: Any,
    corners1: Any,
    weights1: Any,
    values1: Any,
    corners2: Any,
    weights2: Any,
    values2: Any,
    q: Any,
) -> None:
    """q = softmax over labels of (scores + sliced values1 + sliced values2).

    scores (minus the unary; -inf in lanes without a label), q: N x L float32. corners: N x K int32,
    weights: N x K float32, the kernel's weight and normalisation in it; values: M x L float32.
    """
    n, lanes = q.shape
    for i in numba.prange(n):
        row = q[i]
        start = scores[i]
        for lane in range(lanes):
            row[lane] = start[lane]
        for k in range(corners1.shape[1]):
            weight = weights1[i, k]
            source = values1[corners1[i, k]]
            for lane in range(lanes):
                row[lane] += weight * source[lane]
        for k in range(corners2.shape[1]):
            weight = weights2[i, k]
            source = values2[corners2[i, k]]
            for lane in range(lanes):
                row[lane] += weight * source[lane]
        top = row[0]
        for lane in range(lanes):
            top = max(top, row[lane])
        total = np.float32(0.0)
        for lane in range(lanes):
            x = row[lane] - top
            scaled = max(x, SMALLEST) * LOG2_E
            whole = np.rint(scaled)
            y = exp2_fraction(scaled - whole)
            power = np.int32(np.int32(whole) + np.int32(127)) << np.int32(23)
            y *= np.int32(power).view(np.float32)
            y = y if x >= SMALLEST else np.float32(0.0)
            row[lane] = y
            total += y
        factor = np.float32(1.0) / total
        for lane in range(lanes):
            row[lane] *= factor


@jit(fastmath=FAST)
def exp2_fraction(x: Any) -> Any:
    """2^x for x in [-1/2, 1/2]: the Taylor series of exp(x log 2), relative error about 1e-7."""
    y = np.float32(1.5252733804059841e-05)
    y = y * x + np.float32(1.5403530393381609e-04)
    y = y * x + np.float32(1.3333558146428443e-03)
    y = y * x + np.float32(9.6181291076284772e-03)
    y = y * x + np.float32(5.5504108664821580e-02)
    y = y * x + np.float32(2.4022650695910071e-01)
    y = y * x + np.float32(6.9314718055994531e-01)
    return y * x + np.float32(1.0)
