"""Caffe's shape rules, by hand (reference numbers from Caffe's formulas) and by its own output."""

import numpy as np
import pytest

from deeplab_repro.arrays import dims
from deeplab_repro.caffe import read_net
from deeplab_repro.errors import NetError
from deeplab_repro.net.layers import (
    Concat,
    Convolution,
    Deconvolution,
    Eltwise,
    InnerProduct,
    Interp,
    Padding,
    Pooling,
    ReLU,
)


@pytest.mark.parametrize(
    ("size", "kernel", "pad", "stride", "hole", "expected"),
    [
        (10, 3, 1, 1, 1, 10),
        (10, 3, 0, 2, 1, 4),  # floor(7/2) + 1
        (66, 4, 6, 1, 4, 66),  # fc6 of LargeFOV-like nets: span 13
        (67, 7, 0, 1, 4, 43),  # span 25
        (41, 3, 12, 1, 12, 41),  # fc6 of LargeFOV
        (5, 1, 0, 8, 1, 1),
    ],
)
def test_convolution_size(size, kernel, pad, stride, hole, expected):
    op = Convolution(8, (kernel, kernel), (pad, pad), (stride, stride), (hole, hole))
    assert op.span == ((kernel - 1) * hole + 1,) * 2
    assert op.top_shape([(2, 3, size, size)]) == (2, 8, expected, expected)


def test_convolution_axes_are_height_width():
    op = Convolution(1, (3, 5), (1, 0), (2, 1), (1, 2))
    assert op.top_shape([(1, 1, 9, 20)]) == (1, 1, 5, 12)
    assert op.blob_shapes([(1, 6, 9, 20)]) == ((1, 6, 3, 5), (1,))


def test_convolution_groups():
    op = Convolution(4, (3, 3), group=2, bias=False)
    assert op.blob_shapes([(1, 6, 9, 9)]) == ((4, 3, 3, 3),)
    assert op.operations([(2, 6, 9, 9)]) == 2 * (2 * 4 * 7 * 7) * (3 * 3 * 3)
    with pytest.raises(NetError, match="group 2 does not divide 5"):
        op.blob_shapes([(1, 5, 9, 9)])


@pytest.mark.parametrize(
    ("size", "kernel", "pad", "stride", "expected"),
    [
        (65, 15, 7, 8, 513),  # as INTERP's zoom_factor 8
        (4, 4, 1, 2, 8),
        (5, 2, 0, 3, 14),  # gaps between the kernels
        (9, 3, 1, 1, 9),
        (1, 3, 0, 2, 3),
    ],
)
def test_deconvolution_size(size, kernel, pad, stride, expected):
    op = Deconvolution(8, (kernel, kernel), (pad, pad), (stride, stride))
    assert op.top_shape([(2, 3, size, size)]) == (2, 8, expected, expected)


def test_deconvolution_axes_and_groups():
    op = Deconvolution(4, (3, 5), (1, 0), (2, 1), group=2)
    assert op.top_shape([(1, 6, 9, 20)]) == (1, 4, 17, 24)
    assert op.blob_shapes([(1, 6, 9, 20)]) == ((6, 2, 3, 5), (4,))
    assert Deconvolution(2, (1, 1), bias=False).blob_shapes([(1, 6, 9, 9)]) == ((6, 2, 1, 1),)
    with pytest.raises(NetError, match="group 2 does not divide 5 channels and num_output 4"):
        op.blob_shapes([(1, 5, 9, 9)])


def test_deconvolution_with_a_pad_as_large_as_its_kernel():
    with pytest.raises(NetError, match="pad 0x1 with kernel 3x1, expected a smaller pad"):
        Deconvolution(1, (3, 1), (0, 1)).top_shape([(1, 1, 9, 9)])


@pytest.mark.parametrize(
    ("size", "kernel", "pad", "stride", "expected"),
    [
        (514, 3, 1, 2, 258),  # the paper's DeepLab at its crop: 514, 258, 130, 66
        (258, 3, 1, 2, 130),
        (130, 3, 1, 2, 66),
        (66, 2, 1, 1, 67),
        (9, 2, 0, 2, 5),  # rounds up
        (10, 3, 0, 2, 5),
        (3, 2, 1, 2, 2),  # 3, clipped: the third window would begin at 4 >= 3 + 1
        (14, 2, 1, 2, 8),  # not clipped: the last one begins at 14 < 14 + 1
        (3, 1, 0, 3, 2),  # never clipped without padding
    ],
)
def test_pooling_size(size, kernel, pad, stride, expected):
    op = Pooling("MAX", (kernel, kernel), (pad, pad), (stride, stride))
    assert op.top_shape([(1, 2, size, size)]) == (1, 2, expected, expected)


