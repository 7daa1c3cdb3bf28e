"""The demo's contact sheet and page: what is in them, read back."""

import re

import numpy as np
import pytest

from deeplab_repro.errors import FileError
from deeplab_repro.files.images import read_image
from deeplab_repro.files.pictures import palette
from deeplab_repro.toy.demo import DemoResult, DemoRow, notes, table
from deeplab_repro.toy.demo_page import N_SHOWN, write_contact_sheet, write_page
from deeplab_repro.voc.metrics import confusion, image_scores
from tests.html_page import Page

GAP, LINE = 8, 26
NAME = "net <b>&amp;"


def result_of(shown):
    """One net that says 3 everywhere, and 5 with its CRF, on some scenes."""
    scores = image_scores(confusion(shown[0].labels, np.zeros_like(shown[0].labels), 21))
    rows = [
        DemoRow(NAME, crf, [np.full_like(s.labels, says) for s in shown], scores, scores, 7)
        for crf, says in ((False, 3), (True, 5))
    ]
    return DemoResult(2, shown, rows)


@pytest.fixture
def make(scenes):
    """The result on the first scenes."""
    return lambda n_scenes: result_of(scenes[:n_scenes])


@pytest.fixture
def page(tmp_path):
    def write(result):
        write_page(tmp_path / "index.html", result)
        return Page((tmp_path / "index.html").read_text(encoding="utf-8"))

    return write


# --- the contact sheet


@pytest.mark.parametrize("n_scenes", [1, N_SHOWN + 2])
def test_contact_sheet_shows_image_truth_and_labels(make, tmp_path, n_scenes):
    result = make(n_scenes)
    write_contact_sheet(tmp_path / "sheet.png", result)
    sheet = read_image(tmp_path / "sheet.png")
    shown = result.scenes[:N_SHOWN]
    cell = max(scene.image.shape[1] for scene in shown)
    assert sheet.shape[1] == GAP + 4 * (cell + GAP)
    top = LINE
    for index, scene in enumerate(shown):
        height, width = scene.labels.shape
        labels = [scene.labels, *(row.labels[index] for row in result.rows)]
        for column, picture in enumerate([scene.image, *(palette()[each] for each in labels)]):
            left = GAP + column * (cell + GAP) + (cell - width) // 2
            np.testing.assert_array_equal(sheet[top : top + height, left : left + width], picture)
        top += height + GAP
    # Headings above, the legend below: not white all over.
    assert (sheet[:LINE] < 128).any()
    assert (sheet[top:] == palette()[20]).all(axis=2).any()


# --- the page


@pytest.mark.parametrize("n_scenes", [1, N_SHOWN + 2])
def test_page_shows_image_truth_and_labels(make, page, n_scenes):
    result = make(n_scenes)
    found = page(result)
    n_shown = min(n_scenes, N_SHOWN)
    assert len(found.images) == 4 * n_shown
    assert all(image["alt"].startswith("Scene ") for image in found.images)
    for index, scene in enumerate(result.scenes[:n_shown]):
        np.testing.assert_array_equal(np.asarray(found.picture(4 * index)), scene.image)
        labels = [scene.labels, *(row.labels[index] for row in result.rows)]
        for column, expected in enumerate(labels, start=1):
            picture = found.picture(4 * index + column)
            np.testing.assert_array_equal(np.asarray(picture), expected)
            np.testing.assert_array_equal(picture.convert("RGB"), palette()[expected])


def test_page_has_the_table_the_notes_and_the_legend(make, page):
    result = make(2)
    text = page(result).text
    words = [word for line in table(result) for word in line]
    for each in [*words, *notes(result), "tvmonitor", "void, not scored"]:
        assert each in text
    assert "2 scenes of ToyVOC (val, seed 2)" in "\n".join(text)


def test_page_names_classes_but_no_specks(make, page):
    result = make(1)
    result.rows[0].labels[0][:2, :2] = 9
    alts = [image["alt"] for image in page(result).images]
    assert alts[2] == "Scene 0, net <b>&amp;: bird"
    assert alts[3] == "Scene 0, net <b>&amp; + CRF: bottle"
    result.rows[0].labels[0][:] = 0
    assert page(result).images[2]["alt"].endswith(": background")


def test_page_needs_nothing_else(make, tmp_path):
    write_page(tmp_path / "index.html", make(1))
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert all(source.startswith("data:") for source in re.findall(r'(?:src|href)="([^"]*)', text))
    assert "http" not in text


# --- both


@pytest.mark.parametrize("write", [write_contact_sheet, write_page])
def test_nothing_is_left_where_writing_fails(make, tmp_path, write):
    with pytest.raises(FileError, match="there is no folder"):
        write(tmp_path / "missing" / "out.png", make(1))
    assert not list(tmp_path.iterdir())
