"""Weights that layers share by a param's name: stored once, and shared again when read."""

import json
import zipfile

import numpy as np
import pytest

from deeplab_repro.caffe import load_weights, read_caffemodel, read_net
from deeplab_repro.convert.caffe import write_caffe
from deeplab_repro.convert.net_json import net_from_json, net_to_json
from deeplab_repro.convert.npz import read_npz, write_npz
from deeplab_repro.convert.onnx import to_onnx
from deeplab_repro.engines.opencv import OpenCVEngine
from deeplab_repro.errors import NetError
from deeplab_repro.net.net import Net
from tests.caffe.caffe_files import CONV, INPUT, current

ONCE = 2 * 3 * 9 + 2
TWICE = CONV.replace("}", "dilation: 2 }").replace("pad: 1", "pad: 2")


@pytest.fixture
def net(tmp_path) -> Net:
    """Two convolutions of one image that share both params, and their sum."""
    path = tmp_path / "shared.prototxt"
    params = 'param { name: "w" lr_mult: 2 } param { name: "b" }'
    text = INPUT + current("Convolution", f"{params} {CONV}", top="a")
    text += current("Convolution", f"{params} {TWICE}", top="b")
    path.write_text(text + current("Eltwise", 'bottom: "b"', bottom="a"))
    found = read_net(path)
    found.fill_random(0)
    return found


def shared(found: Net) -> bool:
    first, second, _ = found.layers
    assert [blob.name for blob in first.blobs] == ["w", "b"]
    return all(a is b for a, b in zip(first.blobs, second.blobs, strict=True))


def test_random_weights_are_those_of_the_first_layer(net):
    first, *_ = net.layers
    # It takes the image, whose values of about 64 are brought down to 1.
    assert 0.5 < first.blobs[0].data.std() * 64 / np.sqrt(2 / 27) < 1.5


def test_npz_has_them_once(net, tmp_path):
    write_npz(net, tmp_path / "net.npz")
    with zipfile.ZipFile(tmp_path / "net.npz") as archive:
        assert archive.namelist() == ["net.json", "a/weight.npy", "a/bias.npy"]
    found = read_npz(tmp_path / "net.npz")
    assert shared(found)
    assert found.parameters == ONCE
    np.testing.assert_array_equal(found.layers[1].blobs[0].data, net.layers[0].blobs[0].data)


def test_without_a_name_npz_has_each_layers(net, tmp_path):
    for blob in net.layers[0].blobs:
        blob.name = ""
    write_npz(net, tmp_path / "net.npz")
    first, second, _ = read_npz(tmp_path / "net.npz").layers
    assert first.blobs[0] is not second.blobs[0]
    np.testing.assert_array_equal(first.blobs[0].data, second.blobs[0].data)


def test_an_npz_whose_shapes_differ_is_refused(net):
    document = json.loads(net_to_json(net))
    first = document["layers"][0]
    first["parameters"]["kernel"], first["parameters"]["pad"] = [1, 1], [0, 0]
    first["blobs"]["weight"]["shape"] = [2, 3, 1, 1]
    with pytest.raises(NetError, match="layer 'b' shares param 'w' with layer 'a', but wants"):
        net_from_json(json.dumps(document))


def test_caffe_keeps_the_names(net, tmp_path):
    prototxt, caffemodel = tmp_path / "net.prototxt", tmp_path / "net.caffemodel"
    write_caffe(net, prototxt, caffemodel)
    found = read_net(prototxt)
    assert load_weights(found, caffemodel) == []
    assert shared(found)
    # As Caffe writes it: each layer has its copy.
    copies = [layer.blobs for layer in read_caffemodel(caffemodel).layers if layer.blobs]
    assert len(copies) == 2


def test_onnx_has_them_once(net):
    values = net.layers[0].blobs[0].data.tobytes()
    assert to_onnx(net, net.input_shape, ["y"]).count(values) == 1


def test_opencv_runs_them(net):
    image = np.random.default_rng(0).standard_normal((1, 3, 9, 9), np.float32)
    blobs = OpenCVEngine(net, "cpu").blobs(image, ["a", "b", "y"])
    np.testing.assert_allclose(blobs["a"] + blobs["b"], blobs["y"], atol=1e-6)
    assert not np.array_equal(blobs["a"], blobs["b"])  # the holes differ
