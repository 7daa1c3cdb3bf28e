"""Figure 2: the maps are the mean field's own, and the sheet shows them."""

import numpy as np
import pytest
from PIL import Image

from deeplab_repro import CrfParams, DeepLab, dense_crf
from deeplab_repro.errors import ArgumentError
from deeplab_repro.files.images import read_image
from deeplab_repro.net.scores import softmax
from deeplab_repro.paper import figure2
from deeplab_repro.paper.figure2 import Figure2, LabelMaps, make_figure2, score_maps, write_figure2
from deeplab_repro.show import belief
from deeplab_repro.toy.scenes import make_scene

PARAMS = CrfParams(5, 12, 20)


@pytest.fixture(scope="module")
def model():
    return DeepLab("ToyVOC-LargeFOV")


@pytest.fixture(scope="module")
def scene():
    return np.ascontiguousarray(make_scene(0, 1, "val").image[50:170, 90:230])


def blobs(photo, labels=4, height=30, width=40):
    rng = np.random.default_rng(3)
    scores = 3 * rng.standard_normal((labels, height, width), np.float32)
    return photo(height, width), scores


# --- the maps


def test_the_softmax_of_each_map_is_what_the_crf_gives(photo):
    image, scores = blobs(photo)
    probs = softmax(scores)
    marginals = []
    dense_crf(image, probs, PARAMS, 5, on_iteration=lambda _, q: marginals.append(q.copy()))
    maps = list(score_maps(image, scores, PARAMS, 5))
    np.testing.assert_array_equal(maps[0], scores)
    for current, expected in zip(maps, [probs, *marginals], strict=True):
        np.testing.assert_allclose(softmax(current), expected, atol=2e-5)
    assert abs(marginals[4] - probs).max() > 0.5


def test_a_kernel_adds_its_weight_where_a_label_is_certain(photo):
    """Of a message the labels' sum is w1 + w2, and nearly all of it a sure label's."""
    image, scores = blobs(photo)
    scores[:] = 0
    scores[2] = 30
    first, second = score_maps(image, scores, PARAMS, 1)
    added = second - first
    np.testing.assert_allclose(added.sum(axis=0), PARAMS.w1 + PARAMS.w2, rtol=1e-3)
    np.testing.assert_allclose(added[2], PARAMS.w1 + PARAMS.w2, rtol=1e-3)


def test_labels_with_enough_pixels_have_maps_the_largest_first(model, scene):
    figure = make_figure2(model, scene)
    assert [maps.name for maps in figure.maps] == ["background", "sheep", "cow"]
    assert [maps.label for maps in figure.maps] == [0, 17, 10]
    assert figure.left_out == []
    np.testing.assert_array_equal(figure.labels, model(scene).labels)
    for maps in figure.maps:
        assert len(maps.scores) == len(maps.beliefs) == model.iterations + 1
        assert all(0 <= belief.min() <= belief.max() <= 1 for belief in maps.beliefs)
        # As in the paper: after the CRF a label is sure of more of its pixels, or of theirs.
        unsure = [np.mean((belief > 0.2) & (belief < 0.8)) for belief in maps.beliefs]
        assert unsure[-1] < unsure[0] / 2


def test_small_labels_and_labels_beyond_the_limit_have_no_maps(model, scene, monkeypatch):
    monkeypatch.setattr(figure2, "MOST_LABELS", 1)
    monkeypatch.setattr(figure2, "LEAST_SHARE", 0.2)
    monkeypatch.setattr(model, "iterations", 1)
    figure = make_figure2(model, scene)
    assert [maps.name for maps in figure.maps] == ["background"]
    assert figure.left_out == ["sheep"]


def test_a_model_without_a_crf_is_refused(scene):
    with pytest.raises(ArgumentError, match="this model has none"):
        make_figure2(DeepLab("ToyVOC-LargeFOV", crf=None), scene)


# --- the sheet


def flat(value, height, width):
    return np.full((height, width), value, np.float32)


@pytest.mark.parametrize(("height", "width"), [(75, 150), (450, 15), (10, 400)])
def test_the_sheet_shows_every_map(tmp_path, height, width):
    """Three constant maps: the lowest and the highest of a row have the ends of the colours."""
    image = np.zeros((height, width, 3), np.uint8)
    maps = [
        LabelMaps(
            label,
            f"label {label}",
            [figure2._shrink(flat(value, height, width)) for value in (-2, 0, 2)],
            [figure2._shrink(flat(value, height, width)) for value in (0, 0.5, 1)],
        )
        for label in (3, 4)
    ]
    write_figure2(
        tmp_path / "sheet.png", Figure2(image, np.full(image.shape[:2], 3, np.uint8), maps, [])
    )
    sheet = read_image(tmp_path / "sheet.png")
    low, middle, high = (0, 32, 76), (124, 123, 120), (255, 234, 70)
    cell = maps[0].scores[0].size
    for colour in (low, middle, high):
        # Two rows of two labels; the colour's bar has a bit of it too.
        count = (sheet == colour).all(axis=2).sum()
        assert 4 * cell <= count <= 4 * cell + 4 * 14 * maps[0].scores[0].shape[0]
    assert sheet.shape[1] >= 960


def test_colours_grow_lighter_all_the_way():
    colours = belief.coloured(np.linspace(0, 1, 101, dtype=np.float32)[None], 0, 1)
    luminance = np.asarray(Image.fromarray(colours).convert("L"), int)[0]
    assert (np.diff(luminance) >= 0).all()
    assert luminance[0] < 40
    assert luminance[-1] > 200


def test_one_value_everywhere_has_a_colour_too():
    coloured = belief.coloured(flat(7, 2, 2), 7, 7)
    assert (coloured == (0, 32, 76)).all()
