"""VGG-16's layers under torchvision's names, and fed as torchvision feeds them.

torchvision's nets take red, green, blue from 0 to 1, less a mean, divided by a deviation. Caffe's
take blue, green, red from 0 to 255, less another mean. The channels and factors go into the weights
of conv1_1, and what the means differ by into its bias. So it computes the same, except at the
border: the zeros around an image stand for the mean, and the means are up to one of 255 levels
apart.
"""

import os
from collections.abc import Sequence

import numpy as np

from deeplab_repro.arrays import Shape, dims
from deeplab_repro.caffe import Caffemodel, ModelLayer
from deeplab_repro.convert.half import as_half
from deeplab_repro.errors import NetError, WeightsError
from deeplab_repro.files.safetensors import write_arrays
from deeplab_repro.net.net import Layer, Net
from deeplab_repro.net.preprocess import VOCS, Preprocessing

MEAN_RGB, DEVIATION_RGB = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""What torchvision takes off each channel, from 0 to 1, and what it then divides by."""

_CONVOLUTIONS = (2, 2, 3, 3, 3)  # of each block of VGG-16
_CLASSIFIER = {"classifier.0": "fc6", "classifier.3": "fc7", "classifier.6": "fc8"}


def _trunk() -> dict[str, str]:
    """torchvision's name of each convolution, by Caffe's."""
    found, place = {}, 0
    for block, count in enumerate(_CONVOLUTIONS, start=1):
        for number in range(1, count + 1):
            found[f"conv{block}_{number}"] = f"features.{place}"
            place += 2  # a ReLU is behind each
        place += 1  # and a pooling behind the block
    return found


TRUNK = _trunk()
FIRST, *_ = TRUNK


def trunk_of(net: Net) -> tuple[list[Layer], list[Layer]]:
    """The net's layers that are VGG-16's convolutions, of any width, and its others with weights.

    Raises NetError where it has not all of them.
    """
    learners = {layer.name: layer for layer in net.layers if layer.blobs}
    shapes = {x.name: [blob.shape for blob in x.blobs] for x in learners.values()}
    if problem := _problem([(name, shapes.get(name, [])) for name in TRUNK]):
        raise NetError(f"net '{net.name}' {problem}: convert it without --names")
    trunk = [learners.pop(name) for name in TRUNK]
    return trunk, list(learners.values())


def _problem(shapes: Sequence[tuple[str, Sequence[Shape]]]) -> str | None:
    """Why layers with blobs of these shapes are not VGG-16's convolutions."""
    inputs = 3
    for name, found in shapes:
        outputs = found[0][0] if found and found[0] else 0
        if list(found) != [(outputs, inputs, 3, 3), (outputs,)]:
            told = f"{', '.join(map(dims, found))} as '{name}'" if found else f"no '{name}'"
            return f"has {told}, expected a convolution of {inputs}x3x3 with a bias, as in VGG-16"
        inputs = outputs
    return None


def write_trunk(net: Net, path: str | os.PathLike[str], *, half: bool = False) -> None:
    """Write VGG-16's convolutions as .safetensors: features.0.weight to features.28.bias.

    half: as float16.

    Raises NetError for a net that has not all of them, or a mean for each pixel, WeightsError where
    a layer has no weights, or none that fit float16, and FileError if the file cannot be written.
    """
    arrays = {}
    for layer in trunk_of(net)[0]:
        weight, bias = layer.weights().values()
        if layer.name == FIRST:
            weight, bias = _to_torchvision(weight, bias, net.preprocessing or VOCS)
        for what, data in (("weight", weight), ("bias", bias)):
            if half:
                as_half(layer, what, data)
            arrays[f"{TRUNK[layer.name]}.{what}"] = data
    write_arrays(path, arrays, {}, half=arrays if half else ())


def is_torchvisions(model: Caffemodel) -> bool:
    """Whether weights have the names of torchvision's VGG nets."""
    return TRUNK[FIRST] in {layer.name for layer in model.layers}


def from_torchvision(model: Caffemodel, how: Preprocessing) -> Caffemodel:
    """The weights of torchvision's VGG-16 as those of Caffe's, for a net that is fed so.

    Raises WeightsError for those of another net, and NetError for a mean for each pixel.
    """
    by_name = {layer.name: layer for layer in model.layers}
    blobs = {name: x.blobs for name, x in by_name.items()}
    shapes = [(name, [blob.shape for blob in blobs.get(name, [])]) for name in TRUNK.values()]
    if problem := _problem(shapes):
        raise WeightsError(f"{problem}: use torchvision's vgg16")
    layers = []
    for name, theirs in TRUNK.items():
        found = by_name.pop(theirs)
        if name == FIRST:
            weight, bias = found.blobs
            found = ModelLayer(found.message, _from_torchvision(weight, bias, how))
        layers.append(_named(found, name))
    for theirs, found in by_name.items():
        layers.append(_named(found, _CLASSIFIER.get(theirs, theirs)))
    return Caffemodel(model.name, model.dialect, layers)


def _named(layer: ModelLayer, name: str) -> ModelLayer:
    return ModelLayer(type(layer.message)(name=name), layer.blobs)


def _to_torchvision(
    weight: np.ndarray, bias: np.ndarray, how: Preprocessing
) -> tuple[np.ndarray, np.ndarray]:
    factor, offset = _between(how)
    weight = weight.astype(np.float64)
    bias = bias + np.einsum("oikl,i->o", weight, offset)
    turned = (weight * factor[:, None, None])[:, ::-1]
    return turned.astype(np.float32), bias.astype(np.float32)


def _from_torchvision(weight: np.ndarray, bias: np.ndarray, how: Preprocessing) -> list[np.ndarray]:
    factor, offset = _between(how)
    weight = weight[:, ::-1] / factor[:, None, None]
    bias = bias - np.einsum("oikl,i->o", weight, offset)
    return [weight.astype(np.float32), bias.astype(np.float32)]


def _between(how: Preprocessing) -> tuple[np.ndarray, np.ndarray]:
    """What Caffe's net is fed is factor * torchvision's + offset: blue, green, red, float64."""
    if how.mean_image:
        raise NetError(
            f"the net has a mean for each pixel ('{how.mean_image.file}'), expected one for each "
            "channel, as torchvision's nets have: use one of these nets"
        )
    mean, deviation = (np.array(each[::-1]) for each in (MEAN_RGB, DEVIATION_RGB))
    factor = 255 * deviation * how.scale
    offset = (255 * mean - how.mean_values.reshape(3).astype(np.float64)) * how.scale
    return factor, offset
