"""The permutohedral lattice (Adams, Baek and Davis, Eurographics 2010) on the CPU.

A Gaussian filter in d dimensions: each point spreads its values over the d + 1 corners of the
simplex that encloses it (splat), the lattice is blurred along its d + 1 axes, and each point
collects what its corners now hold (slice).

Corners, rounding and the order of additions are those of the dense CRF that the DeepLab authors
ran, in single precision, so that the same simplices come out; hence no fastmath in the embedding.
Everything is added in a fixed order: results do not depend on the number of threads.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from deeplab_repro.crf.features import axis_scales
from deeplab_repro.crf.jit import jit

F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]

# Rows of values are padded to whole vectors: loops over labels then have no remainder.
LANES = 8


@dataclass(frozen=True)
class Lattice:
    """A lattice of M vertices around N points of d dimensions.

    corners: N x (d+1) int32, the vertices of each point's simplex; weights: N x (d+1) float32, its
    barycentric coordinates there. neighbours: (d+1) x M x 2 int32, both neighbours along each
    axis, M where there is none.
    """

    corners: I32
    weights: F32
    neighbours: I32

    @property
    def vertices(self) -> int:
        """The number M of vertices."""
        return self.neighbours.shape[1]

    @property
    def alpha(self) -> float:
        """The gain that undoes the blur's: 1 / (1 + 2^-d)."""
        return 1.0 / (1.0 + 2.0 ** -(self.corners.shape[1] - 1))


def build_lattice(features: F32) -> Lattice:
    """The lattice around N x d float32 features, each already divided by its standard deviation.

    The original takes four points at a time and fills up the last four with zero vectors. These
    carry no values, but their vertices exist and pass values on in the blur, so they do here.
    """
    n, d = features.shape
    if n % 4:
        features = np.concatenate([features, np.zeros((1, d), np.float32)])
    corners, weights, keys, table = embed(np.ascontiguousarray(features), axis_scales(d))
    return Lattice(corners[:n], weights[:n], find_neighbours(keys, table))


def aligned_zeros(*shape: int) -> F32:
    """float32 zeros that start on a cache line, which NumPy does not promise."""
    size = math.prod(shape)
    memory = np.zeros(size + 16, np.float32)
    start = (-memory.ctypes.data % 64) // 4
    return memory[start : start + size].reshape(shape)


@jit()
def find_slot(table: Any, keys: Any, key: Any) -> Any:
    """The slot of the hash table that holds `key`, or the free slot where it belongs."""
    mask = np.uint64(table.size - 1)
    mixed = np.int64(0)
    for k in range(key.size):
        mixed = mixed * np.int64(1_000_003) + key[k]
    # Multiplying moves every bit upwards, so the upper half is the well-mixed one.
    slot = (np.uint64(mixed) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(32)) & mask
    while True:
        vertex = table[slot]
        if vertex < 0:
            return slot
        same = True
        for k in range(key.size):
            if keys[vertex, k] != key[k]:
                same = False
                break
        if same:
            return slot
        slot = (slot + np.uint64(1)) & mask


@jit()
def embed(features: Any, scale: Any) -> Any:
    """Enclosing simplex and barycentric coordinates of every point (Adams et al. 2010).

    features: N x d float32, scale: d float32. Returns corners and weights as in Lattice, the
    vertices' coordinates (M x d int16; the last follows, as all sum to 0) and the hash table
    over them. Vertices are numbered as they are first met.
    """
    n, d = features.shape
    corners = np.empty((n, d + 1), np.int32)
    weights = np.empty((n, d + 1), np.float32)
    capacity = 1024
    table = np.full(capacity, -1, np.int32)
    keys = np.empty((capacity // 2, d), np.int16)
    count = 0

    elevated = np.empty(d + 1, np.float32)
    nearest = np.empty(d + 1, np.int64)
    residual = np.empty(d + 1, np.float32)
    rank = np.empty(d + 1, np.int64)
    barycentric = np.empty(d + 2, np.float32)
    key = np.empty(d, np.int16)
    step = np.float32(d + 1)
    inverse = np.float32(1.0) / step

    for i in range(n):
        # Up to the hyperplane of d + 1 coordinates that sum to 0.
        total = np.float32(0.0)
        for j in range(d, 0, -1):
            scaled = features[i, j - 1] * scale[j - 1]
            elevated[j] = total - np.float32(j) * scaled
            total += scaled
        elevated[0] = total

        # The nearest point whose coordinates are all multiples of d + 1, halves to even.
        excess = 0
        for j in range(d + 1):
            multiple = np.rint(elevated[j] * inverse)
            excess += int(multiple)
            nearest[j] = int(multiple) * (d + 1)
            residual[j] = elevated[j] - multiple * step
            rank[j] = 0
        for j in range(d):
            for k in range(j + 1, d + 1):
                below = int(residual[j] < residual[k])
                rank[j] += below
                rank[k] += 1 - below
        # That point may lie off the hyperplane; move the worst-rounded coordinates back.
        for j in range(d + 1):
            rank[j] += excess
            if rank[j] < 0:
                rank[j] += d + 1
                nearest[j] += d + 1
            elif rank[j] > d:
                rank[j] -= d + 1
                nearest[j] -= d + 1

        barycentric[:] = np.float32(0.0)
        for j in range(d + 1):
            share = (elevated[j] - np.float32(nearest[j])) * inverse
            barycentric[d - rank[j]] += share
            barycentric[d + 1 - rank[j]] -= share
        barycentric[0] += np.float32(1.0) + barycentric[d + 1]

        if 2 * (count + d + 1) > capacity:
            capacity *= 2
            table = np.full(capacity, -1, np.int32)
            longer = np.empty((capacity // 2, d), np.int16)
            longer[:count] = keys[:count]
            keys = longer
            for vertex in range(count):
                table[find_slot(table, keys, keys[vertex])] = vertex
        for corner in range(d + 1):
            for j in range(d):
                wrapped = d + 1 if rank[j] > d - corner else 0
                key[j] = nearest[j] + corner - wrapped
            slot = find_slot(table, keys, key)
            if table[slot] < 0:
                keys[count] = key
                table[slot] = count
                count += 1
            corners[i, corner] = table[slot]
            weights[i, corner] = barycentric[corner]
    return corners, weights, keys[:count].copy(), table


@jit()
def find_neighbours(keys: Any, table: Any) -> Any:
    """(d+1) x M x 2 int32: each vertex's neighbours along each axis, M for none.

    keys: M x d int16 and table: as embed returns them. A step along axis j adds 1 to every
    coordinate but j and takes d from that one (Adams et al. 2010).
    """
    m, d = keys.shape
    neighbours = np.full((d + 1, m, 2), m, np.int32)
    key = np.empty(d, np.int16)
    for axis in range(d + 1):
        for vertex in range(m):
            for j in range(d):
                key[j] = keys[vertex, j] + 1
            if axis < d:
                key[axis] -= d + 1
            other = table[find_slot(table, keys, key)]
            if other >= 0:
                neighbours[axis, vertex, 1] = other
                neighbours[axis, other, 0] = vertex
    return neighbours
