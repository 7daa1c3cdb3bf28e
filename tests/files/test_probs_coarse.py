"""Files of coarse scores: what comes back, and every kind of broken one."""

import random

import numpy as np
import pytest

from deeplab_repro.errors import DeepLabError, FormatError
from deeplab_repro.files.probs import read_coarse, read_probs, write_coarse
from deeplab_repro.net.scores import CoarseScores, softmax
from tests.conftest import assert_one_line

SCORES = 3 * np.random.default_rng(0).standard_normal((4, 5, 7)).astype(np.float32)
PROBS = softmax(SCORES)
SIZE = (5, 7)


COARSE = CoarseScores(SCORES.astype(np.float16), 8, 7)


def test_coarse_scores_come_back(tmp_path):
    path = tmp_path / "a.npz"
    write_coarse(path, COARSE)
    found = read_coarse(path)
    assert found.values.dtype == np.float32
    np.testing.assert_array_equal(found.values, COARSE.values)
    assert (found.stride, found.offset) == (8, 7)
    probs = read_probs(path, (20, 30))
    np.testing.assert_array_equal(probs, softmax(COARSE.enlarged((20, 30))))
    content = path.read_bytes()
    write_coarse(path, COARSE)
    assert path.read_bytes() == content


def test_scores_of_another_image(tmp_path):
    write_coarse(tmp_path / "a.npz", COARSE)
    with pytest.raises(FormatError) as error:
        read_probs(tmp_path / "a.npz", (27, 42))
    assert_one_line(error, "a.npz: the scores", "cover 26x42", "expected the image's 27x42")


def test_probabilities_where_coarse_scores_belong(tmp_path):
    np.savez(tmp_path / "a.npz", probs=PROBS)
    with pytest.raises(FormatError) as error:
        read_coarse(tmp_path / "a.npz")
    assert_one_line(error, "a.npz: holds no coarse scores, expected scores, stride, offset")


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"stride": np.int64(0)}, ["4x5x7 scores with a stride of 0"]),
        ({"stride": np.int64(-8)}, ["'stride.npy' is no whole number from 0"]),
        ({"stride": np.float64(8)}, ["'stride.npy' is no whole number from 0"]),
        ({"offset": np.array([7])}, ["'offset.npy' is no whole number from 0"]),
        ({"offset": np.int64(1 << 40)}, ["'offset.npy' is no whole number from 0"]),
        ({"scores": np.zeros((3, 4))}, ["'scores'", "holds 3x4 float64"]),
        ({"scores": np.zeros((0, 3, 4), np.float32)}, ["0x3x4 scores"]),
        ({"scores": np.full((2, 3, 4), np.nan, np.float32)}, ["NaN or infinite"]),
    ],
)
def test_coarse_scores_that_are_none(tmp_path, change, parts):
    arrays = {"scores": SCORES, "stride": np.int64(8), "offset": np.int64(0)}
    np.savez(tmp_path / "a.npz", **{**arrays, **change})
    with pytest.raises(FormatError) as error:
        read_coarse(tmp_path / "a.npz")
    assert_one_line(error, "a.npz", *parts)


def test_mutated_coarse_scores(tmp_path):
    write_coarse(tmp_path / "a.npz", COARSE)
    content = (tmp_path / "a.npz").read_bytes()
    rng = random.Random(0)
    refused = 0
    for _ in range(150):
        mutated = bytearray(content)
        for _ in range(rng.randint(1, 4)):
            mutated[rng.randrange(len(mutated))] = rng.randrange(256)
        (tmp_path / "b.npz").write_bytes(mutated[: rng.choice([None, rng.randrange(len(content))])])
        try:
            read_probs(tmp_path / "b.npz", SIZE)
        except DeepLabError:
            refused += 1
    assert refused > 100
