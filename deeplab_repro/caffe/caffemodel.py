"""Caffemodels, the binary format of both dialects, read and written."""

import codecs
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from deeplab_repro.caffe import bvlc_pb2, deeplab_pb2, wire
from deeplab_repro.caffe.names import is_plain_name, shown
from deeplab_repro.caffe.structure import dialect_of, layer_type, net_to_message
from deeplab_repro.caffe.wire import Field, Reader
from deeplab_repro.errors import FormatError, WeightsError
from deeplab_repro.files import display_name, open_to_read, require_memory, write_atomically
from deeplab_repro.layers import Convolution, Shape, dims
from deeplab_repro.net import Net

_NAME, _V1_LAYER, _CURRENT_LAYER = 1, 2, 100  # of NetParameter
_MOST_AXES = 32
_LONGEST_DIM = 2**31 - 1
_MOST_DESCRIPTION = 1 << 24  # bytes of a layer without its blobs
# BlobProto
_LEGACY_DIMS = (1, 2, 3, 4)
_DATA, _DIFF, _SHAPE, _DOUBLE_DATA, _DOUBLE_DIFF = 5, 6, 7, 8, 9
_FLOATS = {_DATA: "<f4", _DIFF: "<f4", _DOUBLE_DATA: "<f8", _DOUBLE_DIFF: "<f8"}

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
    blobs: list[np.ndarray]

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
    than the file's bytes, and no more memory than its floats. Raises FileError, FormatError where
    the file is cut off, broken or something else, and ResourceError where it is larger than the
    free memory.
    """
    name = display_name(path)
    try:
        with open_to_read(path) as (file, size):
            _refuse_other_formats(file.read(512))
            require_memory(size, name, "check that it is the right file")
            return _read_net(Reader(file), size)
    except FormatError as error:
        raise FormatError(f"{name}: {error}") from None


def _refuse_other_formats(head: bytes) -> None:
    for magic, kind in _OTHER_FORMATS.items():
        if head.startswith(magic):
            raise FormatError(f"this is {kind}, expected a caffemodel")
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(head)
    except UnicodeDecodeError:
        return
    # A caffemodel has control characters in its first bytes: the tags and lengths of its fields.
    if any(char < " " and char not in "\t\n\v\f\r" for char in text):
        return
    if text.lstrip().lower().startswith(("<!doctype", "<html")):
        raise FormatError("this is a web page, expected a caffemodel: download it again")
    raise FormatError(
        "this is a text file, expected a caffemodel (binary); "
        "is it the prototxt in the wrong place?"
    )


def _read_net(reader: Reader, size: int) -> Caffemodel:
    name = ""
    layers = []
    for field in reader.fields(0, size):
        if field.kind == wire.BYTES and field.number in (_V1_LAYER, _CURRENT_LAYER):
            layers.append(_read_layer(reader, field))
        elif field.number == _NAME and field.kind == wire.VARINT:
            raise FormatError(
                "this is a .solverstate or a .binaryproto, expected a caffemodel: give the file "
                "that lies beside it"
            )
        elif field.number == _NAME:
            # Parsed by itself: of a name that is given twice the last one counts, as anywhere.
            net = deeplab_pb2.NetParameter()  # its name has the same number in both dialects
            name = _parsed(net, _description(reader, field)).name
    if not layers:
        raise FormatError("no layers in it, expected a caffemodel")
    if len({type(layer.message) for layer in layers}) > 1:
        raise FormatError("layers of V1 and of the current format, expected one of them")
    return Caffemodel(name, dialect_of([layer.message for layer in layers]), layers)


def _description(reader: Reader, field: Field, already: int = 0) -> bytes:
    """A field with its tag, as bytes, for protobuf's own parser."""
    if field.end - field.start + already > _MOST_DESCRIPTION:
        raise FormatError(
            f"broken: field {field.number} at byte {field.start} is too long for a description"
        )
    return reader.between(field.start, field.end)


def _parsed(message: Any, data: bytes) -> Any:
    """The message of these bytes, its name and type checked to be plain text."""
    try:
        message.ParseFromString(data)
        names = [message.name, layer_type(message) if hasattr(message, "type") else ""]
    except (DecodeError, UnicodeDecodeError):
        raise FormatError("broken: a layer's description does not parse") from None
    for name in names:
        # Protobuf gives text that is not UTF-8 as bytes.
        if isinstance(name, bytes) or not is_plain_name(name):
            raise FormatError(f"broken: a layer or net is named {shown(str(name))}")
    return message


