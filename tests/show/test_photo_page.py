"""The page of segmented photos: what is on it, and which files it writes and removes."""

import os
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote_to_bytes

import numpy as np
import pytest
from PIL import Image

from deeplab_repro.errors import FileError
from deeplab_repro.files.images import read_image
from deeplab_repro.files.marks import PAGE_PICTURES, made_here
from deeplab_repro.models.registry import VOC_CLASSES
from deeplab_repro.show.photo_page import LabelledPhoto, PhotoPage, check_page
from tests.conftest import smooth_photo
from tests.html_page import Page

ODD = os.fsdecode(b'a"b#1 %41?&<u>\n\xff.jpg')
SECONDS = {"net": 0.25, "CRF": 1.5}


def photo(name="a.jpg", height=20, width=30, person=6, written=()):
    net = np.zeros((height, width), np.uint8)
    net[:, :person] = 15
    refined = net.copy()
    refined[:2] = 12
    labels = {"net": net, "net + CRF": refined}
    return LabelledPhoto(Path(name), smooth_photo(height, width), labels, SECONDS, written)


def write(out, *photos, failures=(), names=VOC_CLASSES):
    page = PhotoPage(out, names)
    for each in photos:
        page.add(each)
    for path, why in failures:
        page.add_failure(Path(path), why)
    return page.write("a net & its CRF")


def read(path):
    return Page(path.read_text(encoding="utf-8"))


def files(folder):
    return {path.name for path in (folder / PAGE_PICTURES).iterdir()}


def test_pictures_of_the_photo_and_of_both_labels(tmp_path):
    shown = photo()
    images = read(write(tmp_path, shown)).images
    assert [image["alt"] for image in images] == [
        "a.jpg",
        "a.jpg, net: person",
        "a.jpg, net + CRF: dog, person",
    ]
    assert np.abs(read_image(tmp_path / images[0]["src"]).astype(int) - shown.image).mean() < 10
    for image, labels in zip(images[1:], shown.labels.values(), strict=True):
        assert (image["width"], image["height"], image["loading"]) == ("30", "20", "lazy")
        with Image.open(tmp_path / image["src"]) as picture:
            np.testing.assert_array_equal(np.asarray(picture), labels)
    assert files(tmp_path) == {Path(image["src"]).name for image in images}
    assert all(map(made_here, [tmp_path / "index.html", *(tmp_path / PAGE_PICTURES).iterdir()]))


def test_the_table_and_the_facts(tmp_path):
    failures = [("x.jpg", "x.jpg: is <no> image"), ("y.jpg", "too large")]
    text = read(write(tmp_path, photo(), failures=failures)).text
    for each in ("a net & its CRF.", "All photos: 1 done, 2 failed, those that failed first"):
        assert each in text
    assert "failed: is <no> image" in text
    assert text.index("failed: too large") < text.index("background 72%, person 18%, dog 10%")
    assert {"30x20", "0.25 s", "1.50 s"} <= {*text}
    start = text.index("Classes and their shares of the pixels")
    table = [each for each in text[start + 1 :] if each][: 3 * 4]
    assert table == [
        *("class", "net", "net + CRF"),
        *("background", "80.0%", "72.0%"),
        *("person", "20.0%", "18.0%"),
        *("dog", "0.0%", "10.0%"),
    ]


def test_the_page_says_what_ran_only_if_something_did(tmp_path):
    before = replace(photo(), seconds={})
    for shown, ran in ([before], False), ([], False), ([before, photo()], True):
        text = read(write(tmp_path, *shown, failures=[("x.jpg", "broken")])).text
        assert ("a net & its CRF." in text) == ran
        assert ("Nothing was segmented in this run." in text) != ran


