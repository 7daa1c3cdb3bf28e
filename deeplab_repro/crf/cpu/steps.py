"""The steps of a mean-field iteration, over all pixels and labels, on all threads.

Splat, blur, and in between one pass that slices the kernels' messages, takes the softmax and splats
the result into the next iteration's lattice. Each chunk of pixels and each chain of vertices is
worked on by one thread, in a fixed order, so the number of threads changes no bit.

Rows, one a pixel or a vertex, hold the labels' values and are padded to `lanes` float32. `width`
says how many of them are worked on at once (see vectors.py); the lattice is one of lattice.py.
Functions whose first argument is a team are for threads.run_together.
"""

from typing import Any

import numpy as np

from deeplab_repro.crf.cpu.blocks import (
    BLOCK,
    ONE,
    ZERO,
    label_block,
    read_block,
    slice_block,
    slice_scaled_block,
    softmax_block,
    splat_block,
    write_block,
)
from deeplab_repro.crf.cpu.threads import claim, is_off, share, wait
from deeplab_repro.crf.cpu.vectors import (
    LANES,
    item,
    load,
    multiply_add,
    prefetch,
    store,
    total,
    where_less,
    zeros,
)
from deeplab_repro.machine.jit import jit, jit_inner

LEAST = np.float32(1e-20)  # probabilities below count as 0
TINY = np.float32(1e-20)  # keeps divisions from 0 / 0
AHEAD = 6  # rows that the blur prefetches

NONE, BEFORE, AFTER, SYMMETRIC = range(4)


