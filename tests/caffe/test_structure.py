"""From messages to nets: the TEST view, the authors' own files, stock Caffe's and ours."""

import numpy as np
import pytest

from deeplab_repro.caffe import read_net
from deeplab_repro.models.registry import MODELS
from deeplab_repro.net.other_layers import DenseCrfParameter
from deeplab_repro.net.preprocess import Preprocessing
from tests.caffe.caffe_files import CONV, GOLDEN, GOLDEN_NETS, INPUT, current, golden, net, v1


def names(found) -> list[str]:
    return [layer.name for layer in found.layers]


# --- the authors' own files

AUTHORS_TEST = """
# VGG 16-layer network convolutional finetuning
# Network modified to have smaller receptive field (128 pixels)
name: "${NET_ID}"

layers {
  name: "data"
  type: IMAGE_SEG_DATA
  top: "data"
  top: "label"
  top: "data_dim"
  image_data_param {
    root_folder: "${DATA_ROOT}"
    source: "${EXP}/list/${TEST_SET}.txt"
    label_type: PIXEL
    batch_size: 1
    scale: 1 mean_file: "" crop_size: 0 mirror: false rand_skip: 0 shuffle: false
    new_height: 0 new_width: 0 is_color: true has_label: true max_labels: 21 ignore_label: 255
  }
  transform_param {
    mean_value: 104.008
    mean_value: 116.669
    mean_value: 122.675
    crop_size: 65
    mirror: false
  }
  include: { phase: TEST }
}
layers {
  bottom: "data" top: "conv1_1" name: "conv1_1" type: CONVOLUTION
  blobs_lr: 1 blobs_lr: 2 weight_decay: 1 weight_decay: 0
  param: "w" param: "b" blob_share_mode: PERMISSIVE
  convolution_param { num_output: 8 pad_h: 2 pad_w: 2 kernel_size: 3 hole_h: 2 hole_w: 2 }
}
layers { bottom: "conv1_1" top: "conv1_1" name: "relu1_1" type: RELU }
layers {
  bottom: "conv1_1" top: "pool1" name: "pool1" type: POOLING
  pooling_param { pool: MAX kernel_size: 3 stride: 2 pad: 1 }
}
layers {
  name: "fc8_${EXP}" type: CONVOLUTION bottom: "pool1" top: "fc8_${EXP}"
  strict_dim: false
  convolution_param {
    num_output: ${NUM_LABELS} kernel_size: 1
    weight_filler { type: "gaussian" std: 0.01 } bias_filler { type: "constant" value: 0 }
  }
}
layers {
  bottom: "fc8_${EXP}" top: "fc8_interp" name: "fc8_interp" type: INTERP
  interp_param { zoom_factor: 2 }
}
layers {
  name: "features" type: MAT_READ top: "features"
  mat_read_param { prefix: "${FEATURE_DIR}/" source: "list.txt" strip: 4 batch_size: 1 }
}
layers {
  name: "crf" type: DENSE_CRF bottom: "fc8_interp" bottom: "data_dim" bottom: "data" top: "crf"
  dense_crf_param {
    max_iter: 5
    pos_xy_std: 3 pos_w: 3 pos_xy_std: 1.5 pos_w: 2
    bi_xy_std: 50 bi_rgb_std: 10 bi_w: 5
  }
  include: { phase: TEST }
}
layers {
  name: "crf_mat" type: MAT_WRITE bottom: "crf"
  mat_write_param { prefix: "${FEATURE_DIR}/${TEST_SET}/crf/" source: "list.txt" period: 1 }
  include: { phase: TEST }
}
layers {
  name: "fc8_mat" type: MAT_WRITE bottom: "fc8_interp"
  mat_write_param { prefix: "${FEATURE_DIR}/${TEST_SET}/fc8/" strip: 0 period: 1 }
  include: { phase: TEST }
}
layers {
  name: "loss" type: SOFTMAX_LOSS bottom: "fc8_interp" bottom: "label"
  softmaxloss_param { ignore_label: 255 weight_source: "${EXP}/loss_weight.txt" }
  include: { phase: TRAIN }
}
layers {
  name: "accuracy" type: SEG_ACCURACY bottom: "fc8_interp" bottom: "label" top: "accuracy"
  seg_accuracy_param { ignore_label: 255 ignore_label: 0 metric: PixelIOU reset: false }
}
layers { name: "silence" type: SILENCE bottom: "data_dim" bottom: "features" }
"""


