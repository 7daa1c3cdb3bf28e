"""The authors' evaluation by hand; test_evaluate.py compares with their own scripts' output."""

import numpy as np
import pytest
from scipy.ndimage import distance_transform_cdt

from deeplab_repro.errors import ArgumentError
from deeplab_repro.voc.metrics import (
    MOST_WIDTH,
    confusion,
    image_scores,
    mean_iou_of_present,
    trimap_confusions,
    trimap_scores,
)

VOID = 255
TRUE = np.array([[0, 0, 1], [1, VOID, 2]], np.uint8)
GIVEN = np.array([[0, 1, 1], [1, 2, 0]], np.uint8)
COUNTS = np.array([[1, 1, 0], [0, 2, 0], [1, 0, 0]])


def labels(*shape, seed=0, void=0.02):
    rng = np.random.default_rng(seed)
    return np.where(rng.random(shape) < void, VOID, rng.integers(0, 5, shape)).astype(np.uint8)


# --- counting


def test_true_labels_are_rows_and_void_is_left_out():
    np.testing.assert_array_equal(confusion(TRUE, GIVEN, 3), COUNTS)


def n_within(true, *widths):
    """How many pixels the trimaps of these widths have."""
    return trimap_confusions(true, np.zeros_like(true), 21, widths).sum(axis=(1, 2)).tolist()


def test_trimap_reaches_diagonally_and_leaves_out_void():
    true = np.zeros((5, 7), np.uint8)
    true[2, 2] = VOID
    band = np.zeros((5, 7), np.uint8)
    band[1:4, 1:4] = 1
    np.testing.assert_array_equal(trimap_confusions(true, band, 2, [1])[0], [[0, 8], [0, 0]])
    assert n_within(true, 1, 2, 99) == [8, 24, 34]


def test_no_void_no_trimap():
    assert n_within(np.zeros((4, 5), np.uint8), 1, 9) == [0, 0]


def naive(true, given, n_labels):
    counts = np.zeros((n_labels, n_labels), int)
    for i, j in zip(true.flat, given.flat, strict=True):
        if i != VOID:
            counts[i, j] += 1
    return counts


@pytest.mark.parametrize("n_labels", [5, 21, 255])
def test_every_pixel_is_counted_once(n_labels):
    rng = np.random.default_rng(n_labels)
    true = rng.integers(0, n_labels, (20, 30)).astype(np.uint8)
    given = rng.integers(0, n_labels, (20, 30)).astype(np.uint8)
    true[0, 0], given[0, 0] = n_labels - 1, n_labels - 1  # the last cell
    true[3:5, 7:20] = VOID
    np.testing.assert_array_equal(confusion(true, given, n_labels), naive(true, given, n_labels))
    turned = np.asfortranarray(true), given
    np.testing.assert_array_equal(confusion(*turned, n_labels), naive(*turned, n_labels))
    trimaps = trimap_confusions(*turned, n_labels, [1, 40])
    np.testing.assert_array_equal(trimaps, trimap_confusions(true, given, n_labels, [1, 40]))
    np.testing.assert_array_equal(trimaps[1], naive(true, given, n_labels))


def test_nothing_to_count():
    for shape in ((0, 5), (3, 0)):
        empty = np.zeros(shape, np.uint8)
        assert not confusion(empty, empty, 3).any()
        assert not trimap_confusions(empty, empty, 3, [1]).any()
    assert not confusion(np.full((2, 3), VOID, np.uint8), GIVEN, 3).any()


@pytest.mark.parametrize("shape", [(700, 3), (60, 80), (300, 400)])
@pytest.mark.parametrize("share", [0.0005, 0.2])
def test_bands_are_those_of_another_distance_transform(shape, share):
    true, given = labels(*shape, seed=shape[0], void=share), labels(*shape, seed=1, void=0)
    true[0, 0] = VOID
    distance = distance_transform_cdt(true != VOID, "chessboard")
    widths = [3, 1, 2, 40, 3, 255, 256, 300, MOST_WIDTH]
    found = trimap_confusions(true, given, 5, widths)
    for counts, width in zip(found, widths, strict=True):
        band = np.where(distance <= width, true, VOID)
        np.testing.assert_array_equal(counts, confusion(band, given, 5))
    assert trimap_confusions(true, given, 5, []).shape == (0, 5, 5)


