"""Coarse scores: enlarged as INTERP does, and the part of them that an image needs."""

import numpy as np
import pytest

from deeplab_repro.caffe import load_weights, read_net
from deeplab_repro.errors import ArgumentError
from deeplab_repro.net.scores import CoarseScores, interp_positions
from tests.conftest import assert_one_line

RNG = np.random.default_rng(0)


def naive(values, stride, y, x):
    """The formula of docs/original.md, 1.3, for one pixel, in float32."""
    one = np.float32(1)
    i, j = y // stride, x // stride
    i2, j2 = min(i + 1, values.shape[1] - 1), min(j + 1, values.shape[2] - 1)
    ly, lx = np.float32(y % stride / stride), np.float32(x % stride / stride)
    above = (one - lx) * values[:, i, j] + lx * values[:, i, j2]
    below = (one - lx) * values[:, i2, j] + lx * values[:, i2, j2]
    return (one - ly) * above + ly * below


@pytest.mark.parametrize(("stride", "offset"), [(8, 0), (8, 7), (2, 0), (4, 3)])
def test_enlarged_pixel_by_pixel(stride, offset):
    values = RNG.standard_normal((3, 5, 7)).astype(np.float32)
    size = 4 * stride + 1 - offset, 6 * stride + 1 - offset
    found = CoarseScores(values, stride, offset).enlarged(size)
    assert found.dtype == np.float32
    assert found.shape == (3, *size)
    for y in range(size[0]):
        for x in range(size[1]):
            expected = naive(values, stride, y + offset, x + offset)
            np.testing.assert_array_equal(found[:, y, x], expected)


@pytest.mark.parametrize(("stride", "offset"), [(8, 0), (8, 7), (3, 2), (1, 1)])
def test_some_rows_are_those_of_all(stride, offset):
    coarse = CoarseScores(RNG.standard_normal((3, 5, 7)).astype(np.float32), stride, offset)
    size = 4 * stride + 1 - offset, 6 * stride + 1 - offset
    whole = coarse.enlarged(size)
    for first in range(size[0]):
        for last in range(first, size[0] + 1):
            found = coarse.enlarged_rows(size, first, last)
            np.testing.assert_array_equal(found, whole[:, first:last])


@pytest.mark.parametrize(("stride", "offset"), [(8, 7), (1, 0), (1, 3)])
def test_labels_are_the_largest_of_the_enlarged_scores(stride, offset):
    # More rows than one band has.
    values = RNG.integers(0, 3, (4, 150, 40)).astype(np.float32)
    size = 130, 35
    coarse = CoarseScores(values, stride, offset)
    found = coarse.labels(size)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, coarse.enlarged(size).argmax(axis=0))


@pytest.mark.golden
@pytest.mark.parametrize("name", ["DeepLab", "DeepLab-LargeFOV"])
def test_golden_scores_of_the_original(golden, name):
    folder = golden / "nets" / name
    net = read_net(folder / "deploy.prototxt").ending_in_scores()
    load_weights(net, folder / "weights.caffemodel")
    blob, stride, offset = net.coarse_output
    assert (stride, offset) == (8, 7 if name == "DeepLab" else 0)
    expected = np.load(folder / "expected.npz")
    assert net.blob_shapes()[blob] == expected["fc8"].shape
    scores = expected["scores"][0]
    found = CoarseScores(expected["fc8"][0], stride, offset).enlarged(scores.shape[1:])
    # The original's compiler may fuse a multiplication and an addition: an ulp of the scores.
    np.testing.assert_allclose(found, scores, rtol=0, atol=2e-7 * np.abs(scores).max())


@pytest.mark.parametrize("offset", [0, 7])
@pytest.mark.parametrize("size", [(1, 1), (8, 9), (9, 10), (10, 17), (24, 25)])
def test_the_part_that_an_image_needs_is_enough_and_no_more(size, offset):
    whole = CoarseScores(RNG.standard_normal((2, 6, 6)).astype(np.float32), 8, offset)
    part = whole.covering(size)
    np.testing.assert_array_equal(part.enlarged(size), whole.enlarged(size))
    rows = part.values.shape[1]
    # The last row is not past the last pixel by a stride or more.
    assert (rows - 1) * 8 - offset < size[0] - 1 + 8


def test_nothing_to_enlarge():
    values = RNG.standard_normal((2, 4, 5)).astype(np.float16)
    found = CoarseScores(values, 1, 1).enlarged((3, 4))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, values[:, 1:, 1:])


def test_scores_of_another_image():
    with pytest.raises(ArgumentError) as error:
        CoarseScores(np.zeros((2, 3, 4), np.float32), 8).enlarged((18, 25))
    assert_one_line(error, "2x3x4 with a stride of 8", "cover 17x25", "expected the image's 18x25")


def test_rounded():
    values = RNG.standard_normal((2, 3, 4)).astype(np.float32)
    found = CoarseScores(values, 8, 7).rounded("float16")
    assert found.values.dtype == np.float16
    assert (found.stride, found.offset) == (8, 7)
    with pytest.raises(ArgumentError, match=r"up to 1e\+05, out of the range of float16"):
        CoarseScores(1e5 * np.ones((1, 1, 1), np.float32), 8).rounded("float16")


def test_positions_of_a_size_that_is_no_multiple():
    first, second, part = interp_positions(4, 6)
    np.testing.assert_array_equal(first, [0, 0, 1, 1, 2, 3])
    np.testing.assert_array_equal(second, [1, 1, 2, 2, 3, 3])
    np.testing.assert_allclose(part, [0, 0.6, 0.2, 0.8, 0.4, 0], atol=1e-6)
