"""A net's arrays under the names that PyTorch gives them: conv1_1.weight, bn1.running_mean.

A BatchNorm of Caffe's keeps sums, and a factor by which they are to be divided; PyTorch keeps the
quotients. Where the factor is not 1 both are named, so that Caffe's come back bit for bit.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from deeplab_repro.arrays import Shape
from deeplab_repro.net.channel_layers import BN, BatchNorm, kept_statistics
from deeplab_repro.net.net import Blob, Layer, Net

_AS_TORCH = {"slope": "weight", "mean": "running_mean", "variance": "running_var"}
RUNNING, KEPT = ("running_mean", "running_var"), ("mean", "variance", "factor")
"""What PyTorch calls a BatchNorm's arrays, and what Caffe's are called here."""


def owned_blobs(net: Net) -> Iterator[tuple[Layer, dict[str, Blob]]]:
    """Each layer with its blobs by `blob_names`; what layers share by a name is the first one's."""
    shared = set()
    for layer in net.layers:
        owned = {}
        for what, blob in zip(layer.blob_names, layer.blobs, strict=False):
            if id(blob) not in shared:
                owned[what] = blob
            if blob.name:
                shared.add(id(blob))
        if owned:
            yield layer, owned


def has_statistics(layer: Layer, owned: Mapping[str, Blob]) -> bool:
    """Whether these are a BatchNorm's arrays, all of them its own."""
    return isinstance(layer.op, BatchNorm) and len(owned) == len(KEPT)


def array_name(layer: Layer, what: str) -> str:
    """The name of one of the layer's blobs, of a BatchNorm as Caffe keeps them."""
    is_kept = isinstance(layer.op, BatchNorm)
    return f"{layer.name}.{what if is_kept else _AS_TORCH.get(what, what)}"


def array_shape(layer: Layer, shape: Shape) -> Shape:
    """A blob's shape as PyTorch has it."""
    return (shape[1],) if isinstance(layer.op, BN) else shape or (1,)


def named_arrays(net: Net) -> dict[str, np.ndarray]:
    """The net's arrays by name. Raises WeightsError where a layer has none."""
    found: dict[str, np.ndarray] = {}
    for layer, owned in owned_blobs(net):
        arrays = {what: data for what, data in layer.weights().items() if what in owned}
        if has_statistics(layer, owned):
            for name, data in zip(RUNNING, running_statistics(**arrays), strict=True):
                found[f"{layer.name}.{name}"] = data
            if arrays["factor"] == 1:
                continue
        for what, data in arrays.items():
            found[array_name(layer, what)] = data.reshape(array_shape(layer, data.shape))
    return found


def running_statistics(
    mean: np.ndarray, variance: np.ndarray, factor: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What a BatchNorm of PyTorch's keeps in place of Caffe's three arrays, float32."""
    if factor == 1:  # bit for bit, NaN too
        return mean, variance
    with np.errstate(over="ignore"):  # becomes infinite, as in Caffe
        kept = [values.astype(np.float32) for values in kept_statistics(mean, variance, factor)]
    return kept[0], kept[1]


def kept_arrays(arrays: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Caffe's three arrays of a BatchNorm from those by RUNNING and, where they are there, KEPT.

    Where somebody changed PyTorch's since, they hold, with a factor of 1.
    """
    running = [arrays[name] for name in RUNNING]
    if all(name in arrays for name in KEPT) and arrays["factor"].shape == (1,):
        kept = [arrays[name] for name in KEPT]
        made = running_statistics(*kept)
        if all(a.tobytes() == b.tobytes() for a, b in zip(made, running, strict=True)):
            return kept
    return [*running, np.ones(1, np.float32)]
