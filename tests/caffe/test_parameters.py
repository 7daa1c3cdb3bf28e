"""Each layer type's parameters, as both dialects write them, and the values that are refused."""

import pytest

from deeplab_repro.caffe import prototxt_text, read_net, write_caffemodel
from deeplab_repro.errors import NetError
from deeplab_repro.net.layers import (
    Concat,
    Convolution,
    Deconvolution,
    Dropout,
    Eltwise,
    InnerProduct,
    Interp,
    LayerType,
    Padding,
    Pooling,
    ReLU,
    Softmax,
    Split,
)
from deeplab_repro.net.net import Layer, Net
from tests.caffe.caffe_files import INPUT, current, refused, v1

BIG = "4294967295"


def operation(tmp_path, layer: str):
    """What the first layer of a net on a 3x9x9 image does."""
    path = tmp_path / "net.prototxt"
    path.write_text(INPUT + layer)
    return read_net(path).layers[0].op


def convolution(parameters: str) -> str:
    return f"convolution_param {{ num_output: 6 {parameters} }}"


def pooling(parameters: str) -> str:
    return f"pooling_param {{ {parameters} }}"


def interp(parameters: str) -> str:
    return f"interp_param {{ {parameters} }}"


SAME_IN_BOTH = [
    ("CONVOLUTION", convolution("kernel_size: 3"), Convolution(6, (3, 3))),
    ("CONVOLUTION", convolution("kernel_h: 3 kernel_w: 5"), Convolution(6, (3, 5))),
    (
        "CONVOLUTION",
        convolution("kernel_size: 1 pad_h: 1 pad_w: 2"),
        Convolution(6, (1, 1), (1, 2)),
    ),
    (
        "CONVOLUTION",
        convolution("kernel_size: 1 pad: 3 stride: 2"),
        Convolution(6, (1, 1), (3, 3), (2, 2)),
    ),
    (
        "CONVOLUTION",
        convolution("kernel_size: 1 stride_h: 2 stride_w: 3 engine: CUDNN"),
        Convolution(6, (1, 1), stride=(2, 3)),
    ),
    ("CONVOLUTION", convolution("kernel_size: 3 hole: 2"), Convolution(6, (3, 3), hole=(2, 2))),
    ("CONVOLUTION", convolution("kernel_size: 3 dilation: 2"), Convolution(6, (3, 3), hole=(2, 2))),
    (
        "CONVOLUTION",
        convolution("kernel_size: 3 dilation: [2, 3]"),
        Convolution(6, (3, 3), hole=(2, 3)),
    ),
    (
        "CONVOLUTION",
        convolution("kernel_size: 3 hole_h: 2 hole_w: 3"),
        Convolution(6, (3, 3), hole=(2, 3)),
    ),
    (
        "CONVOLUTION",
        convolution("kernel_size: 3 group: 3 bias_term: false"),
        Convolution(6, (3, 3), group=3, bias=False),
    ),
    (
        "DECONVOLUTION",
        convolution("kernel_size: 4 stride: 2 pad: 1 group: 3"),
        Deconvolution(6, (4, 4), (1, 1), (2, 2), 3),
    ),
    ("POOLING", pooling("kernel_size: 2 stride: 2"), Pooling("MAX", (2, 2), stride=(2, 2))),
    ("POOLING", pooling("pool: AVE kernel_size: 3 pad: 1"), Pooling("AVE", (3, 3), (1, 1))),
    (
        "POOLING",
        pooling("kernel_h: 2 kernel_w: 3 pad_h: 1 pad_w: 2 stride_h: 3 stride_w: 4"),
        Pooling("MAX", (2, 3), (1, 2), (3, 4)),
    ),
    ("POOLING", pooling("pool: AVE global_pooling: true"), Pooling("AVE", (0, 0))),
    ("INTERP", interp("zoom_factor: 8"), Interp(zoom_factor=8)),
    (
        "INTERP",
        interp("shrink_factor: 8 pad_beg: -1 pad_end: -2"),
        Interp(shrink_factor=8, pad_beg=-1, pad_end=-2),
    ),
    ("INTERP", interp("zoom_factor: 3 shrink_factor: 4"), Interp(3, 4)),
    ("INTERP", interp("height: 5 width: 6"), Interp(height=5, width=6)),
    ("PADDING", "padding_param { pad_beg: -2 pad_end: -3 }", Padding(-2, -3)),
    ("PADDING", "padding_param { pad_end: 3 }", Padding(0, 3)),
    ("RELU", "", ReLU()),
    ("RELU", "relu_param { negative_slope: 0.25 engine: CAFFE }", ReLU(0.25)),
    ("DROPOUT", "", Dropout(0.5)),
    ("DROPOUT", "dropout_param { dropout_ratio: 0.25 }", Dropout(0.25)),
    ("SOFTMAX", "", Softmax()),
    ("SPLIT", 'top: "z"', Split()),
    ("ELTWISE", "", Eltwise()),
    ("ELTWISE", "eltwise_param { operation: PROD }", Eltwise("PROD")),
    ("ELTWISE", "eltwise_param { operation: SUM coeff: -1 }", Eltwise("SUM", (-1,))),
    ("CONCAT", "", Concat(1)),
    ("CONCAT", "concat_param { concat_dim: 2 }", Concat(2)),
    ("INNER_PRODUCT", "inner_product_param { num_output: 5 }", InnerProduct(5)),
    (
        "INNER_PRODUCT",
        "inner_product_param { num_output: 5 bias_term: false }",
        InnerProduct(5, bias=False),
    ),
]
CURRENT_NAMES = {"RELU": "ReLU", "INNER_PRODUCT": "InnerProduct"}


