"""Nets as .safetensors: back as they were, under PyTorch's names, and refused on one line."""

import json
import struct

import numpy as np
import pytest

from deeplab_repro.caffe import caffemodel_chunks, load_weights, read_net
from deeplab_repro.convert.safetensors import read_safetensors, write_safetensors
from deeplab_repro.errors import FormatError, WeightsError
from deeplab_repro.files.safetensors import open_safetensors, write_arrays
from deeplab_repro.net.channel_layers import BN, BatchNorm, PReLU, Scale
from deeplab_repro.net.layers import Convolution, InnerProduct
from deeplab_repro.net.net import Layer, Net
from deeplab_repro.net.preprocess import MeanImage, Preprocessing
from tests.caffe.caffe_files import CONV, INPUT, current
from tests.conftest import assert_one_line
from tests.convert.npz_files import assert_same, small


def arrays_of(path):
    with open_safetensors(path) as file:
        return {name: file.read(name) for name in file.arrays}


def came_back(net, tmp_path):
    write_safetensors(net, tmp_path / "net.safetensors")
    found = read_safetensors(tmp_path / "net.safetensors")
    assert_same(found, net)
    return arrays_of(tmp_path / "net.safetensors")


@pytest.mark.golden
@pytest.mark.parametrize("name", ["DeepLab-LargeFOV", "DeepLab-MSc"])
def test_golden_nets(golden, tmp_path, name):
    net = read_net(golden / "nets" / name / "deploy.prototxt")
    load_weights(net, golden / "nets" / name / "weights.caffemodel")
    came_back(net, tmp_path)
    found = read_safetensors(tmp_path / "net.safetensors")
    assert b"".join(caffemodel_chunks(found)) == b"".join(caffemodel_chunks(net))


def test_every_field(tmp_path):
    arrays = came_back(small(), tmp_path)
    shapes = {name: array.shape for name, array in arrays.items()}
    assert shapes == {"a/conv.weight": (2, 3, 3, 1), "a/conv.bias": (2,), "fc.weight": (4, 162)}


def test_odd_names(tmp_path):
    names = ["a", "a.weight", "a.bias", ".", "mean", "__metadata__", "größe {} \\ \"'"]
    layers = [
        Layer(name, Convolution(2, (1, 1)), ("data" if not i else names[i - 1],), (name,))
        for i, name in enumerate(names)
    ]
    net = Net("n", "data", (1, 2, 4, 5), layers)
    net.fill_random(0)
    assert f"{names[-1]}.bias" in came_back(net, tmp_path)


def of_channels(*ops):
    """A net of layers that follow each other, one named bn1, and then bn2, ..."""
    bottoms = ["data", *(f"bn{i + 1}" for i in range(len(ops)))]
    layers = [
        Layer(top, op, (bottom,), (top,))
        for op, bottom, top in zip(ops, bottoms, bottoms[1:], strict=False)
    ]
    net = Net("n", "data", (1, 3, 4, 5), layers)
    rng = np.random.default_rng(0)
    for blob in (blob for layer in layers for blob in layer.blobs):
        blob.data = rng.uniform(0.1, 2, blob.shape).astype(np.float32)
    return net


@pytest.mark.parametrize("factor", [1, 999.98, 0, np.nan, -0.0, 1e-38])
def test_statistics_are_pytorchs_and_come_back_as_caffes(tmp_path, factor):
    net = of_channels(BatchNorm())
    mean, variance, kept = (blob.data for blob in net.layers[0].blobs)
    mean[0] = np.nan
    kept[:] = factor
    arrays = came_back(net, tmp_path)
    assert ("bn1.factor" in arrays) == (factor != 1)
    with np.errstate(all="ignore"):
        part = 1 / np.float64(kept[0]) if kept[0] else 0.0
        np.testing.assert_array_equal(arrays["bn1.running_mean"], np.float32(mean * part))
        np.testing.assert_array_equal(arrays["bn1.running_var"], np.float32(variance * part))


def test_statistics_that_were_trained_further_hold(tmp_path):
    net = of_channels(BatchNorm())
    path = tmp_path / "net.safetensors"
    write_safetensors(net, path)
    with open_safetensors(path) as file:
        metadata = file.metadata
    arrays = {**arrays_of(path), "bn1.running_mean": np.array([7, 8, 9], np.float32)}
    write_arrays(path, arrays, metadata)
    mean, variance, factor = (blob.data for blob in read_safetensors(path).layers[0].blobs)
    assert (mean.tolist(), factor.tolist()) == ([7, 8, 9], [1])
    np.testing.assert_array_equal(variance, arrays["bn1.running_var"])


def test_other_layers_of_channels(tmp_path):
    net = of_channels(BN(), PReLU(), PReLU(channel_shared=True), Scale(bias=True))
    shapes = {name: array.shape for name, array in came_back(net, tmp_path).items()}
    assert shapes == {
        **{f"bn1.{name}": (3,) for name in ("weight", "bias", "running_mean", "running_var")},
        **{"bn2.weight": (3,), "bn3.weight": (1,), "bn4.weight": (3,), "bn4.bias": (3,)},
    }


