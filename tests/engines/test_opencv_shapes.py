"""Shapes inside a net are Caffe's, whatever OpenCV makes of its poolings; or an error says so."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from deeplab_repro.engines import opencv
from deeplab_repro.engines.opencv import OpenCVEngine
from deeplab_repro.engines.opencv_cpu import OpenCVCpuEngine
from deeplab_repro.engines.opencv_shapes import pooled_otherwise
from deeplab_repro.errors import NetError
from deeplab_repro.models.loading import read_model
from deeplab_repro.net.layers import Convolution, Interp, Pooling
from deeplab_repro.net.net import Layer
from tests.conftest import assert_one_line
from tests.slow_layers import convolve, interpolate, net_of, pool, random_input, scores_of

by_caffe = pytest.mark.skipif(not opencv.BY_CAFFE, reason="OpenCV 5 has no Caffe importer")

ONE_AXIS = Pooling("MAX", (5, 1), (3, 0), (3, 3))
"""Caffe drops its last column at a width of 14; OpenCV would only drop rows, which have a pad."""


def hidden(op, shape=(1, 3, 31, 14)):
    """A net of a pooling whose size is hidden by an Interp to another."""
    up = Layer("up", Interp(height=31, width=14), ("p",), ("up",))
    return net_of(Layer("p", op, ("data",), ("p",)), up, shape=shape)


kernels = st.sampled_from([(5, 1), (1, 5), (3, 2), (2, 3)])
strides = st.tuples(st.integers(1, 4), st.integers(1, 4))
sizes = st.tuples(st.integers(5, 15), st.integers(5, 15))


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(["MAX", "AVE"]), kernels, strides, sizes, st.sampled_from([0, 1]))
def test_padded_on_one_axis(method, kernel, stride, size, axis):
    pad = tuple((side - 1) * (number == axis) for number, side in enumerate(kernel))
    assume(any(pad))
    op = Pooling(method, kernel, pad, stride)
    up = Interp(height=9, width=7)
    net = net_of(
        Layer("p", op, ("data",), ("p",)), Layer("up", up, ("p",), ("up",)), shape=(1, 2, 9, 9)
    )
    data = random_input(1, 2, *size)
    # Positions are kept in float32: an error of 1e-6 pixels between neighbours 200 apart.
    expected = interpolate(pool(data, op), up)
    for engine in (OpenCVEngine(net, "cpu"), OpenCVCpuEngine(net)):
        np.testing.assert_allclose(scores_of(engine, data), expected, atol=2e-3)


def test_one_net_for_several_sizes():
    conv = Convolution(3, (3, 3), (1, 1))
    net = net_of(
        Layer("c", conv, ("data",), ("c",)),
        Layer("p", ONE_AXIS, ("c",), ("p",)),
        Layer("z", Interp(zoom_factor=2), ("p",), ("z",)),
        shape=(1, 3, 31, 14),
    )
    engine = OpenCVEngine(net, "cpu")
    weights = [blob.data for blob in net.layers[0].blobs]
    for shape in ((1, 3, 31, 14), (2, 3, 20, 17), (1, 3, 31, 13)):
        data = random_input(*shape)
        expected = interpolate(
            pool(convolve(data, conv, *weights), ONE_AXIS), Interp(zoom_factor=2)
        )
        np.testing.assert_allclose(scores_of(engine, data), expected, atol=2e-3)  # as above


@by_caffe
def test_another_shape_inside_is_an_error(monkeypatch):
    """As if it were not known of this pooling."""
    monkeypatch.setattr(opencv, "pools_by_axis", lambda _: False)
    net = hidden(ONE_AXIS)
    engines = OpenCVEngine(net, "cpu"), OpenCVCpuEngine(net)
    for engine in engines:
        with pytest.raises(NetError) as error:
            scores_of(engine, random_input(*net.input_shape))
        assert_one_line(
            error,
            "at 1x3x31x14: layer 'p' (Pooling) makes 1x3x12x6 in OpenCV 4.",
            "1x3x12x5 in Caffe: use --engine onnxruntime",
        )


@by_caffe
@pytest.mark.parametrize("method", ["MAX", "AVE"])
def test_windows_behind_the_image(on_cuda, method):
    """Caffe makes the lowest float of them, or NaN; OpenCV would make 0."""
    net = hidden(Pooling(method, (2, 2), stride=(2, 4)), shape=(1, 3, 31, 15))
    for make in (OpenCVCpuEngine, on_cuda):
        with pytest.raises(NetError) as error:
            scores_of(make(net), random_input(1, 3, 31, 16 + 7))
        assert_one_line(error, "at 1x3x31x23: layer 'p'", "window behind the image", "another size")
    data = random_input(1, 3, 31, 18)
    expected = interpolate(pool(data, net.layers[0].op), net.layers[1].op)
    np.testing.assert_allclose(scores_of(OpenCVCpuEngine(net), data), expected, atol=2e-3)


@pytest.mark.parametrize(
    ("op", "size"),
    [
        (Pooling("MAX", (2, 2), (1, 1), (2, 2)), 9),  # Caffe drops a window behind the image
        (Pooling("AVE", (3, 3), (0, 0), (2, 2)), 8),  # the last window has two columns only
    ],
)
def test_poolings_that_cuda_does_otherwise(on_cuda, op, size):
    net = net_of(Layer("pool", op, ("data",), ("pool",)), shape=(1, 3, size, size))
    data = random_input(1, 3, size, size)
    assert scores_of(OpenCVEngine(net, "cpu"), data).size
    with pytest.raises(NetError) as error:
        scores_of(on_cuda(net), data)
    assert_one_line(error, f"at 1x3x{size}x{size}", "in layer 'pool'", "use --device cpu")
    fitting = random_input(1, 3, size + 1, size + 1)
    assert scores_of(on_cuda(net), fitting).shape[2:] == net.output_shape(fitting.shape)[2:]


@pytest.mark.parametrize("name", ["DeepLab", "DeepLab-LargeFOV", "DeepLab-MSc"])
def test_cuda_pools_as_caffe_in_the_papers_nets(name):
    net = read_model(name).ending_in_scores()
    for size in (1, 521, 641, 769, 1281):
        fitting = net.fitting_size((size, size))
        assert pooled_otherwise(net, (1, 3, *fitting)) is None
