"""Scores and probabilities of others: any order of axes, any stride, told apart by their values."""

import re

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from deeplab_repro.errors import DeepLabError, FormatError
from deeplab_repro.files.given_scores import Taken
from deeplab_repro.files.probs import read_probs, read_scores
from deeplab_repro.net.scores import CoarseScores, coarse_size, softmax
from tests.conftest import assert_one_line

RNG = np.random.default_rng(0)
SIZE = (130, 183)


def scores_on(grid, labels=5):
    return 3 * RNG.standard_normal((labels, *grid)).astype(np.float32)


def same_size(size, stride):
    """As of a net that pads to the same size: floor((n - 1) / stride) + 1."""
    return tuple((n - 1) // stride + 1 for n in size)


@pytest.fixture
def saved(tmp_path):
    """Save an array, and return its path."""

    def save(array, name="a.npy"):
        np.save(tmp_path / name, array)
        return tmp_path / name

    return save


@pytest.fixture
def refused(saved):
    """The one-line error of an array, from either door."""

    def read(array, size=SIZE):
        path = saved(array)
        messages = set()
        for reader in (read_probs, read_scores):
            with pytest.raises(FormatError) as error:
                reader(path, size)
            assert_one_line(error, "a.npy")
            messages.add(str(error.value))
        (message,) = messages
        return message

    return read


@pytest.mark.parametrize("stride", [2, 3, 4, 8, 16])
@pytest.mark.parametrize("grid_of", [coarse_size, same_size])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_stride_follows_from_the_size(saved, grid_of, stride, dtype):
    given = scores_on(grid_of(SIZE, stride)).astype(dtype)
    found, taken = read_scores(saved(given), SIZE)
    assert taken == Taken("scores", "CxHxW", stride)
    assert str(taken) == f"scores, CxHxW, with a stride of {stride} pixels and an offset of 0"
    values = given.astype(np.float32)
    height, width = values.shape[1:]
    np.testing.assert_array_equal(found.values[:, :height, :width], values)
    enlarged = found.enlarged(SIZE)
    at_pixels = enlarged[:, ::stride, ::stride]
    np.testing.assert_array_equal(at_pixels, values[:, : at_pixels.shape[1], : at_pixels.shape[2]])
    np.testing.assert_array_equal(read_probs(saved(given), SIZE), softmax(enlarged))


def test_behind_the_last_scores_are_these(saved):
    given = scores_on(same_size(SIZE, 8))
    enlarged = read_scores(saved(given), SIZE)[0].enlarged(SIZE)
    for column in (181, 182):
        # Interpolated between two equal ones, whose weights sum to 1 but for rounding.
        np.testing.assert_allclose(enlarged[:, ::8, column], given[:, :, -1], rtol=1e-6)


@pytest.mark.parametrize("grid", [SIZE, coarse_size(SIZE, 8)])
def test_labels_may_come_last_and_a_batch_of_one_first(saved, grid):
    given = scores_on(grid)
    expected, _ = read_scores(saved(given), SIZE)
    last = np.moveaxis(given, 0, -1)
    for array, axes in ((given[None], "CxHxW"), (last, "HxWxC"), (last[None], "HxWxC")):
        found, taken = read_scores(saved(array), SIZE)
        assert taken.axes == axes
        np.testing.assert_array_equal(found.values, expected.values)


def test_probabilities_at_full_size_are_those_of_the_file(saved):
    probs = softmax(scores_on(SIZE))
    for array in (probs, np.moveaxis(probs, 0, -1)):
        np.testing.assert_array_equal(read_probs(saved(array), SIZE), probs)
        found, taken = read_scores(saved(array), SIZE)
        assert (taken.kind, taken.stride) == ("probabilities", 1)
        # float32's logarithm of a number near 0 has an error of 1e-6.
        np.testing.assert_allclose(softmax(found.enlarged(SIZE)), probs, rtol=1e-5)


def test_coarse_probabilities_give_what_their_scores_give(saved):
    given = scores_on(coarse_size(SIZE, 8))
    expected = read_probs(saved(given), SIZE)
    found = read_probs(saved(softmax(given)), SIZE)
    np.testing.assert_allclose(found, expected, rtol=1e-4)  # float32's exp of a float32 log
    sure = np.zeros_like(given)
    sure[2] = 1
    assert (read_probs(saved(sure), SIZE).argmax(axis=0) == 2).all()


@pytest.mark.parametrize("name", ["scores", "logits", "anything"])
def test_a_npz_of_others(tmp_path, name):
    given = scores_on(SIZE)
    np.savez(tmp_path / "a.npz", **{name: given})
    np.testing.assert_array_equal(read_probs(tmp_path / "a.npz", SIZE), softmax(given))


@pytest.mark.parametrize("positive", [0, 50])
def test_a_npz_with_a_stride_says_what_cannot_be_told(tmp_path, positive, caplog):
    caplog.set_level("INFO")
    given = positive + scores_on((18, 25))
    np.savez(tmp_path / "a.npz", scores=given, stride=8, offset=3)
    found, taken = read_scores(tmp_path / "a.npz", SIZE)
    assert taken == Taken("scores", "CxHxW", 8, 3)
    expected = CoarseScores(given, 8, 3).enlarged(SIZE)
    np.testing.assert_array_equal(found.enlarged(SIZE), expected)
    np.savez(tmp_path / "a.npz", scores=softmax(given), stride=8, offset=3)
    np.testing.assert_allclose(
        read_probs(tmp_path / "a.npz", SIZE), softmax(expected), rtol=1e-3, atol=1e-6
    )
    (told, other) = caplog.messages  # each once
    assert told.endswith("are taken as scores, CxHxW, with a stride of 8 pixels and an offset of 3")
    assert "probabilities" in other


def test_what_may_be_two_things_is_refused(tmp_path, refused):
    cube = scores_on((5, 5))
    assert "may be CxHxW with a stride of 8 or HxWxC with a stride of 8 for an image" in refused(
        cube, (33, 33)
    )
    told = refused(scores_on((1, 1)), (3, 3))
    assert "may be CxHxW with a stride of 4 or CxHxW with a stride of 8 or CxHxW" in told
    mend = re.search(r"numpy.savez\(file, (.*?)\)", told)
    saved = eval(f"dict({mend[1]})", {"scores": scores_on((2, 2))})
    np.savez(tmp_path / "b.npz", **saved)
    assert read_probs(tmp_path / "b.npz", (3, 3)).shape == (5, 3, 3)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda s: s.swapaxes(1, 2), "swapped, save numpy.swapaxes(array, 1, 2)"),
        (lambda s: np.moveaxis(s, 0, -1).swapaxes(0, 1), "numpy.swapaxes(array, 0, 1)"),
        (lambda s: s[:, :-1], "holds 5x129x183, expected CxHxW or HxWxC of the image's 130x183"),
        (lambda s: s[:, :30, :30], "is it another photo's?"),
        (lambda s: np.where(s > 2, np.nan, s), "NaN or infinite: a softmax of infinite scores"),
        (lambda s: np.where(s > 2, -np.inf, s), "save numpy.maximum(scores, -100)"),
        (lambda s: np.where(s[0] > 2, np.nan, s), "save numpy.nan_to_num(p, nan=1 / 5)"),
        (lambda s: s.astype(float) * 1e300, "NaN or infinite"),
        (lambda s: np.exp(s), "expected probabilities, which sum to 1, or scores"),
        (lambda s: softmax(s) + np.float32([0.5, -0.5, 0, 0, 0])[:, None, None], "sums to 1 over"),
        (lambda s: s[:1], "a sigmoid's score x save numpy.concatenate([0 * x, x])"),
        (lambda s: softmax(s)[:1], "probability p save numpy.concatenate([1 - p, p])"),
        (lambda s: softmax(s) * (s[0] > 0), "where(p.sum(axis=0) == 0, 1 / 5, p)"),
        (lambda s: s[:, :0], "holds 5x0x183"),
    ],
)
def test_what_is_neither_is_told_with_a_mend(refused, spoil, told):
    assert told in refused(spoil(scores_on(SIZE)))


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.tuples(st.integers(1, 70), st.integers(1, 70)),
    st.tuples(*[st.integers(0, 20)] * 3),
    st.sampled_from(["scores", "probabilities", "any"]),
)
def test_any_shape_is_taken_right_or_refused(tmp_path, size, shape, kind):
    values = np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)
    if kind == "probabilities":
        assume(all(shape))
        values = softmax(values)
    np.save(tmp_path / "a.npy", values if kind != "any" else np.abs(values))
    try:
        probs = read_probs(tmp_path / "a.npy", size)
        found, taken = read_scores(tmp_path / "a.npy", size)
    except DeepLabError:
        return
    assert probs.shape[1:] == size
    assert np.isfinite(probs).all()
    found.check_covers(size)
    kept = values if taken.axes == "CxHxW" else np.moveaxis(values, -1, 0)
    first = kept[:, 0, 0] if taken.kind == "probabilities" else softmax(kept[:, :1, :1])[:, 0, 0]
    np.testing.assert_allclose(probs[:, 0, 0], first, rtol=1e-4)
