"""The names of classes on a picture: where they are, and where there are none."""

import numpy as np
import pytest
from PIL import ImageFont

from deeplab_repro.files.lettering import write_names
from deeplab_repro.files.pictures import overlay

NAMES = ["background", "horse", "person", "potted-plant"]
GREY = 120


def boxes(labels, names=NAMES):
    """Where the picture changed: a mask for each text, HxW bool, by connected region."""
    from scipy import ndimage

    picture = np.full((*labels.shape, 3), GREY, np.uint8)
    changed = (write_names(picture, labels, names) != picture).any(axis=2)
    assert (picture == GREY).all()
    regions, count = ndimage.label(changed)
    return [regions == region for region in range(1, count + 1)]


def with_regions(height, width, *regions):
    labels = np.zeros((height, width), np.uint8)
    for label, rows, columns in regions:
        labels[slice(*rows), slice(*columns)] = label
    return labels


@pytest.mark.parametrize("has_sizes", [True, False], ids=["new Pillow", "before 10.1"])
def test_a_name_is_white_on_black_within_its_largest_region(monkeypatch, has_sizes):
    if not has_sizes:
        default = ImageFont.load_default
        monkeypatch.setattr(ImageFont, "load_default", lambda: default())
    labels = with_regions(200, 300, (1, (20, 60), (5, 45)), (1, (80, 190), (150, 290)))
    (box,) = boxes(labels)
    assert labels[box].all()
    rows, columns = np.nonzero(box)
    assert box.sum() == np.ptp(rows) * np.ptp(columns) + np.ptp(rows) + np.ptp(columns) + 1
    written = write_names(np.full((200, 300, 3), GREY, np.uint8), labels, NAMES)[box]
    assert written.min() == 0
    assert written.max() > 200


def test_a_name_lies_inside_the_picture():
    for region in ((2, (0, 200), (0, 12)), (2, (0, 12), (0, 300)), (2, (188, 200), (290, 300))):
        (box,) = boxes(with_regions(200, 300, region, (2, (80, 100), (0, 30))))
        rows, columns = np.nonzero(box)
        # The whole box is there: its edges are black all along.
        assert np.ptp(columns) > 2 * np.ptp(rows) > 0


def test_names_do_not_cover_each_other():
    labels = with_regions(60, 120, (1, (10, 30), (0, 120)), (2, (30, 40), (0, 120)))
    labels[40:50] = 3
    picture = np.full((*labels.shape, 3), GREY, np.uint8)

    def black_pixels(shown):
        return (write_names(picture, shown, NAMES) == 0).all(axis=2).sum()

    one_by_one = [np.where(labels == each, labels, 0) for each in (1, 2, 3)]
    assert black_pixels(labels) == sum(map(black_pixels, one_by_one))


@pytest.mark.parametrize(
    "labels",
    [
        np.zeros((40, 200), np.uint8),
        np.full((40, 200), 255, np.uint8),
        np.full((40, 200), 4, np.uint8),  # a label without a name
        np.ones((5, 9), np.uint8),  # no room
        np.ones((1, 3000), np.uint8),
        with_regions(100, 200, (1, (50, 59), (50, 59))),  # 0.4 percent
    ],
)
def test_no_name(labels):
    assert boxes(labels) == []


def test_names_grow_with_the_picture():
    heights = []
    for scale in (1, 4):
        (box,) = boxes(np.full((300 * scale, 400 * scale), 2, np.uint8))
        heights.append(np.ptp(np.nonzero(box)[0]) + 1)
    assert heights[1] == pytest.approx(4 * heights[0], rel=0.15)  # whole pixels


def test_an_overlay_without_names_stays_as_it_was():
    labels = with_regions(100, 200, (1, (20, 80), (20, 180)))
    image = np.full((100, 200, 3), GREY, np.uint8)
    plain = overlay(image, labels)
    named = overlay(image, labels, NAMES)
    changed = (plain != named).any(axis=2)
    assert labels[changed].all()
    assert changed.any()
