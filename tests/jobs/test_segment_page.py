"""Photos that go by on their way to a page."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeplab_repro.crf.params import CrfParams
from deeplab_repro.errors import FileError
from deeplab_repro.files.images import read_image, read_labels
from deeplab_repro.files.marks import PAGE_PICTURES
from deeplab_repro.jobs.photos import Photo, Skipped
from deeplab_repro.jobs.segment import segment_files
from deeplab_repro.jobs.segment_page import on_a_page
from deeplab_repro.segmenter import DeepLab
from deeplab_repro.work.outcomes import Failed
from tests.html_page import Page

OUT = Path("out")


@pytest.fixture
def segmented(pictures, tiny):
    """Two photos and a broken one through a net and its CRF, and the model."""
    model = DeepLab(tiny, "random:0", device="cpu", crf=CrfParams(4, 20, 5), iterations=1)
    paths = [*pictures("a.png", "b.png"), Path("x.png")]
    paths[2].write_text("no picture")
    return lambda: segment_files(model, paths, OUT), model


def test_all_photos_go_by_and_are_on_the_page(segmented, monkeypatch):
    photos, model = segmented
    for device in ("cpu", "cuda"):  # beside a GPU a thread makes the page
        monkeypatch.setattr(DeepLab, "device", device)
        results = list(on_a_page(photos(), OUT, model, "a net"))
        assert [result.path.name for result in results] == ["a.png", "b.png", "x.png"]
        assert [type(result) for result in results] == [Photo, Photo, Failed]
        page = Page((OUT / "index.html").read_text(encoding="utf-8"))
        sources = [OUT / image["src"] for image in page.images]
        for index, name in enumerate(("a.png", "b.png")):
            image = read_image(name)
            expected = (model.run_net(image).labels, model(image).labels)
            for source, labels in zip(sources[3 * index + 1 :], expected, strict=False):
                with Image.open(source) as picture:
                    np.testing.assert_array_equal(np.asarray(picture), labels)
        assert [link for link in page.links if link[0] != "#"] == ["a.png", "b.png"]
        assert any(text.startswith("failed: is not an image") for text in page.text)


def test_without_a_crf_there_is_one_picture_of_labels(pictures, tiny):
    model = DeepLab(tiny, "random:0", device="cpu", crf=None)
    photos = segment_files(model, pictures("a.png"), OUT)
    list(on_a_page(photos, OUT, model, "a net"))
    assert len(Page((OUT / "index.html").read_text(encoding="utf-8")).images) == 2


def test_a_photo_that_was_done_before_is_on_the_page_too(pictures, tiny):
    model = DeepLab(tiny, "random:0", device="cpu", crf=CrfParams(4, 20, 5), iterations=1)
    list(segment_files(model, pictures("a.png"), OUT))
    photos = segment_files(model, pictures("a.png", "b.png"), OUT, skip_existing=True)
    assert [type(each) for each in on_a_page(photos, OUT, model, "a net")] == [Skipped, Photo]
    page = Page((OUT / "index.html").read_text(encoding="utf-8"))
    assert [len(photo) for photo in (page.links, page.images)] == [4, 2 + 3]
    with Image.open(OUT / page.images[1]["src"]) as picture:
        np.testing.assert_array_equal(np.asarray(picture), read_labels(OUT / "a.png"))


def test_a_run_that_is_stopped_leaves_the_earlier_page(segmented):
    photos, model = segmented
    list(on_a_page(photos(), OUT, model, "a net"))
    before = (OUT / "index.html").read_bytes()
    stopped = on_a_page(photos(), OUT, model, "another net")
    next(stopped)
    with pytest.raises(FileError, match="in use"):
        next(on_a_page(photos(), OUT, model, "a third net"))
    stopped.close()
    assert (OUT / "index.html").read_bytes() == before
    list(on_a_page(photos(), OUT, model, "a third net"))
    assert not [name for name in os.listdir(OUT / PAGE_PICTURES) if name.startswith(".")]
