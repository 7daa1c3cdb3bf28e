"""The page without a server: every setting of the grid with its labels and scores."""

import re

import numpy as np

from deeplab_repro.crf.dense_crf import dense_crf
from deeplab_repro.crf.params import CrfParams
from deeplab_repro.tune.export import around, export
from deeplab_repro.tune.judged import scores
from deeplab_repro.tune.opening import open_session
from deeplab_repro.tune.session import Source
from tests.html_page import Page
from tests.tune.conftest import START


def test_the_grid():
    grid = around(START)
    assert len(grid) == 27
    assert START in grid
    assert {each.w1 for each in grid} == {2, 4, 8}
    assert {each.sigma_beta for each in grid} == {4, 8, 16}
    assert len(around(CrfParams(0, 30, 8))) == 9


def test_every_setting_is_shown(session, tmp_path):
    path = export(session, tmp_path / "new")
    assert [each.name for each in path.parent.iterdir()] == ["index.html"]
    page = Page(path.read_text())
    assert page.links == []
    assert len(page.pictures("jpeg")) == 1
    found = [np.asarray(each) for each in page.pictures("png")]
    expected = [session.net_labels, session.truth]
    start = session.start
    for params in around(start.params):
        expected.append(dense_crf(session.image, session.probs, params, start.iterations).labels)
    assert len(found) == len(expected) == 29
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    text = " ".join(page.text)
    best = max(scores(session.truth, labels, 4, 3)["mean_iou"] for labels in expected[2:])
    assert f"The highest mean IOU of the classes present is {best:.1f}" in text
    assert "sigma_alpha 15" in text
    assert re.search(r"deeplab-repro crf \S+photo.png", text)


def test_without_a_truth_the_classes_are_named(inputs):
    session = open_session(Source(inputs / "photo.png", inputs / "photo.npy"), START)
    page = Page(export(session, inputs / "new").read_text())
    assert len(page.pictures("png")) == 28
    assert "class-2" in page.text
    assert "mean IOU" not in " ".join(page.text)
