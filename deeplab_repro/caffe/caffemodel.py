"""Reads and writes caffemodels, the binary files with a net's weights, of both dialects."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from deeplab_repro.arrays import in_brief
from deeplab_repro.caffe import bvlc_pb2, deeplab_pb2, wire
from deeplab_repro.caffe.blobs import blob_pieces, read_blob
from deeplab_repro.caffe.clashes import binary_layer, settle_binary
from deeplab_repro.caffe.messages import net_to_message
from deeplab_repro.caffe.names import is_plain_name, shown
from deeplab_repro.caffe.structure import dialect_of, layer_type
from deeplab_repro.caffe.wire import Field, Reader, read_binary
from deeplab_repro.errors import FormatError
from deeplab_repro.files.whole import write_atomically
from deeplab_repro.net.layers import Convolution
from deeplab_repro.net.net import Net

_NAME, _V1_LAYER, _CURRENT_LAYER = 1, 2, 100  # of NetParameter
# The longest known nets have a thousand layers of up to three blobs. The limits bound the time and
# the memory that a broken file takes.
_MOST_LAYERS = 5_000
_MOST_BLOBS = 64  # of a layer


@dataclass(eq=False)
class ModelLayer:
    """A layer of a caffemodel: its message without the blobs, and the blobs as float32 arrays.

    A blob's shape is as the file has it: the four legacy dims, or BlobShape's.
    """

    message: Any  # LayerParameter of the file's dialect
    blobs: list[np.ndarray]

    __repr__ = in_brief

    @property
    def name(self) -> str:
        """The layer's name, by which weights are matched."""
        return self.message.name

    @property
    def type(self) -> str:
        """The layer's type as its dialect spells it."""
        return layer_type(self.message)


@dataclass(eq=False)
class Caffemodel:
    """The contents of a caffemodel, layers in the file's order."""

    name: str
    dialect: str
    layers: list[ModelLayer]

    __repr__ = in_brief

    @property
    def training_list(self) -> str | None:
        """The list that a snapshot's data layer read, "train_aug" for voc12/list/train_aug.txt.

        None where the file does not say.
        """
        for layer in self.layers:
            source = layer.message.image_data_param.source
            # Protobuf gives text that is not UTF-8 as bytes.
            if isinstance(source, str) and source and is_plain_name(source):
                return PurePosixPath(source).stem
        return None


def read_caffemodel(path: str | Path, weights: bool = True) -> Caffemodel:
    """Read a caffemodel of either dialect; without its weights on request, which is quick.

    The weights go from the file straight into their arrays, so that reading takes little more time
    than the file's bytes, and no more memory than its floats. Raises FileError, FormatError where
    the file is cut off, broken or something else, and ResourceError where it is larger than the
    free memory.
    """
    return read_binary(path, "a caffemodel", partial(_read_net, weights=weights))


def _read_net(reader: Reader, size: int, weights: bool) -> Caffemodel:
    name = ""
    layers: list[ModelLayer] = []
    for field in reader.fields(0, size):
        if field.kind == wire.BYTES and field.number in (_V1_LAYER, _CURRENT_LAYER):
            if len(layers) == _MOST_LAYERS:
                raise FormatError(f"broken: more than {_MOST_LAYERS} layers, too many for a net")
            layers.append(_read_layer(reader, field, weights))
        elif field.number == _NAME and field.kind == wire.VARINT:
            raise FormatError(
                "this is a .solverstate, a .binaryproto or an ONNX file, expected a caffemodel: "
                "give the file that lies beside it"
            )
        elif field.number == _NAME:
            # Of a name that is given twice the last one counts, as in protobuf.
            net = deeplab_pb2.NetParameter()  # its name has the same number in both dialects
            name = _parsed(net, reader.description(field)).name
    if not layers:
        raise FormatError("no layers in it, expected a caffemodel")
    if len({type(layer.message) for layer in layers}) > 1:
        raise FormatError("layers of V1 and of the current format, expected one of them")
    return Caffemodel(name, dialect_of([layer.message for layer in layers]), layers)


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


def _read_layer(reader: Reader, field: Field, weights: bool) -> ModelLayer:
    schema: Any = deeplab_pb2 if field.number == _V1_LAYER else bvlc_pb2
    numbers = schema.LayerParameter.DESCRIPTOR.fields_by_name
    blob_number, *essential = (numbers[name].number for name in ("blobs", "name", "type"))
    description, essence = bytearray(), bytearray()
    blobs: list[Field] = []
    for inner in reader.fields(field.begin, field.end):
        if inner.number == blob_number and inner.kind == wire.BYTES:
            if len(blobs) == _MOST_BLOBS:
                raise FormatError(
                    f"broken: the layer at byte {field.start} has more than {_MOST_BLOBS} blobs"
                )
            blobs.append(inner)
        else:
            piece = reader.description(inner)
            description += piece
            if inner.number in essential:
                essence += piece
    try:
        schema.LayerParameter.FromString(bytes(description))
    except DecodeError:
        # A fork's, where our numbers mean other things: its weights are matched by name alone.
        description = essence or description
    layer = ModelLayer(_parsed(schema.LayerParameter(), bytes(description)), [])
    if field.number == _V1_LAYER and layer.message.HasField("layer"):
        raise FormatError(
            "a caffemodel in the V0 format of 2013, expected V1 or later: upgrade it with Caffe's "
            "upgrade_net_proto_binary"
        )
    if field.number == _V1_LAYER:
        settle_binary(layer.message, has_weights=bool(blobs))
    for blob in blobs if weights else ():
        try:
            layer.blobs.append(read_blob(reader, blob))
        except FormatError as error:
            raise FormatError(f"layer '{layer.name}', blob at byte {blob.start}: {error}") from None
    reader.file.seek(field.end)
    return layer


def caffemodel_chunks(
    net: Net, current: bool = False, hollow: bool = False
) -> Iterator[bytes | memoryview]:
    """A caffemodel's bytes piece by piece, the weights as views of the net's own arrays.

    V1 in the authors' dialect with legacy dims, or the current format with a BlobShape. hollow: put
    a single zero in place of each array of a convolution, for a reader that gets these in another
    way. Raises WeightsError where a layer has no weights.
    """
    message = net_to_message(net, current)
    everything = message.layer if current else message.layers
    # A data layer goes in front, and in the current format every input is a layer there too.
    first = len(everything) - len(net.layers)
    layers = everything[first:]
    del everything[first:]
    message.ClearField("input_dim")  # as Caffe's own snapshots
    yield message.SerializeToString()
    number, blob_number = (_CURRENT_LAYER, 7) if current else (_V1_LAYER, 6)
    for out, layer in zip(layers, net.layers, strict=True):
        pieces = [out.SerializeToString() if current else binary_layer(out)]
        for data in layer.weights().values():
            if hollow and isinstance(layer.op, Convolution):
                data = np.zeros((1,) * data.ndim, "<f4")
            pieces += blob_pieces(blob_number, data, current)
        yield wire.prefix(number, sum(map(len, pieces)))
        yield from pieces


def write_caffemodel(
    net: Net, path: str | Path, current: bool = False, marked: bool = False
) -> None:
    """Write a net's weights as a caffemodel, in the authors' V1 format or the current one.

    marked: as this tool's own, which it may replace (`marks.made_here`), in a field that readers
    skip. Snapshots go without: they took long to make.

    Raises WeightsError where a layer has no weights, NetError for a layer that V1 lacks, and
    FileError.
    """
    with write_atomically(path) as file:
        file.writelines(caffemodel_chunks(net, current))
        if marked:
            file.write(wire.made_by())
