"""From messages to train nets: the TRAIN view of the authors' files, stock Caffe's and ours."""

import numpy as np
import pytest

from deeplab_repro.caffe import read_net, read_train_net
from deeplab_repro.errors import NetError
from deeplab_repro.models.registry import MODELS
from deeplab_repro.net.layers import SegAccuracy, SoftmaxLoss
from deeplab_repro.net.net import Filler
from deeplab_repro.net.other_layers import ImageSegData
from tests.caffe.caffe_files import CONV, GOLDEN, ROOT, current, golden, net, refused, v1
from tests.caffe.train_files import (
    BODY,
    CROP,
    CURRENT,
    CURRENT_INPUTS,
    SMALL,
    current_loss,
    found_loss,
    loss,
    rewritten,
    seg_data,
    train,
)
from tests.conftest import PAPER, V2

# --- the loss and the accuracy


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        ("", SoftmaxLoss()),
        ("softmaxloss_param { ignore_label: 255 ignore_label: 0 }", SoftmaxLoss((255, 0))),
        ("loss_param { ignore_label: 255 normalize: true }", SoftmaxLoss((255,))),
        ("loss_param { normalization: VALID } loss_weight: 0.5", SoftmaxLoss((), 0.5)),
        (
            "softmaxloss_param { ignore_label: 255 } loss_param { ignore_label: 255 }",
            SoftmaxLoss((255,)),
        ),
    ],
)
def test_what_a_loss_ignores_and_weighs(tmp_path, rest, expected):
    assert found_loss(train(tmp_path, seg_data() + BODY + loss(rest))) == expected
    text = CURRENT_INPUTS + current("Convolution", CONV) + current_loss(rest)
    assert found_loss(train(tmp_path, text)) == expected


def test_the_loss_has_a_top(tmp_path):
    assert train(tmp_path, SMALL).layers[-1].tops == ("loss",)
    assert train(tmp_path, seg_data() + BODY + loss('top: "l"')).layers[-1].tops == ("l",)


