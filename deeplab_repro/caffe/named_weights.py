"""Reads weights by layer name: from caffemodels, and from .safetensors files, also of others."""

from pathlib import Path

import numpy as np

from deeplab_repro.caffe import bvlc_pb2
from deeplab_repro.caffe.caffemodel import Caffemodel, ModelLayer, read_caffemodel
from deeplab_repro.caffe.names import is_plain_name, shown
from deeplab_repro.errors import FormatError, one_line
from deeplab_repro.files.safetensors import Safetensors, is_safetensors, open_safetensors
from deeplab_repro.net.named_arrays import KEPT, RUNNING, kept_arrays

# PyTorch's names of a layer's arrays, in the order of Caffe's blobs.
_ORDER = ("weight", "bias", *RUNNING, *KEPT)
_COUNTER = "num_batches_tracked"  # which PyTorch counts in training only


def read_weights(path: str | Path) -> Caffemodel:
    """Read the weights of a caffemodel, or of a .safetensors with arrays named <layer>.weight, ...

    A BatchNorm's running_mean and running_var become Caffe's blobs; for PSPNet's BN they come
    behind weight and bias. Raises what `read_caffemodel` raises.
    """
    if not is_safetensors(path):
        return read_caffemodel(path)
    grouped: dict[str, list[str]] = {}
    with open_safetensors(path) as file:
        for name in file.arrays:
            layer, dot, what = name.rpartition(".")
            if dot and what != _COUNTER:
                grouped.setdefault(layer, []).append(what)
        layers = [_layer(file, name, whats) for name, whats in grouped.items()]
    if not layers:
        raise FormatError(f"{one_line(path)}: holds no arrays named <layer>.weight, expected some")
    return Caffemodel(Path(path).stem, "Caffe", layers)


def _layer(file: Safetensors, name: str, whats: list[str]) -> ModelLayer:
    if not is_plain_name(name):
        raise FormatError(f"a layer is named {shown(name)}, expected a short name to print")
    arrays = {what: file.read(f"{name}.{what}") for what in sorted(whats, key=_place)}
    blobs: list[np.ndarray] = list(arrays.values())
    if set(arrays) in ({*RUNNING}, {*RUNNING, *KEPT}):
        blobs = kept_arrays(arrays)
    return ModelLayer(bvlc_pb2.LayerParameter(name=name), blobs)


def _place(what: str) -> int:
    return _ORDER.index(what) if what in _ORDER else len(_ORDER)
