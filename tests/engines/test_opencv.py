"""OpenCV runs our nets as NumPy would, at any size and in threads, and refuses with our errors."""

import os
import threading

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplab_repro.caffe import read_net
from deeplab_repro.engines import opencv
from deeplab_repro.engines.opencv import OpenCVEngine
from deeplab_repro.engines.opencv_cpu import OpenCVCpuEngine
from deeplab_repro.errors import ArgumentError, NetError, ResourceError
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
from tests.conftest import assert_one_line
from tests.slow_layers import (
    convolve,
    deconvolve,
    interpolate,
    net_of,
    pool,
    random_input,
    scores_of,
    softmax,
)

SHAPE = 1, 3, 64, 48
READER = "readNetFromCaffe" if opencv.BY_CAFFE else "readNetFromONNX"


def engine_of(*layers, shape):
    return OpenCVEngine(net_of(*layers, shape=shape), "cpu")


pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))
shapes = st.tuples(st.just(1), st.sampled_from([2, 4]), st.integers(5, 9), st.integers(5, 9))


@settings(max_examples=25, deadline=None)
@given(shapes, pairs, pairs, pairs, pairs, st.sampled_from([1, 2]))
def test_convolutions_with_holes(shape, kernel, pad, stride, hole, group):
    op = Convolution(4, kernel, pad, stride, hole, group)
    engine = engine_of(Layer("a", op, ("data",), ("a",)), shape=shape)
    weight, bias = (blob.data for blob in engine.net.layers[0].blobs)
    data = random_input(*shape)
    # Sums of at most 36 products of values up to about 200: float32 errs by 1e-4 and less.
    np.testing.assert_allclose(scores_of(engine, data), convolve(data, op, weight, bias), atol=1e-3)


@settings(max_examples=25, deadline=None)
@given(shapes, pairs, pairs, pairs, st.sampled_from([1, 2]), st.integers(1, 2))
def test_deconvolutions(shape, kernel, pad, stride, group, images):
    pad = tuple(min(p, k) - 1 for p, k in zip(pad, kernel, strict=True))
    op = Deconvolution(6, kernel, pad, stride, group)
    engine = engine_of(Layer("a", op, ("data",), ("a",)), shape=shape)
    weight, bias = (blob.data for blob in engine.net.layers[0].blobs)
    for size in (shape[2:], (4, 7)):  # one net built for both
        data = random_input(images, shape[1], *size)
        expected = deconvolve(data, op, weight, bias)
        np.testing.assert_allclose(scores_of(engine, data), expected, atol=1e-3)  # as above


@pytest.mark.parametrize("size", [(64, 48), (40, 71)])
def test_the_classic_engine_makes_the_same(size):
    pool = Layer("b", Pooling("MAX", (3, 3), (1, 1), (2, 2)), ("a",), ("b",))
    first = Layer("a", Convolution(8, (3, 3), (1, 1)), ("data",), ("a",))
    net = net_of(first, pool, Layer("c", Interp(height=9, width=7), ("b",), ("c",)), shape=SHAPE)
    classic = OpenCVEngine(net, "cpu", classic=True)
    data = random_input(2, 3, *size)  # one net built for both sizes
    expected = OpenCVEngine(net, "cpu").blobs(data, ["c"])["c"]
    np.testing.assert_allclose(classic.blobs(data, ["c"])["c"], expected, atol=1e-4)  # float32


@pytest.mark.skipif(opencv.BY_CAFFE, reason="OpenCV 4 has one engine")
def test_the_parts_of_a_net_run_on_the_classic_engine(monkeypatch):
    read, asked = cv2.dnn.readNetFromONNX, []
    monkeypatch.setattr(cv2.dnn, "readNetFromONNX", lambda *a: asked.append(a[1:]) or read(*a))
    net = net_of(Layer("a", Convolution(8, (3, 3), (1, 1)), ("data",), ("a",)), shape=SHAPE)
    OpenCVCpuEngine(net).build()
    OpenCVEngine(net, "cpu").build()
    assert asked == [(cv2.dnn.ENGINE_CLASSIC,), ()]


