"""Checks that VGG-16's convolutions under torchvision's names give what the net's own do."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from deeplab_repro.arrays import UInt8
from deeplab_repro.convert.torchvision import DEVIATION_RGB, FIRST, MEAN_RGB, TRUNK, trunk_of
from deeplab_repro.engines.opencv import OpenCVEngine
from deeplab_repro.errors import ConversionError
from deeplab_repro.files.safetensors import open_safetensors
from deeplab_repro.jobs.verify import TOLERANCE, Checked, Difference, photos
from deeplab_repro.net.layers import Convolution
from deeplab_repro.net.net import Blob, Net
from deeplab_repro.net.preprocess import VOCS, preprocess

# Of the standard deviation. A float16 is off by up to 2**-11 of itself; sums of 27 add some up.
_HALF_TOLERANCE = 2**-8


def check_trunk(net: Net, path: Path, half: bool) -> Checked:
    """Run the first convolution on a seeded picture, fed as here and as by torchvision.

    The border, which differs, is left out. The other convolutions must have the net's weights.
    Raises ConversionError where either is not so.
    """
    trunk, _ = trunk_of(net)
    with open_safetensors(path) as file:
        arrays = {name: file.read(name) for name in file.arrays}
    for layer in trunk[1:]:
        for what, data in layer.weights().items():
            kept = data.astype(np.float16).astype(np.float32) if half else data
            if not np.array_equal(arrays[f"{TRUNK[layer.name]}.{what}"], kept, equal_nan=True):
                raise ConversionError(
                    f"the {what} of '{layer.name}' differs: nothing was written, please report this"
                )
    (first, *_) = trunk
    index = next(i for i, layer in enumerate(net.layers) if layer.name == FIRST)
    read = [arrays[f"{TRUNK[FIRST]}.{what}"] for what in ("weight", "bias")]
    theirs = replace(first, blobs=[Blob(data.shape, data) for data in read])
    assert isinstance(first.op, Convolution)
    pad, stride = first.op.pad, first.op.stride
    image = photos(np.random.default_rng(0), (1, *net.input_shape[2:], 3))[0]
    how = replace(net.preprocessing or VOCS, resized_to=None)
    ours = _run(net, index, preprocess(image, (image.shape[0], image.shape[1]), how))
    turned = replace(net, layers=[*net.layers[:index], theirs])
    found = _run(turned, index, _as_torchvision(image))
    rows, columns = map(_without_border, ours.shape[2:], pad, stride)
    differences = np.abs(found.astype(np.float64) - ours)[:, :, rows, columns]
    largest = float(differences.max(initial=0))
    tolerance = float((_HALF_TOLERANCE if half else TOLERANCE) * ours.std(dtype=np.float64))
    if not largest <= tolerance:  # NaN too
        raise ConversionError(
            f"'{FIRST}', fed as torchvision does, differs by {largest:.3g}, expected at most "
            f"{tolerance:.3g}: nothing was written, please report this"
        )
    return Checked(OpenCVEngine.name, [Difference(FIRST, largest, tolerance)])


def _without_border(length: int, pad: int, stride: int) -> slice:
    """What of an axis sees no padding."""
    border = -(-pad // stride)
    return slice(border, length - border)


def _run(net: Net, index: int, data: np.ndarray) -> np.ndarray:
    part = replace(net, layers=net.layers[: index + 1])
    (top,) = part.layers[index].tops
    return OpenCVEngine(part, "cpu").blobs(data, [top])[top]


def _as_torchvision(image: UInt8) -> np.ndarray:
    """1x3xHxW: red, green, blue as torchvision's transforms make them of HxWx3."""
    pixels = (image / 255 - np.array(MEAN_RGB)) / np.array(DEVIATION_RGB)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None], np.float32)