@pytest.mark.parametrize("layer", [v1, current])
@pytest.mark.parametrize(("kind", "parameters", "expected"), SAME_IN_BOTH)
def test_parameters_of_both_dialects(tmp_path, layer, kind, parameters, expected):
    if layer is current:
        kind = CURRENT_NAMES.get(kind, kind.capitalize())
    assert operation(tmp_path, layer(kind, parameters)) == expected


@pytest.mark.parametrize(
    ("kind", "parameters", "expected"),
    [
        ("Convolution", convolution("kernel_size: [3, 5]"), Convolution(6, (3, 5))),
        (
            "Convolution",
            convolution("kernel_size: 1 pad: [1, 2] stride: [3, 4]"),
            Convolution(6, (1, 1), (1, 2), (3, 4)),
        ),
        (
            "Deconvolution",
            convolution("kernel_size: 4 stride: 2 pad: 1 dilation: 1"),
            Deconvolution(6, (4, 4), (1, 1), (2, 2)),
        ),
        (
            "Deconvolution",
            convolution("kernel_h: 3 kernel_w: 5 stride: [2, 3] pad_h: 1 pad_w: 2 group: 3"),
            Deconvolution(6, (3, 5), (1, 2), (2, 3), 3),
        ),
        (
            "Deconvolution",
            convolution("kernel_size: 1 bias_term: false weight_filler { type: 'bilinear' }"),
            Deconvolution(6, (1, 1), bias=False),
        ),
        (
            "Pooling",
            pooling("kernel_size: 2 round_mode: CEIL"),
            Pooling("MAX", (2, 2)),
        ),
        ("Concat", "concat_param { axis: 2 }", Concat(2)),
        ("Concat", "concat_param { axis: -1 }", Concat(3)),
        ("Softmax", "softmax_param { axis: 1 }", Softmax()),
    ],
)
def test_parameters_of_the_current_format(tmp_path, kind, parameters, expected):
    assert operation(tmp_path, current(kind, parameters)) == expected


