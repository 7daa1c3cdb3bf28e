"""Scores and pictures of errors, beside counts by hand."""

import io

import numpy as np
import pytest
from PIL import Image

from deeplab_repro.tune.judged import VERDICTS, errors_png, scores

TRUTH = np.array([[0, 0, 255, 1, 1, 1]], np.uint8)
NET = np.array([[0, 1, 0, 1, 0, 0]], np.uint8)
LABELS = np.array([[1, 0, 0, 1, 1, 0]], np.uint8)


def test_scores():
    found = scores(TRUTH, LABELS, 21, 1)
    assert found["pixel_accuracy"] == pytest.approx(60)
    # Of background: one of three pixels; of the other class: two of four. No other class counts.
    assert found["mean_iou"] == pytest.approx((100 / 3 + 50) / 2)
    assert found["trimap_pixel_accuracy"] == pytest.approx(100)
    assert found["trimap_mean_iou"] == pytest.approx(100)


def test_without_void_there_is_no_trimap():
    found = scores(np.zeros((2, 2), np.uint8), np.zeros((2, 2), np.uint8), 2, 3)
    assert found["mean_iou"] == found["pixel_accuracy"] == 100
    assert found["trimap_mean_iou"] is found["trimap_pixel_accuracy"] is None


def test_errors():
    picture = Image.open(io.BytesIO(errors_png(TRUTH, NET, LABELS)))
    colours = np.asarray(picture.convert("RGBA"))[0]
    mended, spoilt, wrong, void = ((*colour, 255) for colour in VERDICTS.values())
    assert [tuple(map(int, each)) for each in colours[[0, 1, 2, 4, 5]]] == [
        spoilt,
        mended,
        void,
        mended,
        wrong,
    ]
    assert colours[3, 3] == 0  # right in both: clear
