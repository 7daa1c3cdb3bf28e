"""The solver: learning rates, updates by hand, resuming from a snapshot, losses that are NaN."""

import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deeplab_repro.caffe import (
    read_caffemodel,
    read_solverstate,
    read_train_net,
    write_solverstate,
)
from deeplab_repro.errors import FileError, FormatError, TrainingError, WeightsError
from deeplab_repro.net.solver import SolverParameter
from deeplab_repro.train.data import SegData
from deeplab_repro.train.elementwise import DropoutStep
from deeplab_repro.train.run import prepare
from deeplab_repro.train.sgd import Solver, learning_rate
from tests.conftest import assert_one_line
from tests.train.tiny_training import (
    SOLVER,
    TRAIN,
    assert_same_bits,
    prepared,
    weights,
    write_training,
)

# --- learning rates

STEP = {"gamma": 0.1, "stepsize": 5}
MULTISTEP = {"gamma": 0.5, "stepvalue": (3, 4, 10)}


@pytest.mark.parametrize(
    ("policy", "values", "rates"),
    [
        ("fixed", {}, {0: 2, 10**6: 2}),
        ("step", STEP, {0: 2, 4: 2, 5: 0.2, 9: 0.2, 10: 0.02, 14: 0.02, 15: 0.002}),
        ("step", {"gamma": 0, "stepsize": 1}, {0: 2, 1: 0}),
        ("multistep", MULTISTEP, {0: 2, 2: 2, 3: 1, 4: 0.5, 9: 0.5, 10: 0.25, 99: 0.25}),
        ("exp", {"gamma": 0.9}, {0: 2, 1: 1.8, 2: 1.62, 10: 2 * 0.9**10}),
        ("inv", {"gamma": 0.5, "power": 2}, {0: 2, 2: 0.5, 6: 0.125}),
        ("poly", {"power": 2, "max_iter": 10}, {0: 2, 5: 0.5, 9: 0.02, 10: 0}),
        ("poly", {"power": 0.5, "max_iter": 4}, {0: 2, 3: 1, 4: 0}),
        ("poly", {"power": 0, "max_iter": 4}, {0: 2, 3: 2}),
        ("sigmoid", {"gamma": -1, "stepsize": 3}, {3: 1, 2: 2 / (1 + math.exp(-1)), 1000: 0}),
        ("sigmoid", {"gamma": 1, "stepsize": 3}, {3: 1, 4: 2 / (1 + math.exp(-1)), 1000: 2}),
        # What overflows is infinite, as in C.
        ("sigmoid", {"gamma": 1, "stepsize": 1000}, {0: 0, 1000: 1}),
        ("exp", {"gamma": 2}, {2000: math.inf}),
        ("poly", {"power": 0.5, "max_iter": 4}, {5: math.nan}),
    ],
)
def test_learning_rates(policy, values, rates):
    parameter = SolverParameter("net", base_lr=2, lr_policy=policy, **values)
    for iteration, rate in rates.items():
        found = learning_rate(parameter, iteration)
        assert type(found) is float
        assert found == pytest.approx(rate, rel=1e-12, abs=1e-300, nan_ok=True), iteration


def test_an_unknown_policy():
    with pytest.raises(FormatError, match="lr_policy 'magic'"):
        learning_rate(SolverParameter("net", 1, "magic"), 0)


# --- updates


def trained(solver: Solver, data: SegData, iterations: int) -> list[float]:
    """The losses of so many steps."""
    return [solver.step([data.batch(solver.iteration)]) for _ in range(iterations)]


def test_updates_by_hand(tmp_path):
    solver, data = prepared(tmp_path, SOLVER.replace("stepsize: 4", "stepsize: 2"))
    network = solver.network
    rates, decays = (1, 2, 10, 20), (1, 0, 1, 0)
    expected = [w.astype(np.float64) for w in weights(solver)]
    history = [np.zeros(w.shape) for w in expected]
    for rate in (1e-3, 1e-3, 1e-4, 1e-4, 1e-5):
        images, labels = data.batch(solver.iteration)
        assert solver.learning_rate == pytest.approx(rate)
        network.batch_number = solver.iteration  # what is dropped out
        network.clear_gradients()
        network.forward(images, labels)
        network.backward()
        for i, parameter in enumerate(network.parameters):
            # The rate is inside of the history: what was learnt at a rate keeps it.
            gradient = parameter.diff.astype(np.float64) + 0.0005 * decays[i] * expected[i]
            history[i] = 0.9 * history[i] + rate * rates[i] * gradient
            expected[i] = expected[i] - history[i]
        solver.step([(images, labels)])
        for found, one, ours, two in zip(
            weights(solver), expected, solver.history, history, strict=True
        ):
            np.testing.assert_allclose(found, one, rtol=1e-5, atol=1e-8)
            np.testing.assert_allclose(ours, two, rtol=1e-4, atol=1e-9)


