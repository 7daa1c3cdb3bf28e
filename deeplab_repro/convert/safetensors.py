"""Writes and reads .safetensors: a net and its weights in one file that PyTorch and JAX read.

`safetensors.torch.load_file(path)` gives arrays as PyTorch names them:

    <layer>.weight, <layer>.bias   in the shapes that the blobs have in Caffe, which are PyTorch's;
                                   the weight of a PReLU and of PSPNet's BN is their slope
    <layer>.running_mean, <layer>.running_var   of a BatchNorm and of PSPNet's BN
    <layer>.mean, <layer>.variance, <layer>.factor   beside these where the factor of a BatchNorm
                                   is not 1: what Caffe keeps
    mean                           3xHxW: where the preprocessing has a mean_file, its values

All are float32; weights and biases are float16 where that was asked for. The metadata hold
the text "net.json": the net, as npz.py describes it. What layers share by a param's name
is there once, under the first of them.
"""

import os
from dataclasses import replace

import numpy as np

from deeplab_repro.arrays import F32, Shape, dims
from deeplab_repro.caffe.names import shown
from deeplab_repro.convert.half import check_half, is_halved
from deeplab_repro.convert.net_json import net_from_json, net_to_json
from deeplab_repro.errors import FormatError
from deeplab_repro.files.safetensors import Safetensors, open_safetensors, write_arrays
from deeplab_repro.net.named_arrays import (
    KEPT,
    RUNNING,
    array_name,
    array_shape,
    has_statistics,
    kept_arrays,
    named_arrays,
    owned_blobs,
)
from deeplab_repro.net.net import Net
from deeplab_repro.net.preprocess import MeanImage

_NET = "net.json"  # the text that holds the net
_MEAN = "mean"  # no layer's: these names have a dot


def write_safetensors(net: Net, path: str | os.PathLike[str], *, half: bool = False) -> None:
    """Write a net and its weights; the same net gives the same bytes.

    half: weights and biases as float16, which takes half the bytes.

    Raises WeightsError where a layer has no weights, or none that fit float16, NetError for a net
    that no prototxt can hold and a mean_file that is not loaded, and FileError if the file cannot
    be written. Then no file is left behind.
    """
    arrays = named_arrays(net)
    halved: set[str] = set()
    if half:
        check_half(net)
        for layer, owned in owned_blobs(net):
            halved |= {array_name(layer, what) for what in owned if is_halved(what)}
    if net.preprocessing and net.preprocessing.mean_image:
        arrays[_MEAN] = net.preprocessing.mean_image.loaded()
    write_arrays(path, arrays, {_NET: net_to_json(net)}, halved)


def has_net(path: str | os.PathLike[str]) -> bool:
    """Whether a file holds a net beside the weights. Raises FileError and FormatError."""
    with open_safetensors(path) as file:
        return _NET in file.metadata


def read_safetensors(path: str | os.PathLike[str], weights: bool = True) -> Net:
    """Read a net as `write_safetensors` wrote it; without its weights on request, which is quick.

    They may be other floats by now, float16 to float64.

    Raises FileError, FormatError where the file is cut off, broken, something else or holds no net,
    NetError where the net does not hold together, and ResourceError where it is larger than the
    free memory.
    """
    with open_safetensors(path) as file:
        if _NET not in file.metadata:
            raise FormatError(
                "holds weights but no net, expected one in its metadata: give its net too, with "
                "--prototxt or --model"
            )
        net = net_from_json(file.metadata[_NET])
        unread = _fill(net, file) if weights else set()
        how = net.preprocessing
        if how and how.mean_image:
            net.preprocessing = replace(how, mean=_mean(how.mean_image, file))
            unread.discard(_MEAN)
        if unread:
            raise FormatError(f"holds {shown(min(unread))}, which its net has not: take it out")
        return net


def _fill(net: Net, file: Safetensors) -> set[str]:
    """Put the file's arrays into the net. Returns the names of those that were not read."""
    unread = set(file.arrays)
    for layer, owned in owned_blobs(net):
        if has_statistics(layer, owned):
            shapes = dict(zip(KEPT, (blob.shape for blob in owned.values()), strict=True))
            shapes = {
                name: shape for name, shape in shapes.items() if f"{layer.name}.{name}" in unread
            }
            shapes |= dict.fromkeys(RUNNING, owned["mean"].shape)
            arrays = {name: _array(file, f"{layer.name}.{name}", shapes[name]) for name in shapes}
            made = kept_arrays(arrays)
            names = [f"{layer.name}.{name}" for name in arrays]
        else:
            names = [array_name(layer, what) for what in owned]
            wanted = [array_shape(layer, blob.shape) for blob in owned.values()]
            made = [_array(file, *each) for each in zip(names, wanted, strict=True)]
        for blob, data in zip(owned.values(), made, strict=True):
            blob.data = data.reshape(blob.shape)
        unread.difference_update(names)
    return unread


def _array(file: Safetensors, name: str, shape: Shape) -> F32:
    stored = file.arrays.get(name)
    if stored is None:
        raise FormatError(f"holds no {shown(name)}, expected that array of its net")
    if stored.shape != shape:
        told = f"{shown(name)} is {dims(stored.shape)}"[:300]
        raise FormatError(f"{told}, expected {dims(shape)}, as its net has it")
    return file.read(name)


def _mean(mean: MeanImage, file: Safetensors) -> MeanImage:
    stored = file.arrays.get(_MEAN)
    if stored is None:
        raise FormatError(f"holds no '{_MEAN}', expected the values of mean_file")
    shape = stored.shape
    if len(shape) != 3 or shape[0] != 3 or 0 in shape:
        raise FormatError(f"'{_MEAN}' is {dims(shape)}, expected 3xHxW: blue, green, red"[:300])
    values = file.read(_MEAN)
    if not np.isfinite(values).all():
        raise FormatError(f"'{_MEAN}' holds NaN or infinity, expected finite numbers")
    return replace(mean, values=values)
