"""The layers of each value or channel in ONNX, in onnxruntime and OpenCV, against NumPy."""

import cv2
import numpy as np
import pytest

from deeplab_repro.convert.onnx_graph import Graph
from deeplab_repro.convert.onnx_layers import write_layer
from deeplab_repro.convert.onnx_place import Place
from deeplab_repro.engines.exact import layer_tops
from deeplab_repro.net.channel_layers import (
    BN,
    ELU,
    LRN,
    AbsVal,
    BatchNorm,
    Bias,
    Exp,
    Log,
    Power,
    PReLU,
    Scale,
    Sigmoid,
    TanH,
)
from deeplab_repro.net.net import Layer
from tests import slow_layers as slow
from tests.convert.onnx_runs import Runs, check, model_of, onnxruntime, written

SHAPE = (2, 5, 4, 6)


@pytest.mark.parametrize("eps", [1e-5, 0.1])
def test_normalisation_by_kept_statistics(eps):
    check(BatchNorm(eps), SHAPE, slow.batch_norm)
    check(BN(eps), SHAPE, slow.bn, atol=1e-3)  # of values of a thousand


def test_a_factor_of_zero_makes_no_statistics():
    """As Caffe has it before any training."""
    net = slow.one_layer(BatchNorm(0.25), SHAPE)
    net.layers[0].blobs[2].data[:] = 0
    data = slow.random_input(*SHAPE)
    for found in Runs(written(net))(data).values():
        np.testing.assert_allclose(found["a"], 2 * data, rtol=1e-6)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    ("axis", "num_axes"), [(1, 1), (1, 0), (1, 3), (0, 2), (-1, 1), (2, 1), (0, -1)]
)
def test_scale(axis, num_axes, bias):
    check(Scale(axis, num_axes, bias), SHAPE, slow.scale)


@pytest.mark.parametrize(("axis", "num_axes"), [(1, 1), (1, 0), (0, 2), (2, -1)])
def test_bias(axis, num_axes):
    op = Bias(axis, num_axes)
    check(op, SHAPE, lambda x, op, bias: slow.scale(x, op, np.ones(bias.shape), bias))


@pytest.mark.parametrize(("kind", "join"), [(Scale, np.multiply), (Bias, np.add)])
@pytest.mark.parametrize(("axis", "shape"), [(0, SHAPE), (0, (2, 5)), (1, (5,)), (1, (5, 4))])
def test_a_second_bottom(kind, join, axis, shape):
    """As large as the first, or some of its axes, as where channels are weighed (SE nets)."""
    graph = Graph("n")
    inputs = [graph.input(name, "float32", axes) for name, axes in (("x", SHAPE), ("y", shape))]
    layer = Layer("a", kind(axis), ("x", "y"), ("a",))
    write_layer(Place(graph, layer, inputs, [SHAPE, shape], [SHAPE], [graph.name("a")], False))
    graph.output("a", "float32", SHAPE)
    file = b"".join(graph.chunks({}))
    x, y = slow.random_input(*SHAPE), np.asarray(slow.random_input(*shape), np.float32)
    expected = join(x, y.reshape((*shape, *[1] * (4 - axis - len(shape) if shape else 0))))
    session = onnxruntime.InferenceSession(model_of(file).SerializeToString())
    (found,) = session.run(None, {"x": x, "y": y})
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_allclose(layer_tops(layer, x, y)[0], expected, rtol=1e-6)
    opencv = cv2.dnn.readNetFromONNX(np.frombuffer(file, np.uint8))
    if len(shape) > 1:  # OpenCV's inputs have axes
        opencv.setInput(x, "x")
        opencv.setInput(y, "y")
        np.testing.assert_allclose(opencv.forward(), expected, rtol=1e-6)


@pytest.mark.parametrize("shared", [False, True])
def test_prelu(shared):
    check(PReLU(shared), SHAPE, slow.prelu)


@pytest.mark.parametrize("alpha", [1.0, 0.3])
def test_elu(alpha):
    check(ELU(alpha), SHAPE, slow.elu, scale=0.02)


def test_functions_without_parameters():
    check(AbsVal(), SHAPE, lambda x, _: np.abs(x))
    check(Sigmoid(), SHAPE, lambda x, _: 1 / (1 + np.exp(-x.astype(np.float64))), scale=0.04)
    check(TanH(), SHAPE, lambda x, _: np.tanh(x), scale=0.02)


@pytest.mark.parametrize("op", [Sigmoid(), TanH(), ELU(2.0)])
def test_functions_far_from_zero(op):
    """OpenCV 5.0 makes NaN of tanh(45)."""
    check(op, SHAPE, lambda x, op: layer_tops(Layer("a", op, (), ("a",)), x)[0], scale=100)


def test_bottoms_of_two_axes():
    """As after an InnerProduct."""
    for op in (BatchNorm(0.1), Scale(bias=True), Bias(), PReLU(), PReLU(True), ELU(), TanH()):
        graph, shape = Graph("n"), (3, 5)
        inputs = [graph.input("x", "float32", shape)]
        layer = slow.one_layer(op, (3, 5, 1, 1)).layers[0]
        write_layer(Place(graph, layer, inputs, [shape], [shape], [graph.name("a")], False))
        graph.output("a", "float32", shape)
        x = slow.random_input(*shape) / 50
        for found in Runs(b"".join(graph.chunks({})))(x).values():
            np.testing.assert_allclose(found["a"], layer_tops(layer, x)[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "op",
    [
        Power(),
        Power(scale=-2.0),
        Power(shift=3.0),
        Power(2.0, 0.5, -1.0),
        Power(3.0, 0.1),
        Power(0.0, 0.1, 20.0),
        Power(-1.5, 0.01, 5.0),
        Power(0.5, 0.0, 2.0),
    ],
)
def test_power(op):
    check(op, SHAPE, slow.power)


@pytest.mark.parametrize("op", [Exp(), Exp(2.0, 0.5, -1.0), Exp(0.5), Exp(1.0, 3.0, 2.0)])
def test_exp(op):
    check(op, SHAPE, slow.exponential, scale=0.02)


@pytest.mark.parametrize("op", [Log(scale=0.0, shift=5.0), Log(10.0, 0.01, 5.0), Log(0.5, 0.1, 30)])
def test_log(op):
    check(op, SHAPE, slow.logarithm)


@pytest.mark.parametrize("region", ["ACROSS_CHANNELS", "WITHIN_CHANNEL"])
@pytest.mark.parametrize("size", [1, 3, 5, 11])
def test_lrn(region, size):
    check(LRN(size, 0.01, 0.75, region), SHAPE, slow.normalise)
    check(LRN(size, 0.5, 1.5, region, k=2.0), SHAPE, slow.normalise)
