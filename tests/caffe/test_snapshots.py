"""Caffemodels of train nets: what Caffe's snapshots hold, and the way on to the test net."""

from dataclasses import replace

import numpy as np
import pytest

from deeplab_repro.caffe import (
    bvlc_pb2,
    deeplab_pb2,
    load_weights,
    prototxt_text,
    read_caffemodel,
    read_net,
    read_train_net,
    write_caffemodel,
)
from deeplab_repro.errors import WeightsError
from deeplab_repro.net.net import Net
from tests.caffe.caffe_files import GOLDEN, GOLDEN_NETS, ROOT, check_mutations, golden

SMALL = """
name: "small"
layers {
  name: "data" type: IMAGE_SEG_DATA top: "data" top: "label" top: "data_dim"
  image_data_param { source: "list.txt" batch_size: 2 label_type: PIXEL shuffle: true }
  transform_param { crop_size: 9 mirror: true mean_value: [104.5, 116.5, 122.5] }
}
layers { name: "silence" type: SILENCE bottom: "data_dim" }
layers {
  name: "conv" type: CONVOLUTION bottom: "data" top: "conv"
  blobs_lr: [10, 20] weight_decay: [1, 0]
  convolution_param {
    num_output: 4 kernel_size: 3 pad: 2 hole: 2 weight_filler { type: "gaussian" std: 0.25 }
  }
}
layers {
  name: "loss" type: SOFTMAX_LOSS bottom: "conv" bottom: "label"
  softmaxloss_param { ignore_label: 255 }
}
layers {
  name: "accuracy" type: SEG_ACCURACY bottom: "conv" bottom: "label" top: "accuracy"
  seg_accuracy_param { ignore_label: 255 }
}
"""


@pytest.fixture
def small(tmp_path) -> Net:
    path = tmp_path / "train.prototxt"
    path.write_text(SMALL)
    net = read_train_net(path)
    net.fill_random(1)
    return net


def message_of(path, is_current: bool):
    schema = bvlc_pb2 if is_current else deeplab_pb2
    return schema.NetParameter.FromString(path.read_bytes())


def test_a_snapshot_in_the_authors_format(tmp_path, small):
    path = tmp_path / "a.caffemodel"
    write_caffemodel(small, path)
    message = message_of(path, False)
    kinds = [message.layers[0].LayerType.Name(layer.type) for layer in message.layers]
    assert kinds == ["IMAGE_SEG_DATA", "CONVOLUTION", "SOFTMAX_LOSS", "SEG_ACCURACY"]
    assert not message.input
    assert not message.input_dim
    data, conv, loss, accuracy = message.layers
    assert list(data.top) == ["data", "label"]
    assert (data.image_data_param.source, data.image_data_param.shuffle) == ("list.txt", True)
    assert data.image_data_param.label_type == data.image_data_param.PIXEL
    assert (data.transform_param.crop_size, data.transform_param.mirror) == (9, True)
    assert list(data.transform_param.mean_value) == [104.5, 116.5, 122.5]
    assert (list(conv.blobs_lr), list(conv.weight_decay)) == ([10, 20], [1, 0])
    assert (conv.convolution_param.weight_filler.std, conv.convolution_param.hole) == (0.25, 2)
    assert [len(layer.blobs) for layer in message.layers] == [0, 2, 0, 0]
    assert (list(loss.bottom), list(loss.top)) == (["conv", "label"], ["loss"])
    assert list(loss.softmaxloss_param.ignore_label) == [255]
    assert list(accuracy.seg_accuracy_param.ignore_label) == [255]


def test_a_snapshot_in_the_current_format(tmp_path, small):
    path = tmp_path / "a.caffemodel"
    write_caffemodel(small, path, current=True)
    data, conv, loss, accuracy = message_of(path, True).layer
    kinds = [layer.type for layer in (data, conv, loss, accuracy)]
    assert kinds == ["ImageSegData", "Convolution", "SoftmaxWithLoss", "SegAccuracy"]
    assert [(p.lr_mult, p.decay_mult) for p in conv.param] == [(10, 1), (20, 0)]
    assert (conv.convolution_param.weight_filler.std, conv.convolution_param.dilation) == (
        0.25,
        [2],
    )
    assert loss.loss_param.ignore_label == 255


@pytest.mark.parametrize("is_current", [False, True])
def test_a_net_with_inputs_names_them_all(tmp_path, small, is_current):
    path = tmp_path / "a.caffemodel"
    small.data = None
    write_caffemodel(small, path, is_current)
    message = message_of(path, is_current)
    if is_current:
        inputs = [layer for layer in message.layer if layer.type == "Input"]
        assert [layer.top[0] for layer in inputs] == ["data", "label"]
        assert [list(layer.input_param.shape[0].dim)[1] for layer in inputs] == [3, 1]
    else:
        assert list(message.input) == ["data", "label"]
        assert not message.input_dim  # as Caffe's own


