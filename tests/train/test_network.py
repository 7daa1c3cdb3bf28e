"""Whole nets that learn: their gradients, threads and tiles, and what cannot be trained."""

import numba
import numpy as np
import pytest

from deeplab_repro.caffe import read_train_net
from deeplab_repro.caffe.training import TRAINED
from deeplab_repro.errors import NetError, ResourceError
from deeplab_repro.net.layers import Dropout
from deeplab_repro.train import convolution
from deeplab_repro.train.elementwise import DropoutStep
from deeplab_repro.train.network import _LEARNING_STEPS, _STEPS, Network
from tests.conftest import assert_one_line

# Two branches that share a blob, one of them coarser; a frozen layer that gradients go through.
NET = """
name: "small"
input: "data" input: "label" input_dim: [2, 3, 17, 15, 2, 1, 9, 8]
layers { name: "conv1" type: CONVOLUTION bottom: "data" top: "conv1"
  convolution_param { num_output: 6 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } } }
layers { name: "relu1" type: RELU bottom: "conv1" top: "conv1" }
layers { name: "pool1" type: POOLING bottom: "conv1" top: "pool1"
  pooling_param { pool: MAX kernel_size: 3 stride: 2 pad: 1 } }
layers { name: "frozen" type: CONVOLUTION bottom: "pool1" top: "frozen" blobs_lr: 0 blobs_lr: 0
  convolution_param { num_output: 6 kernel_size: 3 pad: 2 hole: 2
    weight_filler { type: "xavier" } } }
layers { name: "fine" type: CONVOLUTION bottom: "frozen" top: "fine"
  convolution_param { num_output: 4 kernel_size: 1 weight_filler { type: "xavier" } } }
layers { name: "coarse" type: CONVOLUTION bottom: "frozen" top: "coarse"
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 stride: 2
    weight_filler { type: "xavier" } } }
layers { name: "up" type: INTERP bottom: "coarse" top: "up"
  interp_param { height: 9 width: 8 } }
layers { name: "sum" type: ELTWISE bottom: "fine" bottom: "up" bottom: "fine" top: "sum"
  eltwise_param { coeff: 1 coeff: 0.5 coeff: 1 } }
layers { name: "loss" type: SOFTMAX_LOSS bottom: "sum" bottom: "label" top: "loss" }
"""
IN_PLACE = 'layers { name: "relu1" type: RELU bottom: "conv1" top: "conv1" }'
DROPPED = IN_PLACE + 'layers { name: "drop1" type: DROPOUT bottom: "conv1" top: "conv1" }'


@pytest.fixture
def network(tmp_path):
    """Make a network of a train net's text; its seed decides about weights and dropout."""

    def made(text: str = NET, seed: int = 0) -> Network:
        path = tmp_path / "train.prototxt"
        path.write_text(text)
        return Network(read_train_net(path), seed)

    return made


def batch() -> tuple[np.ndarray, np.ndarray]:
    labels = np.random.default_rng(1).integers(4, size=(2, 1, 9, 8))
    data = np.random.default_rng(0).standard_normal((2, 3, 17, 15), np.float32)
    return data, labels.astype(np.float32)


def test_the_gradient_of_the_loss_by_every_parameter(network):
    found = network()
    data, labels = batch()
    found.forward(data, labels)
    found.backward()
    found.clear_gradients()
    found.backward()
    # Along the gradient, where the loss changes most; in float32 there are no smaller steps.
    for parameter in found.parameters:
        if not parameter.lr_mult:
            assert not parameter.diff.any()
            continue
        norm = np.linalg.norm(parameter.diff)
        way, here = parameter.diff / norm, parameter.data.copy()
        losses = []
        for distance in (-0.004, 0.004):
            parameter.data[...] = here + np.float32(distance) * way
            losses.append(found.forward(data, labels))
        parameter.data[...] = here
        assert (losses[1] - losses[0]) / 0.008 == pytest.approx(norm, rel=0.02)


MORE_LOSSES = (
    NET
    + """
layers { name: "loss_up" type: SOFTMAX_LOSS bottom: "up" bottom: "label" loss_weight: 0.25 }
layers { name: "loss_fine" type: SOFTMAX_LOSS bottom: "fine" bottom: "label" loss_weight: 0 }
"""
)


