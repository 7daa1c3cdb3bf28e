"""Nets that do not run, do not hold together, or are made to keep the reader busy."""

import pytest

from deeplab_repro.errors import NetError
from tests.caffe.caffe_files import CONV, INPUT, current, net, refused, v1

IP = "inner_product_param { num_output: 2 }"
BIG = "4294967295"


@pytest.mark.parametrize("kind", ["CHANNEL_AGGREGATOR", "GAIN_CHANNEL", "MVN", "THRESHOLD", "BNLL"])
def test_a_layer_that_does_not_run_on_the_way_to_the_scores_is_refused(tmp_path, kind):
    text = INPUT + v1(kind) + v1("RELU", bottom="y", top="z")
    message = refused(
        lambda: net(tmp_path, text), f"layer 'y' has type '{kind}', which does not run", NetError
    )
    assert message.startswith(str(tmp_path / "net.prototxt"))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (INPUT + v1("RELU", bottom="x"), "layer 'y' takes 'x', which no layer before it makes"),
        (
            # The mistake is named, not that the layer then no longer works in place.
            INPUT + v1("RELU") + v1("RELU", bottom="x"),
            "layer 'y' takes 'x', which no layer before it makes",
        ),
        (INPUT + v1("RELU", bottom=""), "layer 'y' .RELU|ReLU. has 0 bottoms"),
        (INPUT + 'layers { name: "y" type: RELU bottom: "data" }', "has 0 tops, expected 1"),
        (INPUT + v1("RELU") * 2, "layer 'y' makes 'y', which an earlier layer made"),
        (
            INPUT + v1("RELU", top="data").replace('m: "data"', 'm: "data" bottom: "data"'),
            "2 bottoms",
        ),
        (
            INPUT
            + v1("CONVOLUTION", CONV)
            + v1("CONVOLUTION", CONV, "y", "z").replace('name: "z"', 'name: "y"'),
            "two layers with weights are named 'y'",
        ),
        (INPUT + v1("SILENCE"), "has no layers that run"),
        (INPUT + v1("NONE"), "layer 'y' has type 'NONE'"),
        (INPUT + current("Python"), "layer 'y' has type 'Python', which does not run here"),
        (
            INPUT + v1("RELU", top="fc8_${CITY}"),
            r"holds the variable \$\{CITY\} .* --set CITY=VALUE",
        ),
        (INPUT + v1("RELU", top="fc8_${CITY"), "holds the variable .*--set CITY=VALUE"),
        (INPUT + v1("RELU", top="a\\nb"), r"a name is 'a\\nb', expected"),
        (INPUT + 'name: "\\x1b"' + v1("RELU"), r"a name is '\\x1b'"),
        (INPUT + v1("RELU", top="a" * 201), "a name is 'a+\\.\\.\\.'"),
        (INPUT + current("\\n"), r"a name is '\\n'"),
        (v1("RELU"), "the net has no input"),
        ("input: 'data'" + v1("RELU"), "input 'data' has no dims, expected 4 input_dim"),
        ("input: 'data' input_dim: [1, 3, 9]" + v1("RELU"), "input 'data' has 1x3x9"),
        ("input: 'data' input_dim: [1, 3, -5, -5]" + v1("RELU"), "shape 1x3x-5x-5"),
        ("input: 'data' input_dim: [1, 0, 5, 5]" + v1("RELU"), "shape 1x0x5x5"),
        (
            v1("DATA", f"data_param {{ crop_size: {BIG} }}", "", "data") + v1("RELU"),
            f"shape 1x3x{BIG}x{BIG}, expected sizes up to 2147483647",
        ),
        (v1("MEMORY_DATA", "memory_data_param { }", "", "data") + v1("RELU"), "shape 1x0x0x0"),
        ("layers { name: 'd' type: DATA } " + v1("RELU"), "the net has no input"),
        (
            "input: 'data' input: 'label' input_dim: [1, 3, 9, 9]"
            + v1("ELTWISE").replace('bottom: "data"', 'bottom: "data" bottom: "label"'),
            "takes 'label', a second input, and nets of several do not run here",
        ),
        (
            v1("DATA", 'top: "label"', "", "data") + v1("CONVOLUTION", CONV, "label"),
            "takes 'label', which only training has",
        ),
        (
            INPUT + v1("HISTOGRAM", top="best") + v1("CONVOLUTION", CONV, "best"),
            r"takes 'best', of layer 'best' \(HISTOGRAM\), which is left out here",
        ),
        (
            v1("DUMMY_DATA", "", "", "data") + v1("CONVOLUTION", CONV),
            r"layer 'data' \(DUMMY_DATA\) brings the net's input, .* four input_dim in its place",
        ),
        (
            INPUT + v1("BNLL", top="t") + v1("MVN", bottom="t", top="m") + v1("BNLL", bottom="m"),
            "layer 't' has type 'BNLL', layer 'm' has type 'MVN', which do not run here",
        ),
        (
            current("Data", "", "", "data")
            + current("InnerProduct", IP, top="p")
            + current("Eltwise", 'bottom: "data"', "p"),
            r"expected one shape \(at 513x513, as the file names no size: write input: \"data\" ",
        ),
        (
            "input: 'data' input: 'other' input_dim: [1, 3, 9, 9]"
            + v1("RELU")
            + v1("CONVOLUTION", CONV, "other", "z"),
            "layer 'z' .CONVOLUTION. takes 'other'",
        ),
        (
            INPUT + v1("CONVOLUTION", "convolution_param { num_output: 2 kernel_size: 3 hole: 9 }"),
            "too small",
        ),
        (
            INPUT + v1("CONVOLUTION", f"convolution_param {{ num_output: 2 kernel_size: {BIG} }}"),
            "too small",
        ),
        (INPUT + v1("POOLING", "pooling_param { kernel_size: 99 }"), "too small"),
        (
            INPUT + v1("PADDING", "padding_param { pad_beg: -5 pad_end: -4 }"),
            "layer 'y' .Padding. would make 1x3x0x0",
        ),
        (
            INPUT + v1("INTERP", "interp_param { zoom_factor: 2 pad_beg: -9 }"),
            "leave nothing of 9x9",
        ),
    ],
    ids=lambda value: value[-40:],
)
def test_a_net_that_does_not_hold_together(tmp_path, text, problem):
    message = refused(lambda: net(tmp_path, text), problem, NetError)
    assert message.startswith(f"{tmp_path / 'net.prototxt'}: ")


def test_shapes_alone_take_no_memory(tmp_path):
    side = 2**31 - 1
    sizes = f"convolution_param {{ num_output: {BIG} kernel_size: {side} pad: {BIG} }}"
    found = net(
        tmp_path, f"input: 'data' input_dim: [1, 3, {side}, {side}] {v1('CONVOLUTION', sizes)}"
    )
    out = 1 + 2 * (2**32 - 1)
    assert found.output_shape() == (1, 2**32 - 1, out, out)
    assert found.parameters == (2**32 - 1) * (3 * side**2 + 1)
    assert all(blob.data is None for layer in found.layers for blob in layer.blobs)


def test_five_thousand_layers_are_read(tmp_path):
    text = "".join(v1("RELU", bottom="data", top="data") for _ in range(5_000))
    assert len(net(tmp_path, INPUT + text).layers) == 5_000