@pytest.mark.parametrize("is_current", [False, True])
def test_a_snapshot_goes_into_the_net_that_is_tested(tmp_path, small, is_current):
    write_caffemodel(small, tmp_path / "a.caffemodel", is_current)
    tested = read_net(tmp_path / "train.prototxt")
    load_weights(tested, tmp_path / "a.caffemodel")
    assert [layer.name for layer in tested.layers] == ["conv"]
    for blob, trained in zip(tested.layers[0].blobs, small.layers[0].blobs, strict=True):
        np.testing.assert_array_equal(blob.data, trained.data)
    load_weights(small, tmp_path / "a.caffemodel")  # and on into the next training


@pytest.mark.parametrize("is_current", [False, True])
def test_a_snapshot_tells_what_it_was_trained_on(tmp_path, small, is_current):
    assert small.data
    small.data = replace(small.data, source="voc12/list/trainval_aug.txt")
    write_caffemodel(small, tmp_path / "a.caffemodel", is_current)
    assert read_caffemodel(tmp_path / "a.caffemodel").training_list == "trainval_aug"
    described = read_caffemodel(tmp_path / "a.caffemodel", weights=False)
    assert described.training_list == "trainval_aug"
    assert not any(layer.blobs for layer in described.layers)
    small.data = None
    write_caffemodel(small, tmp_path / "b.caffemodel", is_current)
    assert read_caffemodel(tmp_path / "b.caffemodel").training_list is None


def test_nothing_is_written_without_weights(tmp_path, small):
    small.layers[0].blobs[1].data = None
    with pytest.raises(WeightsError, match="'conv' has no weights"):
        write_caffemodel(small, tmp_path / "a.caffemodel")
    assert [path.name for path in tmp_path.iterdir()] == ["train.prototxt"]


def test_a_test_net_is_written_as_ever():
    """What a train net has more stays out of other nets' files."""
    text = prototxt_text(read_net(ROOT / "prototxt/DeepLab-LargeFOV/test.prototxt"))
    for word in ("blobs_lr", "weight_decay", "filler", "IMAGE_SEG_DATA", "LOSS"):
        assert word not in text


# --- the original's


@golden
@pytest.mark.parametrize("name", ["DeepLab-LargeFOV", "DeepLab-MSc-LargeFOV"])
def test_our_snapshots_are_the_original_s(tmp_path, name):
    """init.caffemodel is one of the original's: of the same net without its loss."""
    folder = GOLDEN / "train" / name
    net = read_train_net(folder / "train_input.prototxt")
    load_weights(net, folder / "init.caffemodel")
    write_caffemodel(net, tmp_path / "ours", False)
    ours, theirs = (
        message_of(tmp_path / "ours", False),
        message_of(folder / "init.caffemodel", False),
    )
    assert (ours.name, list(ours.input)) == (theirs.name, list(theirs.input))
    written = {layer.name: layer for layer in ours.layers}
    learners = 0
    for layer in theirs.layers:
        if not layer.blobs:
            continue
        learners += 1
        found = written[layer.name]
        for each in (layer, found):
            parameters = each.convolution_param
            # Defaults that the file spells out are not repeated, and of Caffe's own SPLIT layers,
            # which copy a blob that several layers take, we have none.
            if parameters.stride == 1:
                parameters.ClearField("stride")
            if parameters.bias_filler == type(parameters.bias_filler)(type="constant", value=0):
                parameters.ClearField("bias_filler")
            each.ClearField("bottom")
            for blob in each.blobs:
                blob.ClearField("diff")
        assert found.SerializeToString() == layer.SerializeToString()
    assert learners == sum(bool(layer.blobs) for layer in net.layers)


@golden
@pytest.mark.parametrize("name", ["DeepLab-LargeFOV", "DeepLab-MSc-LargeFOV"])
def test_a_golden_snapshot_goes_into_the_golden_test_net(tmp_path, name):
    assert name in GOLDEN_NETS
    folder = GOLDEN / "train" / name
    net = read_train_net(folder / "train.prototxt")
    load_weights(net, folder / "init.caffemodel")
    write_caffemodel(net, tmp_path / "ours")
    tested = read_net(GOLDEN / "nets" / name / "deploy.prototxt")
    load_weights(tested, tmp_path / "ours")
    original = {
        layer.name: layer.blobs for layer in read_caffemodel(folder / "init.caffemodel").layers
    }
    for layer in tested.layers:
        for blob, array in zip(
            layer.blobs, original[layer.name] if layer.blobs else [], strict=True
        ):
            assert blob.data.tobytes() == array.tobytes()


# --- accidents


def test_mutations_of_a_train_net(tmp_path):
    def read_and_write(path):
        return [prototxt_text(read_train_net(path), way) for way in (False, True)]

    check_mutations(tmp_path / "net.prototxt", SMALL.encode(), read_and_write)
