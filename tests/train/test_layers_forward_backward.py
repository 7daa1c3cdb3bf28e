"""Every layer of training, forward and backward, against the slow and obvious one."""

import numpy as np
import pytest

from deeplab_repro.errors import ArgumentError, NetError
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
from deeplab_repro.net.net import Layer
from deeplab_repro.train.elementwise import DropoutStep, ReLUStep
from deeplab_repro.train.values import Value
from tests.conftest import assert_one_line
from tests.train import naive_layers as naive
from tests.train.one_step import apart, assert_as, blob, random, step

ORDERS = [np.random.default_rng(i).permutation(24) for i in range(3)]

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


@pytest.mark.parametrize("op", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_convolution(op):
    x = random(2, 3, 7, 8)
    parameters = step(op, blob(x)).parameters
    weight, *bias = (parameter.data for parameter in parameters)
    assert_as(lambda x: naive.convolution(x, weight, bias, op), op, x)


@pytest.mark.parametrize("has_diff", [False, True])
@pytest.mark.parametrize("op", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_gradients_of_a_convolutions_parameters(op, has_diff):
    x = random(2, 3, 7, 8)
    made = step(op, blob(x, has_diff))
    for parameter in made.parameters:
        parameter.diff[...] = 7  # of another layer, or another batch
    made.backward()
    weight, *bias = made.parameters
    # By each of the weights alone: what a filter of that one tap makes.
    taps = np.eye(weight.data[0].size).reshape(-1, *weight.data[0].shape)
    seen = naive.convolution(x, taps, [], op)
    expected = np.einsum("nohw,nthw->ot", made.top.diff, seen).reshape(weight.data.shape)
    np.testing.assert_allclose(weight.diff - 7, expected, rtol=1e-4, atol=1e-4)
    for parameter in bias:
        expected = 7 + made.top.diff.sum(axis=(0, 2, 3), dtype=np.float64)
        np.testing.assert_allclose(parameter.diff, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("has_diff", [False, True])
@pytest.mark.parametrize("frozen", [(0,), (1,), (0, 1)])
def test_what_is_frozen_has_no_gradient(frozen, has_diff):
    made = step(CONVOLUTIONS["hole"], blob(random(2, 3, 7, 8), has_diff))
    made.backward()
    learnt = [parameter.diff.copy() for parameter in made.parameters]
    if has_diff:
        to_bottom, made.bottom.diff[...] = made.bottom.diff.copy(), random(2, 3, 7, 8, seed=99)
    for i in frozen:
        made.parameters[i].lr_mult = 0
    for parameter in made.parameters:
        parameter.diff[...] = 0
    made.backward()
    for i, parameter in enumerate(made.parameters):
        np.testing.assert_array_equal(parameter.diff, 0 if i in frozen else learnt[i])
    if has_diff:
        np.testing.assert_array_equal(made.bottom.diff, to_bottom)


def test_groups_are_refused():
    with pytest.raises(NetError) as caught:
        step(Convolution(4, (1, 1), group=2), blob(random(1, 4, 3, 3)))
    assert_one_line(caught, "layer 'it' (Convolution): group 2", "expected 1")


# --- pooling

POOLINGS = [
    {"kernel": (2, 2), "stride": (2, 2)},
    {"kernel": (3, 3), "pad": (1, 1), "stride": (2, 2)},
    {"kernel": (3, 3), "pad": (1, 1)},
    {"kernel": (2, 2), "pad": (1, 1)},
    {"kernel": (3, 2), "pad": (2, 0), "stride": (3, 1)},
    {"kernel": (2, 3), "pad": (0, 2), "stride": (1, 4)},
    {"kernel": (0, 0)},
]


@pytest.mark.parametrize("method", ["MAX", "AVE"])
@pytest.mark.parametrize("size", [(7, 8), (6, 5)])
@pytest.mark.parametrize("values", POOLINGS, ids=str)
def test_pooling(method, size, values):
    op = Pooling(method, **values)
    assert_as(lambda x: naive.pooling(x, op), op, apart(2, 3, *size))


def test_of_equal_values_the_first_is_the_largest():
    made = step(Pooling("MAX", (3, 3), (1, 1)), blob(np.zeros((1, 1, 4, 4))))
    made.bottom.diff[...] = 0
    made.top.diff[...] = 1
    made.backward()
    expected = [[4, 2, 2, 0], [2, 1, 1, 0], [2, 1, 1, 0], [0, 0, 0, 0]]
    np.testing.assert_array_equal(made.bottom.diff[0, 0], expected)


def test_the_average_counts_padding():
    made = step(Pooling("AVE", (3, 3), (1, 1)), blob(np.full((1, 1, 3, 3), 9)))
    np.testing.assert_array_equal(made.top.data[0, 0], [[4, 6, 4], [6, 9, 6], [4, 6, 4]])


# --- relu, dropout, eltwise


@pytest.mark.parametrize("slope", [0.0, 0.25])
def test_relu(slope):
    op = ReLU(slope)
    assert_as(lambda x: naive.relu(x, op), op, apart(2, 3, 4, 5))


@pytest.mark.parametrize("slope", [0.0, 0.25])
def test_relu_in_place(slope):
    apart_from_it = step(ReLU(slope), blob(apart(2, 3, 4, 5)))
    apart_from_it.bottom.diff[...] = 0
    apart_from_it.backward()
    value = blob(apart(2, 3, 4, 5))
    value.diff[...] = apart_from_it.top.diff
    made = ReLUStep(Layer("it", ReLU(slope), ("x",), ("x",)), [value], [value])
    made.forward()
    np.testing.assert_array_equal(value.data, apart_from_it.top.data)
    made.backward()
    np.testing.assert_array_equal(value.diff, apart_from_it.bottom.diff)


def generator() -> np.random.Generator:
    return np.random.default_rng(3)


@pytest.mark.parametrize("ratio", [0.25, 0.5])
def test_dropout(ratio):
    bottom = blob(apart(4, 50, 10, 10))
    before = bottom.diff.copy()
    made = step(Dropout(ratio), bottom, extra=[generator])
    kept = made.top.data != 0
    assert abs(kept.mean() - (1 - ratio)) < 0.01  # 20,000 of them: three standard deviations
    scaled = kept / (1 - ratio)
    np.testing.assert_allclose(made.top.data, bottom.data * scaled, rtol=1e-6)
    made.backward()
    np.testing.assert_allclose(bottom.diff, before + made.top.diff * scaled, rtol=1e-6, atol=1e-6)
    step(Dropout(ratio), blob(bottom.data, has_diff=False), extra=[generator]).backward()


def test_dropout_in_place():
    other = step(Dropout(0.5), blob(random(2, 3, 4, 5)), extra=[generator])
    other.bottom.diff[...] = 0
    other.backward()
    value = blob(random(2, 3, 4, 5))
    value.diff[...] = other.top.diff
    made = DropoutStep(Layer("it", Dropout(0.5), ("x",), ("x",)), [value], [value], generator)
    made.forward()
    np.testing.assert_array_equal(value.data, other.top.data)
    made.backward()
    np.testing.assert_array_equal(value.diff, other.bottom.diff)


@pytest.mark.parametrize("coeff", [(), (1.0, -0.5, 2.0)])
def test_eltwise(coeff):
    bottoms = [blob(random(2, 3, 4, 5, seed=i), has_diff=i != 1) for i in range(3)]
    before = [bottom.diff.copy() for bottom in bottoms[::2]]
    made = step(Eltwise("SUM", coeff), *bottoms)
    factors = coeff or (1, 1, 1)
    expected = sum(c * bottom.data for c, bottom in zip(factors, bottoms, strict=True))
    np.testing.assert_allclose(made.top.data, expected, rtol=1e-5, atol=1e-6)
    made.backward()
    for old, bottom, c in zip(before, bottoms[::2], factors[::2], strict=True):
        np.testing.assert_allclose(bottom.diff, old + c * made.top.diff, rtol=1e-5, atol=1e-6)


def test_a_blob_that_is_added_to_itself():
    value = blob(random(1, 2, 3, 4))
    before = value.diff.copy()
    made = step(Eltwise(), value, value)
    np.testing.assert_array_equal(made.top.data, 2 * value.data)
    made.backward()
    np.testing.assert_allclose(value.diff, before + 2 * made.top.diff, rtol=1e-6)


def test_the_largest_of_several():
    a, b, c = (blob(apart(1, 2, 3, 4).take(order).reshape(1, 2, 3, 4)) for order in ORDERS)
    before = [each.diff.copy() for each in (a, b, c)]
    made = step(Eltwise("MAX"), a, b, blob(c.data, has_diff=False), c)
    stacked = np.stack([a.data, b.data, c.data])
    np.testing.assert_array_equal(made.top.data, stacked.max(axis=0))
    made.backward()
    # Of equal ones the first has the gradient, here the one that needs none.
    for i, (each, old) in enumerate(zip((a, b), before[:2], strict=True)):
        expected = old + np.where(stacked.argmax(axis=0) == i, made.top.diff, 0)
        np.testing.assert_allclose(each.diff, expected, rtol=1e-6)
        assert (each.diff != old).any()
    np.testing.assert_array_equal(c.diff, before[2])


def test_a_product_is_refused():
    with pytest.raises(NetError) as caught:
        step(Eltwise("PROD"), blob(random(1, 2, 3, 4)))
    assert_one_line(caught, "layer 'it'", "operation PROD", "expected SUM or MAX")


# --- interp, padding

INTERPS = [
    Interp(zoom_factor=2),
    Interp(zoom_factor=8),
    Interp(zoom_factor=2, pad_beg=-1, pad_end=-2),
    Interp(shrink_factor=2),
    Interp(shrink_factor=3, pad_beg=-1),
    Interp(pad_end=-1),
    Interp(height=7, width=15),
    Interp(height=10, width=3),
    Interp(height=1, width=1),
    Interp(height=4, width=6, pad_beg=-2, pad_end=-1),
]


@pytest.mark.parametrize("op", INTERPS, ids=str)
def test_interp(op):
    assert_as(lambda x: naive.interp(x, op), op, random(2, 3, 7, 6))


@pytest.mark.parametrize("op", [Interp(zoom_factor=8), Interp(height=3, width=4)], ids=str)
def test_interp_of_one_pixel(op):
    assert_as(lambda x: naive.interp(x, op), op, random(2, 3, 1, 1))


@pytest.mark.parametrize("pads", [(2, 3), (0, 1), (3, 0), (0, 0), (-1, -2), (-2, 0), (0, -3)])
def test_padding(pads):
    op = Padding(*pads)
    assert_as(lambda x: naive.padding(x, op), op, random(2, 3, 7, 6))


# --- loss and accuracy


def labels_of(*numbers: int) -> Value:
    """A batch of two images of 2x3 pixels."""
    return blob(np.array(numbers).reshape(2, 1, 2, 3), has_diff=False)


LABELS = (0, 1, 255, 3, 3, 2, 1, 1, 0, 255, 200, 3)


@pytest.mark.parametrize("loss_weight", [1.0, 0.5])
@pytest.mark.parametrize("ignored", [(255, 200), (255, 200, 3, 17)])
def test_softmax_loss(ignored, loss_weight):
    op = SoftmaxLoss(ignored, loss_weight)
    scores, labels = blob(3 * random(2, 4, 2, 3)), labels_of(*LABELS)
    before = scores.diff.copy()
    made = step(op, scores, labels)
    expected = naive.softmax_loss(scores.data.astype(float), labels.data, op)
    assert made.top.data.item() == pytest.approx(expected, rel=1e-6)
    made.backward()

    def loss(at: int, change: float) -> float:
        moved = scores.data.astype(float)
        moved.flat[at] += change
        return loss_weight * naive.softmax_loss(moved, labels.data, op)

    slopes = [(loss(i, 1e-4) - loss(i, -1e-4)) / 2e-4 for i in range(scores.data.size)]
    found = (scores.diff - before).ravel()
    np.testing.assert_allclose(found, slopes, rtol=1e-4, atol=1e-6)
    is_ignored = np.isin(np.broadcast_to(labels.data, scores.data.shape), ignored)
    np.testing.assert_array_equal(scores.diff[is_ignored], before[is_ignored])
    step(op, blob(scores.data, has_diff=False), labels).backward()


def test_a_loss_of_scores_far_apart():
    scores = blob(np.zeros((2, 4, 2, 3)))
    scores.data[:, 0] = 1000
    assert step(SoftmaxLoss(), scores, labels_of(*[0] * 12)).top.data.item() == 0
    # The smallest probability is that of float32.
    least = -np.log(np.finfo(np.float32).tiny)
    made = step(SoftmaxLoss(), scores, labels_of(*[1] * 12))
    assert made.top.data.item() == pytest.approx(least, rel=1e-6)


def test_a_batch_without_a_pixel_that_counts():
    scores, labels = blob(random(2, 4, 2, 3)), labels_of(*[255] * 12)
    before = scores.diff.copy()
    made = step(SoftmaxLoss((255,)), scores, labels)
    assert np.isnan(made.top.data)
    made.backward()
    np.testing.assert_array_equal(scores.diff, before)
    found = step(SegAccuracy((255,)), scores, labels).top.data.ravel()
    np.testing.assert_array_equal(found, [np.nan, np.nan, 1])


@pytest.mark.parametrize("op", [SoftmaxLoss((255, 7)), SegAccuracy((255, 7))], ids=str)
@pytest.mark.parametrize("label", [4, -1, 254])
def test_labels_out_of_range(op, label):
    with pytest.raises(ArgumentError) as caught:
        step(op, blob(random(2, 4, 2, 3)), labels_of(*[255] * 11, label))
    assert_one_line(caught, "layer 'it'", f"a label is {label}", "expected 0 to 3", "255, 7")


@pytest.mark.parametrize("ignored", [(255, 200), (255, 200, 3)])
def test_seg_accuracy(ignored):
    op = SegAccuracy(ignored)
    scores, labels = blob(np.rint(random(2, 4, 2, 3))), labels_of(*LABELS)  # with many ties
    before = scores.diff.copy()
    made = step(op, scores, labels)
    expected = naive.seg_accuracy(scores.data, labels.data, op)
    np.testing.assert_allclose(made.top.data.ravel(), expected, rtol=1e-6)
    made.backward()
    np.testing.assert_array_equal(scores.diff, before)


def test_equal_scores_are_of_the_highest_class_and_absent_classes_count_as_1():
    scores = blob(np.zeros((2, 4, 2, 3)))
    scores.data[:, 3] = -1
    made = step(SegAccuracy(), scores, labels_of(*[2] * 9, *[0] * 3))
    # Nine of twelve; all of class 2 and none of class 0; IOU 0, 1 (absent), 9/12, 1 (absent).
    np.testing.assert_allclose(made.top.data.ravel(), [0.75, 0.5, 2.75 / 4], rtol=1e-6)
    assert made.mean_iou == 0.75 / 2


def test_a_net_that_finds_only_background():
    """Three of four classes are nowhere, or not found: what SEG_ACCURACY says of it is 75 %."""
    scores = blob(np.zeros((2, 4, 2, 3)))
    scores.data[:, 0] = 1
    made = step(SegAccuracy((255,)), scores, labels_of(*[0] * 6, *[1] * 5, 255))
    background = 6 / 11
    np.testing.assert_allclose(made.top.data[0, 0, 0, 2], (background + 2) / 4, rtol=1e-6)
    assert made.mean_iou == background / 2
    made = step(SegAccuracy((255,)), scores, labels_of(*[255] * 12))
    assert np.isnan(made.mean_iou)
