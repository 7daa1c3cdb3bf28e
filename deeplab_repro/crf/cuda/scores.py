"""Before and after the CRF on the GPU: coarse scores become probabilities, and marginals labels.

Probabilities at the image's size are 16 MB for a photo of VOC: to move them takes longer than the
whole CRF. So the scores are enlarged on the GPU, and the labels found there.
"""

import math
from typing import Any

import numpy as np
from numba import cuda

from deeplab_repro.arrays import HW
from deeplab_repro.crf.cuda.device import BLOCKS, THREADS, Workspace, kernel
from deeplab_repro.net.scores import CoarseScores

ZERO = np.float32(0)
ONE = np.float32(1)
NEVER = np.float32(-np.inf)


def enlarged_probs(coarse: CoarseScores, size: HW, space: Workspace) -> Any:
    """The softmax of `coarse.enlarged(size)`, C x N float32, on the device.

    coarse has to cover the size. The enlarged scores are the CPU's bit for bit, the probabilities
    up to the rounding of exp.
    """
    values = np.ascontiguousarray(coarse.covering(size).values, np.float32)
    scores = space.array("coarse", values.shape, np.float32)
    scores.copy_to_device(values)
    probs = space.array("probs", (len(values), size[0] * size[1]), np.float32)
    # INTERP's scale, (n - 1) / ((n - 1) stride), in float32: the same for any n.
    scale = ONE / np.float32(coarse.stride)
    enlarge[BLOCKS, THREADS](scores, scale, coarse.offset, size[1], probs)
    return probs


# cuda.fma(a, b, ZERO) is a product that the compiler cannot contract. lattice.product is just
# that, but Numba's simulator wants the device functions of a kernel in the kernel's own module.
@cuda.jit(device=True)
def position(at, scale, n):  # type: ignore[no-untyped-def]
    """As `coarse.interp_positions`: both inputs of an output, and the weight of the second."""
    exact = cuda.fma(np.float32(at), scale, ZERO)
    first = int(exact)
    second = first + 1 if first + 1 < n else n - 1
    return first, second, exact - np.float32(first)


@cuda.jit(device=True)
def between(first, second, part):  # type: ignore[no-untyped-def]
    """Two scores, the second with the weight `part`; three roundings, as on the CPU."""
    return cuda.fma(first, ONE - part, ZERO) + cuda.fma(second, part, ZERO)


@cuda.jit(device=True)
def interpolated(scores, label, vertical, horizontal):  # type: ignore[no-untyped-def]
    """The score of a label at two positions, along rows first, as on the CPU."""
    top, bottom, down = vertical
    left, right, across = horizontal
    above = between(scores[label, top, left], scores[label, top, right], across)
    below = between(scores[label, bottom, left], scores[label, bottom, right], across)
    return between(above, below, down)


@kernel
def enlarge(scores: Any, scale: Any, offset: Any, width: Any, probs: Any) -> None:
    """C x N probabilities of the pixels of an image `width` wide, from C x h x w coarse scores."""
    labels, height_in, width_in = scores.shape
    for i in range(cuda.grid(1), probs.shape[1], cuda.gridsize(1)):
        vertical = position(i // width + offset, scale, height_in)
        horizontal = position(i % width + offset, scale, width_in)
        largest = NEVER
        for label in range(labels):
            score = interpolated(scores, label, vertical, horizontal)
            probs[label, i] = score
            largest = score if score > largest else largest
        total = ZERO
        for label in range(labels):
            share = np.float32(math.exp(probs[label, i] - largest))
            probs[label, i] = share
            total += share
        for label in range(labels):
            probs[label, i] /= total


@kernel
def find_labels(q: Any, n_labels: Any, labels: Any) -> None:
    """The most probable label of each row, ties to the lowest: N uint8. q: see field.py."""
    for i in range(cuda.grid(1), labels.size, cuda.gridsize(1)):
        best = 0
        for label in range(1, n_labels):
            if q[i, label + 1] > q[i, best + 1]:
                best = label
        labels[i] = best