@pytest.mark.parametrize(
    ("kind", "parameters", "problem"),
    [
        ("CONVOLUTION", "", "num_output is 0, expected at least 1"),
        ("CONVOLUTION", convolution(""), "kernel_size is 0, expected at least 1"),
        ("CONVOLUTION", convolution("kernel_size: 0"), "kernel_size is 0"),
        ("CONVOLUTION", convolution("kernel_size: 1 stride: 0"), "stride is 0"),
        ("CONVOLUTION", convolution("kernel_size: 1 hole: 0"), "hole is 0"),
        ("CONVOLUTION", convolution("kernel_size: 1 dilation: 0"), "dilation is 0"),
        ("CONVOLUTION", convolution("kernel_size: 1 dilation: [1, 1, 1]"), "dilation has 3 values"),
        (
            "CONVOLUTION",
            convolution("kernel_size: 1 hole: 2 dilation: 2"),
            "both hole and dilation",
        ),
        ("CONVOLUTION", convolution("kernel_size: 1 group: 0"), "group is 0"),
        (
            "CONVOLUTION",
            convolution("kernel_size: 1 group: 2"),
            "group 2 does not divide 3 channels",
        ),
        ("CONVOLUTION", convolution("kernel_size: 1 group: 4294967295"), "does not divide"),
        ("CONVOLUTION", convolution("kernel_h: 1"), "only one of kernel_h and kernel_w"),
        ("CONVOLUTION", convolution("kernel_size: 1 hole_w: 2"), "only one of hole_h and hole_w"),
        (
            "CONVOLUTION",
            convolution("kernel_size: 1 kernel_h: 1 kernel_w: 1"),
            "both kernel_size and kernel_h or kernel_w, expected one or the other",
        ),
        ("POOLING", pooling(""), "kernel_size is 0"),
        ("POOLING", pooling("kernel_size: 2 pad: 2"), "pad 2 with kernel_size 2"),
        ("POOLING", pooling(f"kernel_size: 2 pad: {BIG}"), f"pad {BIG} with kernel_size 2"),
        ("POOLING", pooling("kernel_size: 2 stride: 0"), "stride is 0"),
        ("POOLING", pooling("pool: STOCHASTIC kernel_size: 2"), "expected MAX or AVE"),
        ("INTERP", "", "the size is given by nothing"),
        (
            "INTERP",
            interp("zoom_factor: 2 height: 2 width: 2"),
            "given by zoom_factor, height, width, expected zoom_factor or shrink_factor or both",
        ),
        ("INTERP", interp("height: 2"), "given by height, expected"),
        ("INTERP", interp("zoom_factor: 0"), "zoom_factor is 0"),
        ("INTERP", interp("shrink_factor: -8"), "shrink_factor is -8"),
        ("INTERP", interp("height: 0 width: 2"), "height is 0"),
        ("INTERP", interp("zoom_factor: 2 pad_end: 1"), "pads 0, 1, expected none above 0"),
        ("PADDING", "padding_param { pad_beg: 1 pad_end: -1 }", "of opposite signs"),
        ("CONCAT", "concat_param { concat_dim: 4 }", "axis 4 is not an axis of 1x3x9x9"),
        ("INNER_PRODUCT", "", "num_output is 0"),
        ("ELTWISE", "eltwise_param { coeff: 1 coeff: 1 }", "2 coeff for 1 bottoms"),
        ("Softmax", "softmax_param { axis: 2 }", "axis is 2, expected 1"),
        ("Concat", "concat_param { axis: -5 }", "axis -5 is not an axis"),
        (
            "Convolution",
            convolution("kernel_size: 1 axis: 2"),
            "axis is 2, which does not run here",
        ),
        ("Deconvolution", convolution("kernel_size: 3 dilation: 2"), "a dilation, which does not"),
        ("Deconvolution", convolution("kernel_size: 3 hole: 2"), "a dilation, which does not"),
        ("Deconvolution", convolution("kernel_size: 1 pad: 1"), "expected a smaller pad"),
        ("Deconvolution", convolution("kernel_size: 3 stride: 0"), "stride is 0"),
        ("Deconvolution", convolution("kernel_size: 3 group: 2"), "group 2 does not divide 3"),
        ("Pooling", pooling("kernel_size: 2 round_mode: FLOOR"), "round_mode is FLOOR"),
        ("InnerProduct", "inner_product_param { num_output: 1 axis: 2 }", "axis or transpose"),
        (
            "InnerProduct",
            "inner_product_param { num_output: 1 transpose: true }",
            "axis or transpose",
        ),
    ],
)
def test_values_that_do_not_run(tmp_path, kind, parameters, problem):
    layer = v1 if kind.isupper() else current
    message = refused(
        lambda: operation(tmp_path, layer(kind, parameters)), f"layer 'y' .*{problem}", NetError
    )
    assert message.startswith(str(tmp_path / "net.prototxt"))


class Novel(LayerType):
    """A type that no Caffe of 2014 had."""


def test_a_type_that_v1_lacks(tmp_path):
    found = Net("net", "data", (1, 3, 9, 9), [Layer("y", Novel(), ("data",), ("y",))])
    refused(
        lambda: prototxt_text(found),
        r"'y' \(Novel\) has no type in V1: write the current",
        NetError,
    )
    with pytest.raises(NetError):
        write_caffemodel(found, tmp_path / "net.caffemodel")
    assert not list(tmp_path.iterdir())
