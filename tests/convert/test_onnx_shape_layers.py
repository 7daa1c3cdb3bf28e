"""Layers that cut, join, repeat or reorder values: in ONNX as others run it, and in the engines."""

import numpy as np
import pytest

from deeplab_repro.engines.exact import exact_blobs
from deeplab_repro.engines.onnxruntime import OnnxRuntimeEngine
from deeplab_repro.engines.opencv import OpenCVEngine
from deeplab_repro.engines.opencv_cpu import OpenCVCpuEngine
from deeplab_repro.errors import NetError
from deeplab_repro.net.layers import (
    Concat,
    Convolution,
    Eltwise,
    InnerProduct,
    Pooling,
    Softmax,
)
from deeplab_repro.net.net import Layer
from deeplab_repro.net.shape_layers import ArgMax, Crop, Flatten, Reshape, Slice, Tile
from tests.conftest import assert_one_line
from tests.convert.onnx_runs import Runs, written
from tests.slow_layers import argmax, crop, net_of, one_layer, random_input, softmax

SHAPE = (2, 4, 6, 7)
SMALL = Pooling("MAX", (3, 2), stride=(2, 2))


def check(net, expected):
    """That all make what `expected` makes of the input; at other sizes too, if they may."""
    run = Runs(written(net), opencv=not net.fits_any_size)
    _, channels, height, width = net.input_shape
    sizes = [net.input_shape]
    if net.fits_any_size:
        sizes += [(1, channels, height + 3, width + 1), net.input_shape]
    engines = OpenCVEngine(net, "cpu"), OpenCVCpuEngine(net)
    for size in sizes:
        data = random_input(*size)
        wanted = expected(data)
        found = [*run(data).values(), *(engine.blobs(data, wanted) for engine in engines)]
        found.append(exact_blobs(net, data, wanted))
        for made in found:
            for blob, values in wanted.items():
                assert made[blob].shape == net.blob_shapes(size)[blob] == values.shape
                np.testing.assert_allclose(made[blob], values, rtol=1e-5)


@pytest.mark.parametrize(
    ("op", "offsets"),
    [
        (Crop(), (0, 0)),
        (Crop(2, (1,)), (1, 1)),
        (Crop(2, (2, 0)), (2, 0)),
        (Crop(-1, (3,)), (3,)),
        (Crop(1, (0, 1, 2)), (0, 1, 2)),
        (Crop(0), (0, 0, 0, 0)),
    ],
)
def test_crops(op, offsets):
    """The part is as large as another blob, which the size of the image says."""
    net = net_of(
        Layer("p", SMALL, ("data",), ("p",)),
        Layer("a", op, ("data", "p"), ("a",)),
        shape=(2, 4, 8, 9),
    )

    def expected(data):
        like = np.zeros(net.blob_shapes(data.shape)["p"])
        return {"a": crop(data, like, op.axis % 4, offsets)}

    check(net, expected)


@pytest.mark.parametrize(
    ("op", "ends"),
    [
        (Slice(1, (1, 3)), ((0, 1), (1, 3), (3, 4))),
        (Slice(-2), ((0, 2), (2, 4), (4, 6))),
    ],
)
def test_slices(op, ends):
    """Each top is a blob of its own, in parts of the net and beyond them."""
    tops = ("x", "y", "z")
    copies = [Layer(f"{top}2", Tile(1), (top,), (f"{top}2",)) for top in tops]
    net = net_of(Layer("s", op, ("data",), tops), *copies, shape=SHAPE)

    def expected(data):
        parts = [data.take(range(*end), op.axis) for end in ends]
        return {f"{top}2": part for top, part in zip(tops, parts, strict=True)}

    if op.axis == 1:
        check(net, expected)
    else:  # at this height alone
        data = random_input(*SHAPE)
        for blob, values in expected(data).items():
            for engine in (OpenCVEngine(net, "cpu"), OpenCVCpuEngine(net)):
                np.testing.assert_array_equal(engine.blobs(data, [blob])[blob], values)


@pytest.mark.parametrize(
    "op",
    [
        Flatten(),
        Flatten(2),
        Flatten(0, 1),
        Reshape((0, -1)),
        Reshape((0, 2, 2, 0, -1)),
        Reshape((7, 6), 2, 2),
        Reshape((-1,), 1),
        Reshape((1, 1), -1, 0),
    ],
)
def test_other_axes(op):
    net = one_layer(op, SHAPE)
    assert not net.fits_any_size
    check(net, lambda data: {"a": data.reshape(net.output_shape(data.shape))})


