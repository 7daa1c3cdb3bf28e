"""Folds what follows a convolution into its weights, where that only scales and shifts channels.

So a BatchNorm and a Scale cost nothing, and do not stand between the layers that parts.py runs
together. A net changes by rounding alone: less than 1e-5 of a blob's standard deviation.
"""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from deeplab_repro.net.channel_layers import BN, BatchNorm, Bias, Scale, kept_statistics
from deeplab_repro.net.layers import Convolution
from deeplab_repro.net.net import Blob, Layer, Net

F64 = npt.NDArray[np.float64]


def folded(net: Net, visible: Collection[str] | None = None) -> Net:
    """The net with such layers folded into their convolutions; itself where there are none.

    visible: the blobs that somebody may ask for, by default all. Of a blob that layers change in
    place only the last value is visible. Layers that share their weights still do. Raises
    WeightsError where these have none.
    """
    last: dict[str, int] = {}  # the number of the layer that makes a blob, up to here
    users: dict[int, list[int]] = defaultdict(list)
    makers = []
    for number, layer in enumerate(net.layers):
        makers.append([last.get(bottom, -1) for bottom in layer.bottoms])
        for maker in makers[-1]:
            users[maker].append(number)
        last.update(dict.fromkeys(layer.tops, number))
    seen = {number for blob, number in last.items() if visible is None or blob in visible}
    chains: dict[int, list[int]] = {}  # by convolution: itself and what is folded into it
    chain_of: dict[int, list[int]] = {}
    for number, layer in enumerate(net.layers):
        before = makers[number][0]
        if isinstance(layer.op, Convolution):
            chains[number] = chain_of[number] = [number]
        elif (
            _is_linear(layer)
            and before in chain_of
            and users[before] == [number]
            and before not in seen
        ):
            chain_of[number] = chain_of[before]
            chain_of[number].append(number)
    if all(len(chain) == 1 for chain in chains.values()):
        return net
    made: dict[tuple[int, ...], list[Blob]] = {}
    dropped = {number for chain in chains.values() for number in chain[1:]}
    layers = []
    for number, layer in enumerate(net.layers):
        if len(chains.get(number, ())) > 1:
            layer = _fold([net.layers[each] for each in chains[number]], made)
        if number not in dropped:
            layers.append(layer)
    return replace(net, layers=layers)


def _is_linear(layer: Layer) -> bool:
    op = layer.op
    per_channel = isinstance(op, Scale | Bias) and (op.axis, op.num_axes) in [(1, 1), (-3, 1)]
    return isinstance(op, BatchNorm | BN) or (per_channel and len(layer.bottoms) == 1)


def _fold(chain: list[Layer], made: dict[tuple[int, ...], list[Blob]]) -> Layer:
    """The convolution of a chain, with what follows in its weights. made: those made before."""
    first, *others = chain
    key = tuple(id(blob) for layer in chain for blob in layer.blobs)
    if key not in made:
        weights = first.weights()
        scale = np.ones(len(weights["weight"]))
        shift = weights.get("bias", np.zeros(1)).astype(np.float64)
        for layer in others:
            times, plus = _scale_and_shift(layer)
            scale, shift = scale * times, shift * times + plus
        arrays = weights["weight"] * scale.reshape(-1, 1, 1, 1), shift
        made[key] = [Blob(data.shape, np.ascontiguousarray(data, np.float32)) for data in arrays]
    assert isinstance(first.op, Convolution)
    return replace(first, op=replace(first.op, bias=True), tops=chain[-1].tops, blobs=made[key])


def _scale_and_shift(layer: Layer) -> tuple[F64, F64]:
    arrays = {name: data.astype(np.float64).reshape(-1) for name, data in layer.weights().items()}
    if isinstance(layer.op, Scale):
        return arrays["weight"], arrays.get("bias", np.zeros(1))
    if isinstance(layer.op, Bias):
        return np.ones(1), arrays["bias"]
    slope, bias = arrays.get("slope", np.ones(1)), arrays.get("bias", np.zeros(1))
    mean, variance = arrays["mean"], arrays["variance"]
    if "factor" in arrays:
        mean, variance = kept_statistics(mean, variance, arrays["factor"])
    assert isinstance(layer.op, BatchNorm | BN)
    scale = slope / np.sqrt(variance + layer.op.eps)
    return scale, bias - mean * scale
