"""The layers of each value or channel in float64, as the slow ones; and through npz."""

import numpy as np
import pytest

from deeplab_repro.convert.npz import read_npz, write_npz
from deeplab_repro.engines.exact import exact_blobs
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
from tests import slow_layers as slow

SHAPE = (2, 5, 4, 6)


@pytest.mark.parametrize(
    ("op", "expected"),
    [
        (BatchNorm(0.01), slow.batch_norm),
        (BN(0.01), slow.bn),
        (Scale(), slow.scale),
        (Scale(-2, -1, True), slow.scale),
        (Scale(0, 2, True), slow.scale),
        (Bias(2), lambda x, op, bias: slow.scale(x, op, np.ones(bias.shape), bias)),
        (PReLU(), slow.prelu),
        (PReLU(True), slow.prelu),
        (Sigmoid(), lambda x, _: 1 / (1 + np.exp(-x.astype(np.float64)))),
        (TanH(), lambda x, _: np.tanh(x.astype(np.float64))),
        (ELU(0.5), slow.elu),
        (AbsVal(), lambda x, _: np.abs(x)),
        (Power(3, 0.5, 2), slow.power),
        (Exp(2, 0.5, 1), slow.exponential),
        (Log(10, 0.001, 1), slow.logarithm),
        (LRN(3, 0.5, 0.75, k=2), slow.normalise),
        (LRN(5, 0.5, 0.75, "WITHIN_CHANNEL", k=2), slow.normalise),
    ],
)
def test_layers(tmp_path, op, expected):
    net = slow.one_layer(op, SHAPE)
    data = slow.random_input(*SHAPE)
    theirs = expected(data, op, *slow.weights(net))
    write_npz(net, tmp_path / "net.npz")
    again = read_npz(tmp_path / "net.npz")
    assert again.layers[0].op == op
    for each in (net, again):
        found = exact_blobs(each, data, ["a"])["a"]
        # Sums of float64 in another order.
        np.testing.assert_allclose(found, theirs, rtol=1e-12, atol=1e-12 * np.abs(theirs).max())


def test_what_is_far_from_zero_does_not_overflow():
    data = np.array([-1e30, 1e30], np.float32).reshape(1, 2, 1, 1)
    with np.errstate(all="raise"):
        for op, expected in [(Sigmoid(), [0, 1]), (TanH(), [-1, 1]), (ELU(2), [-2, 1e30])]:
            found = exact_blobs(slow.one_layer(op, data.shape), data, ["a"])["a"]
            np.testing.assert_allclose(found.ravel(), expected)