def test_losses_are_added_up_by_their_weights(network):
    found = network(MORE_LOSSES)
    total = found.forward(*batch())
    one, up, _ = (found.values[name].data.item() for name in ("loss", "loss_up", "loss_fine"))
    assert total == pytest.approx(one + 0.25 * up, rel=1e-6)
    data, labels = batch()
    ignored = MORE_LOSSES.replace(
        '"label" loss_weight: 0 }', '"label" loss_weight: 0 softmaxloss_param { ignore_label: 3 } }'
    )
    # A loss without weight does not count, not even where it is not defined.
    assert np.isfinite(network(ignored).forward(data, np.full_like(labels, 3)))


def test_a_frozen_layer_lets_gradients_through(network):
    """What lies before it learns as if it were not frozen."""
    frozen, learning = network(), network(NET.replace("blobs_lr: 0 blobs_lr: 0", ""))
    for each in (frozen, learning):
        each.forward(*batch())
        each.backward()
    assert [p.lr_mult for p in frozen.parameters] == [1, 1, 0, 0, 1, 1, 1, 1]
    for one, other in zip(frozen.parameters, learning.parameters, strict=True):
        assert other.diff.any()
        np.testing.assert_array_equal(one.diff, other.diff if one.lr_mult else 0)


def test_nothing_before_the_first_layer_that_learns_has_a_gradient(network):
    text = NET.replace("pad: 1 weight", "pad: 1 bias_term: false weight", 1)
    found = network(text.replace('top: "conv1"\n', 'top: "conv1" blobs_lr: 0\n', 1))
    without = {name for name, value in found.values.items() if value.diff is None}
    assert without == {"data", "label", "conv1", "pool1", "frozen"}
    found.forward(*batch())
    found.backward()
    assert [parameter.diff.any() for parameter in found.parameters] == [False] * 3 + [True] * 4


def test_relu_and_dropout_in_place_are_as_beside_each_other(network):
    beside = DROPPED.replace('top: "conv1"', 'top: "relu1"', 1).replace(
        'bottom: "conv1" top: "conv1" }', 'bottom: "relu1" top: "drop1" }'
    )
    rest = NET.replace(IN_PLACE, "@").replace('bottom: "conv1"', 'bottom: "drop1"')
    one, other = network(NET.replace(IN_PLACE, DROPPED)), network(rest.replace("@", beside))
    for iteration in range(3):
        losses = []
        for each in (one, other):
            each.batch_number = iteration
            losses.append(each.forward(*batch()))
            each.backward()
        assert losses[0] == losses[1]
        for ours, theirs in zip(one.parameters, other.parameters, strict=True):
            np.testing.assert_array_equal(ours.diff, theirs.diff)


def test_dropout_depends_on_seed_iteration_and_layer(network):
    text = NET.replace(IN_PLACE, DROPPED + DROPPED.replace('1" type', '2" type'))
    found = network(text, seed=5)

    def masks(iteration: int) -> list[np.ndarray]:
        found.batch_number = iteration
        found.forward(*batch())
        return [s.mask.copy() for s in found.steps if isinstance(s, DropoutStep)]

    first, second, again = masks(0), masks(1), masks(0)
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)
    different = [*first, *second]
    found = network(text, seed=6)
    different += masks(0)
    for i, one in enumerate(different):
        assert not any(np.array_equal(one, other) for other in different[i + 1 :])


def gradients(found: Network) -> list[np.ndarray]:
    """The loss, every blob's gradient and every parameter's."""
    loss = found.forward(*batch())
    found.clear_gradients()
    found.backward()
    diffs = [value.diff for value in found.values.values() if value.diff is not None]
    return [np.array(loss), *diffs, *(parameter.diff for parameter in found.parameters)]


@pytest.mark.parametrize("slope", [0, 0.25])
def test_a_relu_in_place_after_a_convolution_is_as_one_apart(network, slope):
    parameter = f"relu_param {{ negative_slope: {slope} }}"
    relu = IN_PLACE[:-1] + parameter + "}"
    twice = relu + IN_PLACE.replace("relu1", "relu2")  # the second is no part of the convolution
    for chosen in (relu, twice):
        in_place = NET.replace(IN_PLACE, chosen)
        apart = chosen.replace('"conv1" top: "conv1"', '"conv1" top: "rectified"', 1)
        apart = apart.replace('"conv1" top: "conv1"', '"rectified" top: "rectified"')
        apart = NET.replace(IN_PLACE, apart).replace(
            'POOLING bottom: "conv1"', 'POOLING bottom: "rectified"'
        )
        one, other = network(in_place), network(apart)
        assert one.forward(*batch()) == other.forward(*batch())
        for _ in range(2):  # what the first left behind is not in the second
            for each in (one, other):
                each.clear_gradients()
                each.backward()
        for first, second in zip(one.parameters, other.parameters, strict=True):
            np.testing.assert_array_equal(first.diff, second.diff)


