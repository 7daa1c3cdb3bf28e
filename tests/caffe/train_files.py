"""What the tests of train nets share: small ones as text, and the way to read them."""

from dataclasses import replace
from pathlib import Path

from deeplab_repro.caffe import read_train_net, write_prototxt
from deeplab_repro.net.layers import SoftmaxLoss
from deeplab_repro.net.net import Net
from tests.caffe.caffe_files import CONV, current, v1

IMAGES = 'source: "list.txt" batch_size: 2 '
CROP = "transform_param { crop_size: 9 }"


def seg_data(images: str = IMAGES + "label_type: PIXEL", rest: str = CROP) -> str:
    """A V1 data layer with all three tops."""
    return (
        'layers { name: "data" type: IMAGE_SEG_DATA top: "data" top: "label" top: "data_dim" '
        f"image_data_param {{ {images} }} {rest} }}\n"
    )


def loss(rest: str = "softmaxloss_param { ignore_label: 255 }", name: str = "loss") -> str:
    """A V1 loss of y and label, without a top."""
    return f'layers {{ name: "{name}" type: SOFTMAX_LOSS bottom: "y" bottom: "label" {rest} }}\n'


BODY = v1("CONVOLUTION", CONV)
SMALL = seg_data() + BODY + loss()
INPUTS = 'input: "data" input: "label" input_dim: [2, 3, 9, 9, 2, 1, 9, 9]\n'
CURRENT_INPUTS = (
    'layer { name: "in" type: "Input" top: "data" top: "label" input_param { '
    "shape { dim: [2, 3, 9, 9] } shape { dim: [2, 1, 9, 9] } } }\n"
)


def current_loss(rest: str = "loss_param { ignore_label: 255 }") -> str:
    """A loss of y and label in the current format."""
    return (
        'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "y" bottom: "label" top: "loss" '
        f"{rest} }}\n"
    )


CURRENT = CURRENT_INPUTS + current("Convolution", CONV) + current_loss()


def train(tmp_path: Path, text: str, **variables: str) -> Net:
    """The train net of a prototxt of this text."""
    path = tmp_path / "train.prototxt"
    path.write_text(text)
    return read_train_net(path, variables)


def found_loss(found: Net) -> SoftmaxLoss:
    """What the net's one loss does."""
    (op,) = [layer.op for layer in found.layers if isinstance(layer.op, SoftmaxLoss)]
    return op


def rewritten(found: Net, path: Path, is_current: bool = False) -> Net:
    """The net from its own prototxt, under the dialect's name that it came with."""
    write_prototxt(found, path, is_current)
    again = read_train_net(path)
    assert again.dialect == "Caffe" if is_current else again.dialect != "Caffe"
    return replace(again, dialect=found.dialect)
