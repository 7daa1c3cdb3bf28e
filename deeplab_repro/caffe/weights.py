"""Loads weights into a net: matched by layer name, as in Caffe, but nothing is missed silently."""

import difflib
import math
from dataclasses import replace
from pathlib import Path

import numpy as np

from deeplab_repro.arrays import dims
from deeplab_repro.caffe.blobs import legacy_dims
from deeplab_repro.caffe.caffemodel import Caffemodel, ModelLayer
from deeplab_repro.caffe.named_weights import read_weights
from deeplab_repro.errors import NetError, WeightsError, one_line
from deeplab_repro.net.channel_layers import BN, BatchNorm
from deeplab_repro.net.kernels import bilinear_kernels
from deeplab_repro.net.net import Blob, Layer, Net

_COMPARED = 60  # characters of a name


def load_weights(net: Net, weights: Caffemodel | str | Path, partial: bool = False) -> list[str]:
    """Put the weights of a caffemodel or a .safetensors into the net, matched by layer name.

    All four legacy dims of a blob must match; on a layer with `strict_dim: false` the number of
    values is enough, so that an InnerProduct's weights fit the convolution that replaces it. Caffe
    gives a layer that the file lacks what its fillers say; here it does so with bilinear kernels
    only, and else that is an error, unless `partial` allows it and at least one layer is found.
    Returns the names of the layers that got no weights. Raises WeightsError, naming the layer; the
    net is then unchanged.
    """
    source = "the caffemodel" if isinstance(weights, Caffemodel) else one_line(weights)
    model = weights if isinstance(weights, Caffemodel) else read_weights(weights)
    # As in Caffe, of two layers of one name the last one counts.
    by_name = {layer.name: layer for layer in model.layers}
    learners = [layer for layer in net.layers if layer.blobs]
    # Of layers that share their blobs one is enough.
    given = {id(blob) for layer in learners if layer.name in by_name for blob in layer.blobs}
    lacking = [x for x in learners if not given.issuperset(map(id, x.blobs))]
    filled = [layer for layer in lacking if _is_bilinear(layer)]
    missing = [layer for layer in lacking if not _is_bilinear(layer)]
    if missing and not (partial and len(lacking) < len(learners)):
        raise WeightsError(f"{source}: {_missing(missing, learners, model)}")
    loaded = [
        (layer, _fitted(source, layer, by_name[layer.name]))
        for layer in learners
        if layer.name in by_name
    ]
    loaded += [(layer, [_filled(layer, blob) for blob in layer.blobs]) for layer in filled]
    for layer in _own_copies(source, loaded):
        layer.blobs = [replace(blob, name="") for blob in layer.blobs]
    for layer, arrays in loaded:
        for blob, data in zip(layer.blobs, arrays, strict=True):
            blob.data = data
    return [layer.name for layer in missing]


def _is_bilinear(layer: Layer) -> bool:
    """Whether Caffe fills the layer with kernels that enlarge, where a file lacks it."""
    fillers = [blob.filler.type for blob in layer.blobs]
    return fillers[:1] == ["bilinear"] and set(fillers[1:]) <= {"constant"}


def _filled(layer: Layer, blob: Blob) -> np.ndarray:
    if blob.filler.type == "constant":
        return np.full(blob.shape, blob.filler.value, np.float32)
    try:
        return bilinear_kernels(blob.shape)
    except NetError as error:
        raise WeightsError(f"layer '{layer.name}': {error}") from None


def _own_copies(source: str, loaded: list[tuple[Layer, list[np.ndarray]]]) -> list[Layer]:
    """The layers that keep their own copies of blobs that they share: BatchNorms that differ.

    Caffe does not share their statistics, whatever names they have. Raises WeightsError for others.
    """
    first: dict[int, tuple[Layer, np.ndarray]] = {}
    own = []
    for layer, arrays in loaded:
        for blob, data in zip(layer.blobs, arrays, strict=True):
            owner, expected = first.setdefault(id(blob), (layer, data))
            if owner is layer or np.array_equal(data, expected):
                continue
            if not isinstance(layer.op, BatchNorm):
                raise WeightsError(
                    f"{source}: layers '{owner.name}' and '{layer.name}' have different weights, "
                    "but the net lets them share one param; use the net that it was made for"
                )
            own.append(layer)
            break
    return own


def _missing(missing: list[Layer], learners: list[Layer], model: Caffemodel) -> str:
    name, blobs = missing[0].name, set(map(id, missing[0].blobs))
    sharing = [
        x.name for x in learners if x.name != name and not blobs.isdisjoint(map(id, x.blobs))
    ]
    with_weights = [layer.name for layer in model.layers if layer.blobs][-500:]
    # A comparison takes the square of a name's length.
    cut = {other[:_COMPARED]: other for other in with_weights}
    similar = difflib.get_close_matches(name[:_COMPARED], cut, n=3, cutoff=0.4)
    near = [cut[found] for found in similar] or with_weights[-3:]
    named = ", ".join(f"'{other}'" for other in near) or "none: it holds no weights at all"
    more = f" (and {len(missing) - 1} more of the net's {len(learners)})" if missing[1:] else ""
    mend = "use the net that it was made for"
    # A classifier is named for its data set: fc8_voc12, fc8_coco.
    stem = name.rpartition("_")[0]
    others = [found for found in near if stem and found.startswith(f"{stem}_")]
    if others and others[0] not in {layer.name for layer in learners}:
        value = others[0].removeprefix(f"{stem}_")
        mend += f", or give --set EXP={value} where its prototxt has '{stem}_${{EXP}}'"
    shared = ""
    if sharing:
        those = ", ".join(f"'{other}'" for other in sharing[:3])
        shared = (
            f", nor a layer that shares all its weights ({those}{', ...' * (len(sharing) > 3)})"
        )
    return f"has no layer '{name}'{more}{shared}; the nearest in the file: {named}; {mend}"


def _fitted(source: str, layer: Layer, found: ModelLayer) -> list[np.ndarray]:
    if len(found.blobs) != len(layer.blobs):
        raise WeightsError(
            f"{source}: layer '{layer.name}' has {len(found.blobs)} blobs, "
            f"expected {len(layer.blobs)}; use the net that it was made for"
        )
    arrays = []
    # Forks write the four of a BN with other axes of 1.
    any_count = not layer.strict_dim or isinstance(layer.op, BN)
    for what, blob, data in zip(layer.blob_names, layer.blobs, found.blobs, strict=False):
        same = legacy_dims(data.shape) == legacy_dims(blob.shape)
        if not (same or (any_count and data.size == math.prod(blob.shape))):
            hint = ""
            if data.size == math.prod(blob.shape):
                hint = " (the count fits: 'strict_dim: false' on the layer lets it in)"
            raise WeightsError(
                f"{source}: the {what} of layer '{layer.name}' is "
                f"{dims(legacy_dims(data.shape))}, expected {dims(legacy_dims(blob.shape))}; "
                f"use the net that it was made for{hint}"
            )
        arrays.append(data.reshape(blob.shape))
    return arrays