@pytest.mark.skipif(opencv.BY_CAFFE, reason="OpenCV 4 needs no file")
def test_no_room_for_a_temporary_file(monkeypatch, tmp_path):
    monkeypatch.delattr(os, "memfd_create", raising=False)  # as elsewhere than on Linux
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    net = net_of(Layer("a", Convolution(8, (3, 3), (1, 1)), ("data",), ("a",)), shape=SHAPE)
    with pytest.raises(ResourceError) as error:
        OpenCVCpuEngine(net).build()
    assert_one_line(error, "bytes for OpenCV cannot be written: no such file", "set TMPDIR")


@pytest.mark.parametrize("zoom", [2, 3, 8])
def test_a_bilinear_deconvolution_is_an_interpolation(zoom):
    tent = 1 - np.abs(np.arange(1 - zoom, zoom)) / zoom
    op = Deconvolution(3, (2 * zoom - 1,) * 2, (zoom - 1,) * 2, (zoom, zoom), group=3, bias=False)
    engine = engine_of(Layer("a", op, ("data",), ("a",)), shape=(1, 3, 5, 7))
    engine.net.layers[0].blobs[0].data[:] = np.outer(tent, tent)
    interp = engine_of(Layer("a", Interp(zoom_factor=zoom), ("data",), ("a",)), shape=(1, 3, 5, 7))
    data = random_input(1, 3, 5, 7)
    expected = scores_of(interp, data)
    np.testing.assert_allclose(scores_of(engine, data), expected, atol=2e-3)  # as below


@settings(max_examples=25, deadline=None)
@given(shapes, st.sampled_from(["MAX", "AVE"]), pairs, pairs, pairs)
def test_poolings(shape, method, kernel, pad, stride):
    pad = tuple(min(p, k) - 1 for p, k in zip(pad, kernel, strict=True))
    op = Pooling(method, kernel, pad, tuple(min(s, k) for s, k in zip(stride, kernel, strict=True)))
    data = random_input(*shape)
    ours = scores_of(engine_of(Layer("a", op, ("data",), ("a",)), shape=shape), data)
    np.testing.assert_allclose(ours, pool(data, op), rtol=1e-5, atol=1e-4)  # float32 sums of 9


@settings(max_examples=25, deadline=None)
@given(
    shapes,
    st.integers(-2, 0),
    st.integers(-2, 0),
    st.one_of(
        st.builds(lambda z: {"zoom_factor": z}, st.integers(1, 8)),
        st.builds(lambda f: {"shrink_factor": f}, st.integers(1, 4)),
        st.builds(lambda h, w: {"height": h, "width": w}, st.integers(1, 20), st.integers(1, 20)),
    ),
)
def test_interpolations(shape, pad_beg, pad_end, size):
    op = Interp(pad_beg=pad_beg, pad_end=pad_end, **size)
    data = random_input(*shape)
    ours = scores_of(engine_of(Layer("a", op, ("data",), ("a",)), shape=shape), data)
    # Positions are kept in float32: an error of 1e-6 pixels between neighbours 200 apart.
    np.testing.assert_allclose(ours, interpolate(data, op), atol=2e-3)


def test_small_layers():
    data = random_input(1, 3, 5, 6)

    def forward(op, bottoms=("data",)):
        return scores_of(engine_of(Layer("a", op, bottoms, ("a",)), shape=data.shape), data)

    twice, three = ("data",) * 2, ("data",) * 3
    exact = np.testing.assert_array_equal
    exact(forward(ReLU()), np.maximum(data, 0))
    exact(forward(ReLU(0.5)), np.where(data > 0, data, data * np.float32(0.5)))
    exact(forward(Dropout(0.9)), data)
    exact(forward(Eltwise(), three), data + data + data)
    exact(forward(Eltwise("MAX"), twice), data)
    exact(forward(Eltwise("PROD"), twice), data * data)
    np.testing.assert_allclose(forward(Eltwise("SUM", (2, -0.5)), twice), data * 1.5, rtol=1e-6)
    exact(forward(Concat(), twice), np.concatenate([data, data], axis=1))
    exact(forward(Concat()), data)
    exact(forward(Concat(3), twice), np.concatenate([data, data], axis=3))
    found = forward(Softmax())
    np.testing.assert_allclose(found, softmax(data), rtol=1e-5, atol=1e-7)  # float32's exp
    exact(forward(Pooling("MAX", (0, 0))), data.max(axis=(2, 3), keepdims=True))


