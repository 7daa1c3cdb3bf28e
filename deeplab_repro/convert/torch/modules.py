"""The module of PyTorch that holds a layer's weights, or has its settings.

A rule of MODULES makes a layer's module, None where its settings need none.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from deeplab_repro.arrays import HW, Shape, dims
from deeplab_repro.convert.torch.code import Call, number, tuple_of
from deeplab_repro.errors import NetError
from deeplab_repro.net.channel_layers import BN, BatchNorm, PReLU, Scale
from deeplab_repro.net.layers import Convolution, Deconvolution, Dropout, InnerProduct, Pooling
from deeplab_repro.net.net import Layer

VARYING = ("channels", "out", "stride", "dilation", "padding")
"""The arguments that may differ between the blocks that one method makes.

A padding that is the dilation everywhere goes by that name.
"""


@dataclass(frozen=True)
class Argument:
    """An argument of a module: its keyword, and what it is where it may be left out.

    A value that is a text is code. Without a default it is always given, by its place.
    """

    name: str
    value: int | float | HW | str
    default: int | float | None = None


@dataclass(frozen=True)
class Module:
    """How a layer's module is made, as `nn.Conv2d(3, 64, 3)`."""

    kind: str
    arguments: tuple[Argument, ...]

    def call(self, values: Sequence[str] | None = None) -> Call:
        """The call that makes it, with other texts for its arguments' values if they are given."""
        texts = values or [text_of(argument.value) for argument in self.arguments]
        shown = []
        for argument, text in zip(self.arguments, texts, strict=True):
            if argument.default is None:
                shown.append(text)
            elif text != text_of(argument.default):
                shown.append(f"{argument.name}={text}")
        return Call(self.kind, tuple(shown))


@dataclass(frozen=True)
class Place:
    """A layer, the shapes of its bottoms and tops, and its module as the code calls it."""

    layer: Layer
    bottoms: Sequence[Shape]
    tops: Sequence[Shape]
    module: str = ""

    def refuse(self, what: str) -> NetError:
        """The error for a layer that is not written."""
        return NetError(
            f"layer '{self.layer.name}' ({self.layer.type}) has {what}: convert it to ONNX"
        )


def text_of(value: int | float | HW | str) -> str:
    """An argument's value as code."""
    if isinstance(value, str):
        return value
    return number(value) if isinstance(value, int | float) else tuple_of(map(str, value))


def _pair(pair: HW) -> int | HW:
    return pair[0] if pair[0] == pair[1] else pair


def _convolution(place: Place, op: Convolution | Deconvolution) -> Module:
    is_forward = isinstance(op, Convolution)
    arguments = (
        Argument("channels", place.bottoms[0][1]),
        Argument("out", op.num_output),
        Argument("kernel_size", _pair(op.kernel)),
        Argument("stride", _pair(op.stride), 1),
        Argument("padding", _pair(op.pad), 0),
        Argument("dilation", _pair(op.hole) if isinstance(op, Convolution) else 1, 1),
        Argument("groups", op.group, 1),
        Argument("bias", op.bias, True),
    )
    return Module("nn.Conv2d" if is_forward else "nn.ConvTranspose2d", arguments)


def _inner_product(place: Place, op: InnerProduct) -> Module:
    (weight, *_) = op.blob_shapes(place.bottoms)
    arguments = (Argument("channels", weight[1]), Argument("out", op.num_output))
    return Module("nn.Linear", (*arguments, Argument("bias", op.bias, True)))


def _pool(place: Place, op: Pooling) -> Module | None:
    """Sizes and divisors are Caffe's with ceil_mode, which leaves out windows outside the image."""
    if op.kernel == (0, 0):
        return None
    if not any(op.pad) and any(s > k for s, k in zip(op.stride, op.kernel, strict=True)):
        raise place.refuse(f"stride {dims(op.stride)}, over its kernel of {dims(op.kernel)}")
    if any(2 * p > k for p, k in zip(op.pad, op.kernel, strict=True)):
        raise place.refuse(f"pad {dims(op.pad)}, over half its kernel of {dims(op.kernel)}")
    arguments = (
        Argument("kernel_size", _pair(op.kernel)),
        Argument("stride", _pair(op.stride), -1),  # by default it is the kernel
        Argument("padding", _pair(op.pad), 0),
        Argument("ceil_mode", True, False),
    )
    return Module({"MAX": "nn.MaxPool2d", "AVE": "nn.AvgPool2d"}[op.method], arguments)


def _dropout(_: Place, op: Dropout) -> Module:
    return Module("nn.Dropout", (Argument("p", op.ratio),))


def _norm(place: Place, op: BatchNorm | BN) -> Module:
    if len(place.bottoms[0]) < 2:
        raise place.refuse(f"a bottom of {dims(place.bottoms[0])}, expected 2 axes or more")
    arguments = (Argument("channels", place.bottoms[0][1]), Argument("eps", op.eps, 1e-5))
    return Module(type(op).__name__, arguments)


def _scale_module(place: Place, op: Scale) -> Module | None:
    if is_of_channels(place, op):
        return Module("Scale", (Argument("channels", place.bottoms[0][1]),))
    return _parameters(place)


def is_of_channels(place: Place, op: Scale) -> bool:
    """Whether it is what follows a BatchNorm: a weight and a bias for each channel of an image."""
    is_usual = (op.axis, op.num_axes, op.bias) == (1, 1, True)
    return is_usual and len(place.bottoms) == 1 and len(place.bottoms[0]) == 4


def _parameters(place: Place) -> Module | None:
    """Arrays under their names, for a layer that is no module of PyTorch's."""
    layer = place.layer
    arrays = [
        f'"{name}": torch.ones({", ".join(map(str, blob.shape or (1,)))})'
        for name, blob in zip(layer.blob_names, layer.blobs, strict=False)
    ]
    if not arrays:
        return None
    return Module("nn.ParameterDict", (Argument("", f"{{{', '.join(arrays)}}}"),))


def _prelu(place: Place, op: PReLU) -> Module:
    count = 1 if op.channel_shared else place.bottoms[0][1]
    return Module("nn.PReLU", (Argument("channels", count),))


MODULES: dict[str, Callable[[Place, Any], Module | None]] = {
    "BN": _norm,
    "BatchNorm": _norm,
    "Bias": lambda place, _: _parameters(place),
    "Convolution": _convolution,
    "Deconvolution": _convolution,
    "Dropout": _dropout,
    "InnerProduct": _inner_product,
    "PReLU": _prelu,
    "Pooling": _pool,
    "Scale": _scale_module,
}


def module_of(place: Place) -> Module | None:
    """The module of a layer, None for one that needs none. Raises NetError for other settings."""
    rule = MODULES.get(place.layer.type)
    return rule(place, place.layer.op) if rule else None