@pytest.mark.parametrize("kind", ["SEG_ACCURACY", "SegAccuracy"])
def test_the_accuracy(tmp_path, kind):
    layer = v1 if kind.isupper() else current
    rest = 'bottom: "label" seg_accuracy_param { ignore_label: 255 ignore_label: 1 }'
    text = SMALL if kind.isupper() else CURRENT
    found = train(tmp_path, text + layer(kind, rest, "y", "accuracy"))
    assert found.layers[-1].op == SegAccuracy((255, 1))
    assert found.blob_shapes()["accuracy"] == (1, 1, 1, 3)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (seg_data() + BODY, "no loss in its TRAIN phase, expected SOFTMAX_LOSS"),
        (seg_data() + BODY + loss("include { phase: TEST }"), "no loss in its TRAIN phase"),
        (
            seg_data() + BODY + loss('top: "a" top: "b"'),
            "layer 'loss' .SOFTMAX_LOSS.: it has 2 tops, expected 1",
        ),
        (
            seg_data() + BODY + loss("softmaxloss_param { weight_source: 'w.txt' }"),
            "layer 'loss' .*it has a weight_source, which is not supported",
        ),
        (
            seg_data() + BODY + loss("loss_param { normalize: false }"),
            "normalize is false, which is not supported",
        ),
        (
            seg_data() + BODY + loss("loss_param { normalization: FULL }"),
            "normalization is FULL, .*expected VALID",
        ),
        (seg_data() + BODY + loss("loss_weight: nan"), "loss_weight is nan, expected a finite"),
        (
            CURRENT.replace("loss_param", "softmax_param { axis: 2 } loss_param"),
            "axis is 2, expected 1",
        ),
        (
            SMALL + v1("EUCLIDEAN_LOSS", bottom="y", top="e"),
            "layer 'e' has type 'EUCLIDEAN_LOSS', which does not train here; these do: BatchN",
        ),
        (
            SMALL + v1("RELU", "loss_weight: 1", "y", "z"),
            "layer 'z' .RELU.: it has a loss_weight, expected one on SOFTMAX_LOSS only",
        ),
        (
            SMALL + v1("ACCURACY", 'bottom: "label" loss_weight: 1', "y", "z"),
            "layer 'z' .ACCURACY.: it has a loss_weight",
        ),
        (
            seg_data() + BODY + v1("INTERP", "interp_param { zoom_factor: 8 }", "y", "big")
            + loss().replace('"y"', '"big"'),
            "layer 'loss' .SoftmaxLoss.: its scores are 2x2x65x65 and its labels 2x1x9x9",
        ),
        (
            seg_data() + v1("CHANNEL_AGGREGATOR", top="a") + v1("SOFTMAX", bottom="a", top="b")
            + v1("SOFTMAX", bottom="b", top="c") + v1("CONCAT", bottom="c") + loss(),
            "layer 'a' has type 'CHANNEL_AGGREGATOR', layer 'b' has type 'SOFTMAX', layer 'y' has "
            "type 'CONCAT', which do not train here; these do: BatchNorm, Convolution",
        ),
        (
            seg_data() + v1("CENSOR_LABEL", bottom="label", top="label") + BODY + loss(),
            "layer 'label' .CENSOR_LABEL.: it works in place, but does not run in training",
        ),
        (
            seg_data() + v1("UNIQUE_LABEL", bottom="label", top="unique") + BODY
            + loss().replace('"label"', '"unique"'),
            "layer 'loss' .*it takes 'unique' of layer 'unique', which is left out of training",
        ),
        (
            CURRENT.replace("convolution_param", "propagate_down: false convolution_param"),
            "layer 'y' .Convolution.: propagate_down is false",
        ),
        (
            CURRENT.replace("loss_param", "propagate_down: [false, true] loss_param"),
            "propagate_down is false",
        ),
        (
            seg_data() + v1("CONVOLUTION", CONV + "param: 'w'", top="x")
            + v1("CONVOLUTION", CONV.replace("t: 2", "t: 3") + "param: 'w'") + loss(),
            "layer 'y' shares param 'w' with layer 'x', but wants 3x3x3x3 where that has 2x3x3x3",
        ),
        (
            CURRENT_INPUTS
            + current("Convolution", CONV + "param { name: 'w' lr_mult: 1 }", top="x")
            + current("Convolution", CONV + "param { name: 'w' lr_mult: 2 }") + current_loss(),
            "layers 'x' and 'y' share param 'w', but lr_mult is 1 in one and 2 in the other",
        ),
        (
            seg_data() + BODY.replace('name: "y"', 'name: "z"')
            + v1("CONVOLUTION", CONV, top="z") + loss(),
            "two layers with weights are named 'z'",
        ),
    ],
)  # fmt: skip
def test_what_would_train_otherwise_than_in_caffe_is_refused(tmp_path, text, problem):
    message = refused(lambda: train(tmp_path, text), problem, NetError)
    assert message.startswith(str(tmp_path / "train.prototxt"))


def test_labels_need_no_gradient(tmp_path):
    text = CURRENT.replace("loss_param", "propagate_down: [true, false] loss_param")
    assert train(tmp_path, text) == train(tmp_path, CURRENT)


def test_what_only_looks_on_falls_away(tmp_path):
    asides = (
        v1("SILENCE", bottom="data_dim").replace('top: "y"', "")
        + 'layers { name: "mat" type: MAT_WRITE bottom: "y" mat_write_param { prefix: "p" } }'
        + v1("DENSE_CRF", 'bottom: "data_dim" bottom: "data"', "y", "crf")
        + v1("ARGMAX", bottom="crf", top="best")
        + v1("ACCURACY", 'bottom: "label"', "y", "hit")
        + v1("SILENCE", bottom="best").replace('top: "y"', "")
        + 'layers { name: "test" type: SOFTMAX bottom: "y" top: "p" include { phase: TEST } }'
    )
    assert train(tmp_path, SMALL + asides) == train(tmp_path, SMALL)


@pytest.mark.parametrize(
    ("rules", "state", "kept"),
    [
        ("include { phase: TRAIN }", "", True),
        ("include { phase: TEST }", "", False),
        ("exclude { phase: TRAIN }", "", False),
        ("exclude { phase: TEST }", "", True),
        ("include { phase: TRAIN stage: 'a' }", "stage: 'a'", True),
        ("include { phase: TRAIN min_level: 1 }", "", False),
    ],
)
def test_include_and_exclude(tmp_path, rules, state, kept):
    layer = v1("RELU", rules, "y", "z")
    found = train(tmp_path, f"state {{ {state} }} {SMALL} {layer}")
    assert ("z" in found.blob_shapes()) == kept


