"""Builds an ONNX graph, and gives its bytes.

The schema is our own excerpt of ONNX's (onnx_model.proto). So weights go from the net's arrays to
the file without a copy, and the onnx package is not needed.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from deeplab_repro.caffe import wire
from deeplab_repro.caffe.names import unused_name
from deeplab_repro.convert import onnx_model_pb2 as schema
from deeplab_repro.errors import ArgumentError, NetError
from deeplab_repro.files.marks import MADE_BY
from deeplab_repro.version import __version__

OPSETS = range(13, 29)
"""The versions of ONNX's operators that can be written."""

# Opset 13 came with version 7 of the format.
_IR_VERSION = 7
_GRAPH, _INITIALIZER, _RAW_DATA = 7, 5, 9  # fields of ModelProto, GraphProto and TensorProto
_TYPES = {
    "float16": schema.TensorProto.FLOAT16,
    "float32": schema.TensorProto.FLOAT,
    "uint8": schema.TensorProto.UINT8,
    "int64": schema.TensorProto.INT64,
}
LARGEST_FILE = 2**31 - 1
"""Bytes, protobuf's limit."""

# Of a file of data, which can be mapped into memory by pages of that size. Small arrays stay out.
_PAGE, _LEAST_OUTSIDE = 4096, 1024

Axes = Sequence[int | str]
"""A shape in which an axis that may have any length has a name."""


