"""BatchNorm, Scale and PReLU in training, against the slow and obvious ones."""

import numpy as np
import pytest

from deeplab_repro.errors import NetError
from deeplab_repro.net.channel_layers import BatchNorm, PReLU, Scale
from deeplab_repro.net.net import Blob, Layer
from deeplab_repro.train.values import Parameter, Value
from tests.conftest import assert_one_line
from tests.train import naive_layers as naive
from tests.train.one_step import STEPS, apart, assert_as, blob, random, step

SHAPE = (2, 3, 4, 5)
FROZEN = BatchNorm(eps=1e-3, use_global_stats=True)


def parameters(*arrays: np.ndarray, lr_mult: float = 1) -> list[Parameter]:
    made = [np.array(array, np.float32) for array in arrays]
    return [Parameter(each, np.zeros_like(each), lr_mult, 1) for each in made]


def of(op, x: np.ndarray, learnt: list[Parameter], top_diff: np.ndarray, in_place: bool):
    """Forward and backward of one layer that works beside its bottom or in place.

    The top, and the gradient of the bottom, which was 0.
    """
    bottom = Value(x.copy(), np.zeros_like(x))
    top = bottom if in_place else Value(np.empty_like(x), np.zeros_like(x))
    blobs = [Blob(each.data.shape, each.data) for each in learnt]
    layer = Layer("it", op, ("x",), ("x" if in_place else "y",), blobs)
    made = STEPS[type(op)](layer, [bottom], [top], learnt)
    for _ in range(2):  # a second batch adds to the gradients of what is learnt
        bottom.data[...] = x
        made.forward()
        bottom.diff[...] = 0
        top.diff[...] = top_diff
        result = top.data.copy()
        made.backward()
    return result, bottom.diff


STATISTICS = ([0.5, -1, 2], [0.2, 3, 1])
CASES = {
    "BatchNorm": (FROZEN, [*STATISTICS, [1]]),
    "BatchNorm of a factor": (FROZEN, [*STATISTICS, [999.98]]),
    "BatchNorm of nothing": (FROZEN, [*STATISTICS, [0]]),
    "Scale": (Scale(bias=True), [[0.5, -2, 1], [1, 2, 3]]),
    "Scale without bias": (Scale(), [[0.5, -2, 1]]),
    "Scale of rows": (Scale(axis=2, num_axes=1, bias=True), [[0.5, -2, 1, 3], [1, 2, 3, 0]]),
    "Scale of all": (Scale(axis=-3, num_axes=-1), [random(3, 4, 5, seed=8)]),
    "PReLU": (PReLU(), [[0.25, -0.5, 0]]),
    "PReLU of one slope": (PReLU(channel_shared=True), [0.25]),
}


def function(op):
    """What the layer computes of x and of its weights."""
    if isinstance(op, BatchNorm):
        return lambda x, *arrays: naive.batch_norm(x, *arrays[:2], arrays[2][0], op)
    if isinstance(op, PReLU):
        return naive.prelu
    return lambda x, weight, bias=0: naive.scale(x, weight, bias + 0 * weight, op.axis % 4)


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize(("op", "arrays"), CASES.values(), ids=CASES)
def test_forward_and_backward(op, arrays, in_place):
    x, top_diff = apart(*SHAPE), random(*SHAPE, seed=5)
    learnt = parameters(*arrays)
    found, diff = of(op, x, learnt, top_diff, in_place)
    arrays = [np.array(array, float) for array in arrays]
    layer = function(op)
    np.testing.assert_allclose(found, layer(x, *arrays), rtol=1e-5, atol=1e-5)
    expected = naive.gradient(lambda x: layer(x, *arrays), x, top_diff)
    np.testing.assert_allclose(diff, expected, rtol=1e-4, atol=1e-5)
    for i, parameter in enumerate(learnt):
        if isinstance(op, BatchNorm):
            assert (parameter.lr_mult, parameter.diff.any()) == (0, False)
            continue
        slopes = np.zeros(arrays[i].shape)
        for at in np.ndindex(slopes.shape):  # linear in each of them
            moved = [array.copy() for array in arrays]
            moved[i][at] += 1
            slopes[at] = ((layer(x, *moved) - layer(x, *arrays)) * top_diff).sum()
        np.testing.assert_allclose(parameter.diff, 2 * slopes, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("name", ["Scale", "PReLU"])
def test_what_is_frozen_has_no_gradient(name, in_place):
    op, arrays = CASES[name]
    learnt, frozen = parameters(*arrays), parameters(*arrays, lr_mult=0)
    x, top_diff = apart(*SHAPE), random(*SHAPE, seed=5)
    results = [of(op, x, each, top_diff, in_place) for each in (learnt, frozen)]
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)
    assert all(each.diff.any() for each in learnt)
    assert not any(each.diff.any() for each in frozen)


def test_gradients_are_added():
    """To what other layers gave the bottom; and none is needed where nothing before it learns."""
    weights = [random(3, seed=i) for i in range(3)]
    assert_as(lambda x: naive.scale(x, *weights[:2], 1), Scale(bias=True), apart(*SHAPE))
    assert_as(lambda x: naive.prelu(x, weights[0]), PReLU(), apart(*SHAPE))
    op = BatchNorm(eps=5, use_global_stats=True)  # its random variance may be below 0
    factor = random(1, seed=2)[0]
    assert_as(lambda x: naive.batch_norm(x, *weights[:2], factor, op), op, apart(*SHAPE))


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2,), (4, 5), ()])
def test_scale_by_a_second_bottom(shape):
    """Both learn; the second one's axes begin at `axis`."""
    axis = {(2, 3, 4, 5): 0, (2,): 0, (4, 5): 2, (): 0}[shape]
    op = Scale(axis=axis, num_axes=-1, bias=len(shape) == 1)
    x, factor = blob(random(*SHAPE)), blob(random(*shape, seed=3))
    before = [x.diff.copy(), factor.diff.copy()]
    bias = [random(*shape, seed=0)] if op.bias else []
    made = step(op, x, factor)
    top = naive.scale(x.data, factor.data, bias[0] if bias else 0 * factor.data, axis)
    np.testing.assert_allclose(made.top.data, top, rtol=1e-5, atol=1e-6)
    made.backward()
    wide = naive.scale(np.ones(SHAPE), factor.data, 0 * factor.data, axis)
    np.testing.assert_allclose(x.diff - before[0], made.top.diff * wide, rtol=1e-4, atol=1e-5)
    others = tuple(i for i in range(4) if not axis <= i < axis + len(shape))
    slopes = (made.top.diff * x.data).sum(axis=others, dtype=float)
    np.testing.assert_allclose(factor.diff - before[1], slopes, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("given", [None, False])
def test_statistics_of_the_batch_are_refused(given):
    with pytest.raises(NetError) as caught:
        step(BatchNorm(use_global_stats=given), blob(random(*SHAPE)))
    assert_one_line(caught, "layer 'it' (BatchNorm)", "from the batch", "use_global_stats: true")
