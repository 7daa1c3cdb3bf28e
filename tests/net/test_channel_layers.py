"""Shapes of the layers that work on each value or channel, and what their arrays are called."""

import pytest

from deeplab_repro.errors import NetError
from deeplab_repro.net.channel_layers import BN, LRN, BatchNorm, Bias, PReLU, Scale, Sigmoid
from deeplab_repro.net.layers import Convolution
from deeplab_repro.net.net import Layer
from tests.slow_layers import net_of

IMAGE = (2, 3, 4, 5)


def test_they_keep_the_shape_of_their_bottom():
    for op in (BatchNorm(), BN(), Scale(), Bias(), PReLU(), Sigmoid(), LRN()):
        assert op.top_shapes([IMAGE], 1) == [IMAGE]


@pytest.mark.parametrize(
    ("op", "shapes"),
    [
        (BatchNorm(), ((3,), (3,), (1,))),
        (BN(), ((1, 3, 1, 1),) * 4),
        (PReLU(), ((3,),)),
        (PReLU(channel_shared=True), ((),)),
        (Scale(), ((3,),)),
        (Scale(bias=True), ((3,), (3,))),
        (Scale(axis=0, num_axes=2), ((2, 3),)),
        (Scale(axis=-2, num_axes=-1), ((4, 5),)),
        (Scale(num_axes=0), ((),)),
        (Bias(axis=2), ((4,),)),
    ],
)
def test_what_they_learn(op, shapes):
    assert op.blob_shapes([IMAGE]) == shapes


@pytest.mark.parametrize(("axis", "second"), [(0, IMAGE), (1, (3,)), (0, (2, 3)), (2, (4, 5))])
def test_a_second_bottom_takes_the_place_of_a_weight(axis, second):
    assert Scale(axis).top_shape([IMAGE, second]) == IMAGE
    assert Scale(axis).blob_shapes([IMAGE, second]) == ()
    assert Scale(axis, bias=True).blob_shapes([IMAGE, second]) == (second,)
    assert Bias(axis).blob_shapes([IMAGE, second]) == ()


def test_arrays_by_name():
    net = net_of(
        Layer("c", Convolution(3, (1, 1)), ("data",), ("c",)),
        Layer("bn", BatchNorm(), ("c",), ("bn",)),
        Layer("sc", Scale(0, bias=True), ("bn", "c"), ("sc",)),
        shape=IMAGE,
    )
    assert [list(layer.weights()) for layer in net.layers] == [
        ["weight", "bias"],
        ["mean", "variance", "factor"],
        ["bias"],
    ]


def test_fill_random_leaves_them_as_they_start():
    """They keep the scale of what goes through."""
    net = net_of(Layer("bn", BN(), ("data",), ("bn",)), shape=IMAGE)
    net.fill_random(0)
    assert [set(blob.data.reshape(-1)) for blob in net.layers[0].blobs] == [{1}, {0}, {0}, {1}]


@pytest.mark.parametrize(
    ("op", "bottoms", "message"),
    [
        (Scale(4), [IMAGE], "axis 4 is not an axis of 2x3x4x5"),
        (Scale(1, 4), [IMAGE], "num_axes 4 from axis 1 on, but its bottom is 2x3x4x5"),
        (Bias(1, -2), [IMAGE], "num_axes -2 from axis 1 on"),
        (Scale(1), [IMAGE, (2,)], "its second bottom is 2, expected 3: axes of 2x3x4x5"),
        (LRN(), [(2, 5)], "shape 2x5, expected 4 axes"),
    ],
)
def test_bottoms_that_do_not_fit(op, bottoms, message):
    with pytest.raises(NetError, match=message):
        op.top_shape(bottoms)


def test_a_slope_for_each_channel_wants_channels():
    with pytest.raises(NetError, match="its bottom has shape 5, expected 2 axes or more"):
        PReLU().blob_shapes([(5,)])
