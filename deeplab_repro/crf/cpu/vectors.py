"""Rows of labels as SIMD vectors, for Numba functions.

Numba leaves it to LLVM to vectorise loops, and LLVM often does not, or badly, when rows are short
and found through indices. Here a `Vectors` value is a few vectors of 8 float32 that live in
registers. How many is part of its type, so functions are compiled for each count: it is given by
`width`, a tuple of so many zeros, whose length is part of the tuple's type.

    width = (0,) * 3                              # 24 lanes
    x = zeros(width)
    x = multiply_add(load(array, offset, width), weight, x)
    store(array, offset, x)

Arrays are contiguous and float32, of any shape; offsets count floats from their start and are not
checked. LLVM makes of a vector of 8 what the machine has: AVX, or pairs of SSE or NEON registers.
Operations are rounded one by one, as in plain code, but for multiply_add and what exp is made of.
"""

# Numba calls an intrinsic with types and gets back a signature and a function that makes code; both
# are called with more than they need.
# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: ARG001, ARG005

import operator
from typing import Any

import numpy as np
from llvmlite import ir
from numba import extending, types
from numba.core import cgutils
from numba.extending import models, overload, register_model

intrinsic: Any = extending.intrinsic  # compiled code does not pass the first argument

LANES = 8

_FLOAT = ir.FloatType()
_VECTOR = ir.VectorType(_FLOAT, LANES)
_INTS = ir.VectorType(ir.IntType(32), LANES)

# The polynomial of degree 5 with the least relative error for e^x between +-log(2) / 2, and 1 at 0.
_EXP_TERMS = (0.008290297551, 0.04189802194, 0.1666763697, 0.4999914885, 0.9999997068, 1.0)


class Vectors(types.Type):
    """`count` vectors of 8 float32."""

    def __init__(self, count: int) -> None:
        super().__init__(name=f"Vectors({count})")
        self.count = count


@register_model(Vectors)
class _VectorsModel(models.PrimitiveModel):
    def __init__(self, manager, fe_type) -> None:
        super().__init__(manager, fe_type, ir.ArrayType(_VECTOR, fe_type.count))


def _splat(builder, scalar):
    first = builder.insert_element(
        ir.Constant(_VECTOR, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0)
    )
    return builder.shuffle_vector(
        first, ir.Constant(_VECTOR, ir.Undefined), ir.Constant(_INTS, [0] * LANES)
    )


def _constant(value: float):
    return ir.Constant(_VECTOR, [float(np.float32(value))] * LANES)


def _call(builder, name: str, *arguments):
    """An LLVM intrinsic whose arguments and result are vectors."""
    function = cgutils.get_or_insert_function(
        builder.module,
        ir.FunctionType(_VECTOR, [_VECTOR] * len(arguments)),
        f"llvm.{name}.v{LANES}f32",
    )
    return builder.call(function, arguments)


def _address(context, builder, array_type, array, offset):
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [offset])


def _vector_addresses(context, builder, count, array_type, array, offset):
    first = _address(context, builder, array_type, array, offset)
    pointer = builder.bitcast(first, _VECTOR.as_pointer())
    return [builder.gep(pointer, [ir.Constant(ir.IntType(64), i)]) for i in range(count)]


def _is_rows(array) -> bool:
    return isinstance(array, types.Array) and array.dtype == types.float32 and array.layout == "C"


@intrinsic
def zeros(typingctx, width):
    """Vectors of zeros."""
    count = len(width)

    def codegen(context, builder, signature, arguments):
        return ir.Constant(ir.ArrayType(_VECTOR, count), [_constant(0)] * count)

    return Vectors(count)(width), codegen


@intrinsic
def load(typingctx, array, offset, width):
    """The floats of an array from `offset` on."""
    if not _is_rows(array):
        return None
    count = len(width)

    def codegen(context, builder, signature, arguments):
        places = _vector_addresses(context, builder, count, array, *arguments[:2])
        result = ir.Constant(ir.ArrayType(_VECTOR, count), ir.Undefined)
        for i, place in enumerate(places):
            result = builder.insert_value(result, builder.load(place, align=4), i)
        return result

    return Vectors(count)(array, types.intp, width), codegen