def test_a_test_file_of_the_authors(tmp_path, caplog):
    found = net(tmp_path, AUTHORS_TEST)
    assert names(found) == ["conv1_1", "relu1_1", "pool1", "fc8_voc12", "fc8_interp"]
    assert (found.input, found.input_shape) == ("data", (1, 3, 65, 65))
    assert (found.output, found.output_shape()) == ("fc8_interp", (1, 21, 65, 65))
    assert found.dialect == "DeepLab v1"
    assert found.preprocessing.mean == pytest.approx((104.008, 116.669, 122.675))
    assert found.dense_crf == DenseCrfParameter(5, (3, 1.5), (3, 2), (50,), (10,), (5,))
    assert [layer.strict_dim for layer in found.layers] == [True, True, True, False, True]
    assert found.layers[0].op.hole == found.layers[0].op.pad == (2, 2)
    assert len(caplog.messages) == 1
    assert "'reset' (line " in caplog.messages[0]


def test_variables_name_and_size_the_classifier(tmp_path):
    found = net(tmp_path, AUTHORS_TEST, EXP="coco", NUM_LABELS="5")
    assert found.output_shape() == (1, 5, 65, 65)
    assert "fc8_coco" in names(found)


# The authors' layers beside the paper's nets; those that take labels too are there in training.
@pytest.mark.parametrize(
    "kind",
    [
        *("DOMINANT_CHANNEL", "BIAS_CHANNEL", "UNIQUE_LABEL", "CENSOR_LABEL", "IGNORE_OVERLAY"),
        *("ADAPTIVE_BIAS_CHANNEL", "CHANNEL_AGGREGATOR", "HISTOGRAM", "RELATIVE_ERROR"),
        *("GAIN_CHANNEL", "ONEHOT", "SEG_ACCURACY", "DENSE_CRF"),
    ],
)
@pytest.mark.parametrize("top", ["odd", "y"], ids=["apart", "in place"])
def test_a_layer_that_takes_labels_falls_away(tmp_path, kind, top):
    takes = 'bottom: "y" bottom: "label"'
    odd = f'layers {{ name: "odd" type: {kind} {takes} top: "{top}" }}'
    loss = f'layers {{ name: "loss" type: SOFTMAX_LOSS bottom: "{top}" bottom: "label" }}'
    shrunk = v1("INTERP", "interp_param { shrink_factor: 8 }", bottom="label", top="small")
    text = 'input: "label" input_dim: [1, 1, 9, 9]' + v1("CONVOLUTION", CONV) + odd + loss + shrunk
    found = net(tmp_path, INPUT + text)
    assert names(found) == ["y"]
    assert found.output_shape() == (1, 2, 9, 9)


def test_what_only_looks_at_the_scores_falls_away(tmp_path):
    text = v1("CONVOLUTION", CONV) + v1("ARGMAX", bottom="y", top="z") + v1("SILENCE", bottom="z")
    assert net(tmp_path, INPUT + text).output == "y"


# --- phases, stages, levels


@pytest.mark.parametrize(
    ("rules", "state", "kept"),
    [
        ("include { phase: TEST }", "", True),
        ("include { phase: TRAIN }", "", False),
        ("exclude { phase: TEST }", "", False),
        ("exclude { phase: TRAIN }", "", True),
        ("include { phase: TRAIN } include { phase: TEST }", "", True),
        ("include { stage: 'a' }", "", False),
        ("include { stage: 'a' }", "stage: 'a'", True),
        ("include { stage: 'a' stage: 'b' }", "stage: 'a'", False),
        ("include { not_stage: 'a' }", "stage: 'a'", False),
        ("include { not_stage: 'a' }", "", True),
        ("exclude { stage: 'a' }", "stage: 'a' stage: 'b'", False),
        ("include { min_level: 1 }", "", False),
        ("include { min_level: 1 max_level: 2 }", "level: 2", True),
        ("include { max_level: 2 }", "level: 3", False),
        ("include { }", "", True),
        ("exclude { }", "", False),
        ("include { phase: TEST }", "phase: TRAIN", True),  # the phase is ours to choose
    ],
)
@pytest.mark.parametrize("layer", [v1, current])
def test_include_and_exclude(tmp_path, layer, rules, state, kept):
    kind = "RELU" if layer is v1 else "ReLU"
    text = f"{INPUT} state {{ {state} }} {layer(kind)} {layer(kind, rules, 'y', 'z')}"
    assert names(net(tmp_path, text)) == (["y", "z"] if kept else ["y"])


@pytest.mark.parametrize("phases", [("TRAIN", "TEST"), ("TEST", "TRAIN"), ("TRAIN", None)])
def test_the_data_layer_of_the_test_phase_goes_first(tmp_path, phases):
    sizes = {"TRAIN": 17, "TEST": 33}
    text = "".join(
        f"layers {{ name: 'data' type: IMAGE_SEG_DATA top: 'data' top: 'label' "
        f"transform_param {{ crop_size: {sizes[phase]} }} include {{ phase: {phase} }} }}"
        for phase in phases
        if phase
    )
    side = 33 if "TEST" in phases else 17
    assert net(tmp_path, text + v1("RELU")).input_shape == (1, 3, side, side)