def test_a_frozen_layer_keeps_its_bits(tmp_path):
    train = TRAIN.replace("blobs_lr: 1 blobs_lr: 2", "blobs_lr: 0 blobs_lr: 0")
    solver, data = prepared(tmp_path, SOLVER.replace("0.0005", "0.5"), train)
    before = weights(solver)
    trained(solver, data, 3)
    assert_same_bits(weights(solver)[:2], before[:2])
    assert not np.array_equal(weights(solver)[2], before[2])
    assert not any(array.any() for array in solver.history[:2])
    assert not any(parameter.diff.any() for parameter in solver.network.parameters[:2])


def test_the_average_loss_is_of_the_last_ones(tmp_path):
    solver, data = prepared(tmp_path)
    averages, losses = [], []
    for _ in range(5):
        losses += trained(solver, data, 1)
        averages.append(solver.average_loss)
    expected = [np.mean(losses[max(0, i - 2) : i + 1]) for i in range(5)]
    assert averages == pytest.approx(expected, rel=1e-12)


def test_accuracy_is_of_the_last_batch(tmp_path):
    solver, data = prepared(tmp_path)
    trained(solver, data, 1)
    *kept, mean_iou = solver.accuracy
    np.testing.assert_array_equal(kept, solver.network.values["accuracy"].data.ravel())
    assert 0 < mean_iou <= kept[-1] + 1e-6  # float32


# --- snapshots


def test_a_resumed_run_is_the_whole_one_bit_for_bit(tmp_path):
    whole, data = prepared(tmp_path)
    losses = trained(whole, data, 7)
    first, data = prepared(tmp_path)
    assert trained(first, data, 3) == losses[:3]
    (tmp_path / "snap").mkdir()
    _, state = first.snapshot()
    second, data = prepare(tmp_path / "solver.prototxt")
    second.restore(state)
    assert second.iteration == 3
    assert_same_bits(weights(second), weights(first))
    assert_same_bits(second.history, first.history)
    assert trained(second, data, 4) == losses[3:]
    assert_same_bits(weights(second), weights(whole))
    assert_same_bits(second.history, whole.history)
    # The net's own blobs are what is trained, also when they were loaded.
    blobs = [blob.data for layer in second.net.layers for blob in layer.blobs]
    assert_same_bits(blobs, weights(whole))


def test_every_iteration_drops_others(tmp_path):
    solver, data = prepared(tmp_path)
    (dropout,) = [step for step in solver.network.steps if isinstance(step, DropoutStep)]
    masks = []
    for _ in range(3):
        trained(solver, data, 1)
        masks.append(dropout.mask.tobytes())
    assert len(set(masks)) == 3


def test_another_seed_is_another_run(tmp_path):
    one, data = prepared(tmp_path)
    other, other_data = prepared(tmp_path, SOLVER.replace("random_seed: 3", "random_seed: 4"))
    assert not np.array_equal(weights(one)[0], weights(other)[0])
    assert not np.array_equal(data.batch(0)[0], other_data.batch(0)[0])
    without, _ = prepared(tmp_path, SOLVER.replace("random_seed: 3", ""))
    zero, _ = prepared(tmp_path, SOLVER.replace("random_seed: 3", "random_seed: 0"))
    assert_same_bits(weights(without), weights(zero))


@pytest.fixture
def snapshot(tmp_path) -> Path:
    """The solverstate of a training of two iterations."""
    solver, data = prepared(tmp_path)
    trained(solver, data, 2)
    (tmp_path / "snap").mkdir()
    return solver.snapshot()[1]