def test_an_inner_product_of_what_was_flattened():
    net = net_of(
        Layer("f", Flatten(), ("data",), ("f",)),
        Layer("ip", InnerProduct(6), ("f",), ("ip",)),
        Layer("r", Reshape((0, 2, 3, 1)), ("ip",), ("r",)),
        Layer("c", Convolution(2, (1, 1)), ("r",), ("c",)),
        shape=SHAPE,
    )
    weight, bias, last, end = (b.data.astype(float) for x in net.layers for b in x.blobs)

    def expected(data):
        product = (data.reshape(2, -1) @ weight.T + bias).reshape(2, 2, 3, 1)
        return {"c": np.einsum("oi,nihw->nohw", last[:, :, 0, 0], product) + end.reshape(-1, 1, 1)}

    data = random_input(*SHAPE)
    for found in Runs(written(net))(data).values():
        # 168 products of up to 200 in float32.
        np.testing.assert_allclose(found["c"], expected(data)["c"], atol=1e-3)
    np.testing.assert_allclose(exact_blobs(net, data, ["c"])["c"], expected(data)["c"])


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_tiles(axis):
    net = one_layer(Tile(3, axis), SHAPE)
    check(net, lambda data: {"a": np.concatenate([data] * 3, axis)})


@pytest.mark.parametrize("axis", [1, -1, None])
@pytest.mark.parametrize("out_max_val", [False, True])
def test_argmax(axis, out_max_val):
    """Of equal values the last: a blob beside itself has each twice."""
    net = net_of(
        Layer("t", Tile(2), ("data",), ("t",)),
        Layer("a", ArgMax(out_max_val, 1, axis), ("t",), ("a",)),
        shape=SHAPE,
    )

    def expected(data):
        twice = np.concatenate([data, data], 1)
        if axis is None:
            flat = twice.reshape(len(twice), -1)
            values = [argmax(flat, 1), flat.max(1, keepdims=True)][: 1 + out_max_val]
            return {"a": np.stack(values, 1).reshape(len(twice), -1, 1, 1)}
        found = twice.max(axis, keepdims=True) if out_max_val else argmax(twice, axis % 4)
        return {"a": found}

    check(net, expected)


def test_two_axes():
    """What classifies: its products are joined, added up, and made probabilities of."""
    net = net_of(
        Layer("x", InnerProduct(3), ("data",), ("x",)),
        Layer("y", InnerProduct(3, False), ("data",), ("y",)),
        Layer("sum", Eltwise("SUM", (0.5, -1)), ("x", "y"), ("sum",)),
        Layer("all", Concat(1), ("x", "sum", "y"), ("all",)),
        Layer("p", Softmax(), ("all",), ("p",)),
        Layer("one", Reshape((-1,)), ("p",), ("one",)),
        shape=SHAPE,
    )
    x, bias, y = (blob.data.astype(float) for layer in net.layers for blob in layer.blobs)

    def expected(data):
        flat = data.reshape(2, -1).astype(float)
        first, second = flat @ x.T + bias, flat @ y.T
        both = np.concatenate([first, first / 2 - second, second], 1)
        return {"all": both, "p": softmax(both), "one": softmax(both).reshape(-1)}

    data = random_input(*SHAPE) / 50
    for engine in (OpenCVEngine(net, "cpu"), OpenCVCpuEngine(net), OnnxRuntimeEngine(net, "cpu")):
        for blob, values in expected(data).items():
            found = engine.blobs(data, [blob])[blob]
            assert found.shape == values.shape
            np.testing.assert_allclose(found, values, rtol=1e-4, atol=1e-5)


def test_several_maxima():
    net = one_layer(ArgMax(True, 3), (2, 2, 1, 3))
    data = np.array([[5, 9, 1, 9, 0, 7], [1, 2, 3, 4, 5, 6]], np.float32).reshape(2, 2, 1, 3)
    found = exact_blobs(net, data, ["a"])["a"]
    np.testing.assert_array_equal(found[0, :, :, 0], [[3, 1, 5], [9, 9, 7]])
    np.testing.assert_array_equal(found[1, :, :, 0], [[5, 4, 3], [6, 5, 4]])
    with pytest.raises(NetError) as error:
        written(net)
    assert_one_line(error, "layer 'a' (ArgMax) has top_k 3, and of equal values ONNX takes others")