# --- inputs


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        (v1("DATA", "data_param { crop_size: 7 batch_size: 64 }", "", "data"), (1, 3, 7, 7)),
        (v1("DATA", "transform_param { crop_size: 8 }", "", "data"), (1, 3, 8, 8)),
        (
            v1("IMAGE_DATA", "image_data_param { new_height: 5 new_width: 6 }", "", "data"),
            (1, 3, 5, 6),
        ),
        (v1("IMAGE_SEG_DATA", "", "", "data"), (1, 3, 513, 513)),
        (v1("HDF5_DATA", "", "", "data"), (1, 3, 513, 513)),
        (
            v1("MEMORY_DATA", "memory_data_param { channels: 1 height: 4 width: 5 }", "", "data"),
            (1, 1, 4, 5),
        ),
        ("input: 'data' input_dim: [10, 3, 4, 5]", (10, 3, 4, 5)),
    ],
)
def test_where_the_image_comes_from_in_v1(tmp_path, text, shape):
    found = net(tmp_path, text + v1("RELU"))
    assert (found.input, found.input_shape) == ("data", shape)
    assert found.dialect == ("DeepLab v1" if "SEG" in text else "Caffe V1")


@pytest.mark.parametrize(
    "text",
    [
        current("Input", "input_param { shape { dim: [2, 3, 4, 5] } }", "", "data"),
        "input: 'data' input_shape { dim: 2 dim: 3 dim: 4 dim: 5 }",
        "input: 'data' input_dim: [2, 3, 4, 5]",
        "input: ['data', 'info'] input_shape [{ dim: [2, 3, 4, 5] }, { dim: [1, 1, 1, 3] }]",
    ],
)
def test_where_the_image_comes_from_in_the_current_format(tmp_path, text):
    found = net(tmp_path, text + current("ReLU"))
    assert (found.input, found.input_shape, found.dialect) == ("data", (2, 3, 4, 5), "Caffe")


def test_labels_of_a_data_layer_of_their_own(tmp_path):
    data = v1("DATA", "data_param { crop_size: 9 }", "", "data")
    data += v1("DATA", "data_param { crop_size: 9 }", "", "label")
    loss = 'layers { name: "loss" type: SOFTMAX_LOSS bottom: "y" bottom: "label" top: "loss" }'
    assert net(tmp_path, data + v1("CONVOLUTION", CONV) + loss).output == "y"


# --- stock nets


def _vgg16(dialect: str) -> str:
    """VGG-16 as its authors published it, in V1 or in the current format."""
    kinds = {"current": ("Convolution", "ReLU", "Pooling", "InnerProduct", "Dropout", "Softmax")}
    conv, relu, pool, full, drop, softmax = kinds.get(
        dialect, ("CONVOLUTION", "RELU", "POOLING", "INNER_PRODUCT", "DROPOUT", "SOFTMAX")
    )
    layer = current if dialect == "current" else v1

    def in_place(kind: str, name: str, on: str) -> str:
        return layer(kind, "", on, on).replace(f'name: "{on}"', f'name: "{name}"')

    text, bottom = "", "data"
    for block, (count, width) in enumerate(((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)), 1):
        for i in range(1, count + 1):
            name = f"conv{block}_{i}"
            sizes = f"convolution_param {{ num_output: {width} pad: 1 kernel_size: 3 }}"
            text += layer(conv, sizes, bottom, name) + in_place(relu, f"relu{block}_{i}", name)
            bottom = name
        sizes = "pooling_param { pool: MAX kernel_size: 2 stride: 2 }"
        text += layer(pool, sizes, bottom, f"pool{block}")
        bottom = f"pool{block}"
    for name, width in (("fc6", 4096), ("fc7", 4096), ("fc8", 1000)):
        text += layer(full, f"inner_product_param {{ num_output: {width} }}", bottom, name)
        if name != "fc8":
            text += in_place(relu, "relu" + name[2], name) + in_place(drop, "drop" + name[2], name)
        bottom = name
    return text + layer(softmax, "", "fc8", "prob")


@pytest.mark.parametrize("dialect", ["v1", "current"])
def test_stock_vgg16(tmp_path, dialect):
    found = net(tmp_path, "input: 'data' input_dim: [10, 3, 224, 224]\n" + _vgg16(dialect))
    assert found.parameters == 138_357_544
    assert found.output_shape() == (10, 1000)
    assert found.dialect == ("Caffe" if dialect == "current" else "Caffe V1")
    fc6 = next(layer for layer in found.layers if layer.name == "fc6")
    assert [blob.shape for blob in fc6.blobs] == [(4096, 25088), (4096,)]