def test_what_a_snapshot_holds(snapshot):
    state = read_solverstate(snapshot)
    assert snapshot.name == "it_iter_2.solverstate"
    assert (state.iteration, state.current_step) == (2, 0)
    assert state.learned_net == str(snapshot.with_suffix(".caffemodel"))
    assert [array.size for array in state.history] == [6 * 3 * 25, 6, 30, 5]
    model = read_caffemodel(state.learned_net)
    assert [layer.name for layer in model.layers if layer.blobs] == ["conv1", "fc8"]


def test_the_step_of_multistep_is_counted(tmp_path):
    text = SOLVER.replace('"step"', '"multistep" stepvalue: 1 stepvalue: 2 stepvalue: 3')
    solver, data = prepared(tmp_path, text)
    trained(solver, data, 2)
    (tmp_path / "snap").mkdir()
    assert read_solverstate(solver.snapshot()[1]).current_step == 2


def test_a_snapshot_that_was_moved(snapshot, tmp_path):
    moved = tmp_path / "elsewhere"
    os.rename(snapshot.parent, moved)
    solver, _ = prepare(tmp_path / "solver.prototxt")
    solver.restore(moved / snapshot.name)
    assert solver.iteration == 2


def refused_snapshot(tmp_path, state, kind, train: str = TRAIN) -> pytest.ExceptionInfo:
    """Why the solver cannot go on from it; it is then as it was."""
    solver, _ = prepared(tmp_path, train=train)
    before = weights(solver)
    with pytest.raises(kind) as caught:
        solver.restore(state)
    assert_same_bits(weights(solver), before)
    assert solver.iteration == 0
    assert not any(array.any() for array in solver.history)
    return caught


def test_a_snapshot_without_its_caffemodel(snapshot, tmp_path):
    model = snapshot.with_suffix(".caffemodel")
    os.remove(model)
    assert_one_line(refused_snapshot(tmp_path, snapshot, FileError), model, "cannot be read")


def test_a_caffemodel_of_another_snapshot(snapshot, tmp_path):
    """A training that began anew was killed between the two files of a snapshot."""
    solver, data = prepared(tmp_path, SOLVER.replace("random_seed: 3", "random_seed: 4"))
    trained(solver, data, 2)
    state = snapshot.read_bytes()
    solver.snapshot()
    snapshot.write_bytes(state)
    caught = refused_snapshot(tmp_path, snapshot, FormatError)
    assert_one_line(caught, "it_iter_2.caffemodel: is not the caffemodel that was written with")


@pytest.mark.parametrize(
    ("solver", "train", "is_told"),
    [
        (SOLVER.replace("base_lr: 0.001", "base_lr: 0.0001"), TRAIN, True),
        (SOLVER, TRAIN.replace("hole: 2", "hole: 1").replace("pad: 4", "pad: 2"), True),
        (SOLVER, TRAIN.replace("batch_size: 2", "batch_size: 3"), True),
        (SOLVER.replace("max_iter: 6", "max_iter: 9").replace("display: 1", ""), TRAIN, False),
    ],
)
def test_a_snapshot_of_another_training(snapshot, tmp_path, caplog, solver, train, is_told):
    resumed, _ = prepared(tmp_path, solver, train)
    resumed.restore(snapshot)
    assert resumed.iteration == 2
    assert ("was written by a training with another net, other settings" in caplog.text) is is_told


def test_a_snapshot_of_caffes_says_nothing_of_its_training(snapshot, tmp_path, caplog):
    state = read_solverstate(snapshot)
    write_solverstate(replace(state, learned_sha256="", training_sha256=""), snapshot)
    solver, _ = prepared(tmp_path, SOLVER.replace("base_lr: 0.001", "base_lr: 0.0001"))
    solver.restore(snapshot)
    assert not caplog.text


MORE = """layers { name: "more" type: CONVOLUTION bottom: "conv1" top: "more"
  convolution_param { num_output: 1 kernel_size: 1 bias_term: false } }
"""


@pytest.mark.parametrize(
    ("train", "part"),
    [
        (TRAIN.replace("num_output: 6", "num_output: 7"), "blob 1 has 450 values of momentum"),
        (TRAIN + MORE, "it has the momentum of 4 blobs, expected 5"),
    ],
)
def test_a_snapshot_of_another_net(snapshot, tmp_path, train, part):
    caught = refused_snapshot(tmp_path, snapshot, FormatError, train)
    assert_one_line(caught, snapshot, "another net than 'tiny'", part, "resume with the solver")


