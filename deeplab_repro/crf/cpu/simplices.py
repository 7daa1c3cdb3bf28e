"""Compiled parts of lattice.py: find the simplex around each point, and number its corners.

Rounding and comparisons are those of the dense CRF that the DeepLab authors ran, one operation at a
time in single precision, so that the same simplices come out.
"""

from typing import Any

import numpy as np

from deeplab_repro.crf.cpu.vectors import LANES, item, load, rint, store, where_less, zeros
from deeplab_repro.machine.jit import jit, jit_inner

WIDTH = (0,)  # one vector: 8 points are embedded at a time


@jit_inner
def find_slot(table: Any, keys: Any, key0: Any, key1: Any) -> Any:
    """The slot of the hash table that holds a key, or the free slot where it belongs.

    table: int32 numbers of vertices, -1 in free slots; keys: M x 2 int64, theirs.
    """
    mixed = np.uint64(key0) + np.uint64(key1) * np.uint64(0xD6E8FEB86659FD93)
    mixed = mixed * np.uint64(0x9E3779B97F4A7C15)
    # Multiplying moves every bit upwards, so the upper half is the well-mixed one.
    mask = np.uint64(table.size - 1)
    slot = (mixed >> np.uint64(32)) & mask
    while True:
        vertex = table[slot]
        if vertex < 0 or (keys[vertex, 0] == key0 and keys[vertex, 1] == key1):
            return slot
        slot = (slot + np.uint64(1)) & mask


@jit_inner
def make_table(keys: Any, count: Any, room: Any) -> Any:
    """A hash table over the first `count` keys, at most a quarter full with `room` of them."""
    size = 1024
    while size < 4 * room:
        size *= 2
    table = np.full(size, -1, np.int32)
    for vertex in range(count):
        table[find_slot(table, keys, keys[vertex, 0], keys[vertex, 1])] = vertex
    return table


@jit_inner
def enclose(features: Any, scales: Any, start: Any, quotients: Any, ranks: Any, shares: Any) -> Any:
    """The simplices around 8 points: its first corner's quotients, and where in it they lie.

    features: d x N float32, of which the points from `start` on. Writes (d+1) x 8 float32: the
    coordinates of the first corner divided by d + 1, what each coordinate of the point is above
    them (shares of d + 1), and the ranks of these, 0 for the largest. (Conway and Sloane's way to
    the nearest lattice point, as in Adams et al. 2010.)
    """
    d, n = features.shape
    step = np.float32(d + 1)
    inverse = np.float32(1.0) / step
    nothing = zeros(WIDTH)
    one = nothing + np.float32(1.0)
    # Up to the hyperplane of d + 1 coordinates that sum to 0.
    total = nothing
    for j in range(d, 0, -1):
        scaled = load(features, (j - 1) * n + start, WIDTH) * scales[j - 1]
        store(shares, j * LANES, total - scaled * np.float32(j))
        total = total + scaled
    store(shares, 0, total)

    # The nearest point whose coordinates are all multiples of d + 1, halves to even.
    excess = nothing
    for j in range(d + 1):
        multiple = rint(load(shares, j * LANES, WIDTH) * inverse)
        excess = excess + multiple
        store(quotients, j * LANES, multiple)
        store(ranks, j * LANES, nothing)
    for j in range(d):
        quotient = load(quotients, j * LANES, WIDTH)
        residual = load(shares, j * LANES, WIDTH) - quotient * step
        for k in range(j + 1, d + 1):
            quotient = load(quotients, k * LANES, WIDTH)
            other = load(shares, k * LANES, WIDTH) - quotient * step
            below = where_less(residual, other, one, nothing)
            store(ranks, j * LANES, load(ranks, j * LANES, WIDTH) + below)
            store(ranks, k * LANES, load(ranks, k * LANES, WIDTH) + (one - below))
    # That point may lie off the hyperplane; move the worst-rounded coordinates back.
    for j in range(d + 1):
        rank = load(ranks, j * LANES, WIDTH) + excess
        wrap = where_less(rank, nothing, one, nothing) - where_less(
            one * np.float32(d), rank, one, nothing
        )
        store(ranks, j * LANES, rank + wrap * step)
        quotient = load(quotients, j * LANES, WIDTH) + wrap
        store(quotients, j * LANES, quotient)
        store(shares, j * LANES, (load(shares, j * LANES, WIDTH) - quotient * step) * inverse)


