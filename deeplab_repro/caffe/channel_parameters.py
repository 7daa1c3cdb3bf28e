"""Reads and writes the parameters of the layers of net/channel_layers.py, as parameters.py does."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from deeplab_repro.errors import NetError
from deeplab_repro.net.channel_layers import (
    BN,
    ELU,
    LRN,
    NATURAL_BASE,
    AbsVal,
    BatchNorm,
    Bias,
    Exp,
    Log,
    Power,
    PReLU,
    Scale,
    Sigmoid,
    TanH,
)
from deeplab_repro.net.layers import LayerType

_LARGEST_LRN = 255  # what reaches further needs a padding that takes more memory than the image


def _number(parameters: Any, name: str) -> float:
    """A field in as few digits as tell it from other floats: 1e-05, not 9.99999975e-06."""
    value = float(str(np.float32(getattr(parameters, name))))
    if not math.isfinite(value):
        raise NetError(f"{name} is {value}, expected a finite number")
    return value


def _write(parameters: Any, **values: Any) -> None:
    """Set the fields whose values are not their defaults."""
    for name, value in values.items():
        if np.float32(value) != np.float32(getattr(parameters, name)):
            setattr(parameters, name, value)


def _eps(parameters: Any) -> float:
    eps = _number(parameters, "eps")
    if eps < 0:
        raise NetError(f"eps is {eps:g}, expected a number from 0")
    return eps


def _read_batch_norm(message: Any) -> BatchNorm:
    p = message.batch_norm_param
    given = p.use_global_stats if p.HasField("use_global_stats") else None
    if given is False:
        raise NetError(
            "use_global_stats is false: the statistics of a batch do not run here; take it out, or "
            "write true"
        )
    return BatchNorm(_eps(p), given, _number(p, "moving_average_fraction"))


def _write_batch_norm(op: BatchNorm, message: Any) -> None:
    p = message.batch_norm_param
    _write(p, eps=op.eps, moving_average_fraction=op.moving_average_fraction)
    if op.use_global_stats is not None:
        p.use_global_stats = op.use_global_stats


def _read_bn(message: Any) -> BN:
    p = message.bn_param
    return BN(_eps(p), _number(p, "momentum"), p.frozen)


def _write_bn(op: BN, message: Any) -> None:
    _write(message.bn_param, eps=op.eps, momentum=op.momentum, frozen=op.frozen)


def _read_scale(message: Any) -> Scale:
    p = message.scale_param
    return Scale(p.axis, p.num_axes, p.bias_term)


def _write_scale(op: Scale, message: Any) -> None:
    _write(message.scale_param, axis=op.axis, num_axes=op.num_axes, bias_term=op.bias)


def _read_bias(message: Any) -> Bias:
    return Bias(message.bias_param.axis, message.bias_param.num_axes)


def _write_bias(op: Bias, message: Any) -> None:
    _write(message.bias_param, axis=op.axis, num_axes=op.num_axes)


def _read_prelu(message: Any) -> PReLU:
    return PReLU(message.prelu_param.channel_shared)


def _write_prelu(op: PReLU, message: Any) -> None:
    _write(message.prelu_param, channel_shared=op.channel_shared)


def _read_elu(message: Any) -> ELU:
    return ELU(_number(message.elu_param, "alpha"))


def _write_elu(op: ELU, message: Any) -> None:
    _write(message.elu_param, alpha=op.alpha)


def _read_power(message: Any) -> Power:
    p = message.power_param
    return Power(_number(p, "power"), _number(p, "scale"), _number(p, "shift"))


def _write_power(op: Power, message: Any) -> None:
    _write(message.power_param, power=op.power, scale=op.scale, shift=op.shift)


def _read_base(p: Any) -> dict[str, float]:
    base = _number(p, "base")
    if base <= 0 and base != NATURAL_BASE:
        raise NetError(f"base is {base:g}, expected a number above 0, or -1 for e")
    return {"base": base, "scale": _number(p, "scale"), "shift": _number(p, "shift")}


def _read_exp(message: Any) -> Exp:
    return Exp(**_read_base(message.exp_param))


def _write_exp(op: Exp, message: Any) -> None:
    _write(message.exp_param, base=op.base, scale=op.scale, shift=op.shift)


def _read_log(message: Any) -> Log:
    op = Log(**_read_base(message.log_param))
    if op.base == 1:
        raise NetError("base is 1, which has no logarithms; expected another, or -1 for e")
    return op


def _write_log(op: Log, message: Any) -> None:
    _write(message.log_param, base=op.base, scale=op.scale, shift=op.shift)


def _read_lrn(message: Any) -> LRN:
    p = message.lrn_param
    if p.local_size % 2 == 0 or p.local_size > _LARGEST_LRN:
        raise NetError(f"local_size is {p.local_size}, expected an odd number up to {_LARGEST_LRN}")
    region = p.NormRegion.Name(p.norm_region)
    numbers = {name: _number(p, name) for name in ("alpha", "beta", "k")}
    return LRN(p.local_size, **numbers, norm_region=region)


def _write_lrn(op: LRN, message: Any) -> None:
    p = message.lrn_param
    region = p.NormRegion.Value(op.norm_region)
    _write(p, local_size=op.local_size, alpha=op.alpha, beta=op.beta, norm_region=region, k=op.k)


CHANNEL_READERS: dict[str, Callable[[Any], LayerType]] = {
    "AbsVal": lambda message: AbsVal(),  # noqa: ARG005
    "BN": _read_bn,
    "BatchNorm": _read_batch_norm,
    "Bias": _read_bias,
    "ELU": _read_elu,
    "Exp": _read_exp,
    "LRN": _read_lrn,
    "Log": _read_log,
    "PReLU": _read_prelu,
    "Power": _read_power,
    "Scale": _read_scale,
    "Sigmoid": lambda message: Sigmoid(),  # noqa: ARG005
    "TanH": lambda message: TanH(),  # noqa: ARG005
}
CHANNEL_WRITERS: dict[str, Callable[[Any, Any], None]] = {
    "BN": _write_bn,
    "BatchNorm": _write_batch_norm,
    "Bias": _write_bias,
    "ELU": _write_elu,
    "Exp": _write_exp,
    "LRN": _write_lrn,
    "Log": _write_log,
    "PReLU": _write_prelu,
    "Power": _write_power,
    "Scale": _write_scale,
}
