"""V1 files of BVLC's Caffe, whose type 39 and field 42 mean other things in the authors'."""

import numpy as np
import pytest

from deeplab_repro.caffe import (
    load_weights,
    prototxt_text,
    read_caffemodel,
    read_net,
    read_train_net,
    write_caffemodel,
)
from deeplab_repro.net.layers import Deconvolution, SoftmaxLoss
from tests.caffe.caffe_files import (
    DATA,
    INPUT,
    LEGACY,
    VARINT,
    field,
    net,
    number,
    read,
    v1,
)

UP = "convolution_param { num_output: 2 kernel_size: 4 stride: 2 pad: 1 group: 2 }"
CONV = v1("CONVOLUTION", "convolution_param { num_output: 2 kernel_size: 3 pad: 1 }", top="c")
IMAGES = """
layers { name: "data" type: %s top: "data" top: "label"
  image_data_param { source: "list.txt" batch_size: 1 label_type: PIXEL }
  transform_param { crop_size: 9 } }
"""


@pytest.mark.parametrize("kind", ["DECONVOLUTION", "IMAGE_SEG_DATA", "39"])
def test_a_deconvolution_in_text_by_either_name_and_by_number(tmp_path, kind):
    found = net(tmp_path, INPUT + CONV + v1(kind, UP, bottom="c"))
    assert found.layers[1].op == Deconvolution(2, (4, 4), (1, 1), (2, 2), 2)
    assert found.dialect == "Caffe V1"


@pytest.mark.parametrize("kind", ["DECONVOLUTION", "IMAGE_SEG_DATA", "39"])
def test_a_data_layer_in_text_by_either_name_and_by_number(tmp_path, kind):
    path = tmp_path / "train.prototxt"
    loss = 'layers { name: "loss" type: SOFTMAX_LOSS bottom: "c" bottom: "label" }'
    path.write_text(IMAGES % kind + CONV + loss)
    found = read_train_net(path)
    assert found.data
    assert (found.data.source, found.dialect) == ("list.txt", "DeepLab v1")
    assert read_net(path).input_shape == (1, 3, 9, 9)


@pytest.mark.parametrize(
    ("described", "blobs", "kind", "dialect"),
    [
        (field(2, "c") + field(10, field(1, 2, VARINT)), b"", "DECONVOLUTION", "Caffe V1"),
        (field(2, "c") + field(10, field(1, 2, VARINT)), LEGACY, "DECONVOLUTION", "Caffe V1"),
        (b"", LEGACY, "DECONVOLUTION", "Caffe V1"),  # of a file stripped to its weights
        (field(3, "data") + field(15, field(1, "l")), b"", "IMAGE_SEG_DATA", "DeepLab v1"),
        (field(3, "data") + field(36, field(3, 9, VARINT)), b"", "IMAGE_SEG_DATA", "DeepLab v1"),
    ],
)
def test_type_39_of_a_caffemodel(tmp_path, described, blobs, kind, dialect):
    blob = field(6, blobs + DATA) if blobs else b""
    model = read(tmp_path, field(2, field(4, "x") + field(5, 39, VARINT) + described + blob))
    assert [(layer.type, len(layer.blobs)) for layer in model.layers] == [(kind, bool(blobs))]
    assert model.dialect == dialect


def test_field_42_of_a_caffemodel(tmp_path):
    """An ignored label is no accuracy, and makes no file the authors'."""
    inside = field(1, 255, VARINT) + field(2, 1, VARINT)
    loss = field(4, "loss") + field(5, 21, VARINT) + field(42, inside)
    model = read(tmp_path, field(2, loss))
    assert model.dialect == "Caffe V1"
    found = model.layers[0].message.loss_param
    assert (found.ignore_label, found.normalize) == (255, True)

    accuracy = field(4, "a") + field(5, 40, VARINT) + field(42, field(2, 255, VARINT))
    model = read(tmp_path, field(2, accuracy))
    assert model.dialect == "DeepLab v1"
    assert list(model.layers[0].message.seg_accuracy_param.ignore_label) == [255]


def test_a_deconvolution_is_written_as_it_was_read(tmp_path):
    """Text has BVLC's name, binary files its number."""
    text = INPUT + CONV + v1("DECONVOLUTION", UP, bottom="c")
    found = net(tmp_path, text)
    found.fill_random(1)
    written = prototxt_text(found)
    assert "type: DECONVOLUTION" in written
    again = net(tmp_path, written)
    assert again.layers[1].op == found.layers[1].op
    assert prototxt_text(again) == written

    path = tmp_path / "net.caffemodel"
    write_caffemodel(found, path)
    assert b"\x28" + number(39) in path.read_bytes()  # type, the fifth field
    assert number(1039) not in path.read_bytes()
    model = read_caffemodel(path)
    assert [layer.type for layer in model.layers] == ["CONVOLUTION", "DECONVOLUTION"]
    assert model.dialect == "Caffe V1"
    load_weights(again, model)
    for layer, loaded in zip(found.layers, again.layers, strict=True):
        for blob, other in zip(layer.blobs, loaded.blobs, strict=True):
            np.testing.assert_array_equal(other.data, blob.data)


def test_a_train_net_with_both_is_written_as_it_was_read(tmp_path):
    """Type 39 stands for the data layer and for the deconvolution in one file."""
    path = tmp_path / "train.prototxt"
    loss = 'layers { name: "loss" type: SOFTMAX_LOSS bottom: "y" bottom: "label" }'
    same = UP.replace("4", "3").replace("stride: 2", "")
    path.write_text(IMAGES % "IMAGE_SEG_DATA" + CONV + v1("DECONVOLUTION", same, "c") + loss)
    found = read_train_net(path)
    found.fill_random(1)
    write_caffemodel(found, tmp_path / "a.caffemodel")
    kinds = [layer.type for layer in read_caffemodel(tmp_path / "a.caffemodel").layers]
    assert kinds == ["IMAGE_SEG_DATA", "CONVOLUTION", "DECONVOLUTION", "SOFTMAX_LOSS"]
    path.write_text(prototxt_text(found))
    again = read_train_net(path)
    assert [layer.op for layer in again.layers] == [layer.op for layer in found.layers]
    assert isinstance(again.layers[-1].op, SoftmaxLoss)
    assert again.data == found.data
