"""Weights as float16, in every format that has them."""

import numpy as np
import pytest

from deeplab_repro.convert.half import rounded_to_half
from deeplab_repro.convert.npz import read_npz, write_npz
from deeplab_repro.convert.onnx import write_onnx
from deeplab_repro.convert.safetensors import read_safetensors, write_safetensors
from deeplab_repro.errors import WeightsError
from deeplab_repro.net.channel_layers import BN, BatchNorm, PReLU, Scale
from deeplab_repro.net.layers import Convolution
from deeplab_repro.net.net import Layer, Net
from tests.conftest import assert_one_line
from tests.convert.npz_files import assert_same
from tests.convert.onnx_runs import Runs, model_of
from tests.slow_layers import random_input

WRITERS = {"npz": write_npz, "safetensors": write_safetensors, "onnx": write_onnx}


def net_of(*ops) -> Net:
    """Layers that follow each other, named a, b, ..., with weights that no float16 is."""
    names = ["data", *"abcdefgh"]
    layers = [Layer(names[i + 1], op, (names[i],), (names[i + 1],)) for i, op in enumerate(ops)]
    net = Net("n", "data", (1, 3, 6, 7), layers)
    rng = np.random.default_rng(0)
    for blob in (blob for layer in layers for blob in layer.blobs):
        blob.data = rng.uniform(0.1, 1, blob.shape).astype(np.float32)
    return net


@pytest.fixture
def net() -> Net:
    """One of each kind of array; the variance alone is beyond float16."""
    found = net_of(
        Convolution(3, (3, 3), pad=(1, 1)),
        BatchNorm(),
        Scale(bias=True),
        PReLU(),
        PReLU(channel_shared=True),
        BN(),
    )
    found.layers[1].blobs[1].data[:] = 1e6
    return found


@pytest.mark.parametrize(("to", "read"), [("npz", read_npz), ("safetensors", read_safetensors)])
def test_what_is_read_back_is_what_float16_keeps(net, tmp_path, to, read):
    WRITERS[to](net, tmp_path / "half", half=True)
    found = read(tmp_path / "half")
    assert_same(found, rounded_to_half(net))
    rounded = found.layers[0].blobs[0].data, net.layers[0].blobs[0].data
    assert not np.array_equal(*rounded)
    np.testing.assert_allclose(*rounded, rtol=2**-11)  # half a step of float16
    np.testing.assert_array_equal(found.layers[1].blobs[1].data, 1e6)


def test_onnx_computes_in_float32(net, tmp_path):
    write_onnx(net, tmp_path / "half.onnx", half=True)
    write_onnx(rounded_to_half(net), tmp_path / "whole.onnx")
    half, whole = ((tmp_path / f"{name}.onnx").read_bytes() for name in ("half", "whole"))
    graph = model_of(half).graph
    kinds = {array.name: array.data_type for array in graph.initializer}
    halved = {name for name in kinds if name.endswith("/half")}
    assert halved == {
        f"{name}/half"
        for name in ("a/weight", "a/bias", "c/weight", "c/bias", "d/slope", "f/slope", "f/bias")
    }
    assert {kinds[name] for name in halved} == {10}
    assert {each.type.tensor_type.elem_type for each in (*graph.input, *graph.output)} == {1}
    data = random_input(1, 3, 6, 7)
    expected = Runs(whole)(data)
    for runtime, found in Runs(half)(data).items():
        for name, values in found.items():
            # The same sums, by a runtime that may fold other nodes.
            np.testing.assert_allclose(values, expected[runtime][name], rtol=1e-5, atol=1e-5)


def test_shared_weights_are_cast_once(tmp_path):
    net = net_of(Convolution(3, (1, 1)), Convolution(3, (1, 1)))
    for blob, other in zip(net.layers[0].blobs, net.layers[1].blobs, strict=True):
        blob.name = other.name = "shared"
        other.data = blob.data
    write_onnx(net, tmp_path / "a", half=True)
    casts = [
        node
        for node in model_of((tmp_path / "a").read_bytes()).graph.node
        if node.op_type == "Cast"
    ]
    assert len(casts) == 2


@pytest.mark.parametrize("to", WRITERS)
@pytest.mark.parametrize(
    ("what", "value", "expected"),
    [
        (0, 65520, "layer 'a': its weight has 65520, expected numbers up to 65,504"),
        (1, -1e9, "layer 'a': its bias has -1e+09, expected numbers"),
        (0, 1e-8, "layer 'a': its weight has numbers up to 1e-08, which float16 takes for 0"),
    ],
)
def test_what_does_not_fit(tmp_path, to, what, value, expected):
    net = net_of(Scale(bias=True))
    net.layers[0].blobs[what].data[:] = value
    with pytest.raises(WeightsError) as error:
        WRITERS[to](net, tmp_path / "a", half=True)
    assert_one_line(error, expected, "convert it without --half")
    assert not list(tmp_path.iterdir())


def test_what_just_fits(tmp_path):
    net = net_of(Scale(bias=True))
    net.layers[0].blobs[0].data[:] = [65519, np.inf, np.nan]
    write_npz(net, tmp_path / "a", half=True)
    found = read_npz(tmp_path / "a").layers[0].blobs[0].data
    np.testing.assert_array_equal(found, [65504, np.inf, np.nan])