def test_stock_vgg16_for_training(tmp_path):
    crop = 'top: "label" transform_param { crop_size: 224 } include { phase: TRAIN }'
    data = v1("DATA", crop, "", "data")
    ends = "".join(
        f"layers {{ name: '{kind}' type: {kind} bottom: 'fc8' bottom: 'label' top: '{kind}' }}"
        for kind in ("ACCURACY", "SOFTMAX_LOSS")
    )
    body = _vgg16("v1").rsplit("layers", 1)[0]
    assert net(tmp_path, data + body + ends).output_shape() == (1, 1000)


def test_a_current_net_in_the_terms_of_the_authors(tmp_path):
    text = (
        current(
            "Convolution",
            "convolution_param { num_output: 2 kernel_h: 3 kernel_w: 5 pad: 2 dilation: 2 }",
        )
        + current("Interp", "interp_param { zoom_factor: 8 pad_beg: -1 }", "y", "z")
        + current("ImageSegData", "", "", "unused")
    )
    found = net(tmp_path, INPUT + text)
    assert found.layers[0].op.hole == (2, 2)
    assert found.blob_shapes()["z"] == (1, 2, 57, 25)


# --- our own files and the golden ones

OUTPUTS = {
    "DeepLab": (514, 39),
    "DeepLab-4x4": (514, 39),
    "DeepLab-7x7": (514, 39),
    "DeepLab-MSc": (513, 41),
    "DeepLab-LargeFOV": (513, 41),
    "DeepLab-MSc-LargeFOV": (513, 41),
    "DeepLab-COCO-LargeFOV": (513, 41),
    "DeepLab-MSc-COCO-LargeFOV": (513, 41),
    "DeepLabv2-VGG16": (513, 41),
    "DeepLabv2-ResNet101": (513, 41),
    "ToyVOC-LargeFOV": (241, 31),
    "ToyVOC-MSc-LargeFOV": (241, 31),
}


@pytest.mark.parametrize("name", MODELS)
def test_our_nets(name, caplog):
    test, train = read_net(MODELS[name].test_prototxt), read_net(MODELS[name].train_prototxt)
    sides = [found.output_shape() for found in (test, train)]
    assert sides == [(1, 21, side, side) for side in OUTPUTS[name]]
    assert test.parameters == train.parameters
    assert not caplog.messages


@pytest.mark.parametrize(
    ("name", "millions", "field_of_view"),
    [
        ("DeepLab-7x7", "134.3", 224),
        ("DeepLab", "65.1", 128),
        ("DeepLab-4x4", "65.1", 224),
        ("DeepLab-LargeFOV", "20.5", 224),
        ("DeepLabv2-VGG16", "37.9", 416),
        ("DeepLabv2-ResNet101", "44.2", None),
    ],
)
def test_table_2(name, millions, field_of_view):
    found = read_net(MODELS[name].test_prototxt)
    assert f"{found.parameters / 1e6:.1f}" == millions
    assert found.field_of_view == field_of_view
    assert found.output_stride == 8


def _golden_shapes(folder):
    samples = np.load(folder / "blob_samples.npz")
    return {
        key.removesuffix("__shape"): tuple(samples[key].tolist())
        for key in samples.files
        if key.endswith("__shape")
    }


@golden
@pytest.mark.parametrize("name", GOLDEN_NETS)
def test_golden_shapes(name):
    folder = GOLDEN / "nets" / name
    ours, theirs = read_net(folder / "deploy.prototxt").blob_shapes(), _golden_shapes(folder)
    shared = ours.keys() & theirs.keys()
    assert {blob: ours[blob] for blob in shared} == {blob: theirs[blob] for blob in shared}
    assert ours.keys() == shared
    # Caffe's own SPLIT layers copy a blob that several layers take.
    assert all("_split_" in blob for blob in theirs.keys() - shared)


@golden
@pytest.mark.parametrize("name", ["DeepLab-LargeFOV", "DeepLab-MSc-LargeFOV"])
def test_golden_train_nets(name):
    folder = GOLDEN / "train" / name
    with_data = read_net(folder / "train.prototxt")
    with_input = read_net(folder / "train_input.prototxt")
    assert with_data.layers == with_input.layers
    assert with_data.output_shape() == (1, 21, 9, 9)
    assert with_data.parameters == read_net(GOLDEN / "nets" / name / "deploy.prototxt").parameters


def test_a_forks_data_layer_is_read_as_imagedata(tmp_path, caplog):
    described = 'top: "label" image_data_param { source: "l" } transform_param { mean_value: 9 }'
    text = current("ImageLabelmapData", described, "", "data") + current("Convolution", CONV)
    loss = current("SigmoidCrossEntropyLoss", 'bottom: "label"', "y", "loss")
    found = net(tmp_path, text + loss)
    assert [layer.name for layer in found.layers] == ["y"]
    assert found.preprocessing == Preprocessing((9, 9, 9))
    assert "has type 'ImageLabelmapData', a fork's, and is read as ImageData" in caplog.text