@jit
def read_rows(team: Any, arrays: Any, rows: Any, least: Any, rest: Any) -> None:
    """Transpose L x N into the first L lanes of N rows; the others get `rest`.

    Values below `least` become 0.
    """
    n, lanes = rows.shape
    begin, end = share(team, ZERO, n)
    for first in range(begin, end, BLOCK):
        last = min(first + BLOCK, end)
        for row in range(first * lanes, last * lanes, lanes):
            for place in range(row + arrays.shape[0] // LANES * LANES, row + lanes, LANES):
                store(rows, place, zeros(ONE) + rest)
        read_block(arrays, first, last, rows[first:last])
        for place in range(first * lanes, last * lanes, LANES):
            x = load(rows, place, ONE)
            store(rows, place, where_less(x, least, np.float32(0.0), x))


@jit
def iterate(
    team: Any,
    width: Any,
    unary: Any,
    is_log: Any,
    lattice: Any,
    factors: Any,
    splat_weights: Any,
    here: Any,
    there: Any,
    iterations: Any,
    is_end: Any,
    marginals: Any,
    labels: Any,
) -> None:
    """Mean-field iterations, each q = softmax over labels of (log unary + messages).

    unary: N rows of probabilities (0 in lanes without a label), or if is_log of their logarithms
    (-inf there). factors: float32, N x K weights for slicing, with normalisation in them, or N x
    kernels, what the lattice's are to be multiplied by. splat_weights: N x K float32. here: blurred
    values, or no rows for no messages yet. there: gets those of the new q; no rows for none. The
    two take turns. is_end: no iteration follows, so the last q is not splat. marginals: L x N, gets
    the last q; 0 x N for not at all. labels: N uint8, gets its most probable labels, ties to the
    lowest; empty for not at all.
    """
    points, rows = lattice.points, lattice.rows
    block = np.zeros((BLOCK, unary.shape[1]), np.float32)
    maps = np.empty_like(block)
    are_products = factors.shape[1] == lattice.corners.shape[1]
    for iteration in range(1, iterations + 1):
        is_last = iteration == iterations
        wanted = marginals if is_last else marginals[:0]
        named = labels if is_last else labels[:0]
        splats = there[:0] if is_last and is_end else there
        for turn in range(points.size - 1):
            chunk = claim(team, turn, points.size - 1)  # some have more vertices and take longer
            if chunk < 0:
                continue
            if is_off(team):
                return
            old, new = here[rows[chunk] : rows[chunk + 1]], splats[rows[chunk] : rows[chunk + 1]]
            new[:] = np.float32(0.0)
            for first in range(points[chunk], points[chunk + 1], BLOCK):
                last = min(first + BLOCK, points[chunk + 1])
                if is_off(team):
                    return
                if here.size and are_products:
                    slice_block(width, old, lattice.corners, factors, first, last, block)
                elif here.size:
                    slice_scaled_block(width, old, lattice, factors, first, last, block)
                else:
                    block[:] = np.float32(0.0)
                softmax_block(width, unary, is_log, first, last, block)
                if splats.size:
                    splat_block(width, block, lattice.corners, splat_weights, first, last, new)
                if wanted.size:
                    write_block(block, first, last, wanted)
                if named.size:
                    label_block(block, maps, first, last, named)
        wait(team)
        if splats.size:
            blur(team, width, there, lattice)
        here, there = there, here


@jit
def splat(
    team: Any,
    width: Any,
    lattice: Any,
    weights: Any,
    q: Any,
    here: Any,
) -> None:
    """Splat L x N values; `blur` is to follow."""
    block = np.zeros((BLOCK, here.shape[1]), np.float32)
    first_chunk, last_chunk = share(team, ZERO, lattice.points.size - 1)
    for chunk in range(first_chunk, last_chunk):
        if is_off(team):
            return
        mine = here[lattice.rows[chunk] : lattice.rows[chunk + 1]]
        mine[:] = np.float32(0.0)
        for first in range(lattice.points[chunk], lattice.points[chunk + 1], BLOCK):
            last = min(first + BLOCK, lattice.points[chunk + 1])
            read_block(q, first, last, block)
            splat_block(width, block, lattice.corners, weights, first, last, mine)


@jit
def slice_(
    team: Any,
    width: Any,
    lattice: Any,
    factors: Any,
    here: Any,
    message: Any,
) -> None:
    """Slice L x N messages from blurred values."""
    block = np.empty((BLOCK, here.shape[1]), np.float32)
    first_chunk, last_chunk = share(team, ZERO, lattice.points.size - 1)
    for chunk in range(first_chunk, last_chunk):
        if is_off(team):
            return
        mine = here[lattice.rows[chunk] : lattice.rows[chunk + 1]]
        for first in range(lattice.points[chunk], lattice.points[chunk + 1], BLOCK):
            last = min(first + BLOCK, lattice.points[chunk + 1])
            if factors.shape[1] == lattice.corners.shape[1]:
                slice_block(width, mine, lattice.corners, factors, first, last, block)
            else:
                slice_scaled_block(width, mine, lattice, factors, first, last, block)
            write_block(block, first, last, message)


@jit
def normalise(
    team: Any,
    vectors: Any,
    lattice: Any,
    scales: Any,
    modes: Any,
    here: Any,
    totals: Any,
    factors: Any,
    splat_weights: Any,
) -> None:
    """Write factors and splat_weights, as `iterate` takes them: the kernels' normalisation.

    A kernel's response to ones is the sum over labels of its response to any q. So it is sliced
    from the totals of the rows of here, blurred values of some q; their place is 1/8 of the row's.
    scales: kernels x 2 float32, alpha and the kernel's weight. modes: where each kernel is
    normalised. splat_weights: flat; empty if no kernel is normalised before. totals: work space,
    rows x lanes / 8. vectors: so many are added up before their lanes are.
    """
    lanes = here.shape[1]
    first, last = share(team, ZERO, here.shape[0])
    for row in range(first, last):
        norm = np.float32(0.0)
        for s in range(row * lanes, (row + 1) * lanes, LANES * vectors):
            x = load(here, s, ONE)
            for place in range(s + LANES, s + LANES * vectors, LANES):
                x = x + load(here, place, ONE)
            norm += total(x)
        totals[row * lanes // LANES] = norm
    wait(team)
    starts = lattice.kernel_starts
    n_kernels = starts.size - 1
    first_chunk, last_chunk = share(team, ZERO, lattice.points.size - 1)
    for chunk in range(first_chunk, last_chunk):
        if is_off(team):
            return
        base = lattice.rows[chunk] * lanes // LANES
        for i in range(lattice.points[chunk], lattice.points[chunk + 1]):
            corner = i * starts[n_kernels]
            for k in range(n_kernels):
                begin, end = corner + item(starts, k), corner + item(starts, k + 1)
                response = np.float32(0.0)
                for c in range(begin, end):
                    place = base + item(lattice.corners, c) // LANES
                    response += item(lattice.weights, c) * item(totals, place)
                response = response * scales[k, 0] + TINY
                before = after = np.float32(1.0)
                if modes[k] == BEFORE:
                    before = before / response
                elif modes[k] == AFTER:
                    after = after / response
                elif modes[k] == SYMMETRIC:
                    before = after = np.float32(1.0) / np.sqrt(response)
                after *= scales[k, 0] * scales[k, 1]
                if factors.shape[1] == n_kernels:
                    factors[i, k] = after
                else:
                    for c in range(starts[k], starts[k + 1]):
                        factors[i, c] = item(lattice.weights, corner + c) * after
                if splat_weights.size:
                    for c in range(begin, end):
                        splat_weights[np.uint64(c)] = item(lattice.weights, c) * before


@jit
def blur(team: Any, width: Any, values: Any, lattice: Any) -> None:
    """Blur all rows along all axes, in place.

    Ghosts are added to their owners before, chunk after chunk, and copied from them after.
    """
    lanes = values.shape[1]
    strip = LANES * len(width)
    starts = lattice.ghost_starts
    for chunk in range(1, starts.size - 1):
        first, last = share(team, starts[chunk], starts[chunk + 1])
        for g in range(first, last):
            ghost, owner = lattice.ghosts[g, 0] * lanes, lattice.ghosts[g, 1] * lanes
            for s in range(0, lanes, strip):
                x = load(values, owner + s, width) + load(values, ghost + s, width)
                store(values, owner + s, x)
        wait(team)
    for axis in range(lattice.parts.shape[0]):
        if is_off(team):
            return
        first_part, last_part = share(team, ZERO, lattice.parts.shape[1] - 1)
        first, last = lattice.parts[axis, first_part], lattice.parts[axis, last_part]
        blur_chains(width, values, lattice.chains, first, last)
        wait(team)
    first, last = share(team, ZERO, lattice.ghosts.shape[0])
    for g in range(first, last):
        ghost, owner = lattice.ghosts[g, 0] * lanes, lattice.ghosts[g, 1] * lanes
        for s in range(0, lanes, strip):
            store(values, ghost + s, load(values, owner + s, width))
    wait(team)


@jit_inner
def blur_chains(width: Any, values: Any, chains: Any, first: Any, last: Any) -> None:
    """Each row + half of the rows before and after it, along the chains first..last."""
    lanes = values.shape[1]
    half = np.float32(0.5)
    if first == last:
        return
    for s in range(0, lanes, LANES * len(width)):
        before = zeros(width)
        row = item(chains, first)
        middle = load(values, row * lanes + s, width)
        for i in range(first, last):
            ahead = item(chains, min(i + AHEAD, last - 1))
            prefetch(values, max(ahead, ~ahead) * lanes + s, before)
            following = item(chains, min(i + 1, last - 1))
            after = load(values, max(following, ~following) * lanes + s, width)
            if row < 0:
                store(values, ~row * lanes + s, multiply_add(before, half, middle))
                before = zeros(width)
            else:
                store(values, row * lanes + s, multiply_add(before + after, half, middle))
                before = middle
            row = following
            middle = after