@intrinsic
def store(typingctx, array, offset, vectors):
    """Write to an array from `offset` on."""
    if not (_is_rows(array) and isinstance(vectors, Vectors)):
        return None

    def codegen(context, builder, signature, arguments):
        places = _vector_addresses(context, builder, vectors.count, array, *arguments[:2])
        for i, place in enumerate(places):
            builder.store(builder.extract_value(arguments[2], i), place, align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, vectors), codegen


@intrinsic
def item(typingctx, array, offset):
    """One element of a contiguous array of any shape, `offset` elements from its start."""
    if not (isinstance(array, types.Array) and array.layout == "C"):
        return None

    def codegen(context, builder, signature, arguments):
        return builder.load(_address(context, builder, array, *arguments))

    return array.dtype(array, types.intp), codegen


@intrinsic
def prefetch(typingctx, array, offset, vectors):
    """Ask for what `vectors` would be loaded from, before it is needed. Changes nothing."""
    if not (_is_rows(array) and isinstance(vectors, Vectors)):
        return None
    line = 64  # bytes that come together, on nearly every processor
    steps = range(0, LANES * 4 * vectors.count, line)

    def codegen(context, builder, signature, arguments):
        byte, int32 = ir.IntType(8), ir.IntType(32)
        first = _address(context, builder, array, *arguments[:2])
        first = builder.bitcast(first, byte.as_pointer())
        function = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(ir.VoidType(), [byte.as_pointer(), int32, int32, int32]),
            "llvm.prefetch.p0i8",
        )
        for step in [*steps, LANES * 4 * vectors.count - 1]:  # rows need not start on a line
            place = builder.gep(first, [ir.Constant(ir.IntType(64), step)])
            builder.call(function, [place, int32(0), int32(3), int32(1)])
        return context.get_dummy_value()

    return types.void(array, types.intp, vectors), codegen


