"""The list of a data layer, and what is wrong with it or its files."""

import os

import numpy as np
import pytest
from PIL import Image

from deeplab_repro.errors import FileError, FormatError, ImageError
from deeplab_repro.files.images import read_image
from deeplab_repro.files.pictures import write_labels
from deeplab_repro.net.preprocess import MEAN_BGR
from deeplab_repro.train.pairs import read_list
from tests.conftest import assert_one_line
from tests.train.list_files import SIZES, seg_data


def test_the_list_as_the_authors_write_it(tmp_path):
    path = tmp_path / "train.txt"
    path.write_bytes(b"\xef\xbb\xbf/JPEGImages/a.jpg /Labels/a.png\r\n\n  /b.jpg\t/b.png  \n")
    pairs = [("/voc/JPEGImages/a.jpg", "/voc/Labels/a.png"), ("/voc/b.jpg", "/voc/b.png")]
    assert read_list(path, "/voc") == pairs
    assert read_list(path)[1] == ("/b.jpg", "/b.png")


@pytest.mark.parametrize(
    ("content", "kind", "parts"),
    [
        (b"", FileError, ["is empty"]),
        (b"\n \n", FormatError, ["the list is empty", "image label-map"]),
        (b"a.jpg a.png\nb.jpg\n", FormatError, ["line 2", "1 columns", "name the label map"]),
        (b"a.jpg a.png\n\nmy b.jpg b.png", FormatError, ["line 3", "3 columns", "blanks"]),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", FormatError, ["binary file", "image label-map"]),
    ],
)
def test_lists_that_are_none(tmp_path, content, kind, parts):
    path = tmp_path / "list.txt"
    path.write_bytes(content)
    with pytest.raises(kind) as caught:
        seg_data(tmp_path)
    assert_one_line(caught, "list.txt", *parts)


def test_no_list(tmp_path):
    with pytest.raises(FileError) as caught:
        seg_data(tmp_path)
    assert_one_line(caught, "list.txt", "cannot be read")


# --- the files


def test_missing_files(folder):
    os.remove(folder / "1.png")
    os.remove(folder / "3_labels.png")
    with pytest.raises(FileError) as caught:
        seg_data(folder)
    assert_one_line(caught, folder / "1.png", "no such file", "and 1 more of 5 pairs", "list.txt")


def test_the_root_folder_is_put_in_front_as_it_is(folder):
    with pytest.raises(FileError) as caught:
        seg_data(folder, root_folder=str(folder))
    assert_one_line(caught, f"{folder}0.png", f"root_folder ('{folder}')", "as it is")


def test_sizes_that_differ(folder):
    write_labels(folder / "2_labels.png", np.zeros((12, 33), np.uint8))
    with pytest.raises(ImageError) as caught:
        seg_data(folder)
    assert_one_line(caught, "2_labels.png", "is 12x33", "expected 11x33", folder / "2.png")
    assert "more" not in str(caught.value)


def test_sizes_are_of_the_upright_image(folder, photo):
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in ("jpg", "png"):  # a PNG has the note behind its pixels
        Image.fromarray(photo(8, 14)).save(folder / f"turned.{name}", exif=exif)
    write_labels(folder / "upright.png", np.zeros((14, 8), np.uint8))
    listed = folder / "list.txt"
    listed.write_text("turned.jpg upright.png\nturned.png upright.png\n")
    data, labels = seg_data(folder, batch_size=2, mirror=False, shuffle=False).batch(0)
    for i, name in enumerate(("jpg", "png")):
        upright = read_image(folder / f"turned.{name}")[..., 2]
        np.testing.assert_array_equal(data[i, 0, :14, :8], upright - np.float32(MEAN_BGR[0]))
    assert (labels[:, :, :14, :8] == 0).all()
    write_labels(folder / "upright.png", np.zeros((8, 14), np.uint8))
    with pytest.raises(ImageError) as caught:
        seg_data(folder)
    assert_one_line(caught, "upright.png: is 8x14", "expected 14x8", "upright")


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("1.png", b"", FileError),
        ("1.png", b"GIF89a, they said", ImageError),
        ("1_labels.png", b"\x89PNG\r\n\x1a\n and no more", ImageError),
    ],
)
def test_files_that_are_no_pictures(folder, name, content, kind):
    (folder / name).write_bytes(content)
    with pytest.raises(kind) as caught:
        seg_data(folder)
    assert_one_line(caught, folder / name)


def test_label_maps_in_colour_are_found_at_once(folder, photo):
    Image.fromarray(photo(*SIZES[1])).save(folder / "1_labels.png")
    with pytest.raises(ImageError) as caught:
        seg_data(folder)
    assert_one_line(caught, "1_labels.png", "mode RGB", "indexed or 8-bit grey")


def test_other_formats_are_taken(folder, photo):
    Image.fromarray(photo(*SIZES[1], seed=1)).save(folder / "1.bmp")
    before = seg_data(folder).batch(0)[0]
    text = (folder / "list.txt").read_text().replace("1.png", "1.bmp")
    (folder / "list.txt").write_text(text)
    np.testing.assert_array_equal(seg_data(folder).batch(0)[0], before)
