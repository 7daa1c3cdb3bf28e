"""Features that are far from 0, finely scaled, or many: pydensecrf takes them all."""

import numpy as np
import pytest

from deeplab_repro.pydensecrf import densecrf as dcrf
from tests.crf.naive import softmax


def inferred(energies, features, iterations):
    labels, points = energies.shape
    crf = dcrf.DenseCRF(points, labels)
    crf.setUnaryEnergy(energies)
    crf.addPairwiseEnergy(features, 2, normalization=dcrf.NORMALIZE_AFTER)
    return crf.inference(iterations)


@pytest.mark.parametrize("d", [1, 3, 34, 220])
@pytest.mark.parametrize("place", [9_000, 1e6, -1e12, 3e38])
def test_two_places_far_apart(d, place):
    """Points of one place share their mean, and those of the other have no part in it."""
    energies = np.random.default_rng(d).uniform(0.1, 4, (3, 20)).astype(np.float32)
    features = np.zeros((d, 20), np.float32)
    features[-1, 8:] = place
    q = softmax(-energies)
    means = np.repeat([q[:, :8].mean(axis=1), q[:, 8:].mean(axis=1)], [8, 12], axis=0).T
    np.testing.assert_allclose(
        inferred(energies, features, 1), softmax(2 * means - energies), atol=1e-5
    )


@pytest.mark.parametrize("start", [0, 5e6])
def test_long_sequences_are_the_same_all_along(start):
    """Each of 70,000 steps is told from the next, wherever the sequence starts."""
    steps = np.arange(70_000, dtype=np.float32)
    energies = np.zeros((2, len(steps)), np.float32)
    energies[0] = 2 * np.sin(steps % 100 * np.float32(2 * np.pi / 100))
    periods = inferred(energies, (start + steps)[None].astype(np.float32), 2)[0].reshape(-1, 100)
    # The lattice lies differently around each period.
    assert np.ptp(periods[1:-1], axis=0).max() < 0.02
    assert np.ptp(periods[1]) > 0.9