def test_names_of_any_kind(tmp_path):
    target = tmp_path / "sub" / ODD
    target.parent.mkdir()
    target.write_bytes(b"labels")
    path = write(tmp_path, photo(ODD, written=[target]), failures=[(ODD, f"{ODD}: no")])
    page = read(path)
    assert "<u>" not in path.read_text(encoding="utf-8")
    there, file = page.links
    assert there == "#photo-1"
    assert (tmp_path / os.fsdecode(unquote_to_bytes(file))).read_bytes() == b"labels"


def test_a_net_of_other_classes_and_without_a_crf(tmp_path):
    labels = np.full((20, 30), 1, np.uint8)
    shown = LabelledPhoto(Path("a.jpg"), smooth_photo(20, 30), {"net": labels}, {"net": 0.1})
    page = read(write(tmp_path, shown, names=("class-0", "class-1")))
    assert [image["alt"] for image in page.images] == ["a.jpg", "a.jpg, net: class-1"]
    assert "class-1 100%" in page.text


def test_large_photos_are_shown_smaller(tmp_path):
    shown = photo(height=100, width=3000, person=1500)
    images = read(write(tmp_path, shown)).images
    for image in images:
        assert (image["width"], image["height"]) == ("1024", "34")
    with Image.open(tmp_path / images[1]["src"]) as picture:
        assert np.unique(np.asarray(picture)).tolist() == [0, 15]


def test_only_failures(tmp_path):
    path = write(tmp_path / "new", failures=[("x.jpg", "no")])
    assert "All photos: 0 done, 1 failed" in read(path).text


def test_many_photos_make_no_large_page(tmp_path, monkeypatch):
    monkeypatch.setattr(PhotoPage, "_write_picture", lambda *_: "0" * 32 + ".png")
    shown = photo()
    sizes = [len(write(tmp_path, *[shown] * n).read_bytes()) for n in (1, 101)]
    assert sizes[1] - sizes[0] < 100 * 4000


def test_an_earlier_page_stays_whole_until_the_next_one_is_written(tmp_path):
    write(tmp_path, photo(), photo("b.jpg", person=9))
    before = (tmp_path / "index.html").read_bytes()
    earlier = files(tmp_path)
    page = PhotoPage(tmp_path, VOC_CLASSES)
    page.add(photo())
    page.add(photo("c.jpg", person=12))
    assert (tmp_path / "index.html").read_bytes() == before
    assert files(tmp_path) > earlier
    others = tmp_path / PAGE_PICTURES / "notes.txt"
    others.write_text("mine")
    page.write("a net")
    shown = {Path(image["src"]).name for image in read(tmp_path / "index.html").images}
    assert files(tmp_path) == {*shown, "notes.txt"}
    assert not earlier <= shown


def test_what_others_made_stays(tmp_path):
    write(tmp_path, photo())
    picture = next((tmp_path / PAGE_PICTURES).glob("*.jpg"))
    Image.fromarray(smooth_photo(20, 30)).save(picture)  # without our mark
    with pytest.raises(FileError, match="--force"):
        write(tmp_path, photo())
    write(tmp_path, photo(height=21))  # which does not need that name
    assert picture.exists()
    (tmp_path / "index.html").write_text("mine")
    for makes in (lambda: write(tmp_path), lambda: check_page(tmp_path, ())):
        with pytest.raises(FileError, match=r"index.html: is there already.*--force"):
            makes()
    check_page(tmp_path, (), force=True)
    PhotoPage(tmp_path, VOC_CLASSES, force=True).write("a net")
    assert made_here(tmp_path / "index.html")


def test_a_file_where_the_pictures_go(tmp_path):
    (tmp_path / PAGE_PICTURES).write_text("mine")
    with pytest.raises(FileError, match=r"index.files: is a file, expected a folder"):
        check_page(tmp_path, ())


def test_a_page_that_is_read_is_not_replaced(tmp_path):
    write(tmp_path, photo())
    with pytest.raises(FileError, match="would overwrite it"):
        check_page(tmp_path, [tmp_path / "index.html"], force=True)
