"""Writes the layers of net/channel_layers.py as ONNX operators, as onnx_layers.py does."""

from collections.abc import Callable
from typing import Any

import numpy as np

from deeplab_repro.convert.half import as_half
from deeplab_repro.convert.onnx_place import Place
from deeplab_repro.net.channel_layers import (
    BN,
    ELU,
    LRN,
    BatchNorm,
    Bias,
    Exp,
    Log,
    Power,
    PReLU,
    Scale,
    TanH,
    kept_statistics,
    log_of_base,
)


def _batch_norm(place: Place, op: BatchNorm) -> None:
    weights = place.layer.weights()
    sources = list(weights.values())
    mean, variance = kept_statistics(**weights)
    made = {"ones": np.ones(mean.size), "zeros": np.zeros(mean.size)}
    made |= {"mean": mean, "variance": variance}
    with np.errstate(over="ignore"):  # becomes infinite, as in Caffe
        constants = [
            place.graph.derived(
                f"{place.layer.name}/{what}", what, sources, data.astype(np.float32)
            )
            for what, data in made.items()
        ]
    place.node("BatchNormalization", [place.inputs[0], *constants], epsilon=float(op.eps))


def _bn(place: Place, op: BN) -> None:
    arrays = [place.array(what, data.reshape(-1)) for what, data in place.layer.weights().items()]
    place.node("BatchNormalization", [place.inputs[0], *arrays], epsilon=float(op.eps))


def _scale(place: Place, op: Scale) -> None:
    source, *factors = [*place.inputs, *(_learned(place, op.axis))]
    factors[0] = _aligned(place, op.axis, factors[0])
    if op.bias:
        source, factors = place.step("Mul", [source, factors[0]]), factors[1:]
    place.node("Add" if op.bias else "Mul", [source, *factors])


def _bias(place: Place, op: Bias) -> None:
    source, added = [*place.inputs, *(_learned(place, op.axis))]
    place.node("Add", [source, _aligned(place, op.axis, added)])


def _learned(place: Place, axis: int) -> list[str]:
    """The layer's arrays, with axes of 1 behind theirs so that they stand at `axis`."""
    return [
        place.array(what, data.reshape(_with_ones(place, axis, data.shape)))
        for what, data in place.layer.weights().items()
    ]


def _with_ones(place: Place, axis: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    rank = len(place.bottoms[0])
    behind = rank - axis % rank - len(shape) if shape else 0
    return (*shape, *[1] * behind)


def _aligned(place: Place, axis: int, factor: str) -> str:
    """The second bottom, if there is one, with axes of 1 behind its own."""
    if len(place.bottoms) == 1:
        return factor
    shape = place.bottoms[1]
    behind = _with_ones(place, axis, shape)[len(shape) :]
    if not behind:
        return factor
    return place.step("Reshape", [factor, place.constant(*[0] * len(shape), *behind)])


def _prelu(place: Place, op: PReLU) -> None:
    slope = place.layer.weights()["slope"]
    if op.channel_shared:
        slope = as_half(place.layer, "slope", slope) if place.graph.half else slope
        place.node("LeakyRelu", place.inputs, alpha=float(slope))
    else:
        place.node("PRelu", [*place.inputs, *_learned(place, 1)])


def _tanh(place: Place, _: TanH) -> None:
    # Beyond 20 it is 1 in float32, and OpenCV 5.0 makes NaN of 45.
    limits = place.constant(-20.0), place.constant(20.0)
    place.node("Tanh", [place.step("Clip", [place.inputs[0], *limits])])


def _elu(place: Place, op: ELU) -> None:
    place.node("Elu", place.inputs, alpha=float(op.alpha))


def _chain(place: Place, *steps: tuple[str, float | None], source: str | None = None) -> None:
    """Nodes one after the other, each with its constant; those that change nothing are left out."""
    value = source or place.inputs[0]
    nothing = [("Add", 0.0), ("Mul", 1.0), ("Pow", 1.0)]
    steps = tuple(step for step in steps if step not in nothing) or (("Identity", None),)
    for number, (kind, constant) in enumerate(steps, start=1):
        inputs = [value] if constant is None else [value, place.constant(float(constant))]
        if number == len(steps):
            place.node(kind, inputs)
        else:
            value = place.step(kind, inputs)


def _power(place: Place, op: Power) -> None:
    _chain(place, ("Mul", op.scale), ("Add", op.shift), ("Pow", op.power))


def _exp(place: Place, op: Exp) -> None:
    unit = log_of_base(op.base)
    _chain(place, ("Mul", unit * op.scale), ("Add", unit * op.shift), ("Exp", None))


def _log(place: Place, op: Log) -> None:
    _chain(
        place,
        ("Mul", op.scale),
        ("Add", op.shift),
        ("Log", None),
        ("Mul", 1 / log_of_base(op.base)),
    )


def _lrn(place: Place, op: LRN) -> None:
    if op.norm_region == "ACROSS_CHANNELS":
        numbers = {"alpha": float(op.alpha), "beta": float(op.beta), "bias": float(op.k)}
        place.node("LRN", place.inputs, size=op.local_size, **numbers)
        return
    (source,), reach = place.inputs, op.local_size // 2
    squares = place.step("Mul", [source, source])
    # The divisor counts the padding.
    padded = place.step("Pad", [squares, place.constant(0, 0, reach, reach, 0, 0, reach, reach)])
    mean = place.step("AveragePool", [padded], kernel_shape=(op.local_size,) * 2)
    grown = place.step(
        "Add", [place.step("Mul", [mean, place.constant(op.alpha)]), place.constant(1.0)]
    )
    place.node("Mul", [source, place.step("Pow", [grown, place.constant(-op.beta)])])


CHANNEL_WRITERS: dict[str, Callable[[Place, Any], None]] = {
    "AbsVal": lambda place, _: place.node("Abs", place.inputs),
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
    "Sigmoid": lambda place, _: place.node("Sigmoid", place.inputs),
    "TanH": _tanh,
}