def test_one_file_for_both_phases(tmp_path):
    text = (
        seg_data(rest=CROP + " include { phase: TRAIN }")
        + seg_data(rest="transform_param { crop_size: 33 } include { phase: TEST }")
        + BODY
        + loss("include { phase: TRAIN }")
        + 'layers { name: "p" type: SOFTMAX bottom: "y" top: "p" include { phase: TEST } }'
    )
    assert train(tmp_path, text).blob_shapes()["y"] == (2, 2, 9, 9)
    assert net(tmp_path, text).output_shape() == (1, 2, 33, 33)


# --- our own files and the golden ones


@pytest.mark.parametrize("name", MODELS)
def test_our_train_nets(name, tmp_path, caplog):
    found = read_train_net(MODELS[name].train_prototxt, {"DATA_ROOT": "/voc", "TRAIN_SET": "t"})
    assert not caplog.messages
    side = {306: 306, 241: 241}.get(found.input_shape[2], 321)
    n = 20 if name in ("DeepLab", "DeepLab-4x4", "DeepLab-7x7", "DeepLab-MSc") else 30
    n = n if name in PAPER else 1 if name in V2 else 6
    assert found.input_shape == (n, 3, side, side)
    assert found.labels == {"label": (n, 1, side, side)}
    assert found.data.source == "voc12/list/t.txt"
    assert (found.data.root_folder, found.data.shuffle, found.data.mirror) == ("/voc", True, True)
    assert found.preprocessing.mean == pytest.approx((104.008, 116.669, 122.675))
    losses = {layer.op for layer in found.layers if isinstance(layer.op, SoftmaxLoss)}
    assert losses == {SoftmaxLoss((255,))}
    assert found.blob_shapes()["label_shrink"] == (n, 1, *[{306: 39, 321: 41, 241: 31}[side]] * 2)
    # The same layers with weights as the net that is tested.
    test = read_net(MODELS[name].test_prototxt)
    shapes = [
        {x.name: [b.shape for b in x.blobs] for x in y.layers if x.blobs} for y in (found, test)
    ]
    assert shapes[0] == shapes[1]
    for is_current in (found.dialect == "Caffe", True):
        assert rewritten(found, tmp_path / "again", is_current) == found


def learning(found, name):
    (layer,) = [layer for layer in found.layers if layer.name == name]
    return [(blob.lr_mult, blob.decay_mult, blob.filler) for blob in layer.blobs]


def test_how_the_paper_s_nets_learn():
    gaussian = Filler("gaussian", std=float(np.float32(0.01)))
    found = read_train_net(ROOT / "prototxt/DeepLab-LargeFOV/train.prototxt")
    assert learning(found, "conv1_1") == [(1, 1, Filler()), (2, 0, Filler())]
    assert learning(found, "fc8_voc12") == [(10, 1, gaussian), (20, 0, Filler())]
    found = read_train_net(ROOT / "prototxt/DeepLab-MSc-LargeFOV/train.prototxt")
    assert {rate for rate, _, _ in learning(found, "conv4_2")} == {0}  # the trunk is frozen
    small = Filler("gaussian", std=float(np.float32(0.001)))
    assert learning(found, "pool1_conv") == [(1, 1, small), (2, 0, Filler())]
    assert learning(found, "pool3_ms")[0][2] == Filler()
    assert learning(found, "pool4_ms")[0][2] == gaussian


@golden
@pytest.mark.parametrize("name", ["DeepLab-LargeFOV", "DeepLab-MSc-LargeFOV"])
def test_golden_train_nets(name, tmp_path):
    folder = GOLDEN / "train" / name
    with_data = read_train_net(folder / "train.prototxt")
    with_inputs = read_train_net(folder / "train_input.prototxt")
    assert with_data.layers == with_inputs.layers
    assert with_data.data == ImageSegData("./list.txt", ".", 2, 65)
    step = np.load(folder / "first_step.npz")
    for found in (with_data, with_inputs):
        assert found.input_shape == step["data"].shape
        assert found.labels == {"label": step["label"].shape}
        for is_current in (False, True):
            assert rewritten(found, tmp_path / "again", is_current) == found
