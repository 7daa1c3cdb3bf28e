"""Shapes of the layers that cut, join, repeat or reorder values."""

import pytest

from deeplab_repro.errors import NetError
from deeplab_repro.net.layers import Convolution
from deeplab_repro.net.net import Layer
from deeplab_repro.net.shape_layers import ArgMax, Crop, Flatten, Reshape, Slice, Tile
from tests.slow_layers import net_of

IMAGE = (2, 3, 4, 6)


@pytest.mark.parametrize(
    ("op", "expected"),
    [
        (Flatten(), (2, 72)),
        (Flatten(0, 1), (6, 4, 6)),
        (Flatten(-2), (2, 3, 24)),
        (Tile(3), (2, 9, 4, 6)),
        (Tile(2, -1), (2, 3, 4, 12)),
        (Reshape((0, -1)), (2, 72)),
        (Reshape((0, 0, 24)), (2, 3, 24)),
        (Reshape((2, 2), 2, 1), (2, 3, 2, 2, 6)),
        (Reshape((1, 1), -1, 0), (2, 3, 4, 6, 1, 1)),
        (ArgMax(), (2, 1, 1, 1)),
        (ArgMax(True, 5), (2, 2, 5, 1)),
        (ArgMax(axis=1), (2, 1, 4, 6)),
        (ArgMax(True, 2, -1), (2, 3, 4, 2)),
    ],
)
def test_shapes(op, expected):
    assert op.top_shape([IMAGE]) == expected


@pytest.mark.parametrize(
    ("op", "like", "expected", "begins"),
    [
        (Crop(), (7, 7, 2, 5), (2, 3, 2, 5), (0, 0, 0, 0)),
        (Crop(2, (1,)), (1, 1, 2, 5), (2, 3, 2, 5), (0, 0, 1, 1)),
        (Crop(2, (2, 0)), (1, 1, 2, 5), (2, 3, 2, 5), (0, 0, 2, 0)),
        (Crop(-3, (1, 0, 0)), (1, 2, 2, 5), (2, 2, 2, 5), (0, 1, 0, 0)),
    ],
)
def test_crops(op, like, expected, begins):
    assert op.top_shape([IMAGE, like]) == expected
    assert op.begins(IMAGE) == begins


def test_slices():
    assert Slice().top_shapes([IMAGE], 3) == [(2, 1, 4, 6)] * 3
    assert Slice(-1, (1, 3)).top_shapes([IMAGE], 3) == [(2, 3, 4, n) for n in (1, 2, 3)]


def test_a_net_knows_the_shape_of_each_top():
    net = net_of(
        Layer("s", Slice(1, (1,)), ("data",), ("a", "b")),
        Layer("c", Convolution(4, (1, 1)), ("b",), ("c",)),
        shape=IMAGE,
    )
    assert net.blob_shapes() == {
        "data": IMAGE,
        "a": (2, 1, 4, 6),
        "b": (2, 2, 4, 6),
        "c": (2, 4, 4, 6),
    }


@pytest.mark.parametrize(
    ("op", "bottoms", "message"),
    [
        (Crop(), [IMAGE, (1, 1, 5, 5)], "2x3x5x5 at offset 0x0x0x0 leaves its bottom, 2x3x4x6"),
        (Crop(2, (1, 1, 1)), [IMAGE, IMAGE], "3 offset for 2 axes, expected one, or one for each"),
        (Crop(), [IMAGE, (2, 3)], "its bottoms are 2x3x4x6 and 2x3, expected as many axes"),
        (Slice(), [IMAGE], "2 tops do not divide axis 1"),
        (Slice(1, (1, 2)), [IMAGE], "2 slice_point for 2 tops, expected one fewer than tops"),
        (Slice(1, (3,)), [IMAGE], "slice_point 3, expected numbers that grow from 1 to 2"),
        (Flatten(2, 1), [IMAGE], "end_axis 1 before axis 2"),
        (Reshape((5, -1)), [IMAGE], "dim 5, -1 for 2x3x4x6, expected as many values"),
        (Reshape((-1, -1)), [IMAGE], "dim -1, -1, expected one -1 at most"),
        (Reshape((0, 0), 3), [IMAGE], "dim 0 for axis 4, which 2x3x4x6 lacks"),
        (Reshape((1,), 5), [IMAGE], "axis 5 and num_axes -1 are no axes of 2x3x4x6"),
        (Tile(2, 4), [IMAGE], "axis 4 is not an axis"),
        (ArgMax(top_k=4, axis=1), [IMAGE], "top_k is 4, expected at most 3"),
    ],
)
def test_what_does_not_fit(op, bottoms, message):
    with pytest.raises(NetError, match=message):
        op.top_shapes(bottoms, 2 if isinstance(op, Slice) else 1)