def test_a_snapshot_of_a_net_with_other_names(snapshot, tmp_path):
    caught = refused_snapshot(tmp_path, snapshot, WeightsError, TRAIN.replace('"fc8"', '"fc9"'))
    assert_one_line(caught, "it_iter_2.caffemodel", "has no layer 'fc9'")


def test_a_caffemodel_in_place_of_a_solverstate(snapshot, tmp_path):
    model = snapshot.with_suffix(".caffemodel")
    assert_one_line(refused_snapshot(tmp_path, model, FormatError), model, "solverstate")


def test_a_folder_for_snapshots_that_is_not_there(tmp_path):
    solver, _ = prepared(tmp_path)
    with pytest.raises(FileError) as caught:
        solver.snapshot()
    assert_one_line(caught, "it_iter_0.caffemodel", "there is no folder")


# --- weights to begin with


def test_layers_that_the_weights_lack_are_filled(snapshot, tmp_path):
    weights_file = snapshot.with_suffix(".caffemodel")
    renamed = TRAIN.replace('"fc8"', '"fc8_mine"')

    def loaded(seed: int) -> list[np.ndarray]:
        solver, _ = prepared(tmp_path, SOLVER.replace("seed: 3", f"seed: {seed}"), renamed)
        assert solver.load(weights_file, partial=True) == ["fc8_mine"]
        blobs = [blob.data for layer in solver.net.layers for blob in layer.blobs]
        assert_same_bits(blobs, weights(solver))
        return blobs

    by_name = {layer.name: layer.blobs for layer in read_caffemodel(weights_file).layers}
    ours, again, another = loaded(1), loaded(1), loaded(2)
    for found, expected in zip(ours[:2], by_name["conv1"], strict=True):
        np.testing.assert_array_equal(found.ravel(), expected.ravel())
    assert ours[2].any()
    assert not ours[3].any()
    assert_same_bits(ours, again)
    assert_same_bits(ours[:2], another[:2])
    assert not np.array_equal(ours[2], another[2])


def test_weights_that_lack_layers_are_refused_unless_asked_for(snapshot, tmp_path):
    solver, _ = prepared(tmp_path, train=TRAIN.replace('"fc8"', '"fc8_mine"'))
    before = weights(solver)
    with pytest.raises(WeightsError, match="has no layer 'fc8_mine'"):
        solver.load(snapshot.with_suffix(".caffemodel"))
    assert_same_bits(weights(solver), before)


def test_a_net_that_has_weights_keeps_them(tmp_path):
    write_training(tmp_path)
    net = read_train_net(tmp_path / "train.prototxt")
    net.fill_random(0)
    given = [blob.data.copy() for layer in net.layers for blob in layer.blobs]
    solver = Solver(SolverParameter("net", 0.1), net)
    assert_same_bits(weights(solver), given)


# --- losses that are no numbers


@pytest.mark.filterwarnings("error")  # those of NumPy, in any thread
def test_a_loss_that_is_nan(tmp_path):
    solver, data = prepared(tmp_path, SOLVER.replace("base_lr: 0.001", "base_lr: 1e30"))
    trained(solver, data, 1)
    before, history = weights(solver), [array.copy() for array in solver.history]
    with pytest.raises(TrainingError) as caught:
        trained(solver, data, 1)
    assert_one_line(caught, "iteration 1: the loss is", "(made by layer '", "lower base_lr")
    assert solver.iteration == 1
    assert len(solver.losses) == 1
    assert_same_bits(weights(solver), before)
    assert_same_bits(solver.history, history)


@pytest.mark.parametrize(("layer", "blob"), [("conv1", "conv1"), ("fc8", "fc8")])
def test_the_layer_where_it_begins_is_named(tmp_path, layer, blob):
    solver, data = prepared(tmp_path)
    (found,) = [each for each in solver.net.layers if each.name == layer]
    found.blobs[1].data[0] = np.nan
    with pytest.raises(TrainingError) as caught:
        trained(solver, data, 1)
    assert_one_line(caught, f"iteration 0: the loss is nan, and '{blob}'", f"layer '{layer}'")


def test_a_batch_without_labels_that_count(tmp_path):
    solver, data = prepared(tmp_path)
    images, labels = data.batch(0)
    with pytest.raises(TrainingError) as caught:
        solver.step([(images, np.full_like(labels, 255))])
    assert_one_line(caught, "iteration 0: the loss is NaN", "no pixel of the batch", "batch_size")
