"""The mean field's step with four floats a thread, and a softmax without shared memory.

The same step as in field.py, in a third of the instructions: a quad, four floats, is loaded at
once, and the threads of a pixel exchange numbers within their warp. The rows of the flat arrays
are counted in quads. Loops are `while`, as Numba's `range` begins with a division of 64 bits, and
an index is made unsigned where Numba would test whether it is negative.
"""

import math
from typing import Any

import numpy as np
from numba import cuda, float32, types

from deeplab_repro.crf.cuda.device import BLOCKS, SIMULATED, THREADS, Workspace, kernel, roomy
from deeplab_repro.crf.cuda.field import HALF, UNIT, UNITS, MeanField
from deeplab_repro.crf.cuda.lattice import POSITIONAL, Lattice
from deeplab_repro.crf.cuda.lists import ALONE, CORNERS, SEGMENTS
from deeplab_repro.crf.cuda.scores import NEVER, ONE, ZERO
from deeplab_repro.crf.params import CrfParams
from deeplab_repro.errors import ResourceError

WARP = 32
NOTHING = (ZERO, ZERO, ZERO, ZERO)
NEVERS = (NEVER, NEVER, NEVER, NEVER)


class QuadField(MeanField):
    """The mean field of one image, with rows of quads."""

    def __init__(self, probs: Any, space: Workspace, quads_a_thread: int = 2) -> None:
        """As MeanField. quads_a_thread: that update works on, 1 or 2; 2 in rows of over 32."""
        super().__init__(probs, space)
        self._quads = self._lanes // 4
        threads = min(-(-self._quads // quads_a_thread), WARP)
        # A pixel's row is shared by 2^exchanges threads.
        self._exchanges = (threads - 1).bit_length()
        self._quad_block = self._quads, max(1, THREADS // self._quads)

    def connect(self, lattice: Lattice, params: CrfParams) -> None:
        """As MeanField's. Raises ResourceError where places do not fit 31 bits."""
        if max(self._n, roomy(lattice.vertices + 1)) * self._quads >= 2**31:
            raise ResourceError(
                f"{self._n:,} pixels with {self._labels} labels are too many for the CRF on a GPU:"
                " use a smaller image or device='cpu'"
            )
        super().connect(lattice, params)
        self._flat_scores, self._flat_q = self._scores.ravel(), self._q.ravel()
        self._flat_here, self._flat_there = self._here.ravel(), self._there.ravel()

    def step(self) -> None:
        """As MeanField's."""
        of, lists = self._lattice, self._lattice.lists
        rows, block = self._lattice.vertices + 1, self._quad_block
        here, there = self._flat_here, self._flat_there
        splat_quads[BLOCKS, block](
            *(lists.pixels, lists.shares, lists.segments, lists.crowds, lists.counters),
            *(self._flat_q, self._sums, self._arrived, here),
        )
        blur_quads[BLOCKS, block](rows, of.neighbours, 0, here, there)
        blur_quads[BLOCKS, block](rows, of.neighbours, 2, there, here)
        blur_quads[BLOCKS, block](rows, of.neighbours, 4, here, there)
        threads = max(THREADS, 1 << self._exchanges)
        update_quads[BLOCKS, threads](
            *(self._flat_scores, of.corners, of.weights, there, *self._weights),
            *(self._quads, self._exchanges, self._flat_q),
        )


if SIMULATED:  # no intrinsics and no shuffles there

    @cuda.jit(device=True)
    def load_quad(values, row, quads, quad):  # type: ignore[no-untyped-def]
        at = 4 * (row * quads + quad)
        return values[at], values[at + 1], values[at + 2], values[at + 3]

    @cuda.jit(device=True)
    def store_quad(values, row, quads, quad, given):  # type: ignore[no-untyped-def]
        for k in range(4):
            values[4 * (row * quads + quad) + k] = given[k]

    @cuda.jit(device=True)
    def from_lane(value, lane):  # type: ignore[no-untyped-def]
        shared = cuda.shared.array(WARP, float32)
        shared[cuda.threadIdx.x] = value
        cuda.syncthreads()
        result = shared[lane]
        cuda.syncthreads()
        return result

else:
    from llvmlite import ir
    from numba.extending import intrinsic

    INT = ir.IntType(32)
    FOUR_FLOATS = ir.VectorType(ir.FloatType(), 4)

    def address(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        """The address of a quad: arguments are a flat array, a row, its quads, and the quad."""
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        row, quads, quad = (
            builder.trunc(value, INT) if value.type.width > INT.width else value
            for value in arguments[1:4]
        )
        place = builder.add(builder.mul(row, quads), quad)
        return builder.gep(builder.bitcast(data, FOUR_FLOATS.as_pointer()), [place])

    @intrinsic
    def load_quad(_typing, values, row, quads, quad):  # type: ignore[no-untyped-def]
        """Four floats in one instruction."""

        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            loaded = builder.load(address(context, builder, signature, arguments), align=16)
            parts = [builder.extract_element(loaded, INT(k)) for k in range(4)]
            return context.make_tuple(builder, signature.return_type, parts)

        return types.UniTuple(types.float32, 4)(values, row, quads, quad), generate

    @intrinsic
    def store_quad(_typing, values, row, quads, quad, given):  # type: ignore[no-untyped-def]
        """Four floats in one instruction."""

        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            vector = ir.Constant(FOUR_FLOATS, ir.Undefined)
            for k in range(4):
                part = builder.extract_value(arguments[4], k)
                vector = builder.insert_element(vector, part, INT(k))
            builder.store(vector, address(context, builder, signature, arguments), align=16)
            return context.get_dummy_value()

        return types.void(values, row, quads, quad, given), generate

    @cuda.jit(device=True)
    def from_lane(value, lane):  # type: ignore[no-untyped-def]
        """The value that another thread of the warp brings; all threads of the warp call this."""
        return cuda.shfl_sync(0xFFFFFFFF, value, lane)


@cuda.jit(device=True)
def plus(a, factor, b):  # type: ignore[no-untyped-def]
    """a + factor * b"""
    return a[0] + factor * b[0], a[1] + factor * b[1], a[2] + factor * b[2], a[3] + factor * b[3]


@kernel
def splat_quads(
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
    """values of each vertex: q, weighted, of the pixels in its list. As `field.splat`."""
    quad = cuda.threadIdx.x
    quads = cuda.blockDim.x
    segment = cuda.blockIdx.x * cuda.blockDim.y + cuda.threadIdx.y
    while segment < counters[SEGMENTS]:
        a, b, c, d = np.int64(0), np.int64(0), np.int64(0), np.int64(0)
        for place in range(segments[segment, 0], segments[segment, 1]):
            at = np.uint64(place)
            share = shares[at] * UNITS
            part = load_quad(q, pixels[at], quads, quad)
            a += np.int32(share * part[0])
            b += np.int32(share * part[1])
            c += np.int32(share * part[2])
            d += np.int32(share * part[3])
        vertex = segments[segment, 2]
        crowd = segments[segment, 3]
        is_whole = crowd == ALONE
        if not is_whole:
            lane = 4 * quad
            cuda.atomic.add(sums, (crowd, lane), a)
            cuda.atomic.add(sums, (crowd, lane + 1), b)
            cuda.atomic.add(sums, (crowd, lane + 2), c)
            cuda.atomic.add(sums, (crowd, lane + 3), d)
            cuda.threadfence()  # who sees the arrival sees the sums
            if cuda.atomic.add(arrived, (crowd, quad), 1) == crowds[crowd] - 1:
                a = cuda.atomic.exch(sums, (crowd, lane), np.int64(0))
                b = cuda.atomic.exch(sums, (crowd, lane + 1), np.int64(0))
                c = cuda.atomic.exch(sums, (crowd, lane + 2), np.int64(0))
                d = cuda.atomic.exch(sums, (crowd, lane + 3), np.int64(0))
                arrived[crowd, quad] = 0
                is_whole = True
        if is_whole:
            exact = np.float32(a), np.float32(b), np.float32(c), np.float32(d)
            store_quad(values, vertex, quads, quad, plus(NOTHING, UNIT, exact))
        segment += cuda.gridDim.x * cuda.blockDim.y


@cuda.jit(device=True)
def along(axis, vertex, quad, quads, neighbours, values):  # type: ignore[no-untyped-def]
    """The values of a vertex, blurred along one axis by (1/2, 1, 1/2)."""
    before = load_quad(values, neighbours[axis, vertex, 0], quads, quad)
    after = load_quad(values, neighbours[axis, vertex, 1], quads, quad)
    here = load_quad(values, vertex, quads, quad)
    return plus(here, HALF, plus(before, ONE, after))


@kernel
def blur_quads(rows: Any, neighbours: Any, axis: Any, values: Any, blurred: Any) -> None:
    """values, rows x quads, blurred along `axis` and along the next one. As `field.blur`."""
    quad = cuda.threadIdx.x
    quads = cuda.blockDim.x
    vertex = cuda.blockIdx.x * cuda.blockDim.y + cuda.threadIdx.y
    while vertex < rows:
        left, right = neighbours[axis + 1, vertex, 0], neighbours[axis + 1, vertex, 1]
        before = along(axis, left, quad, quads, neighbours, values)
        after = along(axis, right, quad, quads, neighbours, values)
        middle = along(axis, vertex, quad, quads, neighbours, values)
        result = plus(middle, HALF, plus(before, ONE, after))
        store_quad(blurred, vertex, quads, quad, result)
        vertex += cuda.gridDim.x * cuda.blockDim.y


@cuda.jit(device=True)
def sliced(start, stop, corners, weights, values, quads, quad):  # type: ignore[no-untyped-def]
    """A quad of the values at a pixel's corners, weighted; zeros past the row's end."""
    total = NOTHING
    if quad < quads:
        for entry in range(start, stop):
            at = np.uint64(entry)
            part = load_quad(values, corners[at], quads, quad)
            total = plus(total, weights[at], part)
    return total


@cuda.jit(device=True)
def scored(scores, i, quads, quad, positional, w2, bilateral, w1):  # type: ignore[no-untyped-def]
    """A quad of the new scores; -inf past the row's end."""
    total = NEVERS
    if quad < quads:
        given = load_quad(scores, i, quads, quad)
        total = plus(plus(given, w2, positional), w1, bilateral)
    return total


@cuda.jit(device=True)
def larger(a, b):  # type: ignore[no-untyped-def]
    return a if a > b else b


@cuda.jit(device=True)
def exps(quad, largest):  # type: ignore[no-untyped-def]
    return (
        np.float32(math.exp(quad[0] - largest)),
        np.float32(math.exp(quad[1] - largest)),
        np.float32(math.exp(quad[2] - largest)),
        np.float32(math.exp(quad[3] - largest)),
    )


@kernel
def update_quads(
    scores: Any,
    corners: Any,
    weights: Any,
    values: Any,
    w2: Any,
    w1: Any,
    quads: Any,
    exchanges: Any,
    q: Any,
) -> None:
    """q = softmax over labels of (scores + w2 positional message + w1 bilateral message).

    As `field.update`. 2^exchanges threads of a warp share a pixel; each has the quads at its own
    place and at so many places further on.
    """
    thread = cuda.threadIdx.x
    lane = thread % WARP
    width = 1 << exchanges
    quad = thread & (width - 1)
    further = quad + width
    y = thread >> exchanges
    rows = cuda.blockDim.x >> exchanges
    n = weights.size // CORNERS
    # All threads of a warp go round together, as they exchange numbers.
    base = cuda.blockIdx.x * rows
    while base < n:
        i = base + y if base + y < n else n - 1
        start, middle = CORNERS * i, CORNERS * i + POSITIONAL
        stop = start + CORNERS
        positional = sliced(start, middle, corners, weights, values, quads, quad)
        positional2 = sliced(start, middle, corners, weights, values, quads, further)
        bilateral = sliced(middle, stop, corners, weights, values, quads, quad)
        bilateral2 = sliced(middle, stop, corners, weights, values, quads, further)
        # The row's first lane holds ones.
        per_one2 = w2 / from_lane(positional[0], lane - quad)
        per_one1 = w1 / from_lane(bilateral[0], lane - quad)
        near = scored(scores, i, quads, quad, positional, per_one2, bilateral, per_one1)
        far = scored(scores, i, quads, further, positional2, per_one2, bilateral2, per_one1)
        largest = larger(larger(near[0], near[1]), larger(near[2], near[3]))
        largest = larger(largest, larger(larger(far[0], far[1]), larger(far[2], far[3])))
        for step in range(exchanges):
            largest = larger(largest, from_lane(largest, lane ^ (1 << step)))
        near, far = exps(near, largest), exps(far, largest)
        total = (near[0] + near[1] + near[2] + near[3]) + (far[0] + far[1] + far[2] + far[3])
        for step in range(exchanges):
            total += from_lane(total, lane ^ (1 << step))
        if base + y < n:
            factor = ONE / total
            if quad < quads:
                store_quad(q, i, quads, quad, plus(NOTHING, factor, near))
            if further < quads:
                store_quad(q, i, quads, further, plus(NOTHING, factor, far))
            if quad == 0:
                q[4 * i * quads] = ONE
        base += cuda.gridDim.x * rows
