"""A layer's place in an ONNX graph, for what writes its nodes there."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from deeplab_repro.arrays import Shape
from deeplab_repro.convert.half import as_half, is_halved
from deeplab_repro.convert.onnx_graph import Graph
from deeplab_repro.net.net import Layer


class Place(NamedTuple):
    """A layer's place in a graph: its inputs' names, and the names of the values that it makes.

    any_size: whether the graph takes images of any size; else all shapes are as they are here.
    """

    graph: Graph
    layer: Layer
    inputs: list[str]
    bottoms: Sequence[Shape]
    tops: Sequence[Shape]
    values: Sequence[str]
    any_size: bool

    @property
    def top(self) -> Shape:
        """The shape of the first value, which is the only one of all layers but a Slice."""
        return self.tops[0]

    @property
    def value(self) -> str:
        """The name of the first value."""
        return self.values[0]

    def node(self, kind: str, inputs: Sequence[str], **attributes: Any) -> None:
        """Add the node that makes the layer's value."""
        self.graph.node(kind, inputs, self.value, **attributes)

    def step(self, kind: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Add a node before that one. Returns the name of its value."""
        return self.graph.node(kind, inputs, self.graph.name(f"{self.value}/{kind}"), **attributes)

    def constant(self, *values: float) -> str:
        """Add a constant: int64 if all values are integers, else float32. Returns its name."""
        dtype = "int64" if all(isinstance(value, int) for value in values) else "float32"
        return self.graph.constant(f"{self.value}/constant", np.array(values), dtype)

    def weights(self) -> list[str]:
        """Add the layer's arrays as constants. Returns their names."""
        return [self.array(what, data) for what, data in self.layer.weights().items()]

    def array(self, what: str, data: np.ndarray) -> str:
        """Add one of the layer's arrays, or what is made of it, as a constant. Returns its name.

        Raises WeightsError where it is kept as float16, and does not fit.
        """
        name = f"{self.layer.name}/{what}"
        if not (self.graph.half and is_halved(what)):
            return self.graph.constant(name, data)
        as_half(self.layer, what, data)
        return self.graph.halved(name, data)
