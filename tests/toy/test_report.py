"""The demo's contact sheet and page: what is in them, read back."""

import re

import numpy as np
import pytest
from PIL import ImageFont

from deeplab_repro.errors import FileError
from deeplab_repro.files.images import palette, read_image
from deeplab_repro.toy.demo import Report, Row, notes, table
from deeplab_repro.toy.report import N_SHOWN, write_contact_sheet, write_page
from deeplab_repro.toy.scenes import make_scene
from deeplab_repro.voc.metrics import confusion, image_scores
from tests.html_page import Page

GAP, LINE = 8, 26


def make_report(n_scenes, names=("net <b>&amp;",)):
    """One net that says 3 everywhere, and 5 with its CRF."""
    scenes = [make_scene(2, index, "val") for index in range(n_scenes)]
    scores = image_scores(confusion(scenes[0].labels, np.zeros_like(scenes[0].labels), 21))
    rows = [
        Row(name, crf, [np.full_like(s.labels, 5 if crf else 3) for s in scenes], scores, scores, 7)
        for name in names
        for crf in (False, True)
    ]
    return Report(2, scenes, rows)


@pytest.fixture
def page(tmp_path):
    def write(report):
        write_page(tmp_path / "index.html", report)
        return Page((tmp_path / "index.html").read_text(encoding="utf-8"))

    return write


# --- the contact sheet


@pytest.mark.parametrize("n_scenes", [1, N_SHOWN + 2])
def test_contact_sheet_shows_image_truth_and_labels(tmp_path, n_scenes):
    report = make_report(n_scenes)
    write_contact_sheet(tmp_path / "sheet.png", report)
    sheet = read_image(tmp_path / "sheet.png")
    shown = report.scenes[:N_SHOWN]
    cell = max(scene.image.shape[1] for scene in shown)
    assert sheet.shape[1] == GAP + 4 * (cell + GAP)
    top = LINE
    for index, scene in enumerate(shown):
        height, width = scene.labels.shape
        labels = [scene.labels, *(row.labels[index] for row in report.rows)]
        for column, picture in enumerate([scene.image, *(palette()[each] for each in labels)]):
            left = GAP + column * (cell + GAP) + (cell - width) // 2
            np.testing.assert_array_equal(sheet[top : top + height, left : left + width], picture)
        top += height + GAP
    # Headings above, the legend below: not white all over.
    assert (sheet[:LINE] < 128).any()
    assert (sheet[top:] == palette()[20]).all(axis=2).any()


def test_contact_sheet_with_a_font_of_one_size_as_in_old_pillows(tmp_path, monkeypatch):
    default = ImageFont.load_default
    monkeypatch.setattr(ImageFont, "load_default", lambda: default())
    write_contact_sheet(tmp_path / "sheet.png", make_report(1))
    assert (read_image(tmp_path / "sheet.png")[:LINE] < 128).any()


# --- the page


@pytest.mark.parametrize("n_scenes", [1, N_SHOWN + 2])
def test_page_shows_image_truth_and_labels(page, n_scenes):
    report = make_report(n_scenes)
    found = page(report)
    n_shown = min(n_scenes, N_SHOWN)
    assert len(found.images) == 4 * n_shown
    assert all(image["alt"].startswith("Scene ") for image in found.images)
    for index, scene in enumerate(report.scenes[:n_shown]):
        np.testing.assert_array_equal(np.asarray(found.picture(4 * index)), scene.image)
        labels = [scene.labels, *(row.labels[index] for row in report.rows)]
        for column, expected in enumerate(labels, start=1):
            picture = found.picture(4 * index + column)
            np.testing.assert_array_equal(np.asarray(picture), expected)
            np.testing.assert_array_equal(picture.convert("RGB"), palette()[expected])


def test_page_has_the_table_the_notes_and_the_legend(page):
    report = make_report(2)
    text = page(report).text
    words = [word for line in table(report) for word in line]
    for each in [*words, *notes(report), "tvmonitor", "void, not scored"]:
        assert each in text
    assert "2 scenes of ToyVOC (val, seed 2)" in "\n".join(text)


def test_page_names_classes_but_no_specks(page):
    report = make_report(1)
    report.rows[0].labels[0][:2, :2] = 9
    alts = [image["alt"] for image in page(report).images]
    assert alts[2] == "Scene 0, net <b>&amp;: bird"
    assert alts[3] == "Scene 0, net <b>&amp; + CRF: bottle"
    report.rows[0].labels[0][:] = 0
    assert page(report).images[2]["alt"].endswith(": background")


def test_page_needs_nothing_else(tmp_path):
    write_page(tmp_path / "index.html", make_report(1))
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert all(source.startswith("data:") for source in re.findall(r'(?:src|href)="([^"]*)', text))
    assert "<script" not in text
    assert "http" not in text


# --- both


@pytest.mark.parametrize("write", [write_contact_sheet, write_page])
def test_nothing_is_left_where_writing_fails(tmp_path, write):
    with pytest.raises(FileError, match="there is no folder"):
        write(tmp_path / "missing" / "out.png", make_report(1))
    assert not list(tmp_path.iterdir())