@pytest.mark.parametrize("length", [300, 9_000, 70_000])
def test_far_from_void(length):
    true = np.zeros((2, length), np.uint8)
    true[0, 0] = VOID
    far = [254, 255, 256, 257, MOST_WIDTH]
    assert n_within(true, *far) == [1 + 2 * min(width, length - 1) for width in far]


# --- scoring


def test_scores_by_hand():
    scores = image_scores(COUNTS)
    assert scores.pixel_accuracy == 60
    np.testing.assert_allclose(scores.class_accuracy, [50, 100, 0])
    assert scores.mean_class_accuracy == 50
    np.testing.assert_allclose(scores.iou, [100 / 3, 200 / 3, 0])
    assert scores.mean_iou == pytest.approx(100 / 3)


def test_a_class_that_is_missing():
    counts = np.diag([3, 0, 5])
    whole, band = image_scores(counts), trimap_scores(counts)
    np.testing.assert_array_equal(whole.iou, [100, 0, 100])
    assert whole.mean_iou == whole.mean_class_accuracy == pytest.approx(200 / 3)
    np.testing.assert_array_equal(band.iou, [100, np.nan, 100])
    assert band.mean_class_accuracy == 100
    assert np.isnan(band.mean_iou)
    for scores in (whole, band):
        assert (scores.n_present, scores.n_labels) == (2, 3)
        assert scores.mean_iou_of_present == scores.mean_class_accuracy_of_present == 100


def test_a_class_that_is_given_but_not_true():
    counts = np.array([[3, 1], [0, 0]])
    band = trimap_scores(counts)
    assert band.mean_class_accuracy == 75
    np.testing.assert_array_equal(band.iou, [75, 0])
    whole = image_scores(counts)
    np.testing.assert_array_equal(whole.class_accuracy, [75, 0])
    assert (whole.n_present, whole.mean_iou_of_present) == (2, 37.5)
    assert whole.mean_class_accuracy_of_present == 75


def test_of_an_image_only_what_is_there_counts():
    assert mean_iou_of_present(np.diag([3, 0, 5])) == 100
    assert mean_iou_of_present(np.array([[3, 1, 0], [0, 0, 0], [0, 0, 0]])) == 37.5
    assert mean_iou_of_present(COUNTS) == image_scores(COUNTS).mean_iou


def test_no_pixels_at_all():
    nothing = np.zeros((2, 2), np.int64)
    assert np.isnan(mean_iou_of_present(nothing))
    assert image_scores(nothing).mean_iou == 0
    for scores in (image_scores(nothing), trimap_scores(nothing)):
        assert np.isnan(scores.pixel_accuracy)


# --- what is refused


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((TRUE, GIVEN.T, 3), r"labels are 3x2, expected 2x3 \(HxW\) as the true ones"),
        ((TRUE, GIVEN, 2), "labels go up to 2, expected at most 1"),
        ((GIVEN, TRUE, 3), "labels go up to 255, expected at most 2"),
        ((TRUE, GIVEN % 2, 2), "labels_true go up to 2, expected at most 1"),
        ((TRUE.astype(int), GIVEN, 3), "labels_true are 2x3 int64, expected HxW uint8"),
        ((TRUE, GIVEN[0], 3), "labels are 3 uint8, expected HxW uint8"),
        ((TRUE, GIVEN, 0), "n_labels is 0, expected 1 to 255"),
    ],
)
def test_refused(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        confusion(*arguments)
    with pytest.raises(ArgumentError, match=message):
        trimap_confusions(*arguments, [1])


@pytest.mark.parametrize("width", [0, -1, MOST_WIDTH + 1])
def test_refused_widths(width):
    with pytest.raises(ArgumentError, match=f"width is {width}, expected 1 to 1000 pixels"):
        trimap_confusions(TRUE, GIVEN, 3, [1, width])
