"""Updates from the gradients of several batches."""

import itertools

import numpy as np
import pytest

from deeplab_repro.errors import TrainingError
from deeplab_repro.train.elementwise import DropoutStep
from tests.conftest import assert_one_line
from tests.train.tiny_training import ACCURACY, SOLVER, TRAIN, assert_same_bits, prepared, weights

ITER_SIZE = SOLVER + "iter_size: 3"


def test_gradients_of_several_batches_are_averaged(tmp_path):
    """As one batch three times as large would learn, where each has as many pixels that count."""
    train = TRAIN.replace('layers { name: "drop1" type: DROPOUT bottom: "conv1" top: "conv1" }', "")
    train = train.replace("softmaxloss_param { ignore_label: 255 }", "").replace(ACCURACY, "")
    (tmp_path / "one").mkdir()
    (tmp_path / "three").mkdir()
    one, data = prepared(tmp_path / "one", SOLVER, train.replace("batch_size: 2", "batch_size: 6"))
    three, _ = prepared(tmp_path / "three", ITER_SIZE, train)
    for iteration in range(3):
        images, labels = data.batch(iteration)
        labels %= 5
        parts = [(images[i : i + 2], labels[i : i + 2]) for i in (0, 2, 4)]
        # One loss is a mean over six images, the other of three means.
        assert three.step(parts) == pytest.approx(one.step([(images, labels)]), rel=1e-6)
    assert three.iteration == 3
    for found, expected in zip(weights(three), weights(one), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)  # sums in another order


def test_every_batch_of_an_update_drops_other_values(tmp_path):
    solver, data = prepared(tmp_path, ITER_SIZE)
    (dropout,) = [step for step in solver.network.steps if isinstance(step, DropoutStep)]
    masks = set()

    def batches():
        for number in itertools.count():
            yield data.batch(number)
            masks.add(dropout.mask.tobytes())

    given = batches()
    for _ in range(2):
        solver.step(given)
    assert len(masks) == 5  # the sixth batch has not been asked for the next


def test_too_few_batches_for_an_update(tmp_path):
    solver, data = prepared(tmp_path, ITER_SIZE)
    before = weights(solver)
    with pytest.raises(TrainingError) as caught:
        solver.step([data.batch(0)])
    assert_one_line(caught, "iteration 0: got 1 batches, expected 3 (iter_size)")
    assert_same_bits(weights(solver), before)
    assert not solver.losses