def _read_layer(reader: Reader, field: Field) -> ModelLayer:
    schema, blob_number = (
        (deeplab_pb2.LayerParameter, 6)
        if field.number == _V1_LAYER
        else (bvlc_pb2.LayerParameter, 7)
    )
    description = bytearray()
    blobs = []
    for inner in reader.fields(field.begin, field.end):
        if inner.number == blob_number and inner.kind == wire.BYTES:
            blobs.append(inner)
        else:
            description += _description(reader, inner, len(description))
    layer = ModelLayer(_parsed(schema(), bytes(description)), [])
    if field.number == _V1_LAYER and layer.message.HasField("layer"):
        raise FormatError(
            "a caffemodel in the V0 format of 2013, expected V1 or later: upgrade it with Caffe's "
            "upgrade_net_proto_binary"
        )
    for blob in blobs:
        try:
            layer.blobs.append(_read_blob(reader, blob))
        except FormatError as error:
            raise FormatError(f"layer '{layer.name}', blob at byte {blob.start}: {error}") from None
    reader.file.seek(field.end)
    return layer


def _read_blob(reader: Reader, blob: Field) -> np.ndarray:
    legacy: dict[int, int] = {}
    shape: list[int] = []
    has_shape = False
    parts: dict[int, list[np.ndarray]] = {number: [] for number in _FLOATS}
    for field in reader.fields(blob.begin, blob.end):
        if field.number in _LEGACY_DIMS and field.kind == wire.VARINT:
            legacy[field.number] = _signed(field.value, 32)
        elif field.number == _SHAPE and field.kind == wire.BYTES:
            shape += _read_shape(reader, field)
            has_shape = True
        elif field.number in _FLOATS and field.kind == wire.BYTES:
            if field.number in (_DATA, _DOUBLE_DATA):
                parts[field.number].append(_read_packed(reader, field))
        elif field.number in _FLOATS:
            parts[field.number].append(_read_unpacked(reader, field, blob.end))
    # As Caffe does: doubles go before floats, and legacy dims before a BlobShape.
    chunks = parts[_DOUBLE_DATA] or parts[_DATA]
    data = chunks[0] if len(chunks) == 1 else np.concatenate([np.empty(0, np.float32), *chunks])
    if legacy or not has_shape:
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
    except ValueError:  # no values, but axes that NumPy finds too long all the same
        raise FormatError(f"shape {dims(shape)}, expected one with values") from None


def _signed(value: int, bits: int) -> int:
    """A varint as the signed integer of that many bits that it stands for."""
    value &= (1 << bits) - 1
    return value - (value >> (bits - 1) << bits)


def _read_shape(reader: Reader, field: Field) -> list[int]:
    shape: list[int] = []
    for dim in reader.fields(field.begin, field.end):
        if dim.number != 1:
            continue
        if dim.kind == wire.VARINT:
            shape.append(_signed(dim.value, 64))
        while dim.kind == wire.BYTES and reader.file.tell() < dim.end:
            shape.append(_signed(reader.varint(dim.end), 64))
            if len(shape) > _MOST_AXES:
                break
        if len(shape) > _MOST_AXES:
            raise FormatError(f"more than {_MOST_AXES} axes")
    return shape


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
    """The value of one unpacked field and of those of the same tag behind it, as float32.

    Every value has its own tag, but the run is read in large pieces; one value at a time would take
    minutes for a large file.
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
        most = min(2 * most, 1 << 20)  # small at first, since most runs of a broken file are short
    reader.file.seek(at)
    return _as_float32(np.concatenate(pieces))


def _as_float32(values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # a double that is too large becomes inf, as in Caffe
        return values.astype(np.float32, copy=False)


def caffemodel_chunks(
    net: Net, current: bool = False, hollow: bool = False
) -> Iterator[bytes | memoryview]:
    """A caffemodel's bytes piece by piece, the weights as views of the net's own arrays.

    V1 in the authors' dialect with legacy dims, or the current format with a BlobShape. `hollow`
    puts a single zero in place of each of a convolution's arrays, for a reader that is given these
    in another way. Raises WeightsError where a layer has no weights.
    """
    message = net_to_message(net, current)
    everything = message.layer if current else message.layers
    # The current format has the input as a layer of its own, in front.
    layers = everything[1:] if current else list(everything)
    del everything[len(everything) - len(layers) :]
    message.ClearField("input_dim")  # as Caffe's own snapshots
    yield message.SerializeToString()
    number, blob_number = (_CURRENT_LAYER, 7) if current else (_V1_LAYER, 6)
    for out, layer in zip(layers, net.layers, strict=True):
        pieces = [out.SerializeToString()]
        for blob in layer.blobs:
            if blob.data is None:
                raise WeightsError(f"layer '{out.name}' has no weights, expected them loaded")
            data = np.ascontiguousarray(blob.data, "<f4")
            if hollow and isinstance(layer.op, Convolution):
                data = np.zeros((1,) * data.ndim, "<f4")
            head = _shape_bytes(data.shape, current) + wire.prefix(_DATA, data.nbytes)
            values = data.reshape(-1).view(np.uint8).data
            pieces += [wire.prefix(blob_number, len(head) + data.nbytes), head, values]
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