@intrinsic
def transpose(typingctx, source, start, step, target, first, stride):
    """Write 8 vectors, `step` floats apart in `source`, as columns to `target`.

    The first is read at `start`; the rows of 8 are written `stride` floats apart, from `first` on.
    """
    if not (_is_rows(source) and _is_rows(target)):
        return None

    def codegen(context, builder, signature, arguments):
        source_value, start, step, target_value, first, stride = arguments
        rows = []
        for _ in range(LANES):
            (place,) = _vector_addresses(context, builder, 1, source, source_value, start)
            rows.append(builder.load(place, align=4))
            start = builder.add(start, step)
        # Three rounds of riffling the rows in pairs: row i with row i + 4.
        half = LANES // 2
        for _ in range(LANES.bit_length() - 1):
            riffled = []
            for i in range(half):
                for begin in (0, half):
                    order = [begin + k // 2 + LANES * (k % 2) for k in range(LANES)]
                    pair = rows[i], rows[i + half]
                    riffled.append(builder.shuffle_vector(*pair, ir.Constant(_INTS, order)))
            rows = riffled
        for row in rows:
            (place,) = _vector_addresses(context, builder, 1, target, target_value, first)
            builder.store(row, place, align=4)
            first = builder.add(first, stride)
        return context.get_dummy_value()

    offsets = (types.intp,) * 2
    return types.void(source, *offsets, target, *offsets), codegen


def _elementwise(build, n_operands: int):
    """An operation, lane by lane, on Vectors and numbers; `build` makes its code for one vector."""

    def typed(operands):
        counts = {operand.count for operand in operands if isinstance(operand, Vectors)}
        if len(counts) != 1:
            return None
        vectors = Vectors(*counts)
        expected = [vectors if isinstance(x, Vectors) else types.float32 for x in operands]

        def codegen(context, builder, signature, arguments):
            result = ir.Constant(ir.ArrayType(_VECTOR, vectors.count), ir.Undefined)
            scalars = {
                i: _splat(builder, argument)
                for i, argument in enumerate(arguments)
                if not isinstance(expected[i], Vectors)
            }
            for k in range(vectors.count):
                parts = [
                    scalars[i] if i in scalars else builder.extract_value(argument, k)
                    for i, argument in enumerate(arguments)
                ]
                result = builder.insert_value(result, build(builder, *parts), k)
            return result

        return vectors(*expected), codegen

    if n_operands == 1:
        return intrinsic(lambda typingctx, a: typed((a,)))
    if n_operands == 2:
        return intrinsic(lambda typingctx, a, b: typed((a, b)))
    if n_operands == 3:
        return intrinsic(lambda typingctx, a, b, c: typed((a, b, c)))
    return intrinsic(lambda typingctx, a, b, c, d: typed((a, b, c, d)))


def _exp(builder, x):
    """e^x for x in [-87, 87], where it is a normal number; relative error at most 2.5e-7."""
    scaled = builder.fmul(x, _constant(np.log2(np.e)))
    whole = _call(builder, "rint", scaled)
    # What is left of x, with log 2 in two parts: the first has few digits, so its product is exact.
    rest = _call(builder, "fmuladd", whole, _constant(-0.693359375), x)
    rest = _call(builder, "fmuladd", whole, _constant(2.12194440e-4), rest)
    power = _constant(_EXP_TERMS[0])
    for term in _EXP_TERMS[1:]:
        power = _call(builder, "fmuladd", power, rest, _constant(term))
    exponent = builder.shl(builder.fptosi(whole, _INTS), ir.Constant(_INTS, [23] * LANES))
    return builder.bitcast(builder.add(builder.bitcast(power, _INTS), exponent), _VECTOR)


def _where_less(builder, a, b, yes, no):
    return builder.select(builder.fcmp_ordered("<", a, b), yes, no)


add = _elementwise(lambda builder, a, b: builder.fadd(a, b), 2)
subtract = _elementwise(lambda builder, a, b: builder.fsub(a, b), 2)
multiply = _elementwise(lambda builder, a, b: builder.fmul(a, b), 2)
divide = _elementwise(lambda builder, a, b: builder.fdiv(a, b), 2)
# a b + c, in one rounding where the machine can.
multiply_add = _elementwise(lambda builder, a, b, c: _call(builder, "fmuladd", a, b, c), 3)
rint = _elementwise(lambda builder, a: _call(builder, "rint", a), 1)
exp = _elementwise(_exp, 1)
# yes where a < b, else no.
where_less = _elementwise(_where_less, 4)


def _as_operator(symbol, operation) -> None:
    @overload(symbol)
    def overloaded(a, b):
        return (lambda a, b: operation(a, b)) if isinstance(a, Vectors) else None


_as_operator(operator.add, add)
_as_operator(operator.sub, subtract)
_as_operator(operator.mul, multiply)
_as_operator(operator.truediv, divide)


def _fold(combine):
    """A number from all lanes: in a fixed order, by halves."""

    @intrinsic
    def fold(typingctx, vectors):
        if not isinstance(vectors, Vectors):
            return None

        def codegen(context, builder, signature, arguments):
            parts = [builder.extract_value(arguments[0], i) for i in range(vectors.count)]
            result = parts[0]
            for part in parts[1:]:
                result = combine(builder, result, part)
            half = LANES // 2
            while half:
                order = [(i + half) % LANES for i in range(LANES)]
                moved = builder.shuffle_vector(
                    result, ir.Constant(_VECTOR, ir.Undefined), ir.Constant(_INTS, order)
                )
                result = combine(builder, result, moved)
                half //= 2
            return builder.extract_element(result, ir.Constant(ir.IntType(32), 0))

        return types.float32(vectors), codegen

    return fold


total = _fold(lambda builder, a, b: builder.fadd(a, b))
largest = _fold(lambda builder, a, b: _call(builder, "maxnum", a, b))
