"""What the layers of net/channel_layers.py compute, in NumPy, as exact.py does."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from deeplab_repro.arrays import F32
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
    kept_statistics,
)

F64 = npt.NDArray[np.float64]


def _batch_norm(op: BatchNorm, data: F64, mean: F32, variance: F32, factor: F32) -> F64:
    mean, variance = kept_statistics(mean, variance, factor)
    return (data - _at(data, mean)) / np.sqrt(_at(data, variance) + op.eps)


def _bn(op: BN, data: F64, slope: F32, bias: F32, mean: F32, variance: F32) -> F64:
    slope, bias, mean, variance = (
        _at(data, each.reshape(-1).astype(np.float64)) for each in (slope, bias, mean, variance)
    )
    return slope * (data - mean) / np.sqrt(variance + op.eps) + bias


def _scale(op: Scale, data: F64, *second: F64, **learned: F32) -> F64:
    weight = second[0] if second else learned["weight"]
    top = data * _at(data, weight, op.axis)
    return top + _at(data, learned["bias"], op.axis) if op.bias else top


def _bias(op: Bias, data: F64, *second: F64, **learned: F32) -> F64:
    return data + _at(data, second[0] if second else learned["bias"], op.axis)


def _at(data: F64, factor: np.ndarray, axis: int = 1) -> np.ndarray:
    """An array with axes of 1 behind its own, so that these stand at `axis` of the data."""
    behind = data.ndim - axis % data.ndim - factor.ndim if factor.ndim else 0
    return factor.reshape((*factor.shape, *[1] * behind))


def _prelu(_: PReLU, data: F64, slope: F32) -> F64:
    return np.maximum(data, 0) + _at(data, slope) * np.minimum(data, 0)


def _sigmoid(_: Sigmoid, data: F64) -> F64:
    return 0.5 * np.tanh(0.5 * data) + 0.5  # which overflows nowhere


def _tanh(_: TanH, data: F64) -> F64:
    return np.tanh(data)


def _elu(op: ELU, data: F64) -> F64:
    return np.where(data > 0, data, op.alpha * np.expm1(np.minimum(data, 0)))


def _abs(_: AbsVal, data: F64) -> F64:
    return np.abs(data)


def _power(op: Power, data: F64) -> F64:
    with np.errstate(invalid="ignore", divide="ignore"):  # becomes NaN or infinite, as in Caffe
        return (op.shift + op.scale * data) ** op.power


def _exp(op: Exp, data: F64) -> F64:
    return np.exp(_log_of(op.base) * (op.shift + op.scale * data))


def _log(op: Log, data: F64) -> F64:
    with np.errstate(invalid="ignore", divide="ignore"):  # as above
        return np.log(op.shift + op.scale * data) / _log_of(op.base)


def _log_of(base: float) -> float:
    return 1.0 if base == NATURAL_BASE else float(np.log(base))


def _lrn(op: LRN, data: F64) -> F64:
    squares, reach = data**2, op.local_size // 2
    axes = (1,) if op.norm_region == "ACROSS_CHANNELS" else (2, 3)
    for axis in axes:
        width = [(reach, reach) if each == axis else (0, 0) for each in range(4)]
        padded = np.pad(squares, width)
        windows = np.lib.stride_tricks.sliding_window_view(padded, op.local_size, axis)
        squares = windows.sum(axis=-1)
    k = op.k if len(axes) == 1 else 1.0
    return data / (k + op.alpha / op.local_size ** len(axes) * squares) ** op.beta


CHANNEL_RULES: dict[str, Callable[..., F64]] = {
    "AbsVal": _abs,
    "BN": _bn,
    "BatchNorm": _batch_norm,
    "Bias": _bias,
    "ELU": _elu,
    "Exp": _exp,
    "LRN": _lrn,
    "Log": _log,
    "PReLU": _prelu,
    "Power": _power,
    "Scale": _scale,
    "Sigmoid": _sigmoid,
    "TanH": _tanh,
}
