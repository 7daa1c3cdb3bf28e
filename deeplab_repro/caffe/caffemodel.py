"""Caffemodels, the binary format of both dialects, read and written."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from google.protobuf.message import DecodeError

from deeplab_repro.caffe import bvlc_pb2, deeplab_pb2, wire
from deeplab_repro.caffe.structure import dialect_of, layer_type, net_to_message
from deeplab_repro.errors import FileError, FormatError, WeightsError
from deeplab_repro.files import check_readable, write_atomically
from deeplab_repro.layers import Shape, dims
from deeplab_repro.net import Net

_V1_LAYER, _CURRENT_LAYER = 2, 100  # of NetParameter
_MOST_AXES = 32
# BlobProto
_LEGACY_DIMS = (1, 2, 3, 4)
_DATA, _SHAPE, _DOUBLE_DATA = 5, 7, 8

_OTHER_FORMATS = {
    b"\x89HDF": "an HDF5 file",
    b"PK\x03\x04": "a zip file (npz or PyTorch?)",
    b"\x1f\x8b": "a gzip file",
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
}


@dataclass
class ModelLayer:
    """A layer of a caffemodel: its message without the blobs, and the blobs as float32 arrays.

    A blob's shape is as the file has it: the four legacy dims, or BlobShape's.
    """

    message: Any  # LayerParameter of the file's dialect
    blobs: list[np.ndarray] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The layer's name, by which weights are matched."""
        return self.message.name

    @property
    def type(self) -> str:
        """The layer's type as its dialect spells it."""
        return layer_type(self.message)


@dataclass
class Caffemodel:
    """The contents of a caffemodel, layers in the file's order."""

    name: str
    dialect: str
    layers: list[ModelLayer]


def read_caffemodel(path: str | Path) -> Caffemodel:
    """Read a caffemodel of either dialect.

    The weights go from the file straight into their arrays, so that reading takes little more time
    than the file's bytes, and no more memory than its floats. Raises FileError, and FormatError
    where the file is cut off, broken or something else.
    """
    size = check_readable(path)
    try:
        with open(path, "rb") as file:
            _refuse_other_formats(file.read(512))
            file.seek(0)
            return _read_net(file, size)
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from None
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror}") from None


def _refuse_other_formats(head: bytes) -> None:
    for magic, kind in _OTHER_FORMATS.items():
        if head.startswith(magic):
            raise FormatError(f"this is {kind}, expected a caffemodel")
    if all(byte in b"\t\n\r\f" or 32 <= byte < 127 for byte in head):
        raise FormatError(
            "this is a text file, expected a caffemodel (binary); "
            "is it the prototxt in the wrong place?"
        )


def _read_net(file: BinaryIO, size: int) -> Caffemodel:
    net = deeplab_pb2.NetParameter()  # its name has the same number in both dialects
    rest = bytearray()
    layers = []
    for number, kind, start, value in wire.fields(file, size):
        if kind == wire.BYTES and number in (_V1_LAYER, _CURRENT_LAYER):
            layers.append(_read_layer(file, file.tell() + value, number))
        elif number == 1:
            rest += _field_bytes(file, start, kind, value)
    if not layers:
        raise FormatError("no layers in it, expected a caffemodel")
    formats = {type(layer.message) for layer in layers}
    if len(formats) > 1:
        raise FormatError("layers of V1 and of the current format, expected one of them")
    dialect = dialect_of([layer.message for layer in layers])
    return Caffemodel(_parsed(net, rest).name, dialect, layers)


def _field_bytes(file: BinaryIO, start: int, kind: int, value: int) -> bytes:
    after = file.tell() + (0 if kind == wire.VARINT else value)
    file.seek(start)
    return file.read(after - start)


def _parsed(message: Any, data: bytes | bytearray) -> Any:
    try:
        message.ParseFromString(bytes(data))
        str(message.name)
    except (DecodeError, UnicodeDecodeError):
        raise FormatError("broken: a layer's description does not parse") from None
    return message


def _read_layer(file: BinaryIO, end: int, number: int) -> ModelLayer:
    schema, blob_field = (
        (deeplab_pb2.LayerParameter, 6) if number == _V1_LAYER else (bvlc_pb2.LayerParameter, 7)
    )
    rest = bytearray()
    blobs = []
    for number, kind, start, value in wire.fields(file, end):
        if number == blob_field and kind == wire.BYTES:
            blobs.append((start, file.tell(), file.tell() + value))
        else:
            rest += _field_bytes(file, start, kind, value)
    layer = ModelLayer(_parsed(schema(), rest))
    for start, begin, stop in blobs:
        file.seek(begin)
        try:
            layer.blobs.append(_read_blob(file, stop))
        except FormatError as error:
            raise FormatError(f"layer '{layer.name}', blob at byte {start}: {error}") from None
    return layer


