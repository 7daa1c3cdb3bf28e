"""Parameters of the layers that cut, join, repeat or reorder values, and where they are refused."""

import pytest

from deeplab_repro.caffe import prototxt_text, read_net
from deeplab_repro.errors import NetError
from deeplab_repro.net.net import Layer, Net
from deeplab_repro.net.shape_layers import ArgMax, Crop, Flatten, Reshape, Slice, Tile
from tests.caffe.caffe_files import INPUT, current, net, refused, v1

CONV = "convolution_param { num_output: 4 kernel_size: 3 pad: 1 }"
TWO_TOPS = 'top: "z" slice_param '


def crop(parameters: str) -> str:
    small = current("Pooling", "pooling_param { kernel_size: 3 }", top="small")
    parameters = f'bottom: "small" crop_param {{ {parameters} }}'
    return small + current("Crop", parameters)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (v1("SLICE", TWO_TOPS + "{ slice_point: 2 }"), Slice(1, (2,))),
        (v1("SLICE", TWO_TOPS + "{ slice_dim: 2 slice_point: 5 }"), Slice(2, (5,))),
        (v1("FLATTEN"), Flatten()),
        (current("Slice", TWO_TOPS + "{ slice_dim: 3 slice_point: 5 }"), Slice(3, (5,))),
        (current("Slice", TWO_TOPS + "{ axis: -2 slice_point: 5 }"), Slice(2, (5,))),
        (current("Flatten"), Flatten()),
        (current("Flatten", "flatten_param { axis: 2 end_axis: -2 }"), Flatten(2, -2)),
        (current("Reshape", "reshape_param { shape { dim: [0, -1] } }"), Reshape((0, -1))),
        (
            current("Reshape", "reshape_param { shape { dim: [9, 9] } axis: 2 num_axes: 2 }"),
            Reshape((9, 9), 2, 2),
        ),
        (current("Tile", "tile_param { tiles: 2 }"), Tile(2)),
        (current("Tile", "tile_param { tiles: 2 axis: -1 }"), Tile(2, -1)),
        (crop(""), Crop()),
        (crop("offset: 1"), Crop(2, (1,))),
        (crop("axis: 1 offset: [0, 1, 2]"), Crop(1, (0, 1, 2))),
    ],
)
def test_parameters(tmp_path, text, expected):
    found = net(tmp_path, INPUT + text)
    assert found.layers[-1].op == expected
    back = tmp_path / "back.prototxt"
    back.write_text(prototxt_text(found, current=found.dialect == "Caffe"))
    assert read_net(back).layers == found.layers


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (current("Tile"), r"layer 'y' \(Tile\): tiles is 0, expected at least 1"),
        (current("Slice", TWO_TOPS + "{ axis: 1 slice_dim: 2 }"), "both slice_dim and axis"),
        (v1("SLICE", TWO_TOPS + "{ slice_dim: 7 }"), r"'y' \(Slice\): axis 7 is not an axis of"),
        (
            v1("ARGMAX", "argmax_param { top_k: 0 }") + v1("CONVOLUTION", CONV, "y", "z"),
            r"layer 'y' \(ARGMAX\): top_k is 0, expected at least 1",
        ),
        (
            v1("ELTWISE", "eltwise_param { operation: MAX coeff: 2 }"),
            "coeff with operation MAX, expected them with SUM alone",
        ),
    ],
)
def test_parameters_that_do_not_run(tmp_path, text, problem):
    refused(lambda: net(tmp_path, INPUT + text), problem, NetError)


@pytest.mark.parametrize(
    ("op", "expected"),
    [
        (Flatten(2), "axis or end_axis, which V1 lacks"),
        (ArgMax(axis=1), "axis, which V1 lacks"),
        (Slice(-1), "axis -1, which V1 lacks"),
        (Tile(2), "has no type in V1: write the current format"),
    ],
)
def test_what_v1_lacks(op, expected):
    made = Net("n", "data", (1, 3, 9, 9), [Layer("a", op, ("data",), ("a",))])
    with pytest.raises(NetError, match=rf"layer 'a' \({type(op).__name__}\).*{expected}"):
        prototxt_text(made)


@pytest.mark.parametrize(("kind", "layer"), [("ARGMAX", v1), ("ArgMax", current)])
def test_an_argmax_runs_where_a_later_layer_takes_it(tmp_path, kind, layer):
    """At the end the scores are wanted, not the labels made of them."""
    conv = "Convolution" if kind == "ArgMax" else "CONVOLUTION"
    parameters = "argmax_param { out_max_val: true top_k: 2 }"
    text = INPUT + layer(conv, CONV, "data", "c") + layer(kind, parameters, "c", "best")
    assert net(tmp_path, text).output == "c"
    text += layer(conv, CONV.replace("3 pad: 1", "1"), "best", "d")
    found = net(tmp_path, text)
    assert found.layers[1].op == ArgMax(True, 2)
    assert found.output_shape() == (1, 4, 2, 1)
