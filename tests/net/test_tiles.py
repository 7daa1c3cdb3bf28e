"""Where tiles lie. That they make what the whole makes is tested in tests/engines/test_tiles.py."""

from fractions import Fraction

import pytest

from deeplab_repro.errors import NetError
from deeplab_repro.models.loading import read_model
from deeplab_repro.net import channel_layers, layers, shape_layers
from deeplab_repro.net.channel_layers import LRN, Bias, Scale
from deeplab_repro.net.layers import Concat, Convolution, Deconvolution, Interp, LayerType, Pooling
from deeplab_repro.net.net import Layer, Net
from deeplab_repro.net.shape_layers import ArgMax, Crop, Slice, Tile
from deeplab_repro.net.stages import up_to
from deeplab_repro.net.tiles import Axis, axes_of


def net_of(*ops, size=(40, 48)):
    """A chain of layers on an image of 4 channels."""
    names = ["data", *(f"{number}" for number in range(len(ops)))]
    chain = [
        Layer(f"the {op.__class__.__name__}", op, (bottom,), (top,))
        for op, bottom, top in zip(ops, names, names[1:], strict=False)
    ]
    return Net("chain", "data", (1, 4, *size), chain)


def rows_of(*ops, size=(40, 48)):
    net = net_of(*ops, size=size)
    return axes_of(net, net.input_shape)[0]


# --- what depends on what


def test_a_convolution_with_holes():
    rows = rows_of(Convolution(1, (3, 5), pad=(2, 2), stride=(2, 1), hole=(2, 1)))
    assert rows == Axis(40, 20, Fraction(2), step=2, before=1, after=1)


def test_a_pooling_whose_last_window_leaves_the_image():
    rows = rows_of(Pooling("MAX", (3, 3), stride=(2, 2)))
    assert rows == Axis(40, 20, Fraction(2), step=2, before=0, after=1)


def test_a_deconvolution():
    rows = rows_of(Deconvolution(1, (4, 4), stride=(2, 2), pad=(1, 1)))
    # Row 0 takes from row -1 above, and row 1 from rows 0 and 1 alone.
    assert rows == Axis(40, 80, Fraction(1, 2), step=1, before=1, after=1)


def test_an_interp_between_two_strides():
    rows = rows_of(Interp(zoom_factor=3, shrink_factor=4), size=(41, 48 + 1))
    assert rows == Axis(41, 31, Fraction(4, 3), step=4, before=0, after=0)


def test_largefov_depends_on_what_its_layers_reach():
    net = read_model("DeepLab-LargeFOV")
    net = up_to(net, net.ending_in_scores().coarse_output[0])
    rows, columns = axes_of(net, (1, 3, 513, 577))
    # In cells of 8 pixels: fc6 12, pool5a and pool5 2, conv5 6, pool4 1, conv4 3, and what is
    # before pool3 4.
    assert rows == Axis(513, 65, Fraction(8), step=8, before=28, after=28)
    assert columns == Axis(577, 73, Fraction(8), step=8, before=28, after=28)


# --- every layer type is decided

WHOLE_IMAGE = {
    "InnerProduct",
    "Flatten",
    "Reshape",
    "SoftmaxLoss",
    "SegAccuracy",
}
"""Types that never run in tiles: what they make has no place in the image."""

PARAMETERS = {
    "Convolution": {"num_output": 4, "kernel": (1, 1)},
    "Deconvolution": {"num_output": 4, "kernel": (1, 1)},
    "InnerProduct": {"num_output": 4},
    "Pooling": {"method": "MAX", "kernel": (2, 2)},
    "Tile": {"tiles": 2},
    "ArgMax": {"axis": 1},
    "Reshape": {"dim": (0, 0, 0, 0)},
}

BOTTOMS = {"Crop": 2, "SoftmaxLoss": 2, "SegAccuracy": 2}


def all_types():
    for module in (layers, channel_layers, shape_layers):
        for name, found in vars(module).items():
            if isinstance(found, type) and issubclass(found, LayerType):
                yield name, found