def _read_blob(file: BinaryIO, end: int) -> np.ndarray:
    legacy: dict[int, int] = {}
    shape: list[int] | None = None
    parts = []
    for number, kind, start, value in wire.fields(file, end):
        if number in _LEGACY_DIMS and kind == wire.VARINT:
            legacy[number] = value
        elif number == _SHAPE and kind == wire.BYTES:
            shape = _read_shape(file, file.tell() + value)
        elif number in (_DATA, _DOUBLE_DATA):
            parts.append(_read_floats(file, number, kind, start, value, end))
    data = parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, np.float32), *parts])
    if shape is None:
        # Protobuf leaves out zeros, so a dim that is not there is 0.
        shape = [legacy.get(number, 0) for number in _LEGACY_DIMS]
    if len(shape) > _MOST_AXES:
        raise FormatError(f"{len(shape)} axes, expected at most {_MOST_AXES}")
    if math.prod(shape) != data.size:
        raise FormatError(
            f"{data.size} values for shape {dims(shape)}, expected {math.prod(shape)}"
        )
    return data.reshape(shape)


def _read_shape(file: BinaryIO, end: int) -> list[int]:
    shape: list[int] = []
    for number, kind, _, value in wire.fields(file, end):
        if number == 1 and kind == wire.VARINT:
            shape.append(value)
        elif number == 1 and kind == wire.BYTES:
            stop = file.tell() + value
            while file.tell() < stop:
                shape.append(wire.read_varint(file, stop))
    return shape


def _read_floats(
    file: BinaryIO, number: int, kind: int, start: int, length: int, end: int
) -> np.ndarray:
    """float32 values of one packed field, or of a run of unpacked ones."""
    dtype = np.dtype("<f4" if number == _DATA else "<f8")
    if kind == wire.BYTES:
        if length % dtype.itemsize:
            raise FormatError(f"{length} bytes of data, expected a multiple of {dtype.itemsize}")
        values = np.empty(length // dtype.itemsize, dtype)
        if file.readinto(values.data.cast("B")) != length:  # type: ignore[attr-defined]
            raise FormatError("cut off inside the data")
    elif kind == (wire.FIXED32 if number == _DATA else wire.FIXED64):
        # Unpacked: every value has its own tag. The run is read at once; one value at a time would
        # take minutes for a large file.
        file.seek(start)
        record = np.dtype([("tag", "u1"), ("value", dtype)])
        raw = np.frombuffer(file.read((end - start) // record.itemsize * record.itemsize), record)
        other = np.flatnonzero(raw["tag"] != (number << 3 | kind))
        run = raw[: other[0]] if other.size else raw
        values = run["value"].copy()
        file.seek(start + run.nbytes)
    else:
        raise FormatError(f"data of wire type {kind}, expected floats")
    return values.astype(np.float32, copy=False)


def caffemodel_chunks(net: Net, current: bool = False) -> Iterator[bytes | memoryview]:
    """A caffemodel's bytes piece by piece, the weights as views of the net's own arrays.

    V1 in the authors' dialect with legacy dims, or the current format with a BlobShape. Raises
    WeightsError where a layer has no weights.
    """
    message = net_to_message(net, current)
    layers = list(message.layer if current else message.layers)
    message.ClearField("layer" if current else "layers")
    message.ClearField("input_shape" if current else "input_dim")  # as Caffe's own snapshots
    yield message.SerializeToString()
    number, blob_number = (_CURRENT_LAYER, 7) if current else (_V1_LAYER, 6)
    by_name = {layer.name: layer for layer in net.layers}
    for out in layers:
        pieces = [out.SerializeToString()]
        for blob in by_name[out.name].blobs if out.name in by_name else []:
            if blob.data is None:
                raise WeightsError(f"layer '{out.name}' has no weights, expected them loaded")
            data = np.ascontiguousarray(blob.data, "<f4")
            head = _shape_bytes(blob.shape, current) + wire.prefix(_DATA, data.nbytes)
            pieces += [wire.prefix(blob_number, len(head) + data.nbytes), head, data.data.cast("B")]
        yield wire.prefix(number, sum(map(len, pieces)))
        yield from pieces


def _shape_bytes(shape: Shape, current: bool) -> bytes:
    if current:
        blob: Any = bvlc_pb2.BlobProto()
        blob.shape.dim.extend(shape)
    else:
        num, channels, height, width = legacy_dims(shape)
        blob = deeplab_pb2.BlobProto(num=num, channels=channels, height=height, width=width)
    return blob.SerializeToString()


def legacy_dims(shape: Shape) -> Shape:
    """The four dims that Caffe once kept of every blob: ones in front of the shape."""
    return (1,) * (4 - len(shape)) + tuple(shape)


def write_caffemodel(net: Net, path: str | Path, current: bool = False) -> None:
    """Write a net's weights as a caffemodel, in the authors' V1 format or the current one."""
    with write_atomically(path) as file:
        file.writelines(caffemodel_chunks(net, current))
