import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplab_repro.pydensecrf import utils


@settings(max_examples=25, deadline=None)
@given(
    shape=st.lists(st.integers(0, 4), min_size=1, max_size=3),
    n_labels=st.integers(2, 6),
    gt_prob=st.floats(0.01, 0.99),
    zero_unsure=st.booleans(),
    dtype=st.sampled_from([np.uint8, np.int16, np.int64]),
)
def test_labels_become_distributions(shape, n_labels, gt_prob, zero_unsure, dtype):
    highest = n_labels if zero_unsure else n_labels - 1
    labels = np.random.default_rng(0).integers(0, highest + 1, shape).astype(dtype)
    unary = utils.unary_from_labels(labels, n_labels, gt_prob, zero_unsure)
    assert (unary.dtype, unary.shape) == (np.float32, (n_labels, labels.size))
    p = np.exp(-unary)
    np.testing.assert_allclose(p.sum(axis=0), 1, atol=1e-5)
    for value, column in zip(labels.ravel().astype(int), p.T, strict=True):
        if zero_unsure and value == 0:
            np.testing.assert_allclose(column, 1 / n_labels, rtol=1e-5)
        else:
            assert column[value - zero_unsure] == pytest.approx(gt_prob, rel=1e-5)
            assert np.isclose(column, (1 - gt_prob) / (n_labels - 1)).sum() >= n_labels - 1


@settings(max_examples=25, deadline=None)
@given(
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    labels=st.integers(1, 5),
    scale=st.one_of(st.none(), st.floats(0.1, 1)),
    clip=st.one_of(st.none(), st.floats(0, 0.2)),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_softmax_becomes_energies(shape, labels, scale, clip, dtype):
    rng = np.random.default_rng(0)
    probs = np.moveaxis(rng.dirichlet(np.ones(labels), shape), -1, 0).astype(dtype)
    before = probs.copy()
    unary = utils.unary_from_softmax(probs, scale, clip)
    assert (unary.dtype, unary.shape) == (np.float32, (labels, probs[0].size))
    assert unary.flags.c_contiguous
    np.testing.assert_array_equal(probs, before)
    expected = probs.reshape(labels, -1)
    if scale is not None:
        expected = scale * expected + (1 - scale) / labels
    expected = np.maximum(expected, clip or 0)
    np.testing.assert_allclose(np.exp(-unary), expected, atol=1e-5)


def test_one_hot_softmax_is_clipped_unless_told_not_to():
    certain = np.array([[0, 1], [1, 0]], np.uint8)
    assert utils.unary_from_softmax(certain)[0] == pytest.approx([-np.log(1e-5), 0])
    assert utils.unary_from_softmax(certain, clip=None)[0].tolist() == [np.inf, 0]
    assert utils.softmax_to_unary(certain)[0].tolist() == [np.inf, 0]


def test_resized_probabilities_may_overshoot():
    unary = utils.unary_from_softmax(np.array([[-0.1, 1.1], [1.1, -0.1]], np.float32))
    assert unary[0] == pytest.approx([-np.log(1e-5), 0])


def test_scores_that_do_not_sum_to_one_are_accepted():
    """Class activation maps are used so."""
    maps = np.array([[0.9, 0.2], [0.8, 0.1]], np.float32)
    np.testing.assert_allclose(utils.unary_from_softmax(maps), -np.log(maps), rtol=1e-6)


def test_deprecated_functions_say_so(caplog):
    labels = np.array([0, 1, 2])
    unary = utils.compute_unary(labels, M=2, GT_PROB=0.7)
    np.testing.assert_array_equal(unary, utils.unary_from_labels(labels, 2, 0.7))
    np.testing.assert_array_equal(
        utils.compute_unary(labels, 2), utils.unary_from_labels(labels, 2, 0.5)
    )
    softmax = np.array([[0.25, 0.5], [0.75, 0.5]])
    half = softmax.astype(np.float16) / 3  # scaling computes in double precision, 1 does not scale
    np.testing.assert_array_equal(
        utils.softmax_to_unary(half), utils.unary_from_softmax(half, None, None)
    )
    scaled = utils.softmax_to_unary(softmax, GT_PROB=0.6)
    np.testing.assert_array_equal(scaled, utils.unary_from_softmax(softmax, 0.6, None))
    for name in ("unary_from_labels", "unary_from_softmax"):
        assert name in caplog.text


@settings(max_examples=15, deadline=None)
@given(shape=st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_positions_are_indices_over_deviations(shape):
    sdims = [1.5 + axis for axis in range(len(shape))]
    features = utils.create_pairwise_gaussian(sdims, shape)
    assert (features.dtype, features.flags.c_contiguous) == (np.float32, True)
    for point, index in zip(features.T, np.ndindex(*shape), strict=True):
        np.testing.assert_allclose(point, np.divide(index, sdims), rtol=1e-6)


@settings(max_examples=15, deadline=None)
@given(
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    channels=st.integers(1, 4),
    data=st.data(),
    dtype=st.sampled_from([np.uint8, np.int32, np.float64]),
)
def test_values_follow_the_positions(shape, channels, data, dtype):
    chdim = data.draw(st.integers(0, len(shape)))
    values = np.random.default_rng(0).uniform(0, 255, (*shape, channels)).astype(dtype)
    sdims, schan = [3.0] * len(shape), [2.0 + channel for channel in range(channels)]
    features = utils.create_pairwise_bilateral(sdims, schan, np.moveaxis(values, -1, chdim), chdim)
    assert features.shape == (len(shape) + channels, values[..., 0].size)
    assert features.dtype == np.float32
    positions = utils.create_pairwise_gaussian(sdims, shape)
    np.testing.assert_array_equal(features[: len(shape)], positions)
    expected = (values / schan).reshape(-1, channels).T
    np.testing.assert_allclose(features[len(shape) :], expected, rtol=1e-6)


def test_no_axis_of_channels_is_the_default():
    values = np.arange(6.0).reshape(2, 3)
    alone = utils.create_pairwise_bilateral((3, 4), 2, values)
    np.testing.assert_array_equal(
        alone, utils.create_pairwise_bilateral((3, 4), (2,), values[..., None], chdim=2)
    )
    assert alone.shape == (3, 6)


def test_importing_utils_loads_no_numba():
    code = "import sys, deeplab_repro.pydensecrf.utils; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