@pytest.mark.parametrize(
    "params", ['param { name: "w" } param { name: "b" }', 'param { name: "w" }']
)
def test_shared_weights_are_there_once(tmp_path, params):
    text = INPUT + current("Convolution", f"{params} {CONV}", top="a")
    text += current("Convolution", f"{params} {CONV}", top="b")
    (tmp_path / "net").write_text(text + current("Eltwise", 'bottom: "b"', bottom="a"))
    net = read_net(tmp_path / "net")
    net.fill_random(0)
    found = came_back(net, tmp_path)
    assert "b.weight" not in found
    assert ("b.bias" in found) == ('"b"' not in params)
    first, second, _ = read_safetensors(tmp_path / "net.safetensors").layers
    assert first.blobs[0] is second.blobs[0]


def test_half(tmp_path):
    net = of_channels(BatchNorm(), Scale(bias=True))
    net.layers[0].blobs[1].data[:] = 1e6  # a variance, which stays float32
    write_safetensors(net, tmp_path / "a", half=True)
    with open_safetensors(tmp_path / "a") as file:
        kinds = {name: stored.dtype for name, stored in file.arrays.items()}
    halved = {"bn2.weight", "bn2.bias"}
    assert kinds == {name: "F16" if name in halved else "F32" for name in kinds}
    for layer, expected in zip(read_safetensors(tmp_path / "a").layers, net.layers, strict=True):
        for blob, other in zip(layer.blobs, expected.blobs, strict=True):
            np.testing.assert_allclose(blob.data, other.data, rtol=2**-11)  # half a step of float16


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (65520, "layer 'bn1': its weight has 65520, expected numbers up to 65,504"),
        (-1e9, "layer 'bn1': its weight has -1e+09, expected numbers"),
        (1e-8, "layer 'bn1': its weight has numbers up to 1e-08, which float16 takes for 0"),
    ],
)
def test_what_does_not_fit_float16(tmp_path, value, expected):
    net = of_channels(Scale(bias=True))
    net.layers[0].blobs[0].data[:] = value
    with pytest.raises(WeightsError) as error:
        write_safetensors(net, tmp_path / "a", half=True)
    assert_one_line(error, expected, "convert it without --half")
    assert not list(tmp_path.iterdir())


def test_no_weights(tmp_path):
    net = Net("n", "data", (1, 3, 4, 5), [Layer("fc", InnerProduct(2), ("data",), ("fc",))])
    with pytest.raises(WeightsError, match="layer 'fc' has no weights, expected them loaded"):
        write_safetensors(net, tmp_path / "a")
    assert not list(tmp_path.iterdir())


def test_a_mean_of_each_pixel(tmp_path):
    net = small()
    values = np.arange(60, dtype=np.float32).reshape(3, 5, 4)
    net.preprocessing = Preprocessing(MeanImage("m", values))
    np.testing.assert_array_equal(came_back(net, tmp_path)["mean"], values)
    refused = refuser(tmp_path / "net.safetensors")
    refused({"mean": values[0]}, "'mean' is 5x4, expected 3xHxW")
    refused({"mean": values[:, :0]}, "'mean' is 3x0x4, expected 3xHxW")
    refused({"mean": values + np.inf}, "'mean' holds NaN or infinity")
    refused({"mean": None}, "holds no 'mean', expected the values of mean_file")


def refuser(path):
    """Assert that a file with other arrays, or another net, is refused on one line."""
    with open_safetensors(path) as file:
        metadata = file.metadata
    whole = arrays_of(path)

    def refused(changes, expected, net=None, kind=FormatError):
        arrays = {name: x for name, x in {**whole, **changes}.items() if x is not None}
        write_arrays(path, arrays, metadata if net is None else net)
        with pytest.raises(kind) as error:
            read_safetensors(path)
        assert_one_line(error, f"{path}: ", expected)

    return refused


def test_what_is_not_its_nets(tmp_path):
    came_back(of_channels(BatchNorm(), PReLU()), tmp_path)
    refused = refuser(tmp_path / "net.safetensors")
    ones = np.ones(3, np.float32)
    refused({"bn2.weight": None}, "holds no 'bn2.weight', expected that array of its net")
    refused({"bn1.running_var": None}, "holds no 'bn1.running_var'")
    refused({"bn1.factor": ones}, "'bn1.factor' is 3, expected 1, as its net has it")
    refused({"bn2.weight": np.ones((3, 1))}, "'bn2.weight' is 3x1, expected 3")
    refused({"bn2.bias": ones}, "holds 'bn2.bias', which its net has not: take it out")
    refused({"x": ones}, "holds 'x', which its net has not")
    refused({}, "holds weights but no net, expected one in its metadata", net={})
    refused({}, "net.json is no JSON", net={"net.json": "{"})


def test_integers_in_place_of_weights(tmp_path):
    path = tmp_path / "net.safetensors"
    came_back(of_channels(PReLU()), tmp_path)
    content = path.read_bytes().replace(b'"dtype":"F32"', b'"dtype":"I32"')
    path.write_bytes(content)
    with pytest.raises(FormatError) as error:
        read_safetensors(path)
    assert_one_line(error, "'bn1.weight' is of I32, expected F16, BF16, F32, F64: save its")


def test_the_net_is_that_of_npz(tmp_path):
    write_safetensors(small(), tmp_path / "a")
    content = (tmp_path / "a").read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    metadata = json.loads(content[8 : 8 + length])["__metadata__"]
    assert list(metadata) == ["made_by", "net.json"]
    assert json.loads(metadata["net.json"])["layers"][0]["name"] == "a/conv"
