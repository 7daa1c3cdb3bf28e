"""Crops that align their bottoms: the offsets that BVLC's nets of the same geometry name."""

import logging

import numpy as np
import pytest

from deeplab_repro.caffe import read_net
from deeplab_repro.errors import NetError
from deeplab_repro.net.shape_layers import Crop
from tests.conftest import assert_one_line

POOLS = ((2, 1), (2, 2), (3, 3), (3, 4), (3, 5))


def conv(name, bottom, rest):
    return f"""layers {{ name: "{name}" type: CONVOLUTION bottom: "{bottom}" top: "{name}"
    convolution_param {{ num_output: 1 {rest} }} }}\n"""


def enlarge(name, bottom, size, stride):
    return f"""layers {{ name: "{name}" type: DECONVOLUTION bottom: "{bottom}" top: "{name}"
    convolution_param {{ num_output: 1 kernel_size: {size} stride: {stride} }} }}\n"""


def join(name, kind, first, second):
    bottoms = f'bottom: "{first}" bottom: "{second}"'
    return f'layers {{ name: "{name}" type: {kind} {bottoms} top: "{name}" }}\n'


def fcn() -> str:
    """FCN-8s of 2014 in V1, with one channel: pad 100, five pools, three crops without offsets."""
    text, bottom = 'input: "data" input_dim: [1, 1, 65, 97]\n', "data"
    for count, stage in POOLS:
        for number in range(1, count + 1):
            name = f"conv{stage}_{number}"
            text += conv(name, bottom, f"kernel_size: 3 pad: {100 if name == 'conv1_1' else 1}")
            bottom = name
        text += f"""layers {{ name: "pool{stage}" type: POOLING
    bottom: "{bottom}" top: "pool{stage}" pooling_param {{ kernel_size: 2 stride: 2 }} }}\n"""
        bottom = f"pool{stage}"
    text += conv("score", "pool5", "kernel_size: 7")
    text += enlarge("score2", "score", 4, 2) + conv("score_pool4", "pool4", "kernel_size: 1")
    text += join("score_pool4c", "CROP", "score_pool4", "score2")
    text += join("fuse", "ELTWISE", "score2", "score_pool4c")
    text += enlarge("score4", "fuse", 4, 2) + conv("score_pool3", "pool3", "kernel_size: 1")
    text += join("score_pool3c", "CROP", "score_pool3", "score4")
    text += join("last", "ELTWISE", "score4", "score_pool3c")
    return text + enlarge("big", "last", 16, 8) + join("upscore", "CROP", "big", "data")


def test_the_first_fcns_offsets(tmp_path):
    """BVLC's FCN-8s, of the same geometry, names 5, 9 and 31."""
    path = tmp_path / "fcn.prototxt"
    path.write_text(fcn())
    net = read_net(path)
    offsets = {layer.name: layer.op.offset for layer in net.layers if isinstance(layer.op, Crop)}
    assert offsets == {"score_pool4c": (5, 5), "score_pool3c": (9, 9), "upscore": (31, 31)}
    assert net.dialect == "Caffe V1"
    assert net.output_shape() == (1, 1, 65, 97)


def test_bottoms_between_pixels_are_refused(tmp_path):
    path = tmp_path / "between.prototxt"
    text = 'input: "data" input_dim: [1, 1, 20, 20]\n' + conv("a", "data", "kernel_size: 2")
    path.write_text(text + join("b", "CROP", "data", "a"))
    with pytest.raises(NetError) as error:
        read_net(path)
    assert_one_line(error, "layer 'b' (CROP)", "strides 1 and 1 and lie 0.5 apart")


def test_a_bottom_of_a_size_of_its_own_is_refused_and_others_are_not(tmp_path):
    sized = """layers { name: "s" type: INTERP bottom: "a" top: "s"
    interp_param { height: 22 width: 22 } }\n"""
    text = 'input: "data" input_dim: [1, 1, 20, 20]\n' + conv("a", "data", "kernel_size: 3 pad: 2")
    path = tmp_path / "net.prototxt"
    path.write_text(text + sized + join("b", "CROP", "a", "data"))
    assert read_net(path).layers[-1].op.offset == (1, 1)
    path.write_text(text + sized + join("b", "CROP", "s", "data"))
    with pytest.raises(NetError) as error:
        read_net(path)
    assert_one_line(error, "layer 'b' (CROP)", "'s' is an Interp to a size")


@pytest.mark.parametrize(("pad", "warned"), [(3, True), (1, False)])
def test_a_current_crop_without_an_offset_is_told(tmp_path, caplog, pad, warned):
    path = tmp_path / "net.prototxt"
    path.write_text(
        f"""input: "data" input_dim: [1, 1, 20, 20]
        layer {{ name: "a" type: "Convolution" bottom: "data" top: "a"
                 convolution_param {{ num_output: 1 kernel_size: 3 pad: {pad} }} }}
        layer {{ name: "b" type: "Crop" bottom: "a" bottom: "data" top: "b" }}"""
    )
    with caplog.at_level(logging.WARNING):
        net = read_net(path)
    assert net.layers[1].op == Crop()
    assert ("write crop_param { offset: 2 }" in caplog.text) == warned
    assert np.array_equal(net.output_shape(), (1, 1, 20, 20))
