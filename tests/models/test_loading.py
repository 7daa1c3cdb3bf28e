"""Nets and weights by name and by file, and what is neither."""

import os
from pathlib import Path

import numpy as np
import pytest

from deeplab_repro.caffe import load_weights, read_net, write_caffemodel
from deeplab_repro.convert.safetensors import write_safetensors
from deeplab_repro.errors import ArgumentError, DeepLabError, FileError, NetError, WeightsError
from deeplab_repro.models.loading import files_of, fill, load_net, read_model
from deeplab_repro.models.registry import MODELS
from tests.conftest import PAPER, TINY, V2, assert_one_line

TOY = "ToyVOC-LargeFOV"
CLASSIFIER = TINY.replace("fc8", "fc8_${EXP}")


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """The empty folder that the tests are in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def arrays(net):
    return [blob.data for layer in net.layers for blob in layer.blobs]


def assert_same_weights(net, other):
    for ours, theirs in zip(arrays(net), arrays(other), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("name", MODELS)
def test_models_by_name(name):
    net = read_model(name)
    assert net.name == name
    assert all(data is None for data in arrays(net))


def test_variables_go_before_the_models_own(tmp_path):
    assert "fc8_toyvoc" in {layer.name for layer in read_model(TOY).layers}
    assert "fc8_mine" in {layer.name for layer in read_model(TOY, {"EXP": "mine"}).layers}
    path = tmp_path / "net.prototxt"
    path.write_text(CLASSIFIER)
    assert "fc8_voc12" in {layer.name for layer in read_model(path).layers}
    assert "fc8_mine" in {layer.name for layer in read_model(str(path), {"EXP": "mine"}).layers}


def test_a_name_goes_before_a_file_and_a_path_is_a_file(here):
    (here / "DeepLab").write_text(TINY)
    assert read_model("DeepLab").name == "DeepLab"
    assert read_model(Path("DeepLab")).name == "tiny"
    assert read_model(f".{os.sep}DeepLab").name == "tiny"
    (here / "other").write_text(TINY)
    assert read_model("other").name == "tiny"


def test_a_safetensors_holds_its_own_net(tiny):
    net = load_net(tiny, "random:3")
    path = tiny.with_suffix(".safetensors")
    write_safetensors(net, path)
    tiny.unlink()
    assert all(data is None for data in arrays(read_model(path)))
    for model, weights in ((path, None), (str(path), None), (path, path)):
        assert_same_weights(load_net(model, weights), net)
    assert files_of(path, None) == [path, path]
    with pytest.raises(ArgumentError, match="holds its own net: leave out --set"):
        read_model(path, {"EXP": "x"})


def test_weights_of_a_model_and_by_its_name():
    shipped = MODELS[TOY].shipped_weights
    net = load_net(TOY)
    expected = read_net(MODELS[TOY].test_prototxt, {"EXP": MODELS[TOY].exp})
    load_weights(expected, shipped)
    assert_same_weights(net, expected)
    prototxt = MODELS[TOY].test_prototxt
    assert_same_weights(load_net(prototxt, TOY, {"EXP": "toyvoc"}), net)
    assert_same_weights(load_net(TOY, shipped), net)
    assert_same_weights(load_net(str(prototxt), str(shipped), {"EXP": "toyvoc"}), net)


def test_random_weights_go_before_a_models_own():
    net = load_net(TOY, "random:7")
    expected = read_model(TOY)
    expected.fill_random(7)
    assert_same_weights(net, expected)
    fill(expected, "random:8")
    assert (arrays(net)[0] != arrays(expected)[0]).any()


@pytest.mark.parametrize("seed", ["", "-1", "x", "1.5", "²", "٣", "1" * 10, " 1"])
def test_seeds(tiny, seed):
    net = read_net(tiny)
    with pytest.raises(ArgumentError) as caught:
        fill(net, f"random:{seed}")
    assert_one_line(caught, f"weights are 'random:{seed}', expected random: and a whole number")
    assert all(data is None for data in arrays(net))


@pytest.mark.parametrize("name", [*PAPER, *V2])
def test_weights_that_are_not_there(name):
    for weights in (None, name):
        with pytest.raises(ArgumentError) as caught:
            load_net(name, weights)
        released = MODELS[name].train_weights is not None
        assert_one_line(caught, name, "give a caffemodel")
        assert ("deeplab-repro fetch" in str(caught.value)) == released


@pytest.mark.parametrize(
    ("model", "weights", "kind", "expected"),
    [
        ("Deeplab", None, ArgumentError, "'Deeplab'"),
        ("", None, ArgumentError, "model is empty, expected a path"),
        ("nothing.prototxt", None, FileError, "nothing.prototxt: cannot be read"),
        (Path("DeepLab"), None, FileError, "DeepLab: cannot be read"),
        (".", None, FileError, "is a folder"),
        (
            "net.npz",
            None,
            ArgumentError,
            "deeplab-repro convert --weights net.npz --to safetensors",
        ),
        ("tiny.prototxt", None, ArgumentError, "net 'tiny' needs weights"),
        ("tiny.prototxt", "nothing", FileError, "nothing: cannot be read"),
        ("tiny.prototxt", "DeepLab", ArgumentError, "weights of DeepLab are not here"),
        ("tiny.prototxt", TOY, WeightsError, "has no layer 'conv'"),
        ("tiny.prototxt", "tiny.prototxt", DeepLabError, "tiny.prototxt: "),
        (TOY, "tiny.caffemodel", WeightsError, "has no layer 'conv1_1'"),
    ],
)
def test_what_is_refused(tiny, here, model, weights, kind, expected):
    net = read_net(tiny)
    net.fill_random(0)
    write_caffemodel(net, here / "tiny.caffemodel")
    with pytest.raises(kind) as caught:
        load_net(model, weights)
    assert_one_line(caught, expected)


def test_a_variable_without_a_value(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(CLASSIFIER.replace("EXP", "WHAT"))
    with pytest.raises(NetError) as caught:
        load_net(path, "random:0")
    assert_one_line(caught, path, "--set WHAT=VALUE")
