"""Every layer in ONNX, in onnxruntime and in OpenCV's importer, against NumPy."""

from functools import reduce

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplab_repro.errors import NetError
from deeplab_repro.net.layers import (
    Concat,
    Convolution,
    Deconvolution,
    Eltwise,
    InnerProduct,
    Interp,
    Padding,
    Pooling,
    ReLU,
    Softmax,
)
from deeplab_repro.net.net import Layer
from tests.conftest import assert_one_line
from tests.convert.onnx_runs import Runs, check, written
from tests.slow_layers import (
    convolve,
    deconvolve,
    interpolate,
    net_of,
    one_layer,
    pad_or_crop,
    pool,
    random_input,
    softmax,
)

often = settings(max_examples=20, deadline=None)
pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))
pads = st.tuples(st.integers(0, 3), st.integers(0, 3))
shapes = st.tuples(st.integers(1, 2), st.sampled_from([2, 4]), st.integers(5, 9), st.integers(5, 9))


@often
@given(
    shapes,
    pairs | st.sampled_from([(1, 1), (4, 4)]),
    pads,
    pairs,
    pairs,
    st.sampled_from([1, 2]),
    st.booleans(),
)
def test_convolutions(shape, kernel, pad, stride, hole, group, bias):
    pad = tuple(p + h * (k - 1) // 2 for p, k, h in zip(pad, kernel, hole, strict=True))
    check(Convolution(4, kernel, pad, stride, hole, group, bias), shape, convolve)


@pytest.mark.parametrize("kernel", [(1, 9), (9, 1)])
@pytest.mark.parametrize("stride", [(1, 1), (2, 1)])
@pytest.mark.parametrize("hole", [(1, 1), (1, 2)])
def test_nine_taps_in_a_row(kernel, stride, hole):
    """OpenCV 5.0 takes them for 3x3."""
    op = Convolution(4, kernel, (4, 4), stride, hole, 2)
    check(op, (1, 4, 12, 13), convolve)


@often
@given(shapes, st.tuples(*[st.integers(1, 5)] * 2), pads, pairs, st.sampled_from([1, 2]))
def test_deconvolutions(shape, kernel, pad, stride, group):
    pad = tuple(p % k for p, k in zip(pad, kernel, strict=True))
    check(Deconvolution(6, kernel, pad, stride, group), shape, deconvolve)


@settings(max_examples=40, deadline=None)
@given(
    shapes,
    st.sampled_from(["MAX", "AVE"]),
    st.tuples(*[st.integers(1, 4)] * 2),
    pads,
    st.tuples(*[st.integers(1, 5)] * 2),
)
def test_poolings(shape, method, kernel, pad, stride):
    pad = tuple(p % k for p, k in zip(pad, kernel, strict=True))
    op = Pooling(method, kernel, pad, stride)
    if any(pad) or all(s <= k for s, k in zip(stride, kernel, strict=True)):
        check(op, shape, pool)
    else:
        with pytest.raises(NetError) as error:
            written(one_layer(op, shape))
        assert_one_line(error, "layer 'a' (Pooling) has stride", "expected at most the kernel")


@pytest.mark.parametrize("method", ["MAX", "AVE"])
def test_poolings_of_the_whole_image(method):
    check(Pooling(method, (0, 0)), (2, 3, 5, 6), pool)


@often
@given(
    st.tuples(st.integers(1, 2), st.just(2), st.integers(3, 9), st.integers(3, 9)),
    st.integers(-1, 0),
    st.integers(-1, 0),
    st.builds(lambda z: {"zoom_factor": z}, st.integers(1, 8))
    | st.builds(lambda f: {"shrink_factor": f}, st.integers(1, 4))
    | st.builds(
        lambda z, f: {"zoom_factor": z, "shrink_factor": f}, st.integers(2, 5), st.integers(2, 4)
    )
    | st.builds(lambda h, w: {"height": h, "width": w}, st.integers(1, 20), st.integers(1, 20)),
)
def test_interpolations(shape, pad_beg, pad_end, size):
    # OpenCV 5 keeps a position as a multiple of a rounded 1 / factor: 1e-5 of values up to 200.
    check(Interp(pad_beg=pad_beg, pad_end=pad_end, **size), shape, interpolate, atol=2e-3)


@pytest.mark.parametrize("size", [(5, 1), (1, 5), (1, 1)])
@pytest.mark.parametrize("op", [Interp(height=7, width=9), Interp(zoom_factor=7)])
def test_interpolations_of_one_row_or_column(size, op):
    """OpenCV 5.0 reads what lies beyond, and takes a very small part of it."""
    net = net_of(
        Layer("c", Convolution(4, (1, 1)), ("data",), ("c",)),
        Layer("a", op, ("c",), ("a",)),
        shape=(1, 4, *size),
    )
    net.layers[0].blobs[0].data[:] = np.eye(4).reshape(4, 4, 1, 1)
    net.layers[0].blobs[1].data[:] = 0
    data = random_input(*net.input_shape)
    data[:, 1::2] *= 1e30  # what lies beyond the others
    for _ in range(3):  # or there lies what the memory held before
        for found in Runs(written(net))(data).values():
            for ours, expected in zip(found["a"][0], interpolate(data, op)[0], strict=True):
                scale = np.abs(expected).max()
                np.testing.assert_allclose(ours, expected, atol=1e-4 * scale)


@often
@given(shapes, st.integers(-2, 3), st.integers(-2, 3))
def test_paddings(shape, pad_beg, pad_end):
    check(Padding(pad_beg, pad_end), shape, lambda x, op: pad_or_crop(x, op.pad_beg, op.pad_end))


def test_a_padding_that_crops_more_than_the_image_before_it_grows():
    op = Padding(4, -3)
    check(op, (1, 2, 2, 3), lambda x, op: pad_or_crop(x, op.pad_beg, op.pad_end))


@pytest.mark.parametrize("bottoms", [1, 2, 3, 4])
@pytest.mark.parametrize(
    ("op", "join"),
    [
        (Eltwise(), np.add),
        (Eltwise("PROD"), np.multiply),
        (Eltwise("MAX"), np.maximum),
    ],
)
def test_eltwise(op, join, bottoms):
    """Of blobs that differ."""
    padded = [Layer("p", Padding(i, -i), ("data",), (f"p{i}",)) for i in range(bottoms)]
    last = Layer("a", op, tuple(f"p{i}" for i in range(bottoms)), ("a",))
    net = net_of(*padded, last, shape=(1, 2, 5, 6))
    data = random_input(1, 2, 5, 6) / 50
    expected = reduce(join, [pad_or_crop(data, i, -i) for i in range(bottoms)])
    for found in Runs(written(net))(data).values():
        np.testing.assert_allclose(found["a"], expected, rtol=1e-5)


@pytest.mark.parametrize("coeff", [(-2.0,), (0.5, 1.0), (0.0, 1.0, -0.25)])
def test_eltwise_with_coefficients(coeff):
    op = Eltwise("SUM", coeff)
    check(op, (1, 2, 5, 6), lambda x, op: sum(op.coeff) * x, bottoms=len(coeff))


@pytest.mark.parametrize("axis", range(-4, 4))
@pytest.mark.parametrize("bottoms", [1, 3])
def test_concat(axis, bottoms):
    shape = (2, 3, 4, 5)
    check(Concat(axis), shape, lambda x, op: np.concatenate([x] * bottoms, op.axis), bottoms)


@often
@given(
    st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 4), st.integers(1, 4))
    | st.sampled_from([(1, 2, 1, 9), (2, 1, 9, 1)]),
    st.booleans(),
)
def test_inner_products(shape, bias):
    def slow(x, _, weight, bias=0):
        return x.reshape(len(x), -1) @ weight.T + bias

    check(InnerProduct(5, bias), shape, slow)


@pytest.mark.parametrize("slope", [0, 1, 0.1, -0.5, 2.0])
def test_relu(slope):
    check(ReLU(slope), (2, 3, 4, 5), lambda x, op: np.where(x > 0, x, x * op.negative_slope))


def test_softmax():
    check(Softmax(), (2, 5, 3, 4), lambda x, _: softmax(x))
