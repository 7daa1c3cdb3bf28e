"""Reads and writes the parameters of each layer type, in the messages of both dialects.

The dialects' parameters have the same names except in three cases: concat_dim or axis, hole or
dilation, and sizes as scalars or as lists.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from deeplab_repro.arrays import HW
from deeplab_repro.caffe import shape_parameters
from deeplab_repro.caffe.channel_parameters import CHANNEL_READERS, CHANNEL_WRITERS
from deeplab_repro.errors import NetError
from deeplab_repro.net.layers import (
    Concat,
    Convolution,
    Deconvolution,
    Dropout,
    Eltwise,
    InnerProduct,
    Interp,
    LayerType,
    Padding,
    Pooling,
    ReLU,
    Softmax,
    Split,
)
from deeplab_repro.net.net import Layer

# The V1 name of every type that runs, and the current one. DECONVOLUTION is BVLC's alone.
V1_TYPES = {
    "ABSVAL": "AbsVal",
    "ARGMAX": "ArgMax",
    "CONCAT": "Concat",
    "CONVOLUTION": "Convolution",
    "DECONVOLUTION": "Deconvolution",
    "DROPOUT": "Dropout",
    "ELTWISE": "Eltwise",
    "EXP": "Exp",
    "FLATTEN": "Flatten",
    "INNER_PRODUCT": "InnerProduct",
    "INTERP": "Interp",
    "LRN": "LRN",
    "PADDING": "Padding",
    "POOLING": "Pooling",
    "POWER": "Power",
    "RELU": "ReLU",
    "SIGMOID": "Sigmoid",
    "SLICE": "Slice",
    "SOFTMAX": "Softmax",
    "SPLIT": "Split",
    "TANH": "TanH",
}
# A V1 crop names no offset, so it is read (structure.py finds the offset) but not written.
_READ_TYPES = {**V1_TYPES, "CROP": "Crop"}


def runs(kind: str) -> bool:
    """Whether a layer of this type, by its V1 or its current name, can be part of a Net."""
    return _READ_TYPES.get(kind, kind) in _READERS


def do_not_run(
    lacking: Mapping[str, str], doing: str = "run here", those: Iterable[str] = ()
) -> str:
    """The message on types that do not run, each with the name of a layer.

    doing: what they do not do. those: the types that do it; none for those that run.
    """
    named = [f"layer '{name}' has type '{kind}'" for kind, name in lacking.items()]
    more = [f"and {len(named) - 20} more"] if len(named) > 20 else []
    does = "which does" if len(named) == 1 else "which do"
    known = ", ".join(sorted(those or _READERS))
    return f"{', '.join(named[:20] + more)}, {does} not {doing}; these do: {known}"


def read_parameters(message: Any, kind: str) -> LayerType:
    """The layer type of a layer message; NetError, naming layer and field, if it does not run."""
    reader = _READERS.get(_READ_TYPES.get(kind, kind))
    if reader is None:
        raise NetError(do_not_run({kind: message.name}))
    try:
        return reader(message)
    except NetError as error:
        raise NetError(f"layer '{message.name}' ({kind}): {error}") from None


def write_parameters(layer: Layer, message: Any) -> None:
    """Set the parameters of a layer message. Raises NetError for those that its dialect lacks."""
    writer = _WRITERS.get(layer.type)
    if writer:
        try:
            writer(layer.op, message)
        except NetError as error:
            raise NetError(f"layer '{layer.name}' ({layer.type}): {error}") from None


def _pair(parameters: Any, name: str, default: int, least: int = 1) -> HW:
    """(height, width) of `name`, or of `name`_h and `name`_w."""
    stem = name.removesuffix("_size")
    value = getattr(parameters, name)
    if hasattr(value, "append"):
        values = list(value)
    else:
        values = [value] if parameters.HasField(name) else []
    by_axis = {
        axis: getattr(parameters, f"{stem}_{axis}")
        for axis in "hw"
        if f"{stem}_{axis}" in parameters.DESCRIPTOR.fields_by_name
        and parameters.HasField(f"{stem}_{axis}")
    }
    if values and by_axis:
        raise NetError(f"both {name} and {stem}_h or {stem}_w, expected one or the other")
    # A convolution of current Caffe takes one pad alone; the other is 0.
    one_will_do = name == "pad" and hasattr(value, "append")
    if len(by_axis) == 1 and not one_will_do:
        raise NetError(f"only one of {stem}_h and {stem}_w, expected both")
    if len(values) > 2:
        raise NetError(f"{name} has {len(values)} values, expected height and width")
    height, width = (values * 2)[:2] or (default, default)
    if by_axis:
        height, width = (by_axis.get(axis, 0) for axis in "hw")
    elif len(values) == 2:
        height, width = values
    if min(height, width) < least:
        raise NetError(f"{name} is {min(height, width)}, expected at least {least}")
    return height, width


def _set_pair(parameters: Any, name: str, pair: HW, default: int) -> None:
    if pair == (default, default):
        return
    if hasattr(getattr(parameters, name), "append"):
        getattr(parameters, name).extend(pair[:1] if pair[0] == pair[1] else pair)
    elif pair[0] == pair[1]:
        setattr(parameters, name, pair[0])
    else:
        stem = name.removesuffix("_size")
        setattr(parameters, f"{stem}_h", pair[0])
        setattr(parameters, f"{stem}_w", pair[1])


def _count(parameters: Any, name: str) -> int:
    value = getattr(parameters, name)
    if value < 1:
        raise NetError(f"{name} is {value}, expected at least 1")
    return value


def _read_filters(p: Any) -> dict[str, Any]:
    """The parameters that a Convolution and a Deconvolution share."""
    if getattr(p, "axis", 1) != 1:
        raise NetError(f"axis is {p.axis}, which does not run here; expected 1 (the channels)")
    return {
        "num_output": _count(p, "num_output"),
        "kernel": _pair(p, "kernel_size", 0),
        "pad": _pair(p, "pad", 0, least=0),
        "stride": _pair(p, "stride", 1),
        "group": _count(p, "group"),
        "bias": p.bias_term,
    }


def _read_hole(p: Any) -> HW:
    hole = _pair(p, "hole", 1)
    if not p.dilation:
        return hole
    if hole != (1, 1):
        raise NetError("both hole and dilation, expected one or the other")
    return _pair(p, "dilation", 1)


def _read_convolution(message: Any) -> Convolution:
    p = message.convolution_param
    return Convolution(**_read_filters(p), hole=_read_hole(p))


def _read_deconvolution(message: Any) -> Deconvolution:
    p = message.convolution_param
    if _read_hole(p) != (1, 1):
        # OpenCV's importer would run it as one without.
        raise NetError("a dilation, which does not run here; expected 1")
    return Deconvolution(**_read_filters(p))


def _write_filters(op: Convolution | Deconvolution, message: Any) -> None:
    p = message.convolution_param
    p.num_output = op.num_output
    if not op.bias:
        p.bias_term = False
    _set_pair(p, "pad", op.pad, 0)
    _set_pair(p, "kernel_size", op.kernel, 0)
    if op.group > 1:
        p.group = op.group
    _set_pair(p, "stride", op.stride, 1)
    if isinstance(op, Convolution):
        current = "force_nd_im2col" in p.DESCRIPTOR.fields_by_name
        _set_pair(p, "dilation" if current else "hole", op.hole, 1)


def _read_inner_product(message: Any) -> InnerProduct:
    p = message.inner_product_param
    if getattr(p, "axis", 1) != 1 or getattr(p, "transpose", False):
        raise NetError("axis or transpose, which do not run here; expected axis 1, not transposed")
    return InnerProduct(_count(p, "num_output"), p.bias_term)


def _write_inner_product(op: InnerProduct, message: Any) -> None:
    message.inner_product_param.num_output = op.num_output
    if not op.bias:
        message.inner_product_param.bias_term = False


def _read_pooling(message: Any) -> Pooling:
    p = message.pooling_param
    method = p.PoolMethod.Name(p.pool)
    if method == "STOCHASTIC":
        raise NetError("pool is STOCHASTIC, which does not run here; expected MAX or AVE")
    if getattr(p, "round_mode", 0):
        raise NetError("round_mode is FLOOR, which does not run here; expected CEIL")
    if p.global_pooling:
        return Pooling(method, kernel=(0, 0))
    kernel = _pair(p, "kernel_size", 0)
    pad = _pair(p, "pad", 0, least=0)
    if pad[0] >= kernel[0] or pad[1] >= kernel[1]:
        raise NetError(f"pad {max(pad)} with kernel_size {min(kernel)}, expected a smaller pad")
    return Pooling(method, kernel, pad, _pair(p, "stride", 1))


def _write_pooling(op: Pooling, message: Any) -> None:
    p = message.pooling_param
    p.pool = p.PoolMethod.Value(op.method)
    if op.kernel == (0, 0):
        p.global_pooling = True
        return
    _set_pair(p, "kernel_size", op.kernel, 0)
    _set_pair(p, "stride", op.stride, 1)
    _set_pair(p, "pad", op.pad, 0)


def _read_interp(message: Any) -> Interp:
    p = message.interp_param
    names = ("zoom_factor", "shrink_factor", "height", "width")
    given = [name for name in names if p.HasField(name)]
    if not given or (set(given) & {"height", "width"} and given != ["height", "width"]):
        raise NetError(
            f"the size is given by {', '.join(given) or 'nothing'}, expected zoom_factor or "
            "shrink_factor or both, or else height and width"
        )
    for name in ("zoom_factor", "shrink_factor"):
        _count(p, name)
    height = _count(p, "height") if p.HasField("height") else None
    width = _count(p, "width") if p.HasField("width") else None
    if p.pad_beg > 0 or p.pad_end > 0:
        raise NetError(f"pads {p.pad_beg}, {p.pad_end}, expected none above 0 (they crop)")
    return Interp(p.zoom_factor, p.shrink_factor, height, width, p.pad_beg, p.pad_end)


def _write_interp(op: Interp, message: Any) -> None:
    p = message.interp_param
    if op.height is not None and op.width is not None:
        p.height, p.width = op.height, op.width
    else:
        if op.shrink_factor > 1:
            p.shrink_factor = op.shrink_factor
        if op.zoom_factor > 1 or op.shrink_factor == 1:
            p.zoom_factor = op.zoom_factor
    if op.pad_beg or op.pad_end:
        p.pad_beg, p.pad_end = op.pad_beg, op.pad_end


def _read_padding(message: Any) -> Padding:
    p = message.padding_param
    if p.pad_beg * p.pad_end < 0:
        raise NetError(f"pads {p.pad_beg}, {p.pad_end} of opposite signs, expected one sign")
    return Padding(p.pad_beg, p.pad_end)


def _write_padding(op: Padding, message: Any) -> None:
    message.padding_param.pad_beg, message.padding_param.pad_end = op.pad_beg, op.pad_end


def _read_relu(message: Any) -> ReLU:
    return ReLU(message.relu_param.negative_slope)


def _write_relu(op: ReLU, message: Any) -> None:
    if op.negative_slope:
        message.relu_param.negative_slope = op.negative_slope


def _read_dropout(message: Any) -> Dropout:
    return Dropout(message.dropout_param.dropout_ratio)


def _write_dropout(op: Dropout, message: Any) -> None:
    message.dropout_param.dropout_ratio = op.ratio


def _read_eltwise(message: Any) -> Eltwise:
    p = message.eltwise_param
    operation = p.EltwiseOp.Name(p.operation)
    if p.coeff and operation != "SUM":
        raise NetError(f"coeff with operation {operation}, expected them with SUM alone")
    return Eltwise(operation, tuple(p.coeff))


def _write_eltwise(op: Eltwise, message: Any) -> None:
    p = message.eltwise_param
    p.operation = p.EltwiseOp.Value(op.operation)
    p.coeff.extend(op.coeff)


def _read_concat(message: Any) -> Concat:
    p = message.concat_param
    return Concat(p.concat_dim if p.HasField("concat_dim") else getattr(p, "axis", 1))


def _write_concat(op: Concat, message: Any) -> None:
    p = message.concat_param
    if op.axis != 1:
        shape_parameters.set_axis(p, "concat_dim", op.axis)


def _read_softmax(message: Any) -> Softmax:
    axis = getattr(message.softmax_param, "axis", 1)
    if axis != 1:
        raise NetError(f"axis is {axis}, expected 1 (the channels)")
    return Softmax()


_READERS: dict[str, Callable[[Any], LayerType]] = {
    **CHANNEL_READERS,
    "Concat": _read_concat,
    "Convolution": _read_convolution,
    "Deconvolution": _read_deconvolution,
    "Dropout": _read_dropout,
    "Eltwise": _read_eltwise,
    "InnerProduct": _read_inner_product,
    "Interp": _read_interp,
    "Padding": _read_padding,
    "Pooling": _read_pooling,
    "ReLU": _read_relu,
    "Softmax": _read_softmax,
    "Split": lambda message: Split(),  # noqa: ARG005
    **shape_parameters.READERS,
}
_WRITERS: dict[str, Callable[[Any, Any], None]] = {
    **CHANNEL_WRITERS,
    "Concat": _write_concat,
    "Convolution": _write_filters,
    "Deconvolution": _write_filters,
    "Dropout": _write_dropout,
    "Eltwise": _write_eltwise,
    "InnerProduct": _write_inner_product,
    "Interp": _write_interp,
    "Padding": _write_padding,
    "Pooling": _write_pooling,
    "ReLU": _write_relu,
    **shape_parameters.WRITERS,
}
