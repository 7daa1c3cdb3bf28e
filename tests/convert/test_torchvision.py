"""VGG-16's convolutions under torchvision's names: the same numbers from what torchvision feeds."""

from dataclasses import replace

import numpy as np
import pytest

from deeplab_repro.caffe import read_weights
from deeplab_repro.convert.torchvision import TRUNK, from_torchvision, is_torchvisions, write_trunk
from deeplab_repro.errors import NetError, WeightsError
from deeplab_repro.files.marks import made_here
from deeplab_repro.files.safetensors import open_safetensors
from deeplab_repro.models.loading import load_net
from deeplab_repro.net.channel_layers import Scale
from deeplab_repro.net.layers import Convolution
from deeplab_repro.net.preprocess import MeanImage, Preprocessing, preprocess
from tests.conftest import assert_one_line
from tests.slow_layers import convolve

TOY = "ToyVOC-LargeFOV"
NAMES = [f"features.{place}" for place in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)]


@pytest.fixture
def net():
    """A net with VGG-16's layers, an eighth as wide."""
    return load_net(TOY)


def test_the_names(net, tmp_path):
    path = tmp_path / "a.safetensors"
    write_trunk(net, path)
    assert made_here(path)
    with open_safetensors(path) as file:
        assert list(file.arrays) == [f"{name}.{x}" for name in NAMES for x in ("weight", "bias")]
        for layer in net.layers:
            if layer.name in TRUNK and layer.name != "conv1_1":
                for what, data in layer.weights().items():
                    found = file.read(f"{TRUNK[layer.name]}.{what}")
                    np.testing.assert_array_equal(found, data)
        assert "fc6" not in str(file.arrays)
    write_trunk(net, path, half=True)
    with open_safetensors(path) as file:
        assert {stored.dtype for stored in file.arrays.values()} == {"F16"}


@pytest.mark.parametrize("how", [Preprocessing(), Preprocessing((1.5, 90, 200), 0.017)])
def test_the_same_numbers_inside(net, tmp_path, photo, how):
    net.preprocessing = how
    write_trunk(net, tmp_path / "a.safetensors")
    image = photo(9, 11)
    first = net.layers[0]
    expected = convolve(preprocess(image, (9, 11), how), first.op, *first.weights().values())
    scaled = (image / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    with open_safetensors(tmp_path / "a.safetensors") as file:
        arrays = [file.read(f"features.0.{what}") for what in ("weight", "bias")]
    found = convolve(scaled.transpose(2, 0, 1)[None].astype(np.float32), first.op, *arrays)
    scale = np.abs(expected).max()  # float32 has seven digits of the terms
    np.testing.assert_allclose(found[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1], atol=1e-5 * scale)
    # Around the image stands another mean.
    assert np.abs(found - expected).max() > 1e-4 * scale


@pytest.mark.parametrize("how", [Preprocessing(), Preprocessing((1.5, 90, 200), 0.017)])
def test_and_back(net, tmp_path, how):
    net.preprocessing = how
    write_trunk(net, tmp_path / "a.safetensors")
    model = read_weights(tmp_path / "a.safetensors")
    assert is_torchvisions(model)
    found = {layer.name: layer.blobs for layer in from_torchvision(model, how).layers}
    assert list(found) == list(TRUNK)
    for layer in (layer for layer in net.layers if layer.name in TRUNK):
        for data, expected in zip(found[layer.name], layer.weights().values(), strict=True):
            # conv1_1 is rounded twice, the bias with what is added to it.
            atol = 1e-5 * np.abs(expected).max() if layer.name == "conv1_1" else 0
            np.testing.assert_allclose(data, expected, rtol=0, atol=atol)


def test_nets_that_have_no_such_trunk(net, tmp_path):
    def refused(expected):
        with pytest.raises(NetError) as error:
            write_trunk(net, tmp_path / "a")
        assert_one_line(error, expected)
        assert not list(tmp_path.iterdir())

    first, *others = net.layers
    net.layers = [replace(first, bottoms=("other",)), *others]
    refused(f"net '{TOY}' has 'conv1_1' behind another layer, expected the image before it")
    net.layers = [replace(first, op=Scale()), *others]
    refused(f"net '{TOY}' has no 'conv1_1', expected a convolution of 3x3x3")
    net.layers = [first, *others]
    net.preprocessing = Preprocessing(MeanImage("m", np.ones((3, 2, 2), np.float32)))
    refused("the net has a mean for each pixel ('m'), expected one for each channel")
    wide = next(layer for layer in net.layers if layer.name == "conv3_2")
    assert isinstance(wide.op, Convolution)
    wide.blobs[0].shape = (32, 32, 5, 5)
    refused(f"net '{TOY}' has 32x32x5x5, 32 as 'conv3_2', expected a convolution of 32x3x3 with a")
    wide.name = "other"
    refused(
        f"net '{TOY}' has no 'conv3_2', expected a convolution of 32x3x3 with a bias, as in VGG"
    )


def test_weights_of_other_vggs(net, tmp_path):
    write_trunk(net, tmp_path / "a.safetensors")
    model = read_weights(tmp_path / "a.safetensors")
    model.layers = [layer for layer in model.layers if layer.name != "features.17"]  # as in vgg19
    with pytest.raises(WeightsError) as error:
        from_torchvision(model, Preprocessing())
    assert_one_line(error, "has no 'features.17', expected a convolution of 32x3x3", "vgg16")
