"""Weights as float16: which are, and whether they fit."""

from dataclasses import replace

import numpy as np

from deeplab_repro.errors import WeightsError
from deeplab_repro.net.net import Blob, Layer, Net

_KEPT_WIDE = ("mean", "variance", "factor")  # few numbers of any size
_LARGEST = float(np.finfo(np.float16).max)


def is_halved(what: str) -> bool:
    """Whether a blob of this name becomes float16: weights and biases do, statistics do not."""
    return what not in _KEPT_WIDE


def as_half(layer: Layer, what: str, data: np.ndarray) -> np.ndarray:
    """The blob's values as float16.

    Raises WeightsError for numbers beyond its range, and where all would become 0.
    """
    with np.errstate(over="ignore"):
        half = data.astype(np.float16)
    beyond = np.isinf(half) & np.isfinite(data)
    if beyond.any():
        raise WeightsError(
            f"layer '{layer.name}': its {what} has {data[beyond][0]:.6g}, expected numbers up to "
            f"{_LARGEST:,.0f}, the largest of float16: convert it without --half"
        )
    if data.any() and not half.any():
        raise WeightsError(
            f"layer '{layer.name}': its {what} has numbers up to {np.abs(data).max():.2g}, which "
            "float16 takes for 0: convert it without --half"
        )
    return half


def check_half(net: Net) -> None:
    """Raise WeightsError where the net's weights do not fit float16, or are not loaded."""
    for layer in net.layers:
        for what, data in layer.weights().items():
            if is_halved(what):
                as_half(layer, what, data)


def rounded_to_half(net: Net) -> Net:
    """The net with float32 weights that are what float16 keeps of its own."""
    layers = []
    made: dict[int, Blob] = {}
    for layer in net.layers:
        blobs = []
        for (what, data), blob in zip(layer.weights().items(), layer.blobs, strict=True):
            if is_halved(what) and id(blob) not in made:
                rounded = as_half(layer, what, data).astype(np.float32)
                made[id(blob)] = replace(blob, data=rounded)
            blobs.append(made.get(id(blob), blob))
        layers.append(replace(layer, blobs=blobs))
    return replace(net, layers=layers)
