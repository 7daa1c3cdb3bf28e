"""Nets in PyTorch give what this package gives."""

import numpy as np
import pytest

from deeplab_repro.engines.opencv import OpenCVEngine
from deeplab_repro.errors import NetError
from deeplab_repro.net.layers import (
    Concat,
    Convolution,
    Dropout,
    Eltwise,
    Interp,
    Padding,
    Pooling,
    ReLU,
    Softmax,
)
from deeplab_repro.net.net import Layer, Net

pytest.importorskip("torch", reason="PyTorch is not installed")


def test_every_layer_that_it_knows():
    from deeplab_repro.bench.torch_net import torch_net

    net = Net(
        "n",
        "data",
        (1, 3, 33, 41),
        [
            Layer("conv", Convolution(4, (3, 3), (2, 2), (1, 1), (2, 2)), ("data",), ("a",)),
            Layer("relu", ReLU(), ("a",), ("a",)),
            Layer("drop", Dropout(0.5), ("a",), ("a",)),
            Layer("max", Pooling("MAX", (3, 3), (1, 1), (2, 2)), ("a",), ("max",)),
            Layer("even", Pooling("MAX", (2, 2), (0, 0), (2, 2)), ("a",), ("even",)),
            Layer("ave", Pooling("AVE", (3, 3), (1, 1), (1, 1)), ("max",), ("ave",)),
            Layer("sum", Eltwise("SUM", (2.0, -1.0)), ("ave", "even"), ("sum",)),
            Layer("both", Concat(), ("sum", "max"), ("both",)),
            Layer("up", Interp(zoom_factor=2), ("both",), ("up",)),
            Layer("crop", Padding(-1, 2), ("up",), ("crop",)),
            Layer("down", Interp(height=7, width=9, pad_beg=-2), ("crop",), ("down",)),
            Layer("fc", Convolution(6, (1, 1), group=2, bias=False), ("down",), ("fc",)),
            Layer("all", Pooling("AVE", (0, 0)), ("fc",), ("all",)),
        ],
    )
    net.fill_random(0)
    data = np.random.default_rng(0).normal(0, 50, net.input_shape).astype(np.float32)
    for blob in ("fc", "all"):
        expected = OpenCVEngine(net, "cpu").blobs(data, [blob])[blob]
        found = torch_net(net, blob, threads=1)(data)
        np.testing.assert_allclose(found, expected, atol=1e-5 * expected.std() + 1e-6)


def test_a_layer_that_it_does_not_know():
    from deeplab_repro.bench.torch_net import torch_net

    net = Net("n", "data", (1, 3, 5, 5), [Layer("prob", Softmax(), ("data",), ("prob",))])
    with pytest.raises(NetError, match=r"layer 'prob' \(Softmax\) has no counterpart"):
        torch_net(net, "prob", threads=1)
