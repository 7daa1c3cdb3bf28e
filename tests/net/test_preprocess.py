"""The net's input: the original's bits, and what is refused."""

import numpy as np
import pytest

from deeplab_repro.errors import ArgumentError
from deeplab_repro.net.preprocess import MEAN_BGR, preprocess
from tests.conftest import CORNERS, assert_one_line
from tests.conftest import smooth_photo as photo

GOLDEN_NETS = ("DeepLab", "DeepLab-LargeFOV", "DeepLab-MSc", "DeepLab-MSc-LargeFOV")


@pytest.mark.golden
@pytest.mark.parametrize("net", GOLDEN_NETS)
def test_input_has_the_bits_of_the_original(golden, net):
    with np.load(golden / "nets" / net / "expected.npz") as expected:
        image, original = expected["image"], expected["input"]
    ours = preprocess(image, original.shape[2:])
    assert ours.shape == original.shape
    assert ours.dtype == original.dtype
    assert ours.tobytes() == original.tobytes()


def test_input_is_bgr_minus_mean_top_left():
    x = preprocess(CORNERS, (3, 4))
    mean = np.float32(MEAN_BGR)
    assert x.shape == (1, 3, 3, 4)
    assert x.dtype == np.float32
    np.testing.assert_array_equal(x[0, :, 0, 0], np.float32([0, 0, 255]) - mean)  # red
    np.testing.assert_array_equal(x[0, :, 1, 0], np.float32([255, 0, 0]) - mean)  # blue
    assert (x[0, :, 2:] == 0).all()
    assert (x[0, :, :, 2:] == 0).all()


def test_every_grey_value_is_rounded_as_from_float64():
    values = np.arange(256, dtype=np.uint8)[None, :, None].repeat(3, 2)
    exact = np.arange(256, dtype=np.float64) - np.float32(MEAN_BGR).astype(np.float64)[:, None]
    x = preprocess(values, (1, 256))
    np.testing.assert_array_equal(x[0, :, 0], exact.astype(np.float32))


def test_input_takes_any_layout_of_the_array():
    image = photo()
    flipped = preprocess(image[::-1, ::-1], (30, 40))
    np.testing.assert_array_equal(flipped, preprocess(image[::-1, ::-1].copy(), (30, 40)))


@pytest.mark.parametrize(
    ("image", "size"),
    [
        (photo(5, 4), (4, 4)),
        (photo(4, 5), (4, 4)),
        (photo().astype(np.float32), (99, 99)),
        (photo()[..., 0], (99, 99)),
        (photo()[..., :2], (99, 99)),
        (photo()[:0], (99, 99)),
    ],
)
def test_input_refuses(image, size):
    with pytest.raises(ArgumentError) as error:
        preprocess(image, size)
    assert_one_line(error, "image", "x".join(map(str, image.shape[:2])))


def test_input_refuses_a_mean_of_another_length():
    with pytest.raises(ArgumentError, match="mean"):
        preprocess(photo(), (99, 99), (1.0, 2.0))
