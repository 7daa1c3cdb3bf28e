"""Reads and writes the arrays of caffemodels and solverstates: BlobProto.

Values go straight from the file into their arrays: see wire.py.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from deeplab_repro.arrays import Shape, dims
from deeplab_repro.caffe import bvlc_pb2, deeplab_pb2, wire
from deeplab_repro.caffe.wire import Field, Reader
from deeplab_repro.errors import FormatError

_MOST_AXES = 32
_LONGEST_DIM = 2**31 - 1
# BlobProto
_LEGACY_DIMS = (1, 2, 3, 4)
_DATA, _DIFF, _SHAPE, _DOUBLE_DATA, _DOUBLE_DIFF = 5, 6, 7, 8, 9
_FLOATS = {_DATA: "<f4", _DIFF: "<f4", _DOUBLE_DATA: "<f8", _DOUBLE_DIFF: "<f8"}


def read_blob(reader: Reader, blob: Field) -> np.ndarray:
    """The values of a BlobProto, float32, in the shape that the file has: legacy dims or BlobShape.

    Raises FormatError.
    """
    legacy: dict[int, int] = {}
    shape: list[int] = []
    has_shape = False
    parts: dict[int, list[np.ndarray]] = {number: [] for number in _FLOATS}
    for field in reader.fields(blob.begin, blob.end):
        if field.number in _LEGACY_DIMS and field.kind == wire.VARINT:
            legacy[field.number] = wire.signed(field.value, 32)
        elif field.number == _SHAPE and field.kind == wire.BYTES:
            has_shape = True
            for dim in _read_shape(reader, field):
                shape.append(dim)
                if len(shape) > _MOST_AXES:
                    raise FormatError(f"more than {_MOST_AXES} axes")
        elif field.number in _FLOATS and field.kind == wire.BYTES:
            if field.number in (_DATA, _DOUBLE_DATA) and field.end > field.begin:
                parts[field.number].append(_read_packed(reader, field))
        elif field.number in _FLOATS:
            parts[field.number].append(_read_unpacked(reader, field, blob.end))
    # As Caffe does: doubles go before floats, and legacy dims before a BlobShape.
    chunks = parts[_DOUBLE_DATA] or parts[_DATA]
    data = chunks[0] if len(chunks) == 1 else np.concatenate([np.empty(0, np.float32), *chunks])
    # Caffe writes no shape for a blob without axes, which has one value.
    if legacy or not (has_shape or data.size == 1):
        # Protobuf leaves out zeros, so a dim that is not there is 0.
        shape = [legacy.get(number, 0) for number in _LEGACY_DIMS]
    if any(not 0 <= dim <= _LONGEST_DIM for dim in shape):
        raise FormatError(f"shape {dims(shape)}, expected sizes from 0 to {_LONGEST_DIM}")
    if math.prod(shape) != data.size:
        raise FormatError(
            f"{data.size} values for shape {dims(shape)}, expected {math.prod(shape)}"
        )
    try:
        return data.reshape(shape)
    except ValueError:  # no values, but axes that are too long for NumPy
        raise FormatError(f"shape {dims(shape)}, expected one with values") from None


def _read_shape(reader: Reader, field: Field) -> Iterator[int]:
    for dim in reader.fields(field.begin, field.end):
        if dim.number == 1 and dim.kind == wire.VARINT:
            yield wire.signed(dim.value, 64)
        while dim.number == 1 and dim.kind == wire.BYTES and reader.file.tell() < dim.end:
            yield wire.signed(reader.varint(dim.end), 64)


def _read_packed(reader: Reader, field: Field) -> np.ndarray:
    """The values of one packed field as float32."""
    dtype = np.dtype(_FLOATS[field.number])
    length = field.end - field.begin
    if length % dtype.itemsize:
        raise FormatError(f"{length} bytes of data, expected a multiple of {dtype.itemsize}")
    values = np.empty(length // dtype.itemsize, dtype)
    if reader.file.readinto(values.view(np.uint8)) != length:  # type: ignore[attr-defined]
        raise FormatError("cut off inside the data")
    return _as_float32(values)


def _read_unpacked(reader: Reader, field: Field, end: int) -> np.ndarray:
    """The values of an unpacked field and of those with the same tag behind it, as float32.

    Every value has its own tag, but they are read in large pieces; one at a time would take minutes
    for a large file.
    """
    dtype = np.dtype(_FLOATS[field.number])
    if field.kind != (wire.FIXED32 if dtype.itemsize == 4 else wire.FIXED64):
        raise FormatError(f"data of wire type {field.kind}, expected floats")
    pieces = [np.frombuffer(reader.between(field.begin, field.end), dtype)]
    record = np.dtype([("tag", "u1"), ("value", dtype)])
    tag = field.number << 3 | field.kind
    at, most = field.end, 64
    while at < end:
        count = min((end - at) // record.itemsize, most)
        raw = np.frombuffer(reader.between(at, at + count * record.itemsize), record)
        other = np.flatnonzero(raw["tag"] != tag)
        run = raw[: other[0]] if other.size else raw
        pieces.append(run["value"])
        at += run.nbytes
        if run.size < most:
            break
        most = min(2 * most, 1 << 20)  # small at first, as in broken files most runs are short
    reader.file.seek(at)
    return _as_float32(np.concatenate(pieces))


def _as_float32(values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # a double that is too large becomes inf, as in Caffe
        return values.astype(np.float32, copy=False)


def blob_pieces(number: int, data: np.ndarray, current: bool) -> list[bytes | memoryview]:
    """The bytes of a BlobProto field `number`, piece by piece; the values are a view of `data`.

    Legacy dims, or a BlobShape in the current format.
    """
    data = np.ascontiguousarray(data, "<f4")
    head = _shape_bytes(data.shape, current) + wire.prefix(_DATA, data.nbytes)
    values = data.reshape(-1).view(np.uint8).data
    return [wire.prefix(number, len(head) + data.nbytes), head, values]


def _shape_bytes(shape: Shape, current: bool) -> bytes:
    if current:
        blob: Any = bvlc_pb2.BlobProto()
        blob.shape.dim.extend(shape)
    else:
        num, channels, height, width = legacy_dims(shape)
        blob = deeplab_pb2.BlobProto(num=num, channels=channels, height=height, width=width)
    return blob.SerializeToString()


def legacy_dims(shape: Shape) -> Shape:
    """The four dims that Caffe once had for every blob: the shape with ones in front."""
    return (1,) * (4 - len(shape)) + tuple(shape)
