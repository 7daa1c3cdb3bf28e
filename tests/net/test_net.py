"""Nets: what holds together, the paper's figures, sizes that fit, errors that name the layer."""

import numpy as np
import pytest

from deeplab_repro.caffe import read_net
from deeplab_repro.errors import ArgumentError, NetError, WeightsError
from deeplab_repro.models.registry import MODELS
from deeplab_repro.net.layers import (
    Convolution,
    Deconvolution,
    Eltwise,
    InnerProduct,
    Interp,
    Padding,
    Pooling,
    ReLU,
    Softmax,
)
from deeplab_repro.net.net import Layer, Net


def conv(name, bottom, top, **options):
    op = Convolution(**{"num_output": 4, "kernel": (3, 3), "pad": (1, 1), **options})
    return Layer(name, op, (bottom,), (top,))


def net(*layers, shape=(1, 3, 33, 33)):
    return Net("n", "data", shape, list(layers))


def test_blobs_shapes_and_parameters():
    n = net(
        conv("conv", "data", "conv"),
        Layer("relu", ReLU(), ("conv",), ("conv",)),
        Layer("pool", Pooling("MAX", (3, 3), (1, 1), (2, 2)), ("conv",), ("pool",)),
    )
    assert n.blob_shapes() == {
        "data": (1, 3, 33, 33),
        "conv": (1, 4, 33, 33),
        "pool": (1, 4, 17, 17),
    }
    assert n.blob_shapes((2, 3, 9, 11))["pool"] == (2, 4, 5, 6)
    assert n.parameters == 4 * 3 * 9 + 4
    assert n.output == "pool"
    assert n.output_stride == 2
    assert n.field_of_view is None
    # In-place layers take no memory of their own.
    assert n.activation_bytes((1, 3, 33, 33)) == 4 * (7 * 33 * 33 + 4 * 17 * 17)


def test_operations_up_to_a_blob(tiny):
    found = read_net(tiny)  # conv 5x5x6 of 27 values, fc8 4x5x6 of 5, enlarged
    assert found.operations("conv") == 2 * 150 * 27
    assert found.operations("fc8") == found.operations("up") == 2 * (150 * 27 + 120 * 5)
    assert found.operations("conv", (2, 3, 65, 41)) == 2 * 2 * 5 * 9 * 6 * 27
    large = read_net(MODELS["DeepLab-LargeFOV"].test_prototxt)
    assert large.operations(large.output) == pytest.approx(257.2e9, rel=1e-3)


def test_output_of_a_net_that_ends_in_place():
    n = net(conv("conv", "data", "conv"), Layer("relu", ReLU(), ("conv",), ("conv",)))
    assert n.output == "conv"


@pytest.mark.parametrize(
    ("name", "parameters", "field_of_view"),
    [
        ("DeepLab-7x7", 134.3, 224),
        ("DeepLab", 65.1, 128),
        ("DeepLab-4x4", 65.1, 224),
        ("DeepLab-LargeFOV", 20.5, 224),
    ],
)
def test_table_2_of_the_paper(name, parameters, field_of_view):
    n = read_net(MODELS[name].test_prototxt)
    assert round(n.parameters / 1e6, 1) == parameters
    assert n.field_of_view == field_of_view
    assert n.output_stride == 8
    assert n.output_shape()[1:] == (21, *n.input_shape[2:])


@pytest.mark.golden
@pytest.mark.parametrize(
    "name",
    ["DeepLab", "DeepLab-LargeFOV", "DeepLab-LargeFOV-513", "DeepLab-MSc", "DeepLab-MSc-LargeFOV"],
)
def test_every_blob_has_the_originals_shape(golden, name):
    n = read_net(golden / "nets" / name / "deploy.prototxt")
    shapes = n.blob_shapes()
    with np.load(golden / "nets" / name / "blob_samples.npz") as samples:
        theirs = {
            key.removesuffix("__shape"): tuple(samples[key])
            for key in samples.files
            if key.endswith("__shape")
        }
    assert len(theirs) > 20
    assert theirs.items() <= shapes.items()


