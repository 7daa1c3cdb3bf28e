"""Arrays of floats in MATLAB's MAT-files of level 5 (save -v6 and -v7).

SciPy is not used: when it reads, a single wrong type code in a file ends the process; when it
writes, it copies the array, and importing it takes a second.
"""

import math
import os
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from deeplab_repro.arrays import F32, dims
from deeplab_repro.errors import ArgumentError, FormatError, one_line
from deeplab_repro.files.whole import open_to_read
from deeplab_repro.machine.memory import require_memory

# Kinds of data elements, and the storage of numbers by kind.
_INT8, _INT32, _UINT32, _SINGLE, _MATRIX, _COMPRESSED = 1, 5, 6, 7, 14, 15
_STORED_AS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8"}
_STORED_AS |= {12: "i8", 13: "u8"}

_DOUBLE_CLASS, _SINGLE_CLASS = 6, 7
_CLASSES = ["a cell", "a struct", "an object", "text", "sparse", "double", "single", "int8"]
_CLASSES += ["uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]
_COMPLEX = 1 << 11

_HEADER = 128
_LARGEST = 2**31 - 1  # bytes of an array, for MATLAB
_MOST_AXES = 32


def read_mat(path: str | os.PathLike[str], variable: str) -> F32:
    """Read an array of single or double, W x H x C in MATLAB, as CxHxW float32.

    MATLAB stores the first axis first, so the axes come in reverse order, whatever their number.

    Raises FileError for a file that cannot be read, ResourceError if the array needs more memory
    than there is, FormatError for a file that is not a MAT-file of level 5, is broken, or has no
    such array.
    """
    name = one_line(path)
    with open_to_read(path) as (file, size):
        header = file.read(_HEADER)
        if header.startswith((b"MATLAB 7.3", b"\x89HDF")):
            raise FormatError(f"{name}: is a MAT-file of version 7.3: save it with -v7")
        order = {b"\0\1IM": "<", b"\1\0MI": ">"}.get(header[124:])
        if order is None:
            raise FormatError(f"{name}: is not a MAT-file of level 5: save it in MATLAB with -v7")
        require_memory(2 * size, name)
        content = memoryview(file.read())
    try:
        return _find(content, order, variable, name)
    except (ValueError, zlib.error) as error:
        raise FormatError(f"{name}: is a broken MAT-file: {error}: get or save it again") from error


def write_mat(file: BinaryIO, variable: str, array: F32) -> None:
    """Write CxHxW float32 as an array of single, W x H x C in MATLAB, uncompressed.

    Raises ArgumentError for an array of 2 GiB, more than a MAT-file can hold.
    """
    values = np.ascontiguousarray(array, "<f4")
    if values.nbytes > _LARGEST:
        raise ArgumentError(f"an array of {dims(array.shape)} is too large for a MAT-file")
    flags = struct.pack("<2I", _SINGLE_CLASS, 0)
    shape = struct.pack(f"<{values.ndim}i", *reversed(values.shape))
    matrix = _element(_UINT32, flags) + _element(_INT32, shape)
    matrix += _element(_INT8, variable.encode("ascii"))
    matrix += struct.pack("<2I", _SINGLE, values.nbytes)
    padding = bytes(-values.nbytes % 8)
    n_bytes = len(matrix) + values.nbytes + len(padding)
    file.write(b"MATLAB 5.0 MAT-file, written by deeplab-repro".ljust(116) + bytes(8) + b"\0\1IM")
    file.write(struct.pack("<2I", _MATRIX, n_bytes) + matrix)
    file.write(values.data)
    file.write(padding)


def _find(content: memoryview, order: str, variable: str, name: str) -> F32:
    """Find the variable in a file's content. Raises ValueError or zlib.error if it is broken."""
    others = []
    for kind, matrix in _elements(content, order):
        if kind == _COMPRESSED:
            kind, matrix = _inflate(matrix, order, name)
        if kind != _MATRIX:
            raise ValueError(f"a variable of kind {kind}, expected {_MATRIX}")
        elements = _elements(matrix, order)
        flags, shape, found = (bytes(content) for _, content in _first(3, elements))
        if found != variable.encode():
            others.append(one_line(found.decode("latin-1")))
            continue
        if len(flags) != 8 or len(shape) % 4 or len(shape) > 4 * _MOST_AXES:
            raise ValueError(f"the head of '{variable}' has another size than it should")
        (number,) = struct.unpack_from(order + "I", flags)
        if number & 255 not in (_DOUBLE_CLASS, _SINGLE_CLASS) or number & _COMPLEX:
            what = dict(enumerate(_CLASSES, 1)).get(number & 255, "an object")
            what = "complex" if number & _COMPLEX else what
            raise FormatError(f"{name}: '{variable}' is {what}, expected single or double")
        ((stored_as, values),) = _first(1, elements)
        return _array(values, stored_as, struct.unpack(f"{order}{len(shape) // 4}i", shape), order)
    held = ", ".join(f"'{other}'" for other in others[:9]) or "no variables"
    raise FormatError(f"{name}: holds {held}, expected '{variable}'")


def _array(values: memoryview, stored_as: int, shape: tuple[int, ...], order: str) -> F32:
    if stored_as not in _STORED_AS:
        raise ValueError(f"numbers of kind {stored_as}, which does not exist")
    dtype = np.dtype(order + _STORED_AS[stored_as])
    if min(shape, default=0) <= 0 or math.prod(shape) * dtype.itemsize != len(values):
        raise ValueError(f"an array of {dims(shape)} {dtype.name} has {len(values):,} bytes")
    with np.errstate(over="ignore"):  # of doubles: becomes infinite
        return np.frombuffer(values, dtype).reshape(shape[::-1]).astype(np.float32)


def _elements(content: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """Kind and content of each data element. Raises ValueError if one is cut short."""
    while len(content) >= 8:
        kind, size = struct.unpack_from(order + "2I", content)
        start = 8
        if kind >> 16:  # a small element: its size shares a word with its kind
            kind, size, start = kind & 0xFFFF, kind >> 16, 4
        padding = 0 if kind == _COMPRESSED else -(start + size) % 8
        if start + size > (8 if start == 4 else len(content)):
            raise ValueError(f"{size:,} bytes are announced, {len(content) - start:,} are there")
        yield kind, content[start : start + size]
        content = content[start + size + padding :]


def _first(count: int, elements: Iterator[tuple[int, memoryview]]) -> list[tuple[int, memoryview]]:
    found = [element for _, element in zip(range(count), elements, strict=False)]
    if len(found) < count:
        raise ValueError("a variable is cut short")
    return found


def _inflate(compressed: memoryview, order: str, name: str) -> tuple[int, memoryview]:
    """Decompress a data element, up to the size in its header."""
    stream = zlib.decompressobj()
    tag = stream.decompress(compressed, 8)
    if len(tag) < 8:
        raise ValueError("a compressed variable is cut short")
    kind, size = struct.unpack(order + "2I", tag)
    require_memory(2 * size, name)
    return kind, memoryview(stream.decompress(stream.unconsumed_tail, size) if size else b"")


def _element(kind: int, content: bytes) -> bytes:
    if len(content) <= 4:
        return struct.pack("<2H", kind, len(content)) + content.ljust(4, b"\0")
    return struct.pack("<2I", kind, len(content)) + content + bytes(-len(content) % 8)
