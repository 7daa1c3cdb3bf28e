"""Layers that make phases give the numbers of the plain net: with OpenCV's CPU in CUDA's place."""

import numpy as np
import pytest

from deeplab_repro.caffe import load_weights, read_net
from deeplab_repro.engines.opencv import OpenCVEngine
from deeplab_repro.net.layers import Convolution, Dropout, ReLU
from deeplab_repro.net.net import Layer
from deeplab_repro.net.preprocess import preprocess
from tests.slow_layers import net_of, random_input, scores_of

pytestmark = pytest.mark.usefixtures("narrow_as_wide")


def convolution(name, bottom, hole, channels):
    op = Convolution(channels, (3, 3), pad=hole, hole=hole)
    return Layer(name, op, (bottom,), (name,))


def assert_same(engine, data, names):
    """The same blobs as of the plain net, up to sums of float32 in another order."""
    found = engine.blobs(data, names)
    for name, expected in OpenCVEngine(engine.net, "cpu").blobs(data, names).items():
        assert found[name].shape == expected.shape
        assert np.abs(found[name] - expected).max() <= 1e-5 * max(1, expected.std()), name


def layer_names(engine):
    """The layers that a plain net lacks."""
    (built,) = engine._built.values()
    return [name for name in built.getLayerNames() if "_" in name]


@pytest.mark.parametrize("hole", [(2, 2), (4, 4), (2, 3), (1, 2)])
@pytest.mark.parametrize("shape", [(1, 3, 12, 12), (2, 3, 13, 12), (2, 3, 9, 11), (1, 3, 1, 1)])
def test_a_block_at_any_size(on_cuda, hole, shape):
    net = net_of(
        convolution("a", "data", hole, 6),
        Layer("relu", ReLU(), ("a",), ("a",)),
        Layer("drop", Dropout(), ("a",), ("a",)),
        convolution("b", "a", hole, 4),
        convolution("c", "b", hole, 5),
        Layer("end", ReLU(0.5), ("c",), ("c",)),
        shape=shape,
    )
    engine = on_cuda(net, phases=True)
    assert_same(engine, random_input(*shape), ["c"])
    assert any("mask" in name for name in layer_names(engine)) == any(
        size % step for size, step in zip(shape[2:], hole, strict=True)
    )


def test_blobs_within_a_block_and_several_blocks(on_cuda):
    net = net_of(
        convolution("a", "data", (2, 2), 6),
        convolution("b", "a", (2, 2), 6),
        convolution("c", "b", (4, 4), 6),
        shape=(1, 3, 11, 13),
    )
    for names in (["c"], ["b"], ["a", "c"], ["a", "b", "c"]):
        engine = on_cuda(net, phases=True)
        assert_same(engine, random_input(1, 3, 11, 13), names)
        assert layer_names(engine)


def test_layers_on_the_cpu_are_told_once_each(on_cuda, caplog):
    net = net_of(convolution("a", "data", (2, 2), 6), shape=(1, 3, 11, 13))
    on_cuda(net, phases=True).build()
    assert caplog.messages[0].endswith("lacks: 'a'")


@pytest.mark.golden
@pytest.mark.parametrize("name", ["DeepLab", "DeepLab-LargeFOV", "DeepLab-MSc-LargeFOV"])
def test_the_originals_nets(golden, on_cuda, name):
    folder = golden / "nets" / name
    net = read_net(folder / "deploy.prototxt")
    engine = on_cuda(net, phases=True)
    load_weights(net, folder / "weights.caffemodel")
    with np.load(folder / "expected.npz") as expected:
        data, theirs = preprocess(expected["image"], net.input_shape[2:]), expected["scores"]
    assert_same(engine, data, [net.output])
    assert layer_names(engine)
    # The tolerance of the plain net.
    assert np.abs(scores_of(engine, data) - theirs).max() <= 1e-4 * max(1, theirs.std())
