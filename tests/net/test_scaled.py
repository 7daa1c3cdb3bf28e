"""Photos scaled down, and what is made of them scaled up."""

import numpy as np
import pytest

from deeplab_repro.net.scaled import labels_at, maps_at, shrunk, within


@pytest.mark.parametrize(
    ("size", "side", "expected"),
    [
        ((3000, 4000), 1000, (750, 1000)),
        ((4000, 3000), 4000, (4000, 3000)),
        ((10, 10), None, (10, 10)),
        ((1, 9000), 100, (1, 100)),
        ((7, 5), 3, (3, 2)),
    ],
)
def test_the_longer_side_is_what_was_asked_for(size, side, expected):
    assert within(size, side) == expected


def test_each_pixel_has_the_label_of_the_nearest():
    labels = np.array([[1, 2], [3, 4]], np.uint8)
    found = labels_at(labels, (3, 5))
    # The middle row lies as near to both, and takes the lower.
    np.testing.assert_array_equal(found, [[1, 1, 2, 2, 2], [3, 3, 4, 4, 4], [3, 3, 4, 4, 4]])
    assert labels_at(labels, (2, 2)) is labels


def test_an_image_is_averaged_and_comes_back_where_it_was():
    image = np.zeros((8, 8, 3), np.uint8)
    image[:4, 4:] = 200
    small = shrunk(image, (2, 2))
    np.testing.assert_array_equal(small[..., 0], [[0, 200], [0, 0]])
    maps = maps_at(small[..., 0].astype(np.float32)[None], (8, 8))
    assert maps.shape == (1, 8, 8)
    np.testing.assert_array_equal(maps[0, 0], [0, 0, 25, 75, 125, 175, 200, 200])


def test_a_view_of_an_image_is_shrunk():
    image = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)
    np.testing.assert_array_equal(
        shrunk(image[:, ::-1], (3, 4)), shrunk(np.ascontiguousarray(image[:, ::-1]), (3, 4))
    )
