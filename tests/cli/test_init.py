"""deeplab-repro init: the table, the file it writes, and what it refuses."""

import pytest

from deeplab_repro.caffe import read_caffemodel, read_net, write_caffemodel

SMALLER = """
name: "smaller" input: "data" input_dim: 1 input_dim: 3 input_dim: 33 input_dim: 41
layers { name: "conv" type: CONVOLUTION bottom: "data" top: "conv"
  convolution_param { num_output: 2 kernel_size: 2 stride: 8 } }
layers { name: "relu" type: RELU bottom: "conv" top: "conv" }
layers { name: "fc8_${EXP}" type: CONVOLUTION bottom: "conv" top: "fc8"
  convolution_param { num_output: 4 kernel_size: 1 } }
"""


@pytest.fixture
def weights(tiny):
    net = read_net(tiny)
    net.fill_random(0)
    path = tiny.with_suffix(".caffemodel")
    write_caffemodel(net, path)
    return path


@pytest.fixture
def smaller(tmp_path):
    path = tmp_path / "smaller.prototxt"
    path.write_text(SMALLER)
    return path


def test_the_table_and_the_file(command, smaller, weights, tmp_path):
    out = tmp_path / "init.caffemodel"
    status, printed, err = command(
        *("init", "--net", smaller, "--weights", weights, "--out", out, "--set", "EXP=mine")
    )
    assert (status, err) == (0, "")
    lines = [" ".join(line.split()) for line in printed.splitlines()]
    assert "conv 2x3x2x2 decimated 3x3 -> 2x2, outputs 5 -> 2" in lines
    assert "fc8_mine 4x2x1x1 not in the file: by its filler" in lines
    assert "not in the net, left out: fc8" in lines
    assert lines[-1] == f"written: {out}"
    assert [layer.name for layer in read_caffemodel(out).layers] == ["conv"]


def test_all_of_a_net(command, tiny, weights, tmp_path):
    out = tmp_path / "init.caffemodel"
    status, printed, _ = command("init", "--net", tiny, "--weights", weights, "--out", out)
    assert status == 0
    assert "left out" not in printed
    assert [layer.name for layer in read_caffemodel(out).layers] == ["conv", "fc8"]


def test_what_is_refused(refused, tiny, smaller, weights, tmp_path):
    def error(net=smaller, weights=weights, out=tmp_path / "init.caffemodel"):
        return refused("init", "--net", net, "--weights", weights, "--out", out)

    assert "is it the prototxt in the wrong place?" in error(weights=tiny)
    assert "caffemodel" in error(net=weights)
    assert "cannot be read" in error(weights=tmp_path / "none.caffemodel")
    assert "there is no folder" in error(out=tmp_path / "none/init.caffemodel")
    grown = tmp_path / "grown.prototxt"
    grown.write_text(SMALLER.replace("num_output: 2", "num_output: 6"))
    assert "has 5 outputs, expected 6 or more" in error(net=grown)
    assert not (tmp_path / "init.caffemodel").exists()
