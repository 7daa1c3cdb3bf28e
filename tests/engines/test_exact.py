"""Nets in float64: as the slow layers compute, and as the original did."""

import numpy as np
import pytest

from deeplab_repro.caffe import load_weights, read_net
from deeplab_repro.convert.onnx_layers import WRITERS
from deeplab_repro.engines.exact import RULES, exact_blobs
from deeplab_repro.net.layers import (
    Concat,
    Convolution,
    Deconvolution,
    Dropout,
    Eltwise,
    InnerProduct,
    Interp,
    Padding,
    Pooling,
    ReLU,
    Softmax,
    Split,
)
from deeplab_repro.net.net import Layer
from deeplab_repro.net.preprocess import preprocess
from tests import slow_layers
from tests.slow_layers import one_layer, random_input, weights

SHAPE = (2, 4, 9, 7)
DATA = random_input(*SHAPE)


def exact(op, bottoms=("data",)):
    """One layer's net, and what it gives."""
    net = one_layer(op, SHAPE, bottoms)
    found = exact_blobs(net, DATA, ["a"])["a"]
    assert found.dtype == np.float64
    assert found.shape == net.output_shape()
    return net, found


def assert_close(found, expected):
    # Sums of float64 in another order.
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


def test_all_that_is_converted_runs():
    assert {*RULES, "Slice"} == {*WRITERS, "Dropout", "Split"}


@pytest.mark.parametrize(
    "op",
    [
        Convolution(6, (3, 2), (1, 2), (2, 1), (2, 3), group=2),
        Convolution(3, (1, 1), bias=False),
        Deconvolution(6, (4, 3), (1, 2), (2, 3), group=2),
        Deconvolution(4, (2, 2), group=4, bias=False),
    ],
)
def test_convolutions(op):
    net, found = exact(op)
    slow = slow_layers.convolve if isinstance(op, Convolution) else slow_layers.deconvolve
    assert_close(found, slow(DATA.astype(np.float64), op, *map(np.float64, weights(net))))


@pytest.mark.parametrize("method", ["MAX", "AVE"])
@pytest.mark.parametrize(
    "sizes",
    [((3, 3), (1, 1), (2, 2)), ((2, 3), (0, 1), (2, 3)), ((5, 1), (3, 0), (3, 3)), ((0, 0),)],
)
def test_poolings(method, sizes):
    op = Pooling(method, *sizes)
    assert_close(exact(op)[1], slow_layers.pool(DATA.astype(np.float64), op))


@pytest.mark.parametrize(
    "op",
    [Interp(zoom_factor=8), Interp(shrink_factor=4, pad_beg=-1), Interp(height=5, width=13)],
)
def test_interpolations(op):
    # Caffe's positions are float32: an error of 1e-6 pixels between neighbours 200 apart.
    np.testing.assert_allclose(exact(op)[1], slow_layers.interpolate(DATA, op), atol=2e-3)


def test_small_layers():
    data, twice = DATA.astype(np.float64), ("data", "data")
    assert_close(exact(ReLU(0.5))[1], np.where(data > 0, data, 0.5 * data))
    assert_close(exact(Softmax())[1], slow_layers.softmax(data))
    assert_close(exact(Padding(-1, 0))[1], slow_layers.pad_or_crop(data, -1, 0))
    assert_close(exact(Padding(1, 2))[1], slow_layers.pad_or_crop(data, 1, 2))
    assert_close(exact(Eltwise("SUM", (2, -0.5)), twice)[1], 1.5 * data)
    assert_close(exact(Eltwise("PROD"), twice)[1], data**2)
    assert_close(exact(Eltwise("MAX"), twice)[1], data)
    assert_close(exact(Concat(2), twice)[1], np.concatenate([data, data], 2))
    net, found = exact(InnerProduct(5))
    weight, bias = map(np.float64, weights(net))
    assert_close(found, data.reshape(2, -1) @ weight.T + bias)


def test_in_place_and_passed_on():
    net = slow_layers.net_of(
        Layer("s", Split(), ("data",), ("a", "b")),
        Layer("r", ReLU(), ("a",), ("a",)),
        Layer("d", Dropout(), ("b",), ("c",)),
        shape=SHAPE,
    )
    found = exact_blobs(net, DATA, ["c", "a"])
    assert list(found) == ["c", "a"]
    np.testing.assert_array_equal(found["c"], DATA)
    np.testing.assert_array_equal(found["a"], np.maximum(DATA, 0))


def test_rounded_to_float32():
    op = Convolution(6, (3, 3))
    net = one_layer(op, SHAPE)
    found, plain = (exact_blobs(net, DATA, ["a"], rounded)["a"] for rounded in (True, False))
    np.testing.assert_array_equal(found, plain.astype(np.float32))
    assert (found != plain).any()


@pytest.mark.golden
@pytest.mark.parametrize("name", ["DeepLab", "DeepLab-MSc-LargeFOV"])
def test_the_originals_scores(golden, name):
    folder = golden / "nets" / name
    net = read_net(folder / "deploy.prototxt")
    load_weights(net, folder / "weights.caffemodel")
    with np.load(folder / "expected.npz") as expected:
        data, theirs = preprocess(expected["image"], net.input_shape[2:]), expected["scores"]
    # What the original's float32 makes of it: a fifth of what other float32 is allowed.
    difference = exact_blobs(net, data, [net.output])[net.output] - theirs
    assert np.abs(difference).max() <= 2e-5 * theirs.std()