def test_tiles_are_of_one_height_or_almost(monkeypatch):
    monkeypatch.setattr(convolution, "_TILE", 1)
    monkeypatch.setattr(convolution, "_LEAST_PIXELS", 512)  # 12 rows and a half
    tiles = convolution._tiles(np.zeros((2, 1, 41, 41), np.float32), 9)
    assert [last - first for _, first, last in tiles] == [10, 10, 10, 11] * 2
    assert [first for _, first, _ in tiles] == [0, 10, 20, 30] * 2


@pytest.fixture
def tiny_tiles(monkeypatch):
    """One row a tile."""
    monkeypatch.setattr(convolution, "_TILE", 1)
    monkeypatch.setattr(convolution, "_LEAST_PIXELS", 1)


@pytest.mark.usefixtures("tiny_tiles")
def test_any_number_of_threads_gives_the_same_bits(network, monkeypatch):
    assert len(convolution._tiles(np.zeros((2, 3, 17, 15), np.float32), 27)) == 34
    results = []
    for threads in (1, 2, 5):
        monkeypatch.setattr(numba, "get_num_threads", lambda threads=threads: threads)
        results.append(gradients(network(NET.replace(IN_PLACE, DROPPED))))
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(one, two)


def test_numba_is_told_how_many_threads(network):
    if numba.get_num_threads() < 2:
        pytest.skip("there is one thread only")
    found = network()
    all_threads = [array.copy() for array in gradients(found)]
    before = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        fewer = gradients(found)
        made_with_one = network()
    finally:
        numba.set_num_threads(before)
    for one, two, three in zip(all_threads, fewer, gradients(made_with_one), strict=True):
        np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(one, three)


def test_the_size_of_the_tiles_changes_nothing_but_rounding(network, monkeypatch):
    whole = gradients(network())
    for least in (1, 40):
        monkeypatch.setattr(convolution, "_TILE", 1)
        monkeypatch.setattr(convolution, "_LEAST_PIXELS", least)
        for one, other in zip(whole, gradients(network()), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


SOFTMAX = 'layers { name: "s" type: SOFTMAX bottom: "conv1" top: "s" }'
EARLY = 'layers { name: "early" type: CONVOLUTION bottom: "conv1" top: "early" CONV }'.replace(
    "CONV }", "convolution_param { num_output: 2 kernel_size: 1 } }"
)


def test_what_reading_says_trains_is_what_trains():
    assert {*TRAINED} == {kind.__name__ for kind in (*_STEPS, *_LEARNING_STEPS, Dropout)} - {
        *("SegAccuracy", "SoftmaxLoss")
    }


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        (
            "num_output: 6 kernel_size: 3 pad: 2",
            "num_output: 6 group: 2 kernel_size: 3 pad: 2",
            ["layer 'frozen' (Convolution)", "group 2"],
        ),
        ("coeff: 1 coeff: 0.5 coeff: 1", "operation: PROD", ["layer 'sum'", "PROD"]),
        ("xavier", "positive_unitball", ["layer 'conv1'", "positive_unitball", "xavier"]),
        (
            IN_PLACE,
            SOFTMAX
            + SOFTMAX.replace('"s"', '"t"')
            + SOFTMAX.replace('"s"', '"u"').replace("SOFTMAX", "CONCAT"),
            ["layer 's' (Softmax), layer 'u' (Concat) cannot be trained here"],
        ),
        (
            IN_PLACE,
            'layers { name: "p" type: PADDING bottom: "conv1" top: "conv1" }',
            ["layer 'p' (Padding)", "cannot be trained in place here"],
        ),
        # Caffe does not allow this either: there is a copy of conv1 then, which nothing is beside.
        (
            IN_PLACE,
            EARLY + IN_PLACE,
            ["layer 'relu1' (ReLU)", "in place", "'conv1'", "layer 'early'"],
        ),
    ],
)
def test_nets_that_do_not_train_here(network, old, new, parts):
    with pytest.raises(NetError) as caught:
        network(NET.replace(old, new, 1))
    assert_one_line(caught, *parts)


def test_a_batch_larger_than_the_memory(network):
    with pytest.raises(ResourceError) as caught:
        network(NET.replace("[2, 3, 17, 15, 2, 1, 9, 8]", "[9999999, 3, 17, 15, 9999999, 1, 9, 8]"))
    assert_one_line(caught, "training net 'small'", "batches of 9999999", "batch_size")