def test_inner_product_has_two_axes():
    engine = engine_of(Layer("a", InnerProduct(7), ("data",), ("a",)), shape=(1, 3, 4, 5))
    weight, bias = (blob.data for blob in engine.net.layers[0].blobs)
    data = random_input(1, 3, 4, 5)
    expected = (weight @ data.ravel() + bias).reshape(1, 7)
    found = scores_of(engine, data)
    assert found.shape == (1, 7)
    np.testing.assert_allclose(found, expected, atol=1e-3)  # 60 products of up to 200 in float32


def test_split():
    engine = engine_of(
        Layer("s", Split(), ("data",), ("a", "b")),
        Layer("sum", Eltwise(), ("a", "b"), ("sum",)),
        shape=(1, 3, 4, 5),
    )
    data = random_input(1, 3, 4, 5)
    np.testing.assert_array_equal(scores_of(engine, data), data + data)


def test_of_a_blob_changed_in_place_the_last_value_is_given():
    op = Convolution(4, (1, 1))
    engine = engine_of(
        Layer("a", op, ("data",), ("a",)),
        Layer("relu", ReLU(), ("a",), ("a",)),
        Layer("b", op, ("a",), ("b",)),
        shape=(1, 3, 4, 5),
    )
    blobs = engine.blobs(random_input(1, 3, 4, 5), ["b", "a"])
    assert list(blobs) == ["b", "a"]
    assert blobs["a"].min() == 0


def test_the_input_changed_in_place():
    engine = engine_of(Layer("relu", ReLU(), ("data",), ("data",)), shape=(1, 3, 4, 5))
    data = random_input(1, 3, 4, 5)
    np.testing.assert_array_equal(scores_of(engine, data), np.maximum(data, 0))


def test_names_that_opencv_would_confuse():
    layers = [
        Layer("data", Convolution(3, (1, 1)), ("data",), ("a",)),
        Layer("same", ReLU(), ("a",), ("a",)),
        Layer("same", Padding(1, 0), ("a",), ("same_1",)),
        Layer("", Interp(zoom_factor=2, pad_beg=-1), ("same_1",), ("c",)),
        Layer("same_1", ReLU(), ("c",), ("",)),
    ]
    data = random_input(1, 3, 4, 5)
    engine = engine_of(*layers, shape=data.shape)
    weight, bias = (blob.data for blob in engine.net.layers[0].blobs)
    expected = np.maximum(convolve(data, layers[0].op, weight, bias), 0)
    expected = interpolate(expected, Interp(zoom_factor=2))
    np.testing.assert_allclose(scores_of(engine, data), expected, atol=2e-3)  # as above


# --- sizes and threads


def test_other_sizes_on_one_engine_are_as_on_a_fresh_one(tiny):
    net = read_net(tiny)
    net.fill_random(0)
    engine = OpenCVEngine(net, "cpu")
    for seed, size in enumerate([(33, 41), (41, 33), (9, 9), (65, 17), (33, 41)]):
        data = random_input(1, 3, *size, seed=seed)
        fresh = OpenCVEngine(net, "cpu").blobs(data, ["conv", "fc8", "up"])
        for name, blob in engine.blobs(data, ["conv", "fc8", "up"]).items():
            np.testing.assert_array_equal(blob, fresh[name])
    assert len(engine._built) == 1


def test_a_net_that_fixes_its_size_is_built_anew_for_another():
    op = Interp(shrink_factor=2)
    engine = engine_of(Layer("a", op, ("data",), ("a",)), shape=(1, 3, 9, 9))
    for size in (9, 11, 13, 9):
        data = random_input(1, 3, size, size)
        np.testing.assert_array_equal(scores_of(engine, data), data[:, :, ::2, ::2])
    assert len(engine._built) == 2  # no more are kept


def test_a_net_is_built_once_for_a_size(tiny, monkeypatch):
    net = read_net(tiny)
    net.fill_random(0)
    engine = OpenCVEngine(net, "cpu")
    data = random_input(1, 3, 33, 41)
    first = scores_of(engine, data)
    kept = first.copy()
    for converter in ("to_caffe", "to_onnx"):  # calling one again would fail
        monkeypatch.setattr(opencv, converter, None)
    scores_of(engine, data + 1)
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_array_equal(scores_of(engine, data), kept)


