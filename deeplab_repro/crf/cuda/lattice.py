"""The permutohedral lattices of both kernels, built on the GPU: the twin of crf/cpu/lattice.py.

Both lattices are kept as one: a pixel has nine corners, three in the positional lattice (d = 2)
and six in the bilateral one (d = 5), and a vertex of either kind is a row of one table. One launch
then serves both.

Threads race, so vertices are numbered, and the pixels around each are listed, differently in each
run. The result does not depend on it: sums over a list are sums of integers (see mean_field.py).
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numba import cuda

from deeplab_repro.crf.cuda.device import BLOCKS, THREADS, Workspace, kernel, roomy
from deeplab_repro.crf.cuda.lists import CORNERS, VERTICES, Lists, build_lists
from deeplab_repro.crf.features import axis_scales
from deeplab_repro.crf.params import CrfParams
from deeplab_repro.errors import ArgumentError, ResourceError

POSITIONAL = 3  # of a pixel's CORNERS are in the positional lattice, the others in the bilateral
AXES = 6
FREE = -1  # a slot of the hash table

ZERO, ONE = np.float32(0), np.float32(1)


@dataclass(frozen=True)
class Packing:
    """How a vertex of one lattice becomes a 64-bit key.

    All d + 1 coordinates of a vertex have the same remainder r on division by d + 1, and they sum
    to 0. So the key is r plus the quotients of the first d, each times its base:
    key = origin + quotient[0] * bases[0] + ... + r. Keys of a lattice lie in start..stop - 1, those
    of neighbours that do not exist included.
    """

    start: int
    stop: int
    origin: int
    bases: tuple[int, ...]  # d + 1; 0 for the last, which follows from the others
    deviations: tuple[np.float32, ...]
    scales: tuple[np.float32, ...]


@dataclass(frozen=True)
class Lattice:
    """Both lattices around N pixels, M vertices together, as device arrays; vertex 0 is "none".

    corners: 9 N int32, the vertices of each pixel's two simplices; weights: 9 N float32, its
    barycentric coordinates there. neighbours: 6 x rows x 2 int32, of each vertex along each axis,
    0 for none; there may be more rows than vertices. lists: the pixels around each vertex.
    """

    vertices: int
    corners: Any
    weights: Any
    neighbours: Any
    lists: Lists


def build_lattice(
    image: Any, height: int, width: int, params: CrfParams, space: Workspace
) -> Lattice:
    """The lattices around the pixels of an image, N x 3 uint8 on the device, in row order.

    The arrays belong to `space` and last until its next use. Raises ArgumentError for deviations
    so small that keys overflow, ResourceError where memory does not suffice.
    """
    n = height * width
    # The original fills up the last four points with zeros, whose vertices take part in the blur.
    points = n + 1 if n % 4 else n
    entries = CORNERS * points
    if entries >= 2**31:
        raise ResourceError(
            f"an image of {height}x{width} has too many pixels for the CRF on a GPU, at most"
            f" {2**31 // CORNERS - 1:,} fit: use a smaller image or device='cpu'"
        )
    slots = 1 << (2 * entries - 1).bit_length()
    positional, bilateral = packings(height, width, params)

    keys = space.array("keys", (entries,), np.int64)
    weights = space.array("weights", (CORNERS * n,), np.float32)
    table = space.array("table", (slots,), np.int32)
    corners = space.array("corners", (entries,), np.int32)
    numbers = space.array("numbers", (entries,), np.int32)
    holders = space.array("holders", (entries + 1,), np.int32)
    counters = space.array("counters", (4,), np.int32)
    clear[BLOCKS, THREADS](table, counters)
    for of, first in ((positional, 0), (bilateral, POSITIONAL)):
        embed[BLOCKS, THREADS](
            image, width, of.deviations, of.scales, of.bases, of.origin, first, keys, weights
        )
    insert[BLOCKS, THREADS](keys, table, corners, numbers, holders, counters)
    m = int(counters.copy_to_host()[VERTICES])  # the one number that the host has to know

    rows = roomy(m + 1)
    neighbours = space.array("neighbours", (AXES, rows, 2), np.int32)
    lengths = space.array("lengths", (rows,), np.int32)
    bases, starts = positional.bases + bilateral.bases, (positional.start, bilateral.start)
    find_neighbours[BLOCKS, THREADS](
        keys, table, numbers, holders, m, bases, starts, neighbours, lengths
    )
    lists = build_lists(m, corners, weights, numbers, lengths, counters, space)
    return Lattice(m, corners, weights, neighbours, lists)


@lru_cache
def packings(height: int, width: int, params: CrfParams) -> tuple[Packing, Packing]:
    """How the keys of the positional and of the bilateral lattice are made, for any image so large.

    Raises ArgumentError if 62 bits do not hold the keys.
    """
    position = (width - 1, height - 1)
    positional = _packing(position, (params.sigma_gamma,) * 2, 0)
    deviations = (params.sigma_alpha,) * 2 + (params.sigma_beta,) * 3
    bilateral = _packing((*position, 255, 255, 255), deviations, positional.stop)
    if bilateral.stop > 2**62:
        raise ArgumentError(
            f"sigma_alpha={params.sigma_alpha:g} with sigma_beta={params.sigma_beta:g} is too small"
            f" for an image of {height}x{width} on a GPU: a vertex's key takes"
            f" {math.log2(bilateral.stop):.1f} bits, 62 fit; use device='cpu'"
        )
    return positional, bilateral


def _packing(largest: tuple[int, ...], sigmas: tuple[float, ...], start: int) -> Packing:
    d = len(largest)
    scales = axis_scales(d)
    deviations = np.array(sigmas, np.float32)
    reach = np.array(largest) / deviations.astype(np.float64) * scales
    bases, origin, base = [], start, d + 1
    for j in range(d):
        # Elevated coordinate j lies between these (the sign of embed's terms); two steps of
        # rounding, a corner and a neighbour move a quotient by three at most.
        lowest = math.floor((-j * reach[j - 1] if j else 0.0) / (d + 1)) - 3
        highest = math.ceil(reach[j:].sum() / (d + 1)) + 3
        bases.append(base)
        origin -= lowest * base
        base *= highest - lowest + 1
    return Packing(start, start + base, origin, (*bases, 0), tuple(deviations), tuple(scales))


# Kernels use no min and no max, which the numba.cuda within Numba 0.68 does not compile.
@cuda.jit(device=True)
def product(a, b):  # type: ignore[no-untyped-def]
    """a * b rounded to float32, which the compiler cannot contract with a following addition."""
    return cuda.fma(a, b, ZERO)


@kernel
def clear(table: Any, counters: Any) -> None:
    """An empty hash table, counters at 0."""
    for slot in range(cuda.grid(1), table.size, cuda.gridsize(1)):
        table[slot] = FREE
        if slot < counters.size:
            counters[slot] = 0


@kernel
def embed(
    image: Any,
    width: Any,
    deviations: Any,
    scales: Any,
    bases: Any,
    origin: Any,
    first: Any,
    keys: Any,
    weights: Any,
) -> None:
    """Keys and weights of the corners of every pixel's simplex (Adams et al. 2010).

    Repeats the roundings of the CPU's `simplices.enclose` one by one: the features (x, y, R, G, B
    over their deviations, of which the first d) are embedded in single precision. Corner c of pixel
    i goes to element 9 i + first + c of keys and weights.
    """
    d = len(scales)
    elevated = cuda.local.array(AXES, np.float32)
    share = cuda.local.array(AXES, np.float32)
    quotient = cuda.local.array(AXES, np.int32)
    rank = cuda.local.array(AXES, np.int32)
    axis_of = cuda.local.array(AXES, np.int32)
    step = np.float32(d + 1)
    inverse = ONE / step

    for i in range(cuda.grid(1), keys.size // CORNERS, cuda.gridsize(1)):
        total = ZERO
        for j in range(d, 0, -1):
            value = 0
            if i < image.shape[0]:
                if j == 1:
                    value = i % width
                elif j == 2:
                    value = i // width
                else:
                    value = image[i, j - 3]
            scaled = product(np.float32(value) / deviations[j - 1], scales[j - 1])
            elevated[j] = total - product(np.float32(j), scaled)
            total += scaled
        elevated[0] = total

        # The nearest point whose coordinates are all multiples of d + 1, halves to even.
        excess = 0
        for j in range(d + 1):
            nearest = round(elevated[j] * inverse)
            quotient[j] = nearest
            excess += nearest
            share[j] = elevated[j] - np.float32(nearest) * step  # the product is exact
            rank[j] = 0
        for j in range(d):
            for k in range(j + 1, d + 1):
                if share[j] < share[k]:
                    rank[j] += 1
                else:
                    rank[k] += 1
        # That point may lie off the hyperplane; move the worst-rounded coordinates back.
        for j in range(d + 1):
            rank[j] += excess
            if rank[j] < 0:
                rank[j] += d + 1
                quotient[j] += 1
            elif rank[j] > d:
                rank[j] -= d + 1
                quotient[j] -= 1
            axis_of[rank[j]] = j
            share[j] = product(elevated[j] - np.float32(quotient[j]) * step, inverse)

        # Corner 0 is that point; the next adds 1 everywhere and takes d + 1 from one axis.
        key = origin
        for j in range(d + 1):
            key += np.int64(quotient[j]) * bases[j]
        weight = share[axis_of[d]] + (ONE - share[axis_of[0]])
        start = CORNERS * i + first
        for corner in range(d + 1):
            if corner > 0:
                axis = axis_of[d + 1 - corner]
                key += 1 - bases[axis]
                weight = share[axis_of[d - corner]] - share[axis]
            keys[start + corner] = key
            if i < image.shape[0]:
                weights[start + corner] = weight


@cuda.jit(device=True)
def home_slot(key, slots):  # type: ignore[no-untyped-def]
    """Where the search for a key starts. The products stay below 2^62."""
    mixed = (key & 0xFFFFFFFF) * 0x278DDE6D + (key >> 32) * 0x1B873593
    return (mixed >> 18) & (slots - 1)


@kernel
def insert(keys: Any, table: Any, owners: Any, numbers: Any, holders: Any, counters: Any) -> None:
    """Make each key a vertex, once.

    keys: int64, one an entry. table: hash table of entries, one for each vertex. owners: for each
    entry, the one of the same key that is in the table; numbers: that one's vertex, from 1.
    holders: the entry of each vertex.
    """
    for entry in range(cuda.grid(1), keys.size, cuda.gridsize(1)):
        key = keys[entry]
        slot = home_slot(key, table.size)
        while True:
            owner = table[slot]  # never changes once it is set
            if owner == FREE:
                owner = cuda.atomic.cas(table, slot, FREE, entry)
                if owner == FREE:
                    owner = entry
                    vertex = cuda.atomic.add(counters, VERTICES, 1) + 1
                    numbers[entry] = vertex
                    holders[vertex] = entry
            if keys[owner] == key:
                owners[entry] = owner
                break
            slot = (slot + 1) & (table.size - 1)


@cuda.jit(device=True)
def find(key, keys, table, numbers):  # type: ignore[no-untyped-def]
    """The vertex of a key, 0 for none. At least half of the table is free."""
    slot = home_slot(key, table.size)
    while True:
        entry = table[slot]
        if entry == FREE:
            return 0
        if keys[entry] == key:
            return numbers[entry]
        slot = (slot + 1) & (table.size - 1)


@kernel
def find_neighbours(
    keys: Any,
    table: Any,
    numbers: Any,
    holders: Any,
    m: Any,
    bases: Any,
    starts: Any,
    neighbours: Any,
    lengths: Any,
) -> None:
    """Both neighbours of vertices 0 to m along each axis; also sets their lengths to 0.

    A step along an axis adds 1 to every coordinate but one and takes d from that one. For the key
    this is one of two constants: the remainder grows and the axis' quotient falls, or the remainder
    wraps round and all other quotients grow. bases: of both packings, one after the other.
    """
    for task in range(cuda.grid(1), AXES * (m + 1), cuda.gridsize(1)):
        vertex = task // AXES
        axis = task % AXES
        before = 0
        after = 0
        if vertex > 0:
            key = keys[holders[vertex]]
            kind = 0 if key < starts[1] else 1
            first = 0 if kind == 0 else POSITIONAL
            d = 2 if kind == 0 else 5
            if axis <= d:
                others = 0
                for j in range(d + 1):
                    others += bases[first + j]
                others -= bases[first + axis]
                remainder = (key - starts[kind]) % (d + 1)
                up = others - d if remainder == d else 1 - bases[first + axis]
                down = others - d if remainder == 0 else 1 - bases[first + axis]
                before = find(key - down, keys, table, numbers)
                after = find(key + up, keys, table, numbers)
        neighbours[axis, vertex, 0] = before
        neighbours[axis, vertex, 1] = after
        if axis == 0:
            lengths[vertex] = 0
