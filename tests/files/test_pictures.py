"""The palette, label pictures, overlays and photos as they are written."""

import os

import numpy as np
import pytest
from PIL import Image

from deeplab_repro.errors import ArgumentError, FileError, ImageError
from deeplab_repro.files.images import read_image, read_labels
from deeplab_repro.files.pictures import overlay, palette, write_image, write_labels
from tests.conftest import assert_one_line
from tests.conftest import smooth_photo as photo


def test_palette_is_vocs():
    # From the VOC devkit's colour map: aeroplane, bicycle, ..., tv/monitor, void.
    colours = palette()
    assert colours.shape == (256, 3)
    assert colours.dtype == np.uint8
    known = {
        0: (0, 0, 0),
        1: (128, 0, 0),
        2: (0, 128, 0),
        7: (128, 128, 128),
        8: (64, 0, 0),
        15: (192, 128, 128),
        20: (0, 64, 128),
        64: (32, 0, 0),
        255: (224, 224, 192),
    }
    for label, colour in known.items():
        assert tuple(colours[label]) == colour
    assert len(np.unique(colours, axis=0)) == 256


def test_labels_come_back(tmp_path):
    path = tmp_path / "a.png"
    labels = np.arange(256, dtype=np.uint8).reshape(8, 32)
    write_labels(path, labels)
    np.testing.assert_array_equal(read_labels(path), labels)
    np.testing.assert_array_equal(read_image(path), palette()[labels])
    with Image.open(path) as picture:
        assert picture.mode == "P"


def test_raw_labels_are_read_too(tmp_path):
    path = tmp_path / "a.png"
    labels = np.array([[0, 20, 255]], np.uint8)
    Image.fromarray(labels).save(path)
    np.testing.assert_array_equal(read_labels(path), labels)


def test_labels_in_colour_or_jpeg_are_refused(tmp_path):
    for name in ("a.png", "a.jpg"):
        Image.fromarray(photo()).save(tmp_path / name)
        with pytest.raises(ImageError) as error:
            read_labels(tmp_path / name)
        assert_one_line(error, tmp_path / name, "PNG")


@pytest.mark.parametrize("labels", [np.zeros((4, 4), np.int64), np.zeros((1, 4, 4), np.uint8)])
def test_labels_of_another_kind_are_not_written(tmp_path, labels):
    with pytest.raises(ArgumentError, match="labels"):
        write_labels(tmp_path / "a.png", labels)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.JPEG"])
def test_images_come_back(tmp_path, name):
    write_image(tmp_path / name, photo())
    difference = np.abs(read_image(tmp_path / name).astype(int) - photo())
    assert difference.mean() <= (0 if name == "a.png" else 5)


def test_image_of_unknown_extension_is_not_written(tmp_path):
    with pytest.raises(ArgumentError, match=r"\.png"):
        write_image(tmp_path / "a.xyz", photo())


def test_jpeg_too_long_for_the_format(tmp_path):
    with pytest.raises(ArgumentError) as error:
        write_image(tmp_path / "a.jpg", np.zeros((1, 70000, 3), np.uint8))
    assert_one_line(error, "JPEG", "70000")
    assert not list(tmp_path.iterdir())


def test_overlay():
    image = np.full((9, 12, 3), 100, np.uint8)
    labels = np.zeros((9, 12), np.uint8)
    labels[:, 4:] = 15
    labels[:, 8:] = 255
    out = overlay(image, labels)
    assert out.shape == image.shape
    assert out.dtype == np.uint8
    np.testing.assert_array_equal(out[:, 0], image[:, 0])  # background: the photo itself
    assert out[4, 5, 0] > out[4, 5, 1]  # person: pinkish
    assert out[4, 10].min() > 150  # void: whitish
    assert (out[:, 3] == 255).all()  # the boundary
    assert (image == 100).all()
    with pytest.raises(ArgumentError, match="labels"):
        overlay(image, labels[:-1])


def test_boundaries_are_as_visible_in_a_large_image():
    labels = np.zeros((3, 2000), np.uint8)
    labels[:, 1000:] = 1
    out = overlay(np.zeros((3, 2000, 3), np.uint8), labels)
    assert (out == 255).all(axis=2).sum(axis=1).tolist() == [4, 4, 4]


def test_no_file_is_left_when_writing_fails(tmp_path):
    with pytest.raises(FileError) as error:
        write_labels(tmp_path / "nowhere" / "a.png", np.zeros((2, 2), np.uint8))
    assert_one_line(error, "nowhere", "create")
    assert os.listdir(tmp_path) == []
