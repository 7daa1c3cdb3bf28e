"""One layer of training alone: what the tests of every layer share."""

import numpy as np

from deeplab_repro.net.channel_layers import BatchNorm, PReLU, Scale
from deeplab_repro.net.layers import (
    Convolution,
    Dropout,
    Eltwise,
    Interp,
    Padding,
    Pooling,
    ReLU,
    SegAccuracy,
    SoftmaxLoss,
)
from deeplab_repro.net.net import Blob, Layer
from deeplab_repro.train.channels import BatchNormStep, PReLUStep, ScaleStep
from deeplab_repro.train.convolution import ConvolutionStep
from deeplab_repro.train.elementwise import DropoutStep, EltwiseStep, ReLUStep
from deeplab_repro.train.loss import SegAccuracyStep, SoftmaxLossStep
from deeplab_repro.train.pooling import PoolingStep
from deeplab_repro.train.resizing import InterpStep, PaddingStep
from deeplab_repro.train.values import Parameter, Value
from tests.train import naive_layers as naive

STEPS = {
    BatchNorm: BatchNormStep,
    Convolution: ConvolutionStep,
    Dropout: DropoutStep,
    Eltwise: EltwiseStep,
    Interp: InterpStep,
    Padding: PaddingStep,
    Pooling: PoolingStep,
    PReLU: PReLUStep,
    ReLU: ReLUStep,
    Scale: ScaleStep,
    SegAccuracy: SegAccuracyStep,
    SoftmaxLoss: SoftmaxLossStep,
}


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def apart(*shape: int) -> np.ndarray:
    """Values of both signs, each at least 0.1 from every other and 0.05 from 0."""
    numbers = np.random.default_rng(0).permutation(np.prod(shape)).reshape(shape)
    return (0.1 * (numbers - np.prod(shape) // 2) + 0.05).astype(np.float32)


def blob(data: np.ndarray, has_diff: bool = True) -> Value:
    """A blob to whose gradient others have added before."""
    data = np.array(data, np.float32)
    return Value(data, random(*data.shape, seed=99) if has_diff else None)


def step(op, *bottoms: Value, extra=()):
    """A layer of these bottoms, that has run forward; its weights and its top's diff are random."""
    shapes = [bottom.data.shape for bottom in bottoms]
    names = tuple(f"bottom{i}" for i in range(len(bottoms)))
    layer = Layer("it", op, names, ("top",), [Blob(shape) for shape in op.blob_shapes(shapes)])
    shape = op.top_shape(shapes)
    top = Value(np.full(shape, 7, np.float32), random(*shape, seed=98))
    parameters = [
        Parameter(random(*each.shape, seed=i), np.zeros(each.shape, np.float32), 1, 1)
        for i, each in enumerate(layer.blobs)
    ]
    for each, parameter in zip(layer.blobs, parameters, strict=True):
        each.data = parameter.data
    if isinstance(op, (BatchNorm, Convolution, PReLU, Scale)):
        extra = (parameters,)
    made = STEPS[type(op)](layer, list(bottoms), [top], *extra)
    made.forward()
    return made


def assert_as(function, op, x: np.ndarray) -> None:
    """The top is function(x), and to the bottom's gradient that of the top is added."""
    bottom = blob(x)
    before = bottom.diff.copy()
    made = step(op, bottom)
    np.testing.assert_allclose(made.top.data, function(x), rtol=1e-5, atol=1e-5)
    made.backward()
    expected = naive.gradient(function, x, made.top.diff)
    np.testing.assert_allclose(bottom.diff - before, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(bottom.data, x)
    step(op, blob(x, has_diff=False)).backward()  # where nothing before it learns
