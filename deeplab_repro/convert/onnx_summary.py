"""Reads what is in an ONNX file, one of ours above all: names, shapes and metadata."""

import math
from dataclasses import dataclass, field
from os import PathLike
from typing import Any

from google.protobuf.message import DecodeError

from deeplab_repro.convert import onnx_model_pb2 as pb
from deeplab_repro.convert.onnx_graph import Axes
from deeplab_repro.errors import FormatError, one_line
from deeplab_repro.files.whole import open_to_read
from deeplab_repro.machine.memory import require_memory

_MOST_VALUES = 2**63  # of an array; its sizes are written as numbers of so many bits


@dataclass(frozen=True)
class OnnxValue:
    """An input or an output: its type, and its axes, by number or by name; None: any."""

    name: str
    type: str
    axes: Axes | None


@dataclass(frozen=True)
class OnnxNode:
    """A node. weights: the shapes of those inputs that the file holds; `inputs` are the others."""

    name: str
    type: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any]
    weights: list[tuple[int, ...]]
    parameters: int


@dataclass(frozen=True)
class OnnxSummary:
    """What an ONNX file holds. parameters: how many numbers there are in its float arrays."""

    name: str
    producer: str
    opset: int
    inputs: list[OnnxValue]
    outputs: list[OnnxValue]
    parameters: int
    metadata: dict[str, str] = field(default_factory=dict)
    nodes: list[OnnxNode] = field(default_factory=list)


def read_onnx_summary(path: str | PathLike[str]) -> OnnxSummary:
    """Read what is in an ONNX file.

    Raises FileError, FormatError for a file that is not ONNX, and ResourceError where it is larger
    than the free memory.
    """
    name = one_line(path)
    with open_to_read(path) as (file, size):
        require_memory(2 * size, name, "check that it is the right file")
        content = file.read()
    model: Any = pb.ModelProto()
    try:
        model.ParseFromString(content)
    except DecodeError:
        raise FormatError(f"{name}: is broken or no ONNX file, expected one") from None
    graph = model.graph
    if not (model.ir_version and graph.node):
        raise FormatError(f"{name}: has no nodes, expected an ONNX file")
    arrays = {array.name: array for array in graph.initializer}
    for array in arrays.values():
        if min(array.dims, default=0) < 0 or math.prod(array.dims) > _MOST_VALUES:
            raise FormatError(f"{name}: is broken: an array has impossible sizes")
    nodes = [_node(node, arrays) for node in graph.node]
    return OnnxSummary(
        name=_plain(graph.name),
        producer=" ".join(filter(None, map(_plain, (model.producer_name, model.producer_version)))),
        opset=max((each.version for each in model.opset_import if not each.domain), default=0),
        inputs=[_value(each) for each in graph.input if each.name not in arrays],
        outputs=[_value(each) for each in graph.output],
        parameters=sum(map(_floats, arrays.values())),
        metadata={_plain(each.key): _plain(each.value) for each in model.metadata_props},
        nodes=nodes,
    )


def _value(value: Any) -> OnnxValue:
    tensor = value.type.tensor_type
    axes = tuple(
        axis.dim_value if axis.HasField("dim_value") else _plain(axis.dim_param)
        for axis in tensor.shape.dim
    )
    return OnnxValue(
        _plain(value.name), _type(tensor.elem_type), axes if tensor.HasField("shape") else None
    )


def _type(number: int) -> str:
    known = {pb.TensorProto.FLOAT: "float32", pb.TensorProto.FLOAT16: "float16"}
    known |= {pb.TensorProto.UINT8: "uint8", pb.TensorProto.INT64: "int64"}
    return known.get(number, f"ONNX's type {number}")


def _node(node: Any, arrays: dict[str, Any]) -> OnnxNode:
    own = [arrays[name] for name in node.input if name in arrays]
    return OnnxNode(
        name=_plain(node.name),
        type=_plain(node.op_type),
        inputs=[_plain(name) for name in node.input if name and name not in arrays],
        outputs=list(map(_plain, node.output)),
        attributes={_plain(each.name): _attribute(each) for each in node.attribute},
        weights=[tuple(array.dims) for array in own],
        parameters=sum(map(_floats, own)),
    )


def _plain(text: str | bytes) -> str:
    """A text; protobuf gives bytes where it is not UTF-8."""
    return text.decode(errors="replace") if isinstance(text, bytes) else text


def _floats(array: Any) -> int:
    floats = pb.TensorProto.FLOAT, pb.TensorProto.FLOAT16
    return math.prod(array.dims) if array.data_type in floats else 0


def _attribute(attribute: Any) -> Any:
    values = {
        attribute.FLOAT: lambda: attribute.f,
        attribute.INT: lambda: attribute.i,
        attribute.STRING: lambda: _plain(attribute.s),
        attribute.FLOATS: lambda: list(attribute.floats),
        attribute.INTS: lambda: list(attribute.ints),
    }
    value = values.get(attribute.type)
    return value() if value else None
