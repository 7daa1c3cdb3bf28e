"""A session's labels are those of `dense_crf`, whatever was asked before."""

from dataclasses import replace

import numpy as np
import pytest

from deeplab_repro.crf.dense_crf import dense_crf
from deeplab_repro.crf.params import CrfParams
from deeplab_repro.tune.setting import Setting

ONE = CrfParams(4, 30, 8, 2, 3)
SETTINGS = [
    Setting(ONE),
    Setting(replace(ONE, w1=30, w2=0), 3),  # the lattice is kept, the unary read as logarithms
    Setting(ONE, 0),
    Setting(replace(ONE, sigma_alpha=9), 4),
    Setting(replace(ONE, w1=0, sigma_gamma=1), 5),
    Setting(ONE),
]


def test_labels_and_marginals_are_those_of_dense_crf(session):
    for setting in SETTINGS:
        found = session.refine(setting)
        expected = dense_crf(session.image, session.probs, setting.params, setting.iterations)
        np.testing.assert_array_equal(found.labels, expected.labels)
        np.testing.assert_array_equal(found.marginals, expected.marginals)


def test_a_photo_that_is_small_is_its_own_copy(session):
    assert session.refine(Setting(ONE), small=True).labels.shape == (51, 256)
    few = session._full.within(300)
    assert few is session._full


def test_the_small_copy_shows_what_the_full_picture_will(session):
    """The deviations in pixels go with it: at most of the pixels the labels are the same."""
    wide = Setting(replace(ONE, sigma_alpha=90, sigma_gamma=6))
    small, full = session.refine(wide, small=True).labels, session.refine(wide).labels
    rows = np.linspace(0, 59, 51).round().astype(int)
    columns = np.linspace(0, 299, 256).round().astype(int)
    assert (small == full[np.ix_(rows, columns)]).mean() > 0.97
    assert 0 < (full == 2).mean() < 1


def test_work_that_is_given_up_can_be_done_again(session):
    class Enough(Exception):  # noqa: N818
        pass

    def stop(iteration, marginals):
        assert marginals.shape == session.probs.shape
        if iteration == 2:
            raise Enough

    with pytest.raises(Enough):
        session.refine(Setting(ONE), on_iteration=stop)
    again = session.refine(Setting(ONE)).labels
    np.testing.assert_array_equal(again, dense_crf(session.image, session.probs, ONE).labels)
