"""The stages of a mean-field iteration for a block of pixels, whose rows fit the fastest cache.

The lattice's arrays are read by offsets: handling indices would take as long as the arithmetic.
"""

from typing import Any

import numpy as np

from deeplab_repro.crf.cpu.vectors import (
    LANES,
    exp,
    item,
    largest,
    load,
    multiply_add,
    store,
    total,
    transpose,
    where_less,
    zeros,
)
from deeplab_repro.machine.jit import jit_inner

BLOCK = 64  # pixels
ZERO = np.int64(0)  # with a plain 0 functions would be compiled once more
ONE = (0,)  # the width of one vector
# Lower exponents count as -infinity: their powers could become subnormal, which makes code slow.
LEAST_EXPONENT = np.float32(-80.0)


@jit_inner
def slice_block(
    width: Any, here: Any, corners: Any, weights: Any, first: Any, last: Any, block: Any
) -> None:
    """The weighted sum of each pixel's corners; here: the rows of the pixels' chunk."""
    lanes = here.shape[1]
    n_corners = corners.shape[1]
    for i in range(first, last):
        begin, end = i * n_corners, (i + 1) * n_corners
        for s in range(0, lanes, LANES * len(width)):
            x = zeros(width)
            for c in range(begin, end):
                corner = load(here, item(corners, c) + s, width)
                x = multiply_add(corner, item(weights, c), x)
            store(block, (i - first) * lanes + s, x)


@jit_inner
def slice_scaled_block(
    width: Any, here: Any, lattice: Any, factors: Any, first: Any, last: Any, block: Any
) -> None:
    """`slice_block` with the lattice's weights times factors, N x kernels: the same bits."""
    lanes = here.shape[1]
    corners, weights, starts = lattice.corners, lattice.weights, lattice.kernel_starts
    n_corners, n_kernels = corners.shape[1], factors.shape[1]
    for i in range(first, last):
        for s in range(0, lanes, LANES * len(width)):
            x = zeros(width)
            for k in range(n_kernels):
                factor = item(factors, i * n_kernels + k)
                begin, end = i * n_corners + item(starts, k), i * n_corners + item(starts, k + 1)
                for c in range(begin, end):
                    corner = load(here, item(corners, c) + s, width)
                    x = multiply_add(corner, item(weights, c) * factor, x)
            store(block, (i - first) * lanes + s, x)


@jit_inner
def softmax_block(width: Any, unary: Any, is_log: Any, first: Any, last: Any, block: Any) -> None:
    """Replace a block of messages by q = softmax over labels of (log unary + messages).

    unary: probabilities, or if is_log their logarithms. Otherwise exp(message) must not overflow.
    """
    lanes = unary.shape[1]
    strip = LANES * len(width)
    sums = np.ones(BLOCK, np.float32)
    for i in range(first, last):
        row = (i - first) * lanes
        norm = np.float32(0.0)
        if is_log:
            top = np.float32(-np.inf)
            for s in range(0, lanes, strip):
                x = load(unary, i * lanes + s, width) + load(block, row + s, width)
                top = max(top, largest(x))
                store(block, row + s, x)
            for s in range(0, lanes, strip):
                x = load(block, row + s, width) - top
                power = exp(where_less(x, LEAST_EXPONENT, LEAST_EXPONENT, x))
                x = where_less(LEAST_EXPONENT, x, power, zeros(width))
                norm += total(x)
                store(block, row + s, x)
        else:
            for s in range(0, lanes, strip):
                x = load(unary, i * lanes + s, width) * exp(load(block, row + s, width))
                norm += total(x)
                store(block, row + s, x)
        sums[i - first] = norm
    # Apart from the sums: one division for eight of them, and nothing waits for it.
    for k in range(0, BLOCK, LANES):
        store(sums, k, (zeros(ONE) + np.float32(1.0)) / load(sums, k, ONE))
    for i in range(last - first):
        for s in range(i * lanes, (i + 1) * lanes, strip):
            store(block, s, load(block, s, width) * item(sums, i))


@jit_inner
def splat_block(
    width: Any, block: Any, corners: Any, weights: Any, first: Any, last: Any, there: Any
) -> None:
    """Add each pixel's row, weighted, to its corners; there: the rows of the pixels' chunk."""
    lanes = there.shape[1]
    n_corners = corners.shape[1]
    for i in range(first, last):
        begin, end = i * n_corners, (i + 1) * n_corners
        for s in range(0, lanes, LANES * len(width)):
            x = load(block, (i - first) * lanes + s, width)
            for c in range(begin, end):
                place = item(corners, c) + s
                store(there, place, multiply_add(x, item(weights, c), load(there, place, width)))


@jit_inner
def label_block(block: Any, maps: Any, first: Any, last: Any, labels: Any) -> None:
    """The lowest label of the largest value of each row of a block, to the pixels first..last.

    Lanes without a label hold 0, so they are never the largest alone. maps: work space, as many
    float32 as a block.
    """
    lanes = block.shape[1]
    transpose_part(block, ZERO, lanes, maps, ZERO, BLOCK, BLOCK, lanes)
    for i in range(0, last - first, LANES):
        most = load(maps, i, ONE)
        best = zeros(ONE)
        for label in range(1, lanes):
            x = load(maps, label * BLOCK + i, ONE)
            best = where_less(most, x, np.float32(label), best)
            most = where_less(most, x, x, most)
        store(maps, i, best)
    for i in range(last - first):
        labels[first + i] = np.uint8(item(maps, i))


@jit_inner
def read_block(arrays: Any, first: Any, last: Any, block: Any) -> None:
    """The pixels first..last of L x N arrays to the first lanes of the rows of a block."""
    n_labels, n = arrays.shape
    transpose_part(arrays, first, n, block, ZERO, block.shape[1], n_labels, last - first)


@jit_inner
def write_block(block: Any, first: Any, last: Any, arrays: Any) -> None:
    """The first lanes of the rows of a block to the pixels first..last of L x N arrays."""
    n_labels, n = arrays.shape
    transpose_part(block, ZERO, block.shape[1], arrays, first, n, last - first, n_labels)


@jit_inner
def transpose_part(
    source: Any,
    start: Any,
    step: Any,
    target: Any,
    first: Any,
    stride: Any,
    rows: Any,
    columns: Any,
) -> None:
    """Rows of a source, `step` apart, to columns of a target, whose rows are `stride` apart."""
    if rows < LANES or columns < LANES:
        source, target = source.reshape(-1), target.reshape(-1)
        for i in range(rows):
            for j in range(columns):
                target[first + j * stride + i] = source[start + i * step + j]
        return
    for i0 in range(0, rows, LANES):
        for j0 in range(0, columns, LANES):
            i, j = min(i0, rows - LANES), min(j0, columns - LANES)  # the last may overlap
            place = first + j * stride + i
            transpose(source, start + i * step + j, step, target, place, stride)