def test_pooling_is_clipped_on_both_axes_by_the_padding_of_one():
    op = Pooling("AVE", (1, 2), (0, 1), (3, 2))
    assert op.top_shape([(1, 1, 3, 3)]) == (1, 1, 1, 2)


def test_global_pooling():
    assert Pooling("AVE", (0, 0)).top_shape([(1, 7, 4, 9)]) == (1, 7, 1, 1)


@pytest.mark.parametrize(
    ("op", "size", "expected"),
    [
        (Interp(zoom_factor=8), 65, 513),
        (Interp(zoom_factor=2), 5, 9),
        (Interp(shrink_factor=8, pad_beg=-1), 306, 39),
        (Interp(shrink_factor=8), 321, 41),
        (Interp(height=4, width=4, pad_beg=-1, pad_end=-1), 6, 4),
        (Interp(zoom_factor=4, pad_beg=-1, pad_end=-2), 9, 21),
        (Interp(zoom_factor=3, pad_beg=-4, pad_end=-4), 9, 1),
    ],
)
def test_interp_size(op, size, expected):
    assert op.top_shape([(1, 2, size, size)]) == (1, 2, expected, expected)


def test_interp_that_crops_everything():
    with pytest.raises(NetError, match=r"pads -5, -4 leave nothing of 9x9"):
        Interp(zoom_factor=8, pad_beg=-5, pad_end=-4).top_shape([(1, 1, 9, 9)])


def test_padding_size():
    assert Padding(-7, -8).top_shape([(1, 21, 529, 500)]) == (1, 21, 514, 485)
    assert Padding(2, 0).top_shape([(1, 1, 3, 4)]) == (1, 1, 5, 6)


def test_inner_product():
    op = InnerProduct(10)
    assert op.top_shape([(2, 3, 4, 5)]) == (2, 10)
    assert op.blob_shapes([(2, 3, 4, 5)]) == ((10, 60), (10,))
    assert InnerProduct(10, bias=False).blob_shapes([(2, 3, 4, 5)]) == ((10, 60),)


def test_eltwise():
    same = (1, 2, 3, 4)
    assert Eltwise(coeff=(1.0, -1.0)).top_shape([same, same]) == same
    with pytest.raises(NetError, match="1x2x3x4, 1x2x3x5, expected one shape"):
        Eltwise().top_shape([same, (1, 2, 3, 5)])
    with pytest.raises(NetError, match="1 coeff for 2 bottoms"):
        Eltwise(coeff=(1.0,)).top_shape([same, same])


def test_concat():
    assert Concat().top_shape([(1, 2, 3, 4), (1, 5, 3, 4)]) == (1, 7, 3, 4)
    assert Concat(-1).top_shape([(1, 2, 3, 4), (1, 2, 3, 6)]) == (1, 2, 3, 10)
    with pytest.raises(NetError, match="differ only on axis 1"):
        Concat().top_shape([(1, 2, 3, 4), (1, 5, 4, 4)])
    with pytest.raises(NetError, match="axis 4 is not an axis of 1x2x3x4"):
        Concat(4).top_shape([(1, 2, 3, 4)])


def test_other_layers_keep_the_shape_and_learn_nothing():
    assert ReLU().top_shape([(1, 2, 3, 4)]) == (1, 2, 3, 4)
    assert ReLU().blob_shapes([(1, 2, 3, 4)]) == ()


@pytest.mark.parametrize(
    "op",
    [
        Convolution(1, (1, 1)),
        Deconvolution(1, (1, 1)),
        Pooling("MAX", (1, 1)),
        Interp(),
        Padding(),
    ],
)
def test_layers_of_images_want_four_axes(op):
    with pytest.raises(NetError, match="shape 1x7, expected 4 axes"):
        op.top_shape([(1, 7)])


def test_dims():
    assert dims((1, 3, 513, 513)) == "1x3x513x513"
    assert dims(()) == "scalar"


@pytest.mark.golden
def test_sizes_are_the_originals(golden):
    files = sorted(golden.glob("layers/*/*.prototxt"))
    assert len(files) == 18
    for file in files:
        with np.load(file.with_suffix(".npz")) as arrays:
            x, y = arrays["x"], arrays["y"]
        net = read_net(file)
        assert net.output_shape(x.shape) == y.shape, file
