"""Nets in upstream's terms: what PADDING and INTERP become, and that OpenCV takes it as it is."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplab_repro.caffe import load_weights, read_caffemodel, read_net
from deeplab_repro.convert.caffe import fits_any_size, stock_net, to_caffe
from deeplab_repro.errors import WeightsError
from deeplab_repro.layers import Interp, Padding
from deeplab_repro.net import Layer, Net


def run(net, data):
    """The last layer's output of the converted files, in bare OpenCV."""
    prototxt, caffemodel = to_caffe(net, data.shape)
    loaded = cv2.dnn.readNetFromCaffe(
        np.frombuffer(prototxt, np.uint8), np.frombuffer(caffemodel, np.uint8)
    )
    loaded.setInput(data)
    return loaded.forward()


def one_layer(op, shape):
    return Net("n", "data", shape, [Layer("a", op, ("data",), ("a",))])


def pad_or_crop(x, pad_beg, pad_end):
    grown = [(0, 0), (0, 0), *[(max(pad_beg, 0), max(pad_end, 0))] * 2]
    x = np.pad(x, grown)
    begin, end = max(-pad_beg, 0), max(-pad_end, 0)
    return x[:, :, begin : x.shape[2] - end, begin : x.shape[3] - end]


@settings(max_examples=80, deadline=None)
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


@settings(max_examples=40, deadline=None)
@given(st.integers(-3, 0), st.integers(-3, 0), st.integers(7, 12), st.integers(7, 12))
def test_interp_crops_first(pad_beg, pad_end, height, width):
    data = np.random.default_rng(0).normal(size=(1, 2, height, width)).astype(np.float32)
    cropped = pad_or_crop(data, pad_beg, pad_end)
    for size in ({"zoom_factor": 3}, {"shrink_factor": 2}, {"height": 5, "width": 8}):
        whole = one_layer(Interp(pad_beg=pad_beg, pad_end=pad_end, **size), data.shape)
        plain = one_layer(Interp(**size), cropped.shape)
        np.testing.assert_array_equal(run(whole, data), run(plain, cropped))


def test_shrinking_as_the_labels_of_the_training_nets():
    data = np.arange(306 * 306, dtype=np.float32).reshape(1, 1, 306, 306)
    net = one_layer(Interp(shrink_factor=8, pad_beg=-1), data.shape)
    np.testing.assert_array_equal(run(net, data), data[:, :, 1::8, 1::8])


def test_which_nets_fit_any_size():
    assert fits_any_size(one_layer(Padding(1, 0), (1, 1, 9, 9)))
    assert fits_any_size(one_layer(Interp(zoom_factor=8), (1, 1, 9, 9)))
    assert not fits_any_size(one_layer(Interp(shrink_factor=2), (1, 1, 9, 9)))
    assert not fits_any_size(one_layer(Interp(height=4, width=4), (1, 1, 9, 9)))


def test_weights_are_shared_and_must_be_there(tiny):
    net = read_net(tiny)
    with pytest.raises(WeightsError, match="layer 'conv' has no weights"):
        to_caffe(net)
    net.fill_random(0)
    weights = [blob.data for layer in stock_net(net).layers for blob in layer.blobs]
    assert all(a is b.data for a, b in zip(weights, net.layers[0].blobs, strict=False))


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
