"""The net's input: the original's bits, and what is refused."""

import numpy as np
import pytest

from deeplab_repro.errors import ArgumentError
from deeplab_repro.net.preprocess import MEAN_BGR, MeanImage, Preprocessing, preprocess
from tests.conftest import CORNERS, assert_one_line
from tests.conftest import smooth_photo as photo


def mean_values() -> np.ndarray:
    return np.random.default_rng(0).random((3, 24, 32), np.float32)


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
    ("image", "told"),
    [
        (photo(5, 4), "image: is 5x4 (height x width), larger than the net's input of 4x4"),
        (photo(4, 5), "image: is 4x5"),
        (photo(4, 4)[..., 0], "image has shape 4x4; expected HxWx3"),
    ],
)
def test_input_refuses(image, told):
    with pytest.raises(ArgumentError) as error:
        preprocess(image, (4, 4))
    assert_one_line(error, told)


# --- the mean and the scale of a net's own


MEANS = (MEAN_BGR, (0.0, 0.0, 0.0), (10.1, 20.2, 300.3), MeanImage("m", 255 * mean_values()))


@pytest.mark.parametrize("scale", [1.0, 0.017, -2.0])
@pytest.mark.parametrize("mean", MEANS)
def test_pixels_less_the_mean_times_the_scale(mean, scale):
    image = photo(24, 32)
    values = mean.values if isinstance(mean, MeanImage) else np.float32(mean).reshape(3, 1, 1)
    bgr = image[..., ::-1].transpose(2, 0, 1)
    expected = (bgr - values.astype(np.float64)) * np.float64(np.float32(scale))
    found = preprocess(image, (30, 40), Preprocessing(mean, scale))
    np.testing.assert_array_equal(found[0, :, :24, :32], expected.astype(np.float32))
    assert not found[:, :, 24:].any()
    assert not found[..., 32:].any()


@pytest.mark.parametrize(
    ("how", "wanted"),
    [
        (
            Preprocessing(MeanImage("m.binaryproto", np.full((3, 5, 6), 7, np.float32))),
            "5x6, as mean_file 'm.binaryproto' is: resize the image yourself, or write "
            "mean_value: 7.000 mean_value: 7.000 mean_value: 7.000 (its averages) in place of",
        ),
        (
            Preprocessing(resized_to=(5, 6)),
            "5x6, to which new_height and new_width of the data layer resize: ",
        ),
    ],
)
def test_images_of_another_size_than_the_data_layer_makes(how, wanted):
    assert preprocess(photo(5, 6), (9, 9), how).any()
    for size in ((1, 1), (5, 1), (1, 6), (6, 5), (9, 9)):
        with pytest.raises(ArgumentError) as error:
            preprocess(photo(*size), (9, 9), how)
        assert_one_line(error, f"image: is {size[0]}x{size[1]} (height x width), expected", wanted)