@jit_inner
def name_corners(
    quotients: Any,
    ranks: Any,
    shares: Any,
    units: Any,
    origins: Any,
    first_origin: Any,
    axis_of_rank: Any,
    by_rank: Any,
    names: Any,
    weights: Any,
) -> None:
    """The corners of 8 simplices, see `enclose`: (8 (d+1)) x 2 int64 keys, and 8 (d+1) weights.

    origins: see `embed`; those of the points from first_origin on. axis_of_rank, by_rank: work
    space, d + 1 int64 and float32.
    """
    d = units.shape[0] - 1
    for lane in range(LANES):
        origin = min(first_origin + lane, origins.shape[0] - 1)
        key0, key1 = origins[origin, 0], origins[origin, 1]
        for j in range(d + 1):
            rank = np.uint64(np.int64(item(ranks, j * LANES + lane)))
            axis_of_rank[rank] = j
            by_rank[rank] = item(shares, j * LANES + lane)
            quotient = np.int64(item(quotients, j * LANES + lane))
            key0 += quotient * item(units, 2 * j)
            key1 += quotient * item(units, 2 * j + 1)
        first = np.uint64(lane * (d + 1))
        names[first, 0] = key0
        names[first, 1] = key1
        weights[first] = item(by_rank, d) + (np.float32(1.0) - item(by_rank, 0))
        for corner in range(1, d + 1):
            # The next corner is 1 further along every axis, and back d + 1 along one.
            axis = item(axis_of_rank, d + 1 - corner)
            key0 += 1 - item(units, 2 * axis)
            key1 -= item(units, 2 * axis + 1)
            number = first + np.uint64(corner)
            names[number, 0] = key0
            names[number, 1] = key1
            weights[number] = item(by_rank, d - corner) - item(by_rank, d + 1 - corner)


@jit
def embed(
    corners: Any,
    weights: Any,
    first_corner: Any,
    features: Any,
    scales: Any,
    units: Any,
    origins: Any,
    lanes: Any,
    first: Any,
    last: Any,
    first_row: Any,
) -> Any:
    """Write one kernel's corners and weights, see Lattice, of the points first..last.

    features: d x N float32; scales: d float32; units: see keys.py; origins: what a key starts from,
    for all points, or for each. lanes: of a row of values. Returns the vertices' keys, M x 2 int64,
    numbered as they are first met; their rows are first_row + number.
    """
    d = features.shape[0]
    quotients = np.empty((d + 1, LANES), np.float32)
    ranks = np.empty((d + 1, LANES), np.float32)
    shares = np.empty((d + 1, LANES), np.float32)
    axis_of_rank = np.empty(d + 1, np.int64)
    by_rank = np.empty(d + 1, np.float32)
    names = np.empty((LANES * (d + 1), 2), np.int64)
    shown = np.empty(LANES * (d + 1), np.float32)
    last_names = np.full((d + 1, 2), -1, np.int64)
    last_corners = np.empty(d + 1, np.uint32)
    keys = np.empty((1024, 2), np.int64)
    count = np.int64(0)  # with a plain 0 make_table would be compiled once more
    table = make_table(keys, count, keys.shape[0])
    for start in range(first, last, LANES):
        if count + LANES * (d + 1) > keys.shape[0]:
            longer = np.empty((2 * keys.shape[0], 2), np.int64)
            for vertex in range(count):  # a slice would take seconds to compile
                longer[vertex, 0] = keys[vertex, 0]
                longer[vertex, 1] = keys[vertex, 1]
            keys = longer
            table = make_table(keys, count, keys.shape[0])
        enclose(features, scales, start, quotients, ranks, shares)
        name_corners(
            quotients,
            ranks,
            shares,
            units,
            origins,
            start - first,
            axis_of_rank,
            by_rank,
            names,
            shown,
        )
        for lane in range(min(LANES, last - start)):
            for corner in range(d + 1):
                number = lane * (d + 1) + corner
                key0, key1 = item(names, 2 * number), item(names, 2 * number + 1)
                # Points in a row often share corners.
                if key0 != item(last_names, 2 * corner) or key1 != item(last_names, 2 * corner + 1):
                    slot = find_slot(table, keys, key0, key1)
                    if table[slot] < 0:
                        keys[count, 0] = key0
                        keys[count, 1] = key1
                        table[slot] = count
                        count += 1
                    last_names[corner, 0] = key0
                    last_names[corner, 1] = key1
                    last_corners[corner] = lanes * (first_row + table[slot])
                corners[start + lane, first_corner + corner] = item(last_corners, corner)
                weights[start + lane, first_corner + corner] = item(shown, number)
    return keys[:count].copy()