class Graph:
    """Nodes, constants, inputs and outputs. Each value has its own name."""

    def __init__(self, name: str, opset: int = OPSETS[0], half: bool = False) -> None:
        """half: whether weights are kept as float16. Raises ArgumentError for another opset."""
        if opset not in OPSETS:
            raise ArgumentError(
                f"opset is {opset}, expected a number from {OPSETS[0]} to {OPSETS[-1]}"
            )
        self.opset, self.half = opset, half
        self._graph = schema.GraphProto(name=name)
        self._constants: dict[str, tuple[np.ndarray, np.dtype]] = {}
        self._names_by_place: dict[tuple[Any, ...], str] = {}  # by the array's memory
        self._derived: dict[tuple[Any, ...], str] = {}
        self._names: set[str] = set()
        self._node_names: set[str] = set()

    def name(self, wanted: str) -> str:
        """A name that no other value has: the wanted one, with a number if it is taken."""
        return unused_name(wanted, self._names)

    def input(self, name: str, dtype: str, axes: Axes) -> str:
        """Add an input of the graph. Returns its name."""
        name = self.name(name)
        _describe(self._graph.input.add(name=name), dtype, axes)
        return name

    def output(self, value: str, dtype: str, axes: Axes) -> None:
        """Make a value an output of the graph."""
        _describe(self._graph.output.add(name=value), dtype, axes)

    def constant(self, name: str, data: np.ndarray, dtype: str = "float32") -> str:
        """Add a constant of this type, float16, float32 or int64. Returns its name.

        One array is stored once, also if several layers share it: then under its first name.
        """
        place = _place(data)
        if place not in self._names_by_place:
            self._names_by_place[place] = name = self.name(name)
            self._constants[name] = data, np.dtype(dtype)
        return self._names_by_place[place]

    def halved(self, name: str, data: np.ndarray) -> str:
        """Add a constant that is kept as float16, and cast to float32 when it is loaded."""
        key = ("half", _place(data))
        if key not in self._derived:
            stored = self.constant(f"{name}/half", data, "float16")
            cast = self.node("Cast", [stored], self.name(name), to=_TYPES["float32"])
            self._derived[key] = cast
        return self._derived[key]

    def derived(self, name: str, what: str, sources: Sequence[np.ndarray], data: np.ndarray) -> str:
        """Add a constant that is made of arrays: once for the same ones. Returns its name."""
        key = (what, *map(_place, sources))
        if key not in self._derived:
            self._derived[key] = self.constant(name, data)
        return self._derived[key]

    def node(self, kind: str, inputs: Sequence[str], value: str, **attributes: Any) -> str:
        """Add a node that makes `value`, a name that `name` gave. Returns `value`."""
        node = self._graph.node.add(
            op_type=kind, input=inputs, output=[value], name=unused_name(value, self._node_names)
        )
        for key, setting in attributes.items():
            attribute = node.attribute.add(name=key)
            if isinstance(setting, str):
                attribute.type, attribute.s = attribute.STRING, setting.encode()
            elif isinstance(setting, int):
                attribute.type, attribute.i = attribute.INT, setting
            elif isinstance(setting, float):
                attribute.type, attribute.f = attribute.FLOAT, setting
            else:
                attribute.type = attribute.INTS
                attribute.ints.extend(setting)
        return value

    def chunks(
        self, metadata: Mapping[str, str], data_file: str | None = None
    ) -> Iterator[bytes | memoryview]:
        """The model's bytes piece by piece, the constants as views of their arrays if possible.

        data_file: the name of a file beside it that holds the large constants: see `data_chunks`.

        Raises NetError for a net that is too large for the format.
        """
        model = schema.ModelProto(
            ir_version=_IR_VERSION, producer_name="deeplab-repro", producer_version=__version__
        )
        model.opset_import.add(domain="", version=self.opset)
        for key, text in metadata.items():
            model.metadata_props.add(key=key, value=text)
        nodes, heads = self._graph.SerializeToString(), []
        size = len(nodes)
        outside = self._outside() if data_file else {}
        for name, (data, dtype) in self._constants.items():
            n_bytes = data.size * dtype.itemsize
            head = schema.TensorProto(name=name, dims=data.shape, data_type=_TYPES[dtype.name])
            if name in outside:
                head.data_location = head.EXTERNAL
                place = {"location": data_file, "offset": outside[name], "length": n_bytes}
                for key, value in place.items():
                    head.external_data.add(key=key, value=str(value))
                start, n_bytes = head.SerializeToString(), 0
            else:
                start = head.SerializeToString() + wire.prefix(_RAW_DATA, n_bytes)
            heads.append(wire.prefix(_INITIALIZER, len(start) + n_bytes) + start)
            size += len(heads[-1]) + n_bytes
        if size > LARGEST_FILE - (1 << 20):  # what stands before the graph is far less
            raise NetError(
                f"net '{self._graph.name}' has {size / 1e9:.1f} GB of weights, expected less than "
                "2 GB, the limit of an ONNX file: write a file of data beside it, as convert does"
            )
        yield model.SerializeToString()
        yield wire.prefix(_GRAPH, size)
        yield nodes
        for head, name in zip(heads, self._constants, strict=True):
            yield head
            if name not in outside:
                yield self._raw(name)

    def data_chunks(self) -> Iterator[bytes | memoryview]:
        """The bytes of the file of data piece by piece: a page with our mark, the constants."""
        yield f"{MADE_BY}: values of an ONNX file\n".encode().ljust(_PAGE)
        for name in self._outside():
            raw = self._raw(name)
            yield raw
            yield bytes(-len(raw) % _PAGE)

    def _outside(self) -> dict[str, int]:
        """Where each of the large constants begins in a file of data."""
        places, end = {}, _PAGE
        for name, (data, dtype) in self._constants.items():
            n_bytes = data.size * dtype.itemsize
            if n_bytes >= _LEAST_OUTSIDE:
                places[name], end = end, end + n_bytes + -n_bytes % _PAGE
        return places

    def _raw(self, name: str) -> memoryview:
        data, dtype = self._constants[name]
        return np.ascontiguousarray(data, dtype).reshape(-1).view(np.uint8).data


def _place(data: np.ndarray) -> tuple[Any, ...]:
    """What tells an array in memory from all others."""
    return data.ctypes.data, data.shape, data.strides


def _describe(value: Any, dtype: str, axes: Axes) -> None:
    tensor = value.type.tensor_type
    tensor.elem_type = _TYPES[dtype]
    for axis in axes:
        if isinstance(axis, str):
            tensor.shape.dim.add(dim_param=axis)
        else:
            tensor.shape.dim.add(dim_value=axis)
