"""Nets in upstream's terms: what PADDING and INTERP become, and that OpenCV takes it as it is."""

import re

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplab_repro.caffe import load_weights, read_caffemodel, read_net
from deeplab_repro.convert.caffe import stock_net, to_caffe, write_caffe
from deeplab_repro.engines.exact import exact_blobs
from deeplab_repro.engines.opencv import BY_CAFFE, OpenCVEngine
from deeplab_repro.errors import NetError, WeightsError
from deeplab_repro.models.loading import load_net
from deeplab_repro.net.channel_layers import BN
from deeplab_repro.net.layers import Convolution, Interp, Padding, ReLU
from deeplab_repro.net.net import Layer, Net
from tests.conftest import assert_one_line
from tests.slow_layers import net_of, one_layer, pad_or_crop, random_input, scores_of

# The layer types of BVLC's Caffe that our nets come to.
STOCK = {
    *("Input", "Convolution", "Deconvolution", "ReLU", "Pooling", "Dropout", "InnerProduct"),
    *("Eltwise", "Concat", "Softmax", "Split"),
}

needs_importer = pytest.mark.skipif(not BY_CAFFE, reason="this OpenCV has no Caffe importer")


def run(net, data):
    """The last layer's output of the converted files, in bare OpenCV."""
    prototxt, caffemodel = to_caffe(net, data.shape)
    loaded = cv2.dnn.readNetFromCaffe(
        np.frombuffer(prototxt, np.uint8), np.frombuffer(caffemodel, np.uint8)
    )
    loaded.setInput(data)
    return loaded.forward()


@needs_importer
@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 9),
    st.integers(0, 9),
    st.sampled_from([1, -1]),
    st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 30), st.integers(1, 30)),
)
def test_padding_is_said_in_stock_layers(pad_beg, pad_end, sign, shape):
    pad_beg, pad_end = sign * pad_beg, sign * pad_end
    if min(shape[2:]) + pad_beg + pad_end < 1:
        shape = (*shape[:2], shape[2] + 18, shape[3] + 18)
    data = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    net = one_layer(Padding(pad_beg, pad_end), shape)
    # Products with 1 and sums with 0 are exact.
    np.testing.assert_array_equal(run(net, data), pad_or_crop(data, pad_beg, pad_end))
    assert {layer.type for layer in stock_net(net).layers} == {"Convolution"}


@needs_importer
@settings(max_examples=20, deadline=None)
@given(st.integers(-3, 0), st.integers(-3, 0), st.integers(7, 12), st.integers(7, 12))
def test_interp_crops_first(pad_beg, pad_end, height, width):
    data = np.random.default_rng(0).normal(size=(1, 2, height, width)).astype(np.float32)
    cropped = pad_or_crop(data, pad_beg, pad_end)
    for size in ({"zoom_factor": 3}, {"shrink_factor": 2}, {"height": 5, "width": 8}):
        whole = one_layer(Interp(pad_beg=pad_beg, pad_end=pad_end, **size), data.shape)
        plain = one_layer(Interp(**size), cropped.shape)
        np.testing.assert_array_equal(run(whole, data), run(plain, cropped))


@needs_importer
def test_shrinking_as_the_labels_of_the_training_nets():
    data = np.arange(306 * 306, dtype=np.float32).reshape(1, 1, 306, 306)
    net = one_layer(Interp(shrink_factor=8, pad_beg=-1), data.shape)
    np.testing.assert_array_equal(run(net, data), data[:, :, 1::8, 1::8])


def test_weights_are_shared_and_must_be_there(tiny):
    net = read_net(tiny)
    with pytest.raises(WeightsError, match="layer 'conv' has no weights"):
        to_caffe(net)
    net.fill_random(0)
    weights = [blob.data for layer in stock_net(net).layers for blob in layer.blobs]
    assert all(a is b.data for a, b in zip(weights, net.layers[0].blobs, strict=False))


@needs_importer
@pytest.mark.golden
@pytest.mark.parametrize("name", ["DeepLab", "DeepLab-MSc-LargeFOV"])
def test_a_whole_net_in_bare_opencv(golden, tmp_path, name):
    folder = golden / "nets" / name
    net = read_net(folder / "deploy.prototxt")
    load_weights(net, folder / "weights.caffemodel")
    with np.load(folder / "expected.npz") as expected:
        data, theirs = expected["input"], expected["scores"]
    # As for the engine: float32 sums in another order.
    assert np.abs(run(net, data) - theirs).max() <= 1e-4 * max(1, theirs.std())
    # What was written can be read again, with the same weights under the same names.
    prototxt, caffemodel = to_caffe(net)
    (tmp_path / "net.prototxt").write_bytes(prototxt)
    (tmp_path / "net.caffemodel").write_bytes(caffemodel)
    again = read_net(tmp_path / "net.prototxt")
    assert again.dialect == read_caffemodel(tmp_path / "net.caffemodel").dialect == "Caffe"
    load_weights(again, tmp_path / "net.caffemodel")
    ours = {layer.name: layer.blobs for layer in again.layers}
    for layer in (layer for layer in net.layers if layer.blobs):
        for blob, copy in zip(layer.blobs, ours[layer.name], strict=True):
            np.testing.assert_array_equal(blob.data, copy.data)
    assert again.output_shape() == net.output_shape()


