"""Layers that Caffe fills with bilinear kernels, where a caffemodel lacks them."""

import numpy as np
import pytest

from deeplab_repro.caffe import load_weights, read_net, write_caffemodel, write_prototxt
from deeplab_repro.errors import NetError, WeightsError
from deeplab_repro.net.kernels import bilinear_kernels
from tests.caffe.caffe_files import INPUT, current, net, v1

CONV = "convolution_param { num_output: 4 kernel_size: 1 }"


def up(filler: str, rest: str = "kernel_size: 4 stride: 2 pad: 1") -> str:
    return f"convolution_param {{ num_output: 4 group: 4 {rest} {filler} }}"


BILINEAR = "weight_filler { type: 'bilinear' }"


@pytest.mark.parametrize(
    ("layer", "types"),
    [(v1, ("CONVOLUTION", "DECONVOLUTION")), (current, ("Convolution", "Deconvolution"))],
)
@pytest.mark.parametrize("bias", [0, 0.5])
def test_the_file_lacks_them(tmp_path, layer, types, bias):
    conv = INPUT + layer(types[0], CONV, "data", "c")
    filler = BILINEAR + (f"bias_filler {{ value: {bias} }}" if bias else "")
    made = net(tmp_path, conv)
    made.fill_random(0)
    write_caffemodel(made, tmp_path / "c.caffemodel")
    found = net(tmp_path, conv + layer(types[1], up(filler), "c", "up"))
    assert load_weights(found, tmp_path / "c.caffemodel") == []
    weight, offset = (blob.data for blob in found.layers[1].blobs)
    np.testing.assert_array_equal(weight, bilinear_kernels((4, 1, 4, 4)))
    np.testing.assert_array_equal(offset, np.full(4, bias, np.float32))
    # The file's own come first, and what is written says the filler again.
    weight[:] = 7
    write_caffemodel(found, tmp_path / "all.caffemodel")
    write_prototxt(found, tmp_path / "again.prototxt", current=layer is current)
    again = read_net(tmp_path / "again.prototxt")
    assert load_weights(again, tmp_path / "all.caffemodel") == []
    np.testing.assert_array_equal(again.layers[1].blobs[0].data, weight)
    load_weights(again, tmp_path / "c.caffemodel")
    np.testing.assert_array_equal(
        again.layers[1].blobs[0].data[0, 0], bilinear_kernels((1, 1, 4, 4))[0, 0]
    )


@pytest.mark.parametrize("filler", ["", "weight_filler { type: 'gaussian' }"])
def test_others_are_errors(tmp_path, filler):
    conv = INPUT + v1("CONVOLUTION", CONV, "data", "c")
    made = net(tmp_path, conv)
    made.fill_random(0)
    write_caffemodel(made, tmp_path / "c.caffemodel")
    found = net(tmp_path, conv + v1("DECONVOLUTION", up(filler), "c", "up"))
    with pytest.raises(WeightsError, match="has no layer 'up'"):
        load_weights(found, tmp_path / "c.caffemodel")


def test_kernels_that_are_not_square(tmp_path):
    conv = INPUT + v1("CONVOLUTION", CONV, "data", "c")
    made = net(tmp_path, conv)
    made.fill_random(0)
    write_caffemodel(made, tmp_path / "c.caffemodel")
    text = conv + v1("DECONVOLUTION", up(BILINEAR, "kernel_h: 4 kernel_w: 2"), "c", "up")
    with pytest.raises(WeightsError, match=r"layer 'up': the filler bilinear for 4x1x4x2"):
        load_weights(net(tmp_path, text), tmp_path / "c.caffemodel")


def test_a_broken_filler_is_named(tmp_path):
    filler = BILINEAR + " bias_filler { type: 'cubic' }"
    text = INPUT + v1("DECONVOLUTION", up(filler).replace("4 group: 4", "3 group: 3"))
    with pytest.raises(
        NetError, match=r"layer 'y' \(Deconvolution\): bias_filler has type 'cubic'"
    ):
        net(tmp_path, text)
