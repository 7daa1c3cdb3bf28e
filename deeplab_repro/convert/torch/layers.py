"""What each layer type is in PyTorch: the call, or the sum, that makes its top.

A rule of EXPRESSIONS writes what a layer makes of its bottoms, which are given as names of
variables. A layer without a rule calls its module.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

from deeplab_repro.convert.torch.code import Call, Chain, Expression, number, tuple_of
from deeplab_repro.convert.torch.modules import (
    MODULES,
    Place,
    is_of_channels,
    module_of,
    text_of,
)
from deeplab_repro.errors import NetError
from deeplab_repro.net.channel_layers import (
    ELU,
    LRN,
    Bias,
    Exp,
    Log,
    Power,
    Scale,
    log_of_base,
)
from deeplab_repro.net.layers import (
    Concat,
    Convolution,
    Deconvolution,
    Eltwise,
    InnerProduct,
    Interp,
    Padding,
    Pooling,
    ReLU,
    axis_of,
)
from deeplab_repro.net.shape_layers import ArgMax, Crop, Flatten, Reshape, Slice, Tile

WRAPPING = frozenset(
    ("BN", "BatchNorm", "Dropout", "ELU", "Interp", "PReLU", "ReLU", "Sigmoid", "Softmax", "TanH")
)
"""Types that are a call of their one bottom, which may itself be written there."""


def expression_of(place: Place, operands: Sequence[str]) -> Expression:
    """What a layer makes of its bottoms. Raises NetError for a type that is not written."""
    kind = place.layer.type
    if kind in EXPRESSIONS:
        return EXPRESSIONS[kind](place, place.layer.op, *operands)
    if kind in MODULES:
        return Call(place.module, (operands[0],))
    raise NetError(
        f"layer '{place.layer.name}' has type {kind}, which is not written for PyTorch; these are: "
        f"{', '.join(sorted({*MODULES, *EXPRESSIONS}))}"
    )


def shared_expression(place: Place, operands: Sequence[str]) -> Expression:
    """A convolution with the weights of another layer's module, but other settings.

    Raises NetError for other types.
    """
    op, module = place.layer.op, module_of(place)
    if not isinstance(op, Convolution | Deconvolution) or module is None:
        raise place.refuse("the weights of another layer, but not its settings")
    weights = [f"{place.module}.{name}" for name in ("weight", "bias")[: 1 + op.bias]]
    given = [
        f"{each.name}={text_of(each.value)}"
        for each in module.arguments
        if each.name in ("stride", "padding", "dilation", "groups") and each.value != each.default
    ]
    kind = "conv2d" if isinstance(op, Convolution) else "conv_transpose2d"
    return Call(f"F.{kind}", (operands[0], *weights, *given))


# --- layers of layers.py


def _inner_product(place: Place, _: InnerProduct, data: str) -> Expression:
    return Call(place.module, (data if len(place.bottoms[0]) == 2 else f"{data}.flatten(1)",))


def _pooling(place: Place, op: Pooling, data: str) -> Expression:
    if op.kernel != (0, 0):
        return Call(place.module, (data,))
    return Call(f"{data}.{'amax' if op.method == 'MAX' else 'mean'}", ("(2, 3)", "keepdim=True"))


def _interp(_: Place, op: Interp, data: str) -> Expression:
    if op.pad_beg or op.pad_end:
        data = f"F.pad({data}, {_sides(op.pad_beg, op.pad_end)})"
    if op.height is not None and op.width is not None:
        size = f"size=({op.height}, {op.width})"
        return Call("F.interpolate", (data, size, 'mode="bilinear"', "align_corners=True"))
    shrink = (f"shrink={op.shrink_factor}",) if op.shrink_factor > 1 else ()
    return Call("interp", (data, f"zoom={op.zoom_factor}", *shrink))


def _sides(begin: int, end: int) -> str:
    return tuple_of(map(str, (begin, end, begin, end)))


def _padding(_: Place, op: Padding, data: str) -> Expression:
    return Call("F.pad", (data, _sides(op.pad_beg, op.pad_end)))


def _relu(_: Place, op: ReLU, data: str) -> Expression:
    if op.negative_slope:
        return Call("F.leaky_relu", (data, number(op.negative_slope)))
    return Call("F.relu", (data,))


def _eltwise(_: Place, op: Eltwise, *bottoms: str) -> Expression:
    first, *others = bottoms
    if op.operation == "MAX":
        largest: str | Call = first
        for each in others:
            largest = Call("torch.maximum", (largest, each))
        assert isinstance(largest, Call)  # of one bottom there is no step
        return largest
    if op.operation == "PROD":
        return Chain((first, *(f"* {each}" for each in others)))
    factors = op.coeff or (1,) * len(bottoms)
    terms = [_term(*each) for each in zip(factors, bottoms, strict=True)]
    return Chain((terms[0], *(f"+ {term}" for term in terms[1:])))


def _term(factor: float, operand: str) -> str:
    return operand if factor == 1 else f"{number(factor)} * {operand}"


def _concat(_: Place, op: Concat, *bottoms: str) -> Expression:
    return Call("torch.cat", (tuple_of(bottoms), f"dim={op.axis}"))


# --- layers of channel_layers.py


def _scale(place: Place, op: Scale, data: str, *second: str) -> Expression:
    if is_of_channels(place, op):
        return Call(place.module, (data,))
    product = (data, f"* {_factor(place, op, 'weight', *second)}")
    return Chain((*product, f"+ {_factor(place, op, 'bias')}") if op.bias else product)


def _bias(place: Place, op: Bias, data: str, *second: str) -> Expression:
    return Chain((data, f"+ {_factor(place, op, 'bias', *second)}"))


def _factor(place: Place, op: Scale | Bias, name: str, *second: str) -> str:
    """The second bottom or what is learned, with axes of 1 behind its own to stand at `axis`."""
    if second:
        factor, rank = second[0], len(place.bottoms[1])
    else:
        factor = f'{place.module}["{name}"]'
        rank = len(place.layer.blobs[place.layer.blob_names.index(name)].shape)
    whole = place.bottoms[0]
    behind = len(whole) - axis_of(op.axis, whole) - rank if rank else 0
    return f"{factor}[{', '.join(['...', *['None'] * behind])}]" if behind else factor


def _elu(_: Place, op: ELU, data: str) -> Expression:
    return Call("F.elu", (data, *(() if op.alpha == 1 else (number(op.alpha),))))


def _line(scale: float, shift: float, data: str) -> str:
    """shift + scale * data as code."""
    term = _term(scale, data)
    return term if shift == 0 else f"{number(shift)} + {term}"


def _power(_: Place, op: Power, data: str) -> Expression:
    if op.power == 1:
        return Chain((_line(op.scale, op.shift, data),))
    return Call("torch.pow", (_line(op.scale, op.shift, data), number(op.power)))


def _exp(_: Place, op: Exp, data: str) -> Expression:
    unit = log_of_base(op.base)
    return Call("torch.exp", (_line(unit * op.scale, unit * op.shift, data),))


def _log(_: Place, op: Log, data: str) -> Expression:
    logarithm = f"torch.log({_line(op.scale, op.shift, data)})"
    unit = log_of_base(op.base)
    return Chain((logarithm,) if unit == 1 else (logarithm, f"/ {number(unit)}"))


def _lrn(_: Place, op: LRN, data: str) -> Expression:
    size, alpha, beta = op.local_size, number(op.alpha), number(op.beta)
    if op.norm_region == "ACROSS_CHANNELS":
        k = number(op.k)
        arguments = (data, f"size={size}", f"alpha={alpha}", f"beta={beta}", f"k={k}")
        return Call("F.local_response_norm", arguments)
    squares = f"F.avg_pool2d({data} * {data}, {size}, stride=1, padding={size // 2})"
    return Chain((data, f"/ torch.pow(1 + {alpha} * {squares}, {beta})"))


# --- layers of shape_layers.py


def _crop(place: Place, op: Crop, data: str, like: str) -> Expression:
    begins = op.begins(place.bottoms[0])
    first = axis_of(op.axis, place.bottoms[0])
    pairs = (f"{axis}: {begins[axis]}" for axis in range(first, len(begins)))
    return Call("crop", (data, like, f"{{{', '.join(pairs)}}}"))


def _slice(place: Place, op: Slice, data: str) -> Expression:
    axis = axis_of(op.axis, place.bottoms[0])
    sizes = tuple_of(str(top[axis]) for top in place.tops)
    return Call("torch.split", (data, sizes, f"dim={axis}"))


def _flatten(place: Place, op: Flatten, data: str) -> Expression:
    first, last = (axis_of(axis, place.bottoms[0]) for axis in (op.axis, op.end_axis))
    return Call("torch.flatten", (data, str(first), str(last)))


def _reshape(place: Place, _: Reshape, data: str) -> Expression:
    """The batch may be of another size, where the first axis stays."""
    bottom, top = place.bottoms[0], place.tops[0]
    first = f"len({data})" if top and bottom and top[0] == bottom[0] else ""
    sizes = map(str, top[bool(first) :])
    return Call("torch.reshape", (data, tuple_of([first, *sizes] if first else sizes)))


def _tile(place: Place, op: Tile, data: str) -> Expression:
    repeats = ["1"] * len(place.tops[0])
    repeats[axis_of(op.axis, place.bottoms[0])] = str(op.tiles)
    return Call(f"{data}.repeat", tuple(repeats))


def _argmax(place: Place, op: ArgMax, data: str) -> Expression:
    """Of equal values Caffe takes the last, and PyTorch the first."""
    if op.top_k != 1 or (op.axis is None and op.out_max_val):
        raise place.refuse("top_k above 1, or out_max_val without an axis")
    if op.axis is None:
        last = math.prod(place.bottoms[0][1:]) - 1
        ones = ["1"] * (len(place.tops[0]) - 1)
        places = f"{last}.0 - {data}.flatten(1).flip(1).argmax(1)"
        return Call("torch.reshape", (places, tuple_of([f"len({data})", *ones])))
    axis = axis_of(op.axis, place.bottoms[0])
    if op.out_max_val:
        return Call(f"{data}.amax", (str(axis), "keepdim=True"))
    last = place.bottoms[0][axis] - 1
    return Chain((f"{last}.0", f"- {data}.flip({axis}).argmax({axis}, keepdim=True)"))


def _function(name: str, *further: str) -> Callable[[Place, Any, str], Expression]:
    return lambda _, __, data: Call(name, (data, *further))


EXPRESSIONS: dict[str, Callable[..., Expression]] = {
    "AbsVal": _function("torch.abs"),
    "ArgMax": _argmax,
    "Bias": _bias,
    "Concat": _concat,
    "Crop": _crop,
    "ELU": _elu,
    "Eltwise": _eltwise,
    "Exp": _exp,
    "Flatten": _flatten,
    "InnerProduct": _inner_product,
    "Interp": _interp,
    "LRN": _lrn,
    "Log": _log,
    "Padding": _padding,
    "Pooling": _pooling,
    "Power": _power,
    "ReLU": _relu,
    "Reshape": _reshape,
    "Scale": _scale,
    "Sigmoid": _function("torch.sigmoid"),
    "Slice": _slice,
    "Softmax": _function("torch.softmax", "dim=1"),
    "TanH": _function("torch.tanh"),
    "Tile": _tile,
}
