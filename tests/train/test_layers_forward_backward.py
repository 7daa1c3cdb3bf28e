"""Every layer of training, forward and backward, against the slow and obvious one."""

from dataclasses import replace

import naive_layers as naive
import numba
import numpy as np
import pytest
from conftest import assert_one_line

from deeplab_repro.caffe import read_net, read_train_net
from deeplab_repro.errors import ArgumentError, NetError
from deeplab_repro.layers import (
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
from deeplab_repro.net import Blob, Layer
from deeplab_repro.train import convolution
from deeplab_repro.train.convolution import ConvolutionStep
from deeplab_repro.train.elementwise import DropoutStep, EltwiseStep, ReLUStep
from deeplab_repro.train.loss import SegAccuracyStep, SoftmaxLossStep
from deeplab_repro.train.network import Network
from deeplab_repro.train.pooling import PoolingStep
from deeplab_repro.train.resizing import InterpStep, PaddingStep
from deeplab_repro.train.values import Value

STEPS = {
    Convolution: ConvolutionStep,
    Dropout: DropoutStep,
    Eltwise: EltwiseStep,
    Interp: InterpStep,
    Padding: PaddingStep,
    Pooling: PoolingStep,
    ReLU: ReLUStep,
    SegAccuracy: SegAccuracyStep,
    SoftmaxLoss: SoftmaxLossStep,
}


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def value(data: np.ndarray, has_diff: bool = True) -> Value:
    """A blob whose gradient others have already added to."""
    data = np.ascontiguousarray(data, np.float32)
    return Value(data, random(*data.shape, seed=99) if has_diff else None)


def step(op, *bottoms: Value, extra=()):
    """The step of a layer with these bottoms, its top filled; `top` is its top."""
    shapes = [bottom.data.shape for bottom in bottoms]
    blobs = [Blob(shape) for shape in op.blob_shapes(shapes)]
    names = tuple(f"bottom{i}" for i in range(len(bottoms)))
    layer = Layer("the layer", op, names, ("top",), blobs)
    top = Value(np.full(op.top_shape(shapes), 7, np.float32), random(*op.top_shape(shapes), seed=5))
    made = STEPS[type(op)](layer, list(bottoms), [top], *extra)
    for i, parameter in enumerate(getattr(made, "parameters", ())):
        parameter.data[...] = random(*parameter.data.shape, seed=50 + i)
    made.forward()
    return made


def assert_forward_and_backward(op, x: np.ndarray, function) -> None:
    """The top is function(x), and the bottom's gradient has that of the top added to it."""
    bottom = value(x)
    before = bottom.diff.copy()
    made = step(op, bottom)
    np.testing.assert_allclose(made.top.data, function(x.astype(float)), rtol=1e-5, atol=1e-5)
    made.backward()
    expected = naive.gradient(function, x, made.top.diff)
    np.testing.assert_allclose(bottom.diff - before, expected, rtol=1e-4, atol=1e-5)
    without = step(op, value(x, has_diff=False))
    without.backward()  # nothing before it learns


# --- convolution

CONVOLUTIONS = {
    "1x1": Convolution(3, (1, 1)),
    "3x3 padded": Convolution(3, (3, 3), pad=(1, 1)),
    "hole": Convolution(3, (3, 3), pad=(2, 2), hole=(2, 2)),
    "hole wider than the image": Convolution(2, (3, 3), pad=(12, 12), hole=(12, 12)),
    "stride": Convolution(3, (3, 3), pad=(1, 1), stride=(2, 2)),
    "stride that leaves rows over": Convolution(3, (2, 2), stride=(3, 3)),
    "more padding than kernel": Convolution(3, (2, 2), pad=(3, 3), stride=(2, 2)),
    "rectangular": Convolution(2, (1, 3), pad=(2, 0), stride=(2, 3), hole=(1, 2)),
    "rectangular the other way": Convolution(2, (4, 2), pad=(1, 3), stride=(1, 2), hole=(2, 3)),
    "no bias": Convolution(2, (2, 2), bias=False),
}


def test_convolution(op):
    x = random(2, 3, 8, 9)
    weight, *bias = (random(*s, seed=50 + i) for i, s in enumerate(op.blob_shapes([x.shape])))
    assert_forward_and_backward(op, x, lambda x: conv(op, x, weight, bias))
@pytest.mark.parametrize("has_diff", [False, True])
@pytest.mark.parametrize("op", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_convolution(op, has_diff):
    pass