@jit
def find_chains(
    rows: Any, keys: Any, table: Any, units: Any, n_rows: Any, first_axis: Any, last_axis: Any
) -> Any:
    """The chains of neighbours along some axes, see Lattice, and how long each axis's are.

    rows: M int32, keys: M x 2 int64, table: of the kernel's vertices. A step along an axis adds 1
    to every other coordinate and takes d from its own (Adams et al. 2010).
    """
    d = units.shape[0] - 1
    remainder_bits = units[0, 0] - 1
    after = np.empty(n_rows, np.int32)
    has_before = np.empty(n_rows, np.bool_)
    chains = np.empty(rows.size * (last_axis - first_axis), np.int32)
    lengths = np.empty(last_axis - first_axis, np.int64)
    count = 0
    for axis in range(first_axis, last_axis):
        start = count
        # Adding 1 to the largest remainder makes it 0, and each quotient 1 more.
        around0, around1 = -d - units[axis, 0], -units[axis, 1]
        for j in range(d + 1):
            around0 += units[j, 0]
            around1 += units[j, 1]
        onward0 = 1 - units[axis, 0]
        onward1 = -units[axis, 1]
        for v in range(n_rows):
            after[v] = -1
            has_before[v] = False
        for v in range(rows.size):
            wraps = keys[v, 0] & remainder_bits == d
            key0 = keys[v, 0] + (around0 if wraps else onward0)
            key1 = keys[v, 1] + (around1 if wraps else onward1)
            other = table[find_slot(table, keys, key0, key1)]
            if other >= 0:
                after[rows[v]] = rows[other]
                has_before[rows[other]] = True
        for row in rows:
            if after[row] >= 0 and not has_before[row]:
                while after[row] >= 0:
                    chains[count] = row
                    count += 1
                    row = after[row]
                chains[count] = ~row
                count += 1
        lengths[axis - first_axis] = count - start
    return chains[:count].copy(), lengths


@jit
def merge(keys: Any, starts: Any, first_rows: Any, owners: Any) -> Any:
    """One kernel's vertices: their rows (M int32), keys (M x 2 int64), and the hash table.

    keys: those of all chunks one after the other, starts: where each chunk's start, and their
    number; first_rows: the row of each chunk's first. Writes the owners of ghosts.
    """
    total = keys.shape[0]
    merged = np.empty_like(keys)
    rows = np.empty(total, np.int32)
    count = np.int64(0)  # with a plain 0 make_table would be compiled once more
    table = make_table(merged, count, total)
    for chunk in range(first_rows.size):
        for v in range(starts[chunk], starts[chunk + 1]):
            row = first_rows[chunk] + v - starts[chunk]
            slot = find_slot(table, merged, keys[v, 0], keys[v, 1])
            if table[slot] < 0:
                merged[count, 0] = keys[v, 0]
                merged[count, 1] = keys[v, 1]
                rows[count] = row
                table[slot] = count
                count += 1
            else:
                owners[row] = rows[table[slot]]
    return rows[:count].copy(), merged[:count].copy(), table