# --- files for BVLC's Caffe, which has no Interp


def written_and_read(net, folder):
    files = folder / "x.prototxt", folder / "x.caffemodel"
    write_caffe(net, *files, interp=False)
    again = read_net(files[0])
    load_weights(again, files[1])
    return again


@pytest.mark.parametrize("crop", [(0, 0), (-1, 0), (-2, -1)])
@pytest.mark.parametrize("zoom", [1, 2, 3, 8])
def test_interp_as_a_deconvolution(tmp_path, zoom, crop):
    # Whole numbers: with a factor of 1, 2 or 8 no sum is rounded.
    data = np.random.default_rng(0).integers(-999, 999, (2, 3, 9, 7)).astype(np.float32)
    net = one_layer(Interp(zoom_factor=zoom, pad_beg=crop[0], pad_end=crop[1]), data.shape)
    again = written_and_read(net, tmp_path)
    assert [layer.type for layer in again.layers if layer.name == "a"] == ["Deconvolution"]
    expected = scores_of(OpenCVEngine(net, "cpu"), data)
    found = scores_of(OpenCVEngine(again, "cpu"), data)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3 if zoom == 3 else 0)


def test_stock_terms_only(tmp_path):
    net = load_net("ToyVOC-MSc-LargeFOV")
    net.layers[0].strict_dim = False
    net.layers.append(Layer("pad", Padding(-3, 2), (net.output,), ("pad",)))
    written_and_read(net, tmp_path)
    text = (tmp_path / "x.prototxt").read_text()
    assert set(re.findall(r'type: "(\w+)"', text)) <= STOCK
    fields = set(re.findall(r"^\s*(\w+)(?::| {)", text, re.MULTILINE))
    assert "dilation" in fields
    assert not fields & {"interp_param", "padding_param", "strict_dim", "hole", "hole_h", "hole_w"}


@pytest.mark.parametrize("size", [{"shrink_factor": 2}, {"height": 9, "width": 9}])
def test_an_interp_that_is_no_deconvolution(tmp_path, size):
    net = one_layer(Interp(**size), (1, 3, 9, 7))
    with pytest.raises(NetError) as caught:
        write_caffe(net, tmp_path / "x.prototxt", tmp_path / "x.caffemodel", interp=False)
    assert_one_line(
        caught, "layer 'a' (Interp)", "expected a zoom_factor", "convert it with Interp"
    )
    assert not list(tmp_path.iterdir())


def test_names_of_new_layers_are_new(tmp_path):
    conv = Convolution(4, (3, 3), pad=(1, 1), stride=(8, 8))
    layers = [
        Layer("up_crop", conv, ("data",), ("up_crop_1",)),
        Layer("up_1", ReLU(), ("up_crop_1",), ("up_1",)),
        Layer("up", Interp(zoom_factor=2, pad_beg=-1, pad_end=-1), ("up_1",), ("up",)),
    ]
    net = Net("n", "data", (1, 3, 40, 40), layers)
    net.fill_random(0)
    again = written_and_read(net, tmp_path)
    names = [layer.name for layer in again.layers]
    assert names == ["up_crop", "up_1", "up_crop_2_1", "up_crop_2", "up"]
    assert again.outputs == net.outputs


@pytest.mark.parametrize("in_place", [True, False])
def test_a_bn_becomes_a_batch_norm_and_a_scale(in_place):
    tops = ("c",) if in_place else ("n",)
    net = net_of(
        Layer("c", Convolution(4, (1, 1)), ("data",), ("c",)),
        Layer("n", BN(0.1), ("c",), tops),
        Layer("r", ReLU(), tops, ("r",)),
        shape=(1, 3, 5, 6),
    )
    stock = stock_net(net)
    assert [layer.type for layer in stock.layers] == ["Convolution", "BatchNorm", "Scale", "ReLU"]
    assert len({layer.name for layer in stock.layers}) == 4
    data = random_input(*net.input_shape)
    blobs = {"r", *tops}
    found, expected = exact_blobs(stock, data, blobs), exact_blobs(net, data, blobs)
    for blob in blobs:
        np.testing.assert_allclose(found[blob], expected[blob], rtol=1e-6, atol=1e-5)