@pytest.mark.parametrize(
    ("layers", "shape", "expected"),
    [
        ([], (1, 3, 9, 9), "net 'n' has no layers"),
        ([conv("a", "nowhere", "a")], (1, 3, 9, 9), "layer 'a' takes 'nowhere', which no layer"),
        ([conv("a", "data", "a")], (1, 3, 0, 9), "input 'data' has shape 1x3x0x9"),
        (
            [conv("a", "data", "a", kernel=(12, 1))],
            (1, 3, 9, 9),
            "layer 'a' (Convolution) would make 1x4x0x11 of 1x3x9x9: the image is too small",
        ),
        (
            [Layer("a", ReLU(), ("data", "data"), ("a",))],
            (1, 3, 9, 9),
            "layer 'a' (ReLU) has 2 bottoms, expected 1",
        ),
        (
            [Layer("a", Eltwise(), (), ("a",))],
            (1, 3, 9, 9),
            "layer 'a' (Eltwise) has 0 bottoms, expected at least 1",
        ),
        (
            [conv("a", "data", "a", group=2)],
            (1, 3, 9, 9),
            "layer 'a' (Convolution): group 2 does not divide 3 channels",
        ),
    ],
)
def test_what_does_not_hold_together(layers, shape, expected):
    with pytest.raises(NetError) as error:
        net(*layers, shape=shape)
    assert expected in str(error.value)


def test_weights_do_not_fit_another_number_of_channels():
    n = net(conv("a", "data", "a"))
    with pytest.raises(NetError, match=r"'a' .* weights of 4x3x3x3, but its bottom of 1x1x9x9"):
        n.output_shape((1, 1, 9, 9))


def test_ending_in_scores_drops_the_softmax_and_enlarges():
    n = net(
        conv("fc8", "data", "fc8", stride=(8, 8)),
        Layer("prob", Softmax(), ("fc8",), ("prob",)),
    ).ending_in_scores()
    assert n.output == "fc8_interp"
    assert n.output_shape() == (1, 4, 33, 33)
    assert [layer.type for layer in n.layers] == ["Convolution", "Interp"]
    assert n.ending_in_scores().layers == n.layers


@pytest.mark.parametrize(
    "op",
    [
        Interp(zoom_factor=8),
        Interp(height=33, width=33),
        Interp(height=25, width=25, pad_beg=-1),
        Deconvolution(4, (15, 15), (7, 7), (8, 8), group=4),
    ],
)
def test_scores_that_are_enlarged_already_stay_as_they_are(op):
    n = net(conv("fc8", "data", "fc8", stride=(8, 8)), Layer("up", op, ("fc8",), ("up",)))
    assert n.ending_in_scores().layers == n.layers
    assert n.output_stride == 8


def test_strides_of_branches_at_several_scales():
    n = net(
        Layer("small", Interp(height=49, width=49), ("data",), ("small",)),  # 3/4
        conv("fc6_1", "small", "fc6_1", stride=(8, 8)),
        Layer("back", Interp(height=9, width=9), ("fc6_1",), ("back",)),
        conv("fc6_2", "data", "fc6_2", stride=(8, 8), hole=(2, 2), pad=(2, 2)),
        Layer("max", Eltwise("MAX"), ("back", "fc6_2"), ("max",)),
        shape=(1, 3, 65, 65),
    )
    assert n.output_shape() == (1, 4, 9, 9)
    assert n.output_stride == 8
    assert n.field_of_view == 36  # the larger of 4/3 * 2 + 32 and 1 * 4 + 32
    assert n.ending_in_scores().layers[-1].op == Interp(zoom_factor=8)


def test_ending_in_scores_leaves_the_net_as_it_was():
    n = net(conv("fc8", "data", "fc8", stride=(8, 8)))
    n.ending_in_scores()
    assert n.output == "fc8"


def test_shapes_are_worked_out_once_for_a_size(tiny, monkeypatch):
    n = read_net(tiny)
    fits = [n.fitting_size((size, 9)) for size in range(30, 70)]
    expected = n.blob_shapes((1, 3, 97, 41))
    n.blob_shapes((1, 3, 97, 41)).clear()  # the caller's own
    with monkeypatch.context() as patch:
        patch.setattr(type(n), "walk", None)
        assert n.blob_shapes((1, 3, 97, 41)) == expected
        assert [n.fitting_size((size, 9)) for size in range(30, 70)] == fits
    assert n.outputs is n.outputs
    for size in range(33, 133):
        n.blob_shapes((1, 3, size, 41))
        n.fitting_size((size, 41))
    assert 0 < len(n._shapes) <= 64
    assert 0 < len(n._fits) <= 64


@pytest.mark.parametrize(
    ("size", "expected"),
    [((1, 1), (33, 41)), ((33, 41), (33, 41)), ((34, 10), (97, 41)), ((98, 42), (161, 105))],
)
def test_fitting_size(tiny, size, expected):
    assert read_net(tiny).fitting_size(size) == expected


