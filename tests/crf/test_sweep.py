"""Many settings of the CRF at once give what each gives alone, to the bit."""

import itertools

import numba
import numpy as np
import pytest

from deeplab_repro.crf.cpu import mean_field
from deeplab_repro.crf.cpu.mean_field import Kernel, MeanField
from deeplab_repro.crf.dense_crf import dense_crf
from deeplab_repro.crf.params import CrfParams
from deeplab_repro.crf.sweep import sweep
from deeplab_repro.errors import ArgumentError
from tests.crf.naive import softmax

SETTINGS = [
    *itertools.starmap(CrfParams, itertools.product((5, 10), (40, 60), (3, 9))),
    CrfParams(18, 40, 3),  # of messages so large that the unary is kept as logarithms
    CrfParams(5, 40, 3, w2=1),
    CrfParams(5, 40, 3, sigma_gamma=2),
    CrfParams(0, 60, 9),
]


@pytest.fixture
def case(photo, monkeypatch):
    # Threads that wait for each other take long where other tests use the cores.
    monkeypatch.setattr(numba, "get_num_threads", lambda: 1)
    rng = np.random.default_rng(0)
    probs = softmax(2 * rng.standard_normal((4, 40, 50)))
    probs[2, :9] = 0  # the logarithm of which is infinite
    return photo(40, 50), (probs / probs.sum(axis=0)).astype(np.float32)


def test_labels_are_those_of_every_setting_alone(case):
    swept = list(sweep(*case, SETTINGS, 5))
    assert {params for params, _ in swept} == set(SETTINGS)
    assert len(swept) == len(SETTINGS)
    for params, labels in swept:
        np.testing.assert_array_equal(labels, dense_crf(*case, params, 5).labels)
    assert len({labels.tobytes() for _, labels in swept}) > 5  # or it is no test


def test_a_lattice_is_built_once_for_the_same_deviations(case, monkeypatch):
    built = []
    build = mean_field.build_lattice
    monkeypatch.setattr(
        mean_field, "build_lattice", lambda *arguments: built.append(1) or build(*arguments)
    )
    list(sweep(*case, SETTINGS, 1))
    assert len(built) == 5


def test_changed_kernels_give_the_bits_of_new_ones(case):
    _, probs = case
    unary = probs.reshape(4, -1)
    rng = np.random.default_rng(1)
    features = [(9 * rng.random((d, unary.shape[1]))).astype(np.float32) for d in (2, 3)]
    mixing = rng.standard_normal((4, 4)).astype(np.float32)
    changes = [
        [Kernel(features[0], 3.0), Kernel(features[1], 4.0)],
        [Kernel(features[0], 3.0), Kernel(features[1], 40.0)],
        [Kernel(features[0], 1.0, "symmetric"), Kernel(features[1], mixing)],
        [Kernel(features[0], 3.0), Kernel(features[1], 4.0)],
        [Kernel(features[1], 2.0)],
        [],
    ]
    for energies in (False, True):
        field = MeanField(unary, [], energies=energies)
        for kernels in changes:
            field.change_kernels(kernels)
            alone = MeanField(unary, kernels, energies=energies).run(3)
            np.testing.assert_array_equal(field.run(3), alone)


def test_refuses_what_the_crf_refuses_before_the_first(case):
    image, probs = case
    with pytest.raises(ArgumentError, match="height and width are swapped"):
        next(sweep(image, np.ascontiguousarray(probs.transpose(0, 2, 1)), SETTINGS))
    with pytest.raises(ArgumentError, match="iterations is -1"):
        next(sweep(image, probs, SETTINGS, -1))
