"""Scenes of ToyVOC: repeatable, with every class, and labels with a border and holes."""

import io

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from deeplab_repro.errors import ArgumentError
from deeplab_repro.models.registry import VOC_CLASSES
from deeplab_repro.toy.drawing.objects import KINDS
from deeplab_repro.toy.drawing.pen import THINNEST, Pen
from deeplab_repro.toy.scenes import make_scene


def assert_same(one, other):
    np.testing.assert_array_equal(one.image, other.image)
    np.testing.assert_array_equal(one.labels, other.labels)
    assert one.jpeg == other.jpeg


def test_a_scene_is_the_same_every_time_whatever_was_made_before(scenes):
    for index in (7, 0, 49):
        assert_same(make_scene(0, index, "val"), scenes[index])


def test_seeds_splits_and_numbers_give_different_scenes():
    images = {make_scene(*which).jpeg for which in ((0, 1), (1, 0), (0, 0), (1, 1))}
    images |= {make_scene(*which, "val").jpeg for which in ((0, 1), (1, 0), (0, 0), (1, 1))}
    assert len(images) == 8


def test_the_image_is_what_the_file_holds(scenes):
    with Image.open(io.BytesIO(scenes[0].jpeg)) as picture:
        assert picture.format == "JPEG"
        np.testing.assert_array_equal(picture, scenes[0].image)


def test_shapes_types_and_values(scenes):
    portraits = 0
    for scene in scenes:
        height, width, _ = scene.image.shape
        assert scene.labels.shape == (height, width)
        assert scene.image.dtype == scene.labels.dtype == np.uint8
        assert max(height, width) == 240
        assert 160 <= min(height, width) <= 200
        assert set(np.unique(scene.labels)) <= {*range(21), 255}
        portraits += height > width
    assert 0 < portraits < len(scenes) / 2


def test_every_class_occurs_and_background_leads(scenes):
    pixels = sum(np.bincount(scene.labels.ravel(), minlength=256) for scene in scenes)
    assert (pixels[:21] > 500).all()
    assert 0.6 < pixels[0] / pixels.sum() < 0.75


def test_the_classes_are_vocs_in_their_order():
    assert ("background", *KINDS) == VOC_CLASSES


def test_void_lies_between_any_two_labels(scenes):
    for scene in scenes:
        wide = np.pad(scene.labels.astype(int), 1, mode="edge")
        height, width = scene.labels.shape
        for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
            beside = wide[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]
            both = (scene.labels != 255) & (beside != 255)
            assert (scene.labels == beside)[both].all()


def test_the_border_is_three_pixels_wide(scenes):
    widths = []
    for scene in scenes:
        for row in scene.labels[::5]:
            steps = np.diff(np.pad(row == 255, 1).astype(int))
            starts, ends = np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)
            widths.extend((ends - starts)[(starts > 0) & (ends < len(row))])
    assert np.bincount(widths).argmax() == 3


def test_the_background_shows_through_a_bicycles_wheels(scenes):
    """Tubes and tyres keep labelled pixels, and so does the background between them."""
    both = 0
    for labels in (scene.labels for scene in scenes):
        bicycle = labels == VOC_CLASSES.index("bicycle")
        if bicycle.sum() < 100:
            continue
        closed = ndimage.binary_fill_holes(bicycle | (labels == 255))
        both += (closed & (labels == 0)).sum() > 50
    assert both >= 3


def test_a_line_is_never_thinner_than_what_keeps_its_label():
    pen = Pen(np.random.default_rng(0), size=60)
    pen.line([(-0.4, 0.5), (0.4, 0.5)], 0.001, (255, 0, 0))
    _, opacity, _ = pen.sheet()
    middle = opacity[:, opacity.shape[1] // 2]
    assert middle.sum() == pytest.approx(THINNEST, abs=0.5)
    assert (middle > 0.5).sum() >= 3


@pytest.mark.parametrize("name", KINDS)
def test_every_class_is_drawn_whole_in_about_its_size(name):
    """Nothing is cut by the pen's sheet, and the longer side is near what was asked for."""
    for seed in range(12):
        kind = KINDS[name]
        pen = Pen(np.random.default_rng(seed), 100, airborne=seed % 2 > 0, flip=seed % 3 > 0)
        kind.draw(pen)
        _, opacity, (left, top) = pen.sheet()
        height, width = opacity.shape
        assert 80 < max(height, width) < 125
        assert opacity[0].max() == opacity[-1].max() == 0
        assert opacity[:, 0].max() == opacity[:, -1].max() == 0
        assert abs(left + width / 2) < 20
        assert -8 < top + height < 25 or pen.airborne


@pytest.mark.parametrize("flip", [False, True])
def test_a_horse_looks_right_or_flipped_left(flip):
    pen = Pen(np.random.default_rng(0), 90, flip)
    KINDS["horse"].draw(pen)
    _, opacity, (left, _) = pen.sheet()
    head = left + np.nonzero(opacity[:15] > 0.5)[1]
    assert (head < 0).all() if flip else (head > 0).all()


@pytest.mark.parametrize(
    ("arguments", "part"),
    [((-1, 0), "seed: is -1"), ((0, -1), "index: is -1"), ((0, 0, "test"), "split: is 'test'")],
)
def test_bad_arguments(arguments, part):
    with pytest.raises(ArgumentError, match=part):
        make_scene(*arguments)
