"""Weights of .safetensors files, also of other programs, matched by layer name."""

import numpy as np
import pytest

from deeplab_repro.caffe import load_weights, read_net, read_weights
from deeplab_repro.errors import FormatError, WeightsError
from deeplab_repro.files.safetensors import write_arrays
from deeplab_repro.net.channel_layers import BatchNorm
from deeplab_repro.net.layers import Convolution
from deeplab_repro.net.net import Layer, Net
from tests.conftest import assert_one_line


@pytest.fixture
def arrays(tiny):
    """Those of the tiny net as another program would name and order them."""
    net = read_net(tiny)
    net.fill_random(0)
    found = {f"{x.name}.bias": x.blobs[1].data for x in net.layers if x.blobs}
    found |= {f"{x.name}.weight": x.blobs[0].data for x in net.layers if x.blobs}
    return {"head.weight": np.ones((2, 3)), "scale": np.ones(1), **found}


def test_by_layer_name(tiny, arrays, tmp_path):
    net = read_net(tiny)
    write_arrays(tmp_path / "a.safetensors", arrays, {})
    assert load_weights(net, tmp_path / "a.safetensors") == []
    for layer in (layer for layer in net.layers if layer.blobs):
        weight, bias = layer.blobs
        np.testing.assert_array_equal(weight.data, arrays[f"{layer.name}.weight"])
        np.testing.assert_array_equal(bias.data, arrays[f"{layer.name}.bias"])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"fc8.weight": None, "fc8.bias": None}, "has no layer 'fc8'; the nearest in the file: "),
        ({"fc8.bias": None}, "layer 'fc8' has 1 blobs, expected 2"),
        ({"fc8.more": np.ones(1)}, "layer 'fc8' has 3 blobs, expected 2"),
        ({"fc8.weight": np.ones((3, 5, 1, 1))}, "the weight of layer 'fc8' is 3x5x1x1, expected"),
    ],
)
def test_what_does_not_fit(tiny, arrays, tmp_path, changes, expected):
    found = {name: x for name, x in {**arrays, **changes}.items() if x is not None}
    write_arrays(tmp_path / "a.safetensors", found, {})
    with pytest.raises(WeightsError) as error:
        load_weights(read_net(tiny), tmp_path / "a.safetensors")
    assert_one_line(error, f"{tmp_path / 'a.safetensors'}: ", expected)


def test_statistics_of_pytorch(tmp_path):
    net = Net("n", "data", (1, 3, 4, 5), [Layer("bn", BatchNorm(), ("data",), ("bn",))])
    arrays = {"bn.running_var": np.full(3, 4), "bn.running_mean": np.arange(3)}
    path = tmp_path / "a.safetensors"
    write_arrays(path, {**arrays, "bn.num_batches_tracked": np.ones(())}, {})
    load_weights(net, path)
    assert [blob.data.tolist() for blob in net.layers[0].blobs] == [[0, 1, 2], [4, 4, 4], [1]]
    # Caffe's has no weight and bias: a Scale has them, under its own name.
    write_arrays(path, {**arrays, "bn.weight": np.ones(3), "bn.bias": np.ones(3)}, {})
    with pytest.raises(WeightsError, match="layer 'bn' has 4 blobs, expected 3"):
        load_weights(net, path)


def test_names_that_are_none(tmp_path):
    path = tmp_path / "a.safetensors"
    for name, expected in (
        ("w", "holds no arrays named <layer>.weight"),
        ("a\nb.weight", "a layer is named 'a\\nb', expected a short name to print"),
        ("a" * 300 + ".weight", "expected a short name"),
    ):
        write_arrays(path, {name: np.ones(1)}, {})
        with pytest.raises(FormatError) as error:
            read_weights(path)
        assert_one_line(error, f"{path}: ", expected)


def test_a_layer_without_bias(tmp_path):
    layer = Layer("c", Convolution(1, (1, 1), bias=False), ("data",), ("c",))
    net = Net("n", "data", (1, 1, 4, 5), [layer])
    path = tmp_path / "a.safetensors"
    write_arrays(path, {"c.weight": np.ones((1, 1, 1, 1)), "c.bias": np.ones(1)}, {})
    with pytest.raises(WeightsError, match="layer 'c' has 2 blobs, expected 1"):
        load_weights(net, path)