def test_batches_and_any_layout_of_the_array(tiny):
    net = read_net(tiny)
    net.fill_random(0)
    engine = OpenCVEngine(net, "cpu")
    data = random_input(3, 3, 33, 41)
    together = scores_of(engine, data)
    for image, scores in zip(data, together, strict=True):
        # One image or three: OpenCV may sum in another order.
        np.testing.assert_allclose(scores_of(engine, image[None])[0], scores, atol=1e-3)
    view = data[:1, :, ::-1, ::-1]
    np.testing.assert_array_equal(scores_of(engine, view), scores_of(engine, view.copy()))


def test_one_engine_a_thread(tiny):
    net = read_net(tiny)
    net.fill_random(0)
    inputs = [random_input(1, 3, 33 + 8 * (seed % 3), 41, seed=seed) for seed in range(12)]
    alone = [scores_of(OpenCVEngine(net, "cpu"), data) for data in inputs]
    found = {}

    def work(thread):
        engine = OpenCVEngine(net, "cpu")
        found[thread] = [scores_of(engine, data) for _ in range(3) for data in inputs]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for results in found.values():
        for result, expected in zip(results, alone * 3, strict=True):
            np.testing.assert_array_equal(result, expected)
    assert len(found) == 2


# --- what it refuses


@pytest.mark.parametrize(
    "data",
    [
        np.zeros((1, 3, 33, 41)),
        np.zeros((3, 33, 41), np.float32),
        np.zeros((1, 3, 33, 41), np.uint8),
    ],
)
def test_other_arrays_are_refused(tiny, data):
    with pytest.raises(ArgumentError, match="expected float32 NxCxHxW"):
        scores_of(OpenCVEngine(read_net(tiny), "cpu"), data)


def test_shapes_that_do_not_fit_and_unknown_blobs(tiny):
    net = read_net(tiny)
    net.fill_random(0)
    engine = OpenCVEngine(net, "cpu")
    with pytest.raises(NetError, match="'conv'"):
        scores_of(engine, random_input(1, 4, 33, 41))
    with pytest.raises(NetError, match="1x3x0x41"):
        scores_of(engine, random_input(1, 3, 0, 41))
    with pytest.raises(ArgumentError, match="makes no blob 'nothing'"):
        engine.blobs(random_input(1, 3, 33, 41), ["nothing"])


@pytest.mark.parametrize(
    ("code", "text", "kind"),
    [
        (cv2.Error.STS_NO_MEM, "Failed to allocate 99 bytes", ResourceError),
        (None, "std::bad_alloc", ResourceError),
        (cv2.Error.STS_ASSERT, "all is\nlost", NetError),
    ],
)
@pytest.mark.parametrize("method", [READER, "forward"])
def test_opencvs_errors_become_ours(tiny, monkeypatch, method, code, text, kind):
    error = cv2.error(text)
    if code is not None:
        error.code, error.err, error.func = code, text, "run"

    def fail(*_):
        raise error

    class Broken:
        setInput = setParam = getLayerId = lambda *_: None  # noqa: N815
        setPreferableBackend = setPreferableTarget = setInput  # noqa: N815
        getLayersShapes = lambda *_: ([], [], [])  # noqa: E731, N815
        forward = fail

    net = read_net(tiny)
    net.fill_random(0)
    engine = OpenCVEngine(net, "cpu")
    broken = fail if method == READER else lambda *_: Broken()
    with monkeypatch.context() as patch:
        patch.setattr(cv2.dnn, READER, broken)
        with pytest.raises(kind) as caught:
            scores_of(engine, random_input(1, 3, 33, 41))
    message = str(caught.value)
    assert "'tiny' at 1x3x33x41" in message
    assert "\n" not in message
    # The engine goes on with a net built anew.
    assert scores_of(engine, random_input(1, 3, 33, 41)).shape == (1, 4, 33, 41)


def test_a_size_that_opencv_makes_otherwise_is_an_error(tiny, monkeypatch):
    net = read_net(tiny)
    net.fill_random(0)
    engine = OpenCVEngine(net, "cpu")
    monkeypatch.setitem(engine._numbers, "up", engine._numbers["fc8"])
    with pytest.raises(NetError, match=r"makes 'up' 1x4x5x6, Caffe 1x4x33x41"):
        scores_of(engine, random_input(1, 3, 33, 41))
