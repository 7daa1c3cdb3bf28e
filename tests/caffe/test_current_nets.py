"""Nets of the current format as they lie around: forks' layers, the mean, Caffe's own SPLIT."""

import cv2
import numpy as np
import pytest

from deeplab_repro.caffe import (
    bvlc_pb2,
    load_weights,
    prototxt_text,
    read_caffemodel,
    read_net,
    read_train_net,
)
from deeplab_repro.convert.caffe import to_caffe
from deeplab_repro.engines.opencv import BY_CAFFE
from deeplab_repro.net.other_layers import DenseCrfParameter
from deeplab_repro.net.preprocess import Preprocessing
from tests.caffe.caffe_files import CONV, DATA, INPUT, VARINT, current, field, net, read

MEAN = "transform_param { mean_value: [104, 117, 123] }"


def image_layer(parameters: str = "", name: str = "data") -> str:
    shape = "input_param { shape { dim: [1, 3, 9, 9] } }"
    return current("Input", f"{shape} {parameters}", "", name)


FORKS = """
name: "fork"
layer {
  name: "data" type: "Data" top: "data" top: "label" include { phase: TRAIN }
  transform_param { crop_size: 321 mirror: true mean_value: [1, 2, 3] }
  data_param { source: "train_lmdb" batch_size: 10 backend: LMDB }
}
layer {
  name: "data" type: "ImageSegData" top: "data" top: "label" top: "data_dim"
  include { phase: TEST }
  transform_param { crop_size: 33 mean_value: 104.008 mean_value: 116.669 mean_value: 122.675 }
  image_data_param { source: "val.txt" root_folder: "/VOC/" batch_size: 1 label_type: PIXEL }
}
layer {
  name: "block/conv" type: "Convolution" bottom: "data" top: "block/conv"
  param { lr_mult: 1 decay_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
  convolution_param {
    num_output: 4 kernel_h: 3 kernel_w: 3 pad: 2 pad: 2 dilation: 2 stride: 8 engine: CAFFE
    weight_filler { type: "msra" variance_norm: FAN_OUT } bias_filler { type: "constant" }
  }
}
layer { name: "block/relu" type: "ReLU" bottom: "block/conv" top: "block/conv" }
layer { name: "copies" type: "Split" bottom: "block/conv" top: "copy/0" top: "copy/1" }
layer { name: "sum" type: "Eltwise" bottom: "copy/0" bottom: "copy/1" top: "sum" }
layer {
  name: "up" type: "Interp" bottom: "sum" top: "up" interp_param { zoom_factor: 8 }
}
layer {
  name: "crf" type: "DenseCRF" bottom: "up" bottom: "data_dim" bottom: "data" top: "crf"
  dense_crf_param { pos_xy_std: 3 pos_w: 2 bi_xy_std: 50 bi_rgb_std: 5 bi_w: 4 }
}
layer {
  name: "mat" type: "MatWrite" bottom: "crf"
  mat_write_param { prefix: "out/" source: "val.txt" strip: 0 period: 1 }
}
layer {
  name: "accuracy" type: "SegAccuracy" bottom: "up" bottom: "label" top: "accuracy"
  seg_accuracy_param { ignore_label: 255 }
}
layer {
  name: "loss" type: "SoftmaxWithLoss" bottom: "up" bottom: "label" top: "loss"
  loss_param { ignore_label: 255 normalization: VALID } include { phase: TRAIN }
}
layer { name: "silence" type: "Silence" bottom: "data_dim" }
"""


def test_a_net_of_a_fork(tmp_path, caplog):
    found = net(tmp_path, FORKS)
    assert [layer.name for layer in found.layers] == [
        *("block/conv", "block/relu", "copies", "sum", "up")
    ]
    assert (found.input_shape, found.output_shape()) == ((1, 3, 33, 33), (1, 4, 33, 33))
    assert (found.dialect, found.output_stride) == ("Caffe", 8)
    assert found.preprocessing.mean == pytest.approx((104.008, 116.669, 122.675))
    assert found.dense_crf == DenseCrfParameter(10, (3,), (2,), (50,), (5,), (4,))
    assert not caplog.messages


def test_it_shows_well(tmp_path, command):
    (tmp_path / "fork.prototxt").write_text(FORKS)
    status, out, err = command("inspect", tmp_path / "fork.prototxt")
    assert (status, err) == (0, "")
    rows = [" ".join(line.split()) for line in out.splitlines()]
    assert "block/conv Convolution 1x4x5x5 112 3 8 2 2 data" in rows
    assert "copies Split 1x4x5x5 block/conv" in rows
    assert "output stride 8 (before the scores are enlarged)" in rows


