"""The report's files, read back: the page with its pictures, the Markdown and the JSON."""

import base64
import json
import re
import sys

import numpy as np
import pytest

from deeplab_repro.errors import FileError
from deeplab_repro.files.marks import NOTE
from deeplab_repro.files.pictures import palette, write_image
from deeplab_repro.paper import write
from deeplab_repro.paper.figure7 import Figure7, Panel
from deeplab_repro.paper.report import Report, make_report
from deeplab_repro.paper.reproduce import Run, net_facts, paper_runs
from deeplab_repro.paper.tables import Measured, all_tables
from deeplab_repro.paper.write import targets, write_report
from deeplab_repro.voc.metrics import Scores
from tests.conftest import smooth_photo
from tests.html_page import Page

IOU = np.full(21, 50.0)
SCORES = Scores(90.0, IOU, 50.0, IOU, 61.0, 21, 61.0, 50.0)
PANELS = 3


def panel(index):
    labels = np.zeros((20, 30), np.uint8)
    labels[:, :10] = index + 1
    return Panel(f"image_{index}", smooth_photo(20, 30), labels, labels + 1, labels + 2)


def make():
    """One run of sixteen, with a curve and panels; the names are to be escaped."""
    runs = [Run("DeepLab", "DeepLab", "val", None, with_crf=False), *paper_runs(None)[1:]]
    nothing = make_report(None, runs, None).outcomes
    trimap = {1: SCORES, 2: SCORES}
    result = Measured(SCORES, trimap, 3, remark="on <3> images | few")
    outcomes = {**nothing, ("DeepLab", "val"): result}
    panels = [panel(index) for index in range(PANELS)]
    figure7 = Figure7("net <b>", "net + CRF", panels)
    return Report(all_tables(outcomes, net_facts()), runs, outcomes, figure7)


def draw(stem, curves):
    """In place of the plot, which takes a second, a picture of one pixel."""
    assert list(curves) == ["DeepLab"]
    path = stem.with_suffix(".png")
    write_image(path, np.zeros((1, 1, 3), np.uint8))
    return [path]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    out = tmp_path_factory.mktemp("page") / "new" / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(write, "draw_curves", draw)
        write_report(out, make())
    return out


def texts(folder):
    return [path.read_text(encoding="utf-8") for path in targets(folder)]


def test_page_needs_nothing_else(written):
    page, _, _ = texts(written)
    addresses = re.findall(r'(?:src|href)="([^"]*)', page) + re.findall(r"url\(([^)]*)", page)
    assert addresses
    assert all(address.startswith("data:") for address in addresses)
    assert not re.search(r"https?://|@import|<link|fetch\(|XMLHttp", page)


def test_page_shows_the_panels_pixel_by_pixel(written):
    page = Page(texts(written)[0])
    panels = make().figure7.panels
    photos = page.pictures("jpeg")
    assert len(photos) == PANELS
    for shown, given in zip(photos, panels, strict=True):
        assert np.abs(np.asarray(shown, int) - given.photo).mean() < 10
    labels = page.pictures("png")[-3 * PANELS :]
    expected = [each for given in panels for each in (given.net, given.with_crf, given.truth)]
    for shown, given in zip(labels, expected, strict=True):
        np.testing.assert_array_equal(np.asarray(shown), given)
        # The background lets what is below be seen, a photo or black: VOC's colour.
        rgba = np.asarray(shown.convert("RGBA"))
        np.testing.assert_array_equal(rgba[..., 3] == 0, given == 0)
        np.testing.assert_array_equal(rgba[given > 0, :3], palette()[given[given > 0]])


def test_page_has_a_wipe_for_any_two_of_the_four(written):
    text = texts(written)[0]
    page = Page(text)
    assert page.text.count("net <b>") == 3  # a heading, and an entry in either list
    assert text.count("<option selected>") == 2
    assert text.count('type="range"') == 1
    # Hidden, and so are the buttons, until the script shows them.
    assert '<div class="wipe" id="figure7" hidden>' in text
    assert text.count('<button type="button" hidden aria-label="Wipe image_') == PANELS


def test_page_shows_figure5(written):
    assert (written / "figure5.csv").exists()
    shown = base64.b64encode((written / "figure5.png").read_bytes()).decode()
    page, markdown, _ = texts(written)
    assert f"data:image/png;base64,{shown}" in page
    assert "![Figure 5](figure5.png)" in markdown


def test_without_matplotlib_the_page_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    write_report(tmp_path, make())
    page = Page(texts(tmp_path)[0])
    assert len(page.pictures("png")) == 3 * PANELS
    assert any('pip install "deeplab-repro[plot]"' in text for text in page.text)


def test_page_and_markdown_have_all_tables(written):
    page, markdown, _ = texts(written)
    shown = Page(page).text
    for table in ("Table 1", "Table 2", "Table 3", "Figure 5: mean IOU"):
        assert table in shown
        assert f"## {table}" in markdown
    for text in ("61.00 [1]", "+1.20", "67.64", "not run [2]"):
        assert text in shown
        assert f" {text} |" in markdown
    assert any("the labels of test are not public" in text for text in shown)
    assert "[1] on <3> images | few" in shown
    assert "[1] on &lt;3> images \\| few" in markdown


def test_markdown_has_as_many_cells_in_every_line_of_a_table(written):
    markdown = texts(written)[1]
    tables = re.findall(r"(?:^\|.*\n)+", markdown, re.MULTILINE)
    assert len(tables) == 8
    for table in tables:
        lines = table.splitlines()
        assert len({len(re.split(r"(?<!\\)\|", line)) for line in lines}) == 1
        assert re.fullmatch(r"\| --- \|( ---: \|)+", lines[1])


def test_json_says_what_was_run(written):
    data = json.loads(texts(written)[2])
    assert len(data["runs"]) == 21
    done, *others = data["runs"]
    assert (done["method"], done["mean_iou"], done["images"]) == ("DeepLab", 61.0, 3)
    assert done["not_run"] is None
    assert all(run["not_run"] and "mean_iou" not in run for run in others)
    assert set(data["tables"]) >= {"table1", "table2", "table3"}


def test_without_predictions_there_are_neither_panels_nor_curves(tmp_path):
    write_report(tmp_path, make_report(None, paper_runs(None), tmp_path))
    page = texts(tmp_path)[0]
    assert "<script" not in page
    assert "<img" not in page
    assert {*tmp_path.iterdir()} == {*targets(tmp_path), tmp_path / NOTE}


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="cannot be made"):
        write_report(tmp_path / "file" / "out", make())
