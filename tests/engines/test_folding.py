"""What follows a convolution is folded into it where nobody looks between, and only there."""

import numpy as np
import pytest

from deeplab_repro.engines.exact import exact_blobs
from deeplab_repro.engines.folding import folded
from deeplab_repro.errors import WeightsError
from deeplab_repro.net.channel_layers import BN, BatchNorm, Bias, PReLU, Scale
from deeplab_repro.net.layers import Convolution, Eltwise
from deeplab_repro.net.net import Layer, Net
from tests.slow_layers import net_of, random_input

SHAPE = (2, 4, 7, 6)
CONV = Convolution(6, (3, 2), group=2)


def chain(*ops, in_place=True, first=CONV):
    """A convolution, and layers one after the other."""
    layers = [Layer("c", first, ("data",), ("c",))]
    for number, op in enumerate(ops):
        bottoms = layers[-1].tops
        tops = bottoms if in_place else (f"x{number}",)
        layers.append(Layer(f"l{number}", op, bottoms, tops))
    return net_of(*layers, shape=SHAPE)


def assert_same(net, lean, count):
    """That both make the same output, and the lean net of so many layers."""
    assert len(lean.layers) == count
    data = random_input(*SHAPE)
    expected, found = (exact_blobs(each, data, [net.output])[net.output] for each in (net, lean))
    # The folded weights are rounded to float32 once more.
    assert np.abs(found - expected).max() <= 1e-5 * expected.std()


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "ops",
    [
        [BatchNorm()],
        [BatchNorm(), Scale(bias=True)],
        [BN(0.01)],
        [Scale()],
        [Scale(-3)],
        [Bias(), Scale(), BatchNorm()],
    ],
)
def test_all_of_a_chain_is_folded(ops, bias, in_place):
    net = chain(*ops, in_place=in_place, first=Convolution(6, (3, 2), group=2, bias=bias))
    assert_same(net, folded(net, [net.output]), 1)


@pytest.mark.parametrize(
    ("op", "first"),
    [(PReLU(), CONV), (Scale(2), CONV), (Scale(1, 3), CONV), (BatchNorm(), PReLU())],
)
def test_what_is_not_linear_in_each_channel_stays(op, first):
    net = chain(op, first=first)
    assert folded(net) is net


def test_a_value_that_somebody_may_ask_for_stays():
    net = chain(BatchNorm(), Scale(), in_place=False)
    assert folded(net) is net
    assert_same(net, folded(net, ["x0", "x1"]), 2)
    assert_same(net, folded(net, ["c", "x1"]), 3)


def test_a_value_that_another_layer_takes_stays():
    net = chain(BatchNorm(), in_place=False)
    both = Layer("e", Eltwise(), ("c", "x0"), ("e",))
    net = Net("n", "data", SHAPE, [*net.layers, both])
    assert folded(net, ["e"]) is net


def test_a_scale_by_another_blob_stays():
    net = chain(Bias(), in_place=False)
    both = Layer("s", Scale(0), ("x0", "x0"), ("s",))
    net = Net("n", "data", SHAPE, [*net.layers, both])
    assert_same(net, folded(net, ["s"]), 2)


def test_shared_weights_stay_shared():
    first, second = chain(BatchNorm(), Scale()), chain(BatchNorm(), Scale())
    names = {"data": "data", "c": "d"}
    layers = list(first.layers)
    for ours, theirs in zip(first.layers, second.layers, strict=True):
        bottoms, tops = (tuple(names[x] for x in blobs) for blobs in (theirs.bottoms, theirs.tops))
        layers.append(Layer(f"{ours.name}_2", ours.op, bottoms, tops, ours.blobs))
    lean = folded(Net("n", "data", SHAPE, layers))
    one, two = lean.layers
    assert one.tops != two.tops
    assert one.blobs[0] is two.blobs[0]


def test_weights_that_are_not_loaded():
    net = Net("n", "data", SHAPE, chain(BatchNorm()).layers)
    net.layers[1].blobs[0].data = None
    with pytest.raises(WeightsError, match="layer 'l0' has no weights"):
        folded(net)