@pytest.mark.parametrize(("name", "found"), {n: (n, t) for n, t in all_types()}.values())
def test_every_layer_type_is_tiled_or_refused(name, found):
    if found is LayerType:
        return
    op = found(**PARAMETERS.get(name, {}))
    first = Layer("first", Convolution(1, (1, 1)), ("data",), ("first",))
    second = Layer("second", Convolution(1, (1, 1)), ("data",), ("second",))
    bottoms = ("first", "second")[: BOTTOMS.get(name, 1)]
    net = Net("one", "data", (1, 3, 9, 9), [first, second, Layer("it", op, bottoms, ("it",))])
    if name in WHOLE_IMAGE:
        with pytest.raises(NetError, match=rf"layer 'it' \({name}\) .* does not run in tiles"):
            axes_of(up_to(net, "it"), net.input_shape)
    else:
        rows, _ = axes_of(up_to(net, "it"), net.input_shape)
        assert rows.size == 9


@pytest.mark.parametrize(
    ("op", "why"),
    [
        (Pooling("AVE", (0, 0)), "depends on the image as a whole"),
        (Interp(height=20, width=20), "depends on the image as a whole"),
        (Interp(shrink_factor=4), "shrinks 40 by no whole number"),
        (Concat(axis=2), "depends on the image as a whole"),
        (Slice(axis=-1), "depends on the image as a whole"),
        (Tile(2, axis=3), "depends on the image as a whole"),
        (ArgMax(), "depends on the image as a whole"),
        (ArgMax(axis=2), "depends on the image as a whole"),
        (Scale(axis=1, num_axes=3), "depends on the image as a whole"),
        (Bias(axis=2), "depends on the image as a whole"),
    ],
)
def test_what_cannot_be_tiled_is_named(op, why):
    with pytest.raises(NetError, match=rf"layer 'the {type(op).__name__}' .* {why}"):
        rows_of(op)


def test_a_norm_over_the_pixels_around_is_a_window():
    assert rows_of(LRN(5, norm_region="WITHIN_CHANNEL")).before == 2
    assert rows_of(LRN(5)).before == 0


def test_blobs_of_different_strides_do_not_meet():
    half = Layer("half", Pooling("MAX", (1, 1), stride=(2, 2)), ("data",), ("half",))
    crop = Layer("crop", Crop(axis=2), ("data", "half"), ("crop",))
    net = Net("two", "data", (1, 3, 9, 9), [half, crop])
    with pytest.raises(NetError, match=r"'crop' \(Crop\) joins blobs of different strides"):
        axes_of(net, net.input_shape)


# --- tiles along an axis


@pytest.mark.parametrize("axis", [Axis(40, 20, Fraction(2), 2, 1, 1), Axis(31, 31, after=3)])
def test_tiles_of_one_length_make_every_value_once(axis):
    lengths = [axis.length(count) for count in range(1, axis.most + 1)]
    assert lengths[0] == axis.size
    assert lengths == sorted(lengths, reverse=True)
    for count, length in enumerate(lengths, start=1):
        pieces = list(axis.pieces(length))
        assert len(pieces) <= count
        assert [each.output.start for each in pieces[1:]] == [e.output.stop for e in pieces[:-1]]
        assert (pieces[0].output.start, pieces[-1].output.stop) == (0, axis.output_size)
        assert pieces[-1].input.stop == axis.size
        for piece in pieces:
            assert piece.input.start % axis.step == 0
            assert piece.input.stop - piece.input.start == length
            assert piece.made.stop - piece.made.start == piece.output.stop - piece.output.start > 0
            assert piece.input.start == 0 or piece.made.start >= axis.before
            at = piece.input.start / axis.stride
            assert piece.output.start - piece.made.start == at


def test_an_axis_that_is_all_border_has_one_tile():
    axis = Axis(8, 8, before=5, after=5)
    assert axis.most == 1
    assert axis.length(7) == 8
    assert [piece.output for piece in axis.pieces(8)] == [slice(0, 8)]
