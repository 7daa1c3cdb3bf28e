"""Multipliers of rate and decay, and fillers."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplab_repro.caffe import read_net, read_train_net, write_prototxt
from deeplab_repro.errors import NetError
from deeplab_repro.net.layers import SoftmaxLoss
from deeplab_repro.net.net import Blob, Filler, Layer, Net
from tests.caffe.caffe_files import current, nets, refused, v1

INPUTS = 'input: "data" input: "label" input_dim: [2, 3, 9, 9, 2, 1, 1, 1]\n'
LOSS = 'bottom: "label"'


def blobs(tmp_path, kind: str, rest: str) -> list[Blob]:
    """The blobs of the one learning layer, whose type tells the dialect."""
    layer = v1 if kind.isupper() else current
    end = layer("SOFTMAX_LOSS" if kind.isupper() else "SoftmaxWithLoss", LOSS, "y", "loss")
    path = tmp_path / "train.prototxt"
    path.write_text(INPUTS + layer(kind, rest) + end)
    return read_train_net(path).layers[0].blobs


def conv(fields: str = "") -> str:
    return f"convolution_param {{ num_output: 2 kernel_size: 9 {fields} }}"


V1, CURRENT = "CONVOLUTION", "Convolution"


@pytest.mark.parametrize(
    ("kind", "rest", "expected"),
    [
        (V1, conv(), [(1, 1), (1, 1)]),
        (V1, "blobs_lr: 1 blobs_lr: 2 weight_decay: 1 weight_decay: 0", [(1, 1), (2, 0)]),
        (V1, "blobs_lr: [10, 20]", [(10, 1), (20, 1)]),
        (V1, "weight_decay: [0.5, 0]", [(1, 0.5), (1, 0)]),
        (V1, "blobs_lr: 0 " + conv("bias_term: false"), [(0, 1)]),
        (CURRENT, conv(), [(1, 1), (1, 1)]),
        (
            CURRENT,
            "param { lr_mult: 1 decay_mult: 1 } param { lr_mult: 2 decay_mult: 0 }",
            [(1, 1), (2, 0)],
        ),
        (CURRENT, "param { lr_mult: 0 }", [(0, 1), (1, 1)]),
        (CURRENT, "param { } param { decay_mult: 0 }", [(1, 1), (1, 0)]),
    ],
)
def test_multipliers(tmp_path, kind, rest, expected):
    rest = rest if "convolution_param" in rest else f"{rest} {conv()}"
    found = blobs(tmp_path, kind, rest)
    assert [(blob.lr_mult, blob.decay_mult) for blob in found] == expected


@pytest.mark.parametrize("kind", [V1, CURRENT])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Filler()),
        ("type: 'constant' value: 0.5", Filler(value=0.5)),
        ("type: 'gaussian' std: 0.25 mean: -1", Filler("gaussian", std=0.25, mean=-1)),
        ("type: 'gaussian'", Filler("gaussian")),
        ("type: 'uniform' min: -1 max: 2", Filler("uniform", min=-1, max=2)),
        ("type: 'xavier'", Filler("xavier")),
        ("type: 'msra'", Filler("msra")),
        ("type: 'positive_unitball'", Filler("positive_unitball")),
    ],
)
def test_fillers(tmp_path, kind, text, expected):
    weight, bias = blobs(tmp_path, kind, conv(f"weight_filler {{ {text} }}"))
    assert (weight.filler, bias.filler) == (expected, Filler())
    weight, bias = blobs(tmp_path, kind, conv(f"bias_filler {{ {text} }}"))
    assert (weight.filler, bias.filler) == (Filler(), expected)


UNIFORM = "{ type: 'uniform' max: 2 }"
TWO = Filler("uniform", max=2)


@pytest.mark.parametrize(
    ("kind", "parameters", "expected"),
    [
        ("Scale", "scale_param { bias_term: true }", [Filler(value=1), Filler()]),
        (
            "Scale",
            f"scale_param {{ bias_term: true filler {UNIFORM} bias_filler {{ value: 3 }} }}",
            [TWO, Filler(value=3)],
        ),
        ("Bias", f"bias_param {{ filler {UNIFORM} }}", [TWO]),
        ("PReLU", "", [Filler(value=0.25)]),
        ("PReLU", f"prelu_param {{ filler {UNIFORM} }}", [TWO]),
        (
            "BN",
            f"bn_param {{ slope_filler {UNIFORM} }}",
            [TWO, Filler(), Filler(), Filler(value=1)],
        ),
    ],
)
def test_fillers_of_layers_of_each_channel(tmp_path, kind, parameters, expected):
    """By default a Scale begins as the identity, and a PReLU with 0.25."""
    text = INPUTS + current(kind, parameters) + current("SoftmaxWithLoss", LOSS, "y", "loss")
    text = text.replace("1, 1, 1]", "1, 9, 9]")
    path = tmp_path / "train.prototxt"
    path.write_text(text)
    net = read_train_net(path)
    assert [blob.filler for blob in net.layers[0].blobs] == expected
    write_prototxt(net, path, current=True)
    assert [blob.filler for blob in read_train_net(path).layers[0].blobs] == expected


def test_how_an_inner_product_learns(tmp_path):
    rest = (
        "blobs_lr: [1, 2] inner_product_param { num_output: 2 weight_filler { type: 'xavier' } "
        "bias_filler { value: 0.5 } }"
    )
    weight, bias = blobs(tmp_path, "INNER_PRODUCT", rest)
    assert (weight.lr_mult, weight.filler) == (1, Filler("xavier"))
    assert (bias.lr_mult, bias.filler) == (2, Filler(value=0.5))


@pytest.mark.parametrize(
    ("kind", "rest", "problem"),
    [
        (V1, "blobs_lr: 1", "1 blobs_lr for 2 blobs, expected as many or none"),
        (V1, "weight_decay: [1, 1, 1]", "3 weight_decay for 2 blobs"),
        (V1, "blobs_lr: [1, -2]", "blobs_lr is -2, expected a number from 0"),
        (V1, "weight_decay: [nan, 0]", "weight_decay is nan"),
        (V1, "blobs_lr: [inf, 0]", "blobs_lr is inf"),
        (CURRENT, "param { } param { } param { }", "3 param for 2 blobs, expected at most 2"),
        (CURRENT, "param { lr_mult: -1 }", "lr_mult is -1"),
        (CURRENT, "param { decay_mult: -1 }", "decay_mult is -1"),
        *(
            (kind, conv(f"{name} {{ {text} }}"), f"{name} has {problem}")
            for kind in (V1, CURRENT)
            for name, text, problem in (
                ("weight_filler", "type: 'cubic'", "type 'cubic', expected one of constant"),
                ("bias_filler", r"type: 'a\nb'", r"type 'a\\nb', expected one of constant"),
                ("bias_filler", "type: ''", "type '', expected one of constant"),
                ("bias_filler", "value: nan", "value nan, expected a finite number"),
                ("weight_filler", "type: 'gaussian' std: 0", "std 0, expected one above 0"),
                ("weight_filler", "type: 'uniform' min: 2", "min 2 and max 1, expected min <= max"),
                ("weight_filler", "type: 'gaussian' sparse: 3", "sparse 3, which is not supp"),
            )
        ),
        (
            CURRENT,
            conv("weight_filler { type: 'msra' variance_norm: AVERAGE }"),
            "weight_filler has a variance_norm that is not supported; expected FAN_IN",
        ),
    ],
)
def test_what_does_not_learn_as_in_caffe_is_refused(tmp_path, kind, rest, problem):
    rest = rest if "convolution_param" in rest else f"{rest} {conv()}"
    message = refused(
        lambda: blobs(tmp_path, kind, rest), rf"layer 'y' \({kind}\): {problem}", NetError
    )
    assert message.startswith(str(tmp_path / "train.prototxt"))


def test_a_layer_without_blobs_takes_no_multipliers(tmp_path):
    path = tmp_path / "train.prototxt"
    relu = v1("RELU", "blobs_lr: 1", top="y")
    inputs = INPUTS.replace("1, 1]", "9, 9]")
    path.write_text(inputs + relu + v1("SOFTMAX_LOSS", LOSS, "y", "loss"))
    refused(lambda: read_train_net(path), "layer 'y' .RELU.: 1 blobs_lr for 0 blobs", NetError)


# --- any of it comes back

RATES = st.sampled_from([0.0, 1.0, 2.0, 10.0, 0.5])
NUMBERS = st.floats(-9, 9, width=32)
FILLERS = st.one_of(
    st.builds(Filler, value=NUMBERS),
    st.builds(Filler, st.just("gaussian"), mean=NUMBERS, std=st.floats(0.125, 9, width=32)),
    st.builds(
        Filler,
        st.just("uniform"),
        min=st.floats(-9, 0, width=32),
        max=st.floats(0, 9, width=32),
    ),
    st.sampled_from([Filler("xavier"), Filler("msra"), Filler("positive_unitball")]),
)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(inner=nets(), data=st.data(), is_current=st.booleans())
def test_any_train_net_comes_back_from_its_text(tmp_path_factory, inner, data, is_current):
    for layer in inner.layers:
        for blob in layer.blobs:
            blob.lr_mult, blob.decay_mult = data.draw(RATES), data.draw(RATES)
            blob.filler = data.draw(FILLERS)
    n, _, h, w, *_ = (*inner.output_shape(), 1, 1)
    end = Layer(
        "the loss at the end",
        SoftmaxLoss((255,)),
        (inner.output, "the labels of it"),
        ("loss of all",),
    )
    made = Net(
        inner.name,
        inner.input,
        inner.input_shape,
        [*inner.layers, end],
        labels={"the labels of it": (n, 1, h, w)},
    )
    path = tmp_path_factory.mktemp("train") / "train.prototxt"
    write_prototxt(made, path, is_current)
    assert replace(read_train_net(path), dialect=made.dialect) == made
    # The net that is tested knows nothing of all that.
    tested = read_net(path)
    assert [layer.name for layer in tested.layers] == [layer.name for layer in inner.layers]
    assert all(blob == Blob(blob.shape) for layer in tested.layers for blob in layer.blobs)