@pytest.mark.parametrize("name", MODELS)
def test_every_net_of_the_paper_runs_on_large_images(name):
    n = read_net(MODELS[name].test_prototxt)
    crop = n.input_shape[2]
    assert n.fitting_size((crop, 100)) == (crop, crop)
    # Multiscale nets take 8k + 1 only: at other sizes their branches do not meet.
    height, width = n.fitting_size((600, 700))
    assert (height - crop) % 64 == (width - crop) % 64 == 0
    assert 600 <= height < 664
    assert 700 <= width < 764
    assert n.output_shape((1, 3, height, width))[2:] == (height, width)


def test_fitting_size_of_a_net_that_fixes_one_not_square():
    n = net(
        conv("fc8", "data", "fc8"),
        Layer("up", Interp(height=20, width=50), ("fc8",), ("up",)),
        shape=(1, 3, 20, 50),
    )
    assert n.fitting_size((9, 9)) == (20, 50)
    with pytest.raises(ArgumentError, match="no size from 21 to 147"):
        n.fitting_size((21, 9))


def test_fitting_size_where_there_is_none():
    # 306 as in the paper's training net: 8k + 1 or 8k + 2 never come back as themselves.
    n = read_net(MODELS["DeepLab"].train_prototxt).ending_in_scores()
    with pytest.raises(ArgumentError, match="test prototxt"):
        n.fitting_size((1, 1))


def test_random_weights_are_seeded_and_keep_the_scale(tiny):
    first, again, other = read_net(tiny), read_net(tiny), read_net(tiny)
    first.fill_random(1)
    again.fill_random(1)
    other.fill_random(2)
    weight, bias = (blob.data for blob in first.layers[0].blobs)
    np.testing.assert_array_equal(weight, again.layers[0].blobs[0].data)
    assert (weight != other.layers[0].blobs[0].data).all()
    assert weight.dtype == bias.dtype == np.float32
    assert weight.shape == (5, 3, 3, 3)
    assert (bias == 0).all()
    # 135 values of variance 2/27, scaled to an image's values: the standard deviation is within
    # 25% of that (4 sigma).
    assert weight.std() == pytest.approx(np.sqrt(2 / 27) / 64, rel=0.25)


def test_random_deconvolutions_keep_the_scale():
    up = Deconvolution(16, (4, 4), (1, 1), (2, 2), group=2)
    n = net(conv("conv", "data", "conv", num_output=32), Layer("up", up, ("conv",), ("up",)))
    n.fill_random(0)
    weight, bias = (blob.data for blob in n.layers[1].blobs)
    assert weight.shape == (32, 8, 4, 4)
    assert (bias == 0).all()
    # Every value of the top sums 2x2 pixels of 16 channels; 4096 values are within 5% (4 sigma).
    assert weight.std() == pytest.approx(np.sqrt(2 / 64), rel=0.05)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("DeepLab", ("fc8_pascal", 8, 7)),
        ("DeepLab-LargeFOV", ("fc8_voc12", 8, 0)),
        ("DeepLab-MSc-LargeFOV", ("fc_fusion", 1, 0)),  # a sum at full size
    ],
)
def test_scores_before_they_are_enlarged(name, expected):
    n = read_net(MODELS[name].test_prototxt)
    assert n.coarse_output == expected


@pytest.mark.parametrize(
    ("op", "expected"),
    [
        (Interp(zoom_factor=2), ("data", 2, 0)),
        (Interp(zoom_factor=2, pad_beg=-1), ("up", 1, 0)),
        (Interp(shrink_factor=2), ("up", 1, 0)),
        (Interp(height=65, width=65), ("up", 1, 0)),
    ],
)
def test_only_a_plain_zoom_at_the_end_can_be_made_up_for(op, expected):
    assert net(Layer("up", op, ("data",), ("up",))).coarse_output == expected


def test_which_nets_fit_any_size():
    def fits(op):
        return Net("n", "data", (1, 1, 9, 9), [Layer("a", op, ("data",), ("a",))]).fits_any_size

    assert fits(Padding(1, 0))
    assert fits(Interp(zoom_factor=8))
    assert not fits(Interp(shrink_factor=2))
    assert not fits(Interp(height=4, width=4))
    assert not fits(InnerProduct(3))


def test_weights_by_name():
    layer = Layer("a", Convolution(2, (1, 1)), ("data",), ("a",))
    net = Net("n", "data", (1, 1, 9, 9), [layer])
    with pytest.raises(WeightsError, match="layer 'a' has no weights, expected them loaded"):
        layer.weights()
    net.fill_random(0)
    assert [*layer.weights()] == ["weight", "bias"]
    assert layer.weights()["bias"] is layer.blobs[1].data