def test_a_snapshot_of_it(tmp_path, command):
    """Caffe writes every layer, those of data and its own SPLIT too, and BlobShapes."""
    found = net(tmp_path, FORKS)
    found.fill_random(0)
    message = bvlc_pb2.NetParameter(name="fork")
    message.layer.add(name="data", type="ImageSegData", top=["data", "label"], phase=0)
    message.layer[0].image_data_param.source = "voc12/list/train_aug.txt"
    message.layer.add(name="label_data_1_split", type="Split", bottom=["label"], top=["a", "b"])
    conv = message.layer.add(name="block/conv", type="Convolution", bottom=["data"])
    for blob in found.layers[0].blobs:
        conv.blobs.add(data=blob.data.ravel().tolist()).shape.dim.extend(blob.shape)
    message.layer.add(name="block/relu", type="ReLU")
    path = tmp_path / "fork.caffemodel"
    path.write_bytes(message.SerializeToString())

    again = read_net(tmp_path / "net.prototxt")
    load_weights(again, path)
    for ours, theirs in zip(found.layers[0].blobs, again.layers[0].blobs, strict=True):
        np.testing.assert_array_equal(ours.data, theirs.data)
    assert read_caffemodel(path).training_list == "train_aug"
    status, out, _ = command("inspect", path)
    assert status == 0
    rows = [" ".join(line.split()) for line in out.splitlines()]
    assert "block/conv Convolution 4x3x3x3, 4 112" in rows


# --- the mean


@pytest.mark.parametrize(
    ("text", "mean"),
    [
        (image_layer(MEAN), (104, 117, 123)),
        (image_layer(), None),
        (image_layer("transform_param { mean_value: 110 }"), (110, 110, 110)),
        (image_layer() + image_layer(MEAN, "label"), None),  # not the image's
        (image_layer(f"{MEAN} include {{ phase: TRAIN }}") + image_layer(), None),
        (current("Data", MEAN, "", "data"), (104, 117, 123)),
    ],
)
def test_where_the_mean_is_given(tmp_path, text, mean):
    found = net(tmp_path, text + current("ReLU")).preprocessing
    assert found == (mean and Preprocessing(mean))


@pytest.mark.skipif(not BY_CAFFE, reason="this OpenCV has no Caffe importer")
def test_our_files_name_the_mean_where_caffe_does_not_look_at_it(tmp_path):
    found = net(tmp_path, image_layer(MEAN) + current("Convolution", CONV))
    found.fill_random(0)
    prototxt, caffemodel = to_caffe(found)
    assert b"mean_value: 104" in prototxt
    (tmp_path / "again.prototxt").write_bytes(prototxt)
    assert read_net(tmp_path / "again.prototxt").preprocessing == Preprocessing((104, 117, 123))
    loaded = cv2.dnn.readNetFromCaffe(
        np.frombuffer(prototxt, np.uint8), np.frombuffer(caffemodel, np.uint8)
    )
    loaded.setInput(np.zeros((1, 3, 9, 9), np.float32))
    np.testing.assert_array_equal(loaded.forward(), 0)  # nothing is taken off there either


def test_without_a_mean_nothing_is_written(tmp_path):
    assert "transform" not in prototxt_text(net(tmp_path, INPUT + current("ReLU")), current=True)


def test_a_train_net_with_inputs_is_read_back(tmp_path):
    labels = "input_param { shape { dim: [1, 1, 9, 9] } }"
    loss = current("SoftmaxWithLoss", 'bottom: "label"', "y", "loss")
    text = image_layer() + current("Input", labels, "", "label")
    path = tmp_path / "train.prototxt"
    path.write_text(text + current("Convolution", CONV) + loss)
    found = read_train_net(path)
    path.write_text(prototxt_text(found, current=True))
    assert read_train_net(path) == found


@pytest.mark.parametrize(
    "foreign",
    [
        field(143, field(1, "zoom")),  # a message where ours has another
        field(106, field(4, "\xff\xff")),
        field(110, b"\x0b\x0c"),
        field(10, "text"),
    ],
)
def test_what_a_forks_numbers_mean_is_not_needed_for_its_weights(tmp_path, foreign):
    blob = field(7, field(7, field(1, 2, VARINT) + field(1, 3, VARINT)) + DATA)
    described = field(1, "conv") + field(2, "Convolution") + foreign
    model = read(tmp_path, field(100, described + blob))
    (layer,) = model.layers
    assert (layer.name, layer.type, layer.blobs[0].shape) == ("conv", "Convolution", (2, 3))


def test_a_list_that_is_no_text(tmp_path):
    source = field(115, field(1, b"\xff\xfe"))  # image_data_param
    blob = field(7, field(7, field(1, 2, VARINT) + field(1, 3, VARINT)) + DATA)
    model = read(tmp_path, field(100, field(1, "data") + field(2, "ImageData") + source + blob))
    assert model.training_list is None
