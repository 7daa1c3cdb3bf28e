"""Converted files in onnxruntime and OpenCV's Caffe importer, whose errors become ours."""

import os
import sys

import cv2
import numpy as np
import pytest

from deeplab_repro.caffe import read_net
from deeplab_repro.convert import write_caffe, write_onnx
from deeplab_repro.engines.opencv import BY_CAFFE, OpenCVEngine
from deeplab_repro.errors import DeviceError, NetError
from deeplab_repro.jobs.converted import run_caffe, run_onnx
from deeplab_repro.net.layers import (
    Concat,
    Convolution,
    Deconvolution,
    Dropout,
    Eltwise,
    InnerProduct,
    Interp,
    Padding,
    Pooling,
    ReLU,
    Softmax,
    Split,
)
from deeplab_repro.net.net import Layer, Net
from tests.conftest import assert_one_line

by_caffe = pytest.mark.skipif(not BY_CAFFE, reason="OpenCV 5 has no Caffe importer")


@pytest.fixture
def net(tiny):
    found = read_net(tiny)
    found.fill_random(0)
    return found


@pytest.fixture
def data():
    return np.random.default_rng(0).normal(0, 50, (1, 3, 33, 41)).astype(np.float32)


def every_layer():
    """A net of every layer type, with several open ends and names that clash in OpenCV."""
    net = Net(
        "n",
        "data",
        (1, 3, 33, 41),
        [
            Layer("conv", Convolution(4, (3, 3), pad=(1, 1)), ("data",), ("a",)),
            Layer("x", ReLU(), ("a",), ("a",)),
            Layer("x", Dropout(0.5), ("a",), ("a",)),
            Layer("pool", Pooling("MAX", (3, 3), (1, 1), (2, 2)), ("a",), ("pool",)),
            Layer("pad", Padding(2, 0), ("pool",), ("pad",)),
            Layer("s", Split(), ("pad",), ("s1", "s2")),
            Layer("ave", Pooling("AVE", (3, 3), (1, 1), (1, 1)), ("s1",), ("ave",)),
            Layer("sum", Eltwise("SUM", (1.0, -0.5)), ("ave", "s2"), ("sum",)),
            Layer("both", Concat(), ("sum", "pad"), ("both",)),
            Layer("up", Deconvolution(4, (4, 4), stride=(2, 2), group=4), ("both",), ("up",)),
            Layer("x", Interp(zoom_factor=2, pad_beg=-1), ("up",), ("zoomed",)),
            Layer("small", Interp(height=3, width=2), ("sum",), ("small",)),
            Layer("fc", InnerProduct(5), ("small",), ("fc",)),
            Layer("p", Softmax(), ("up",), ("p",)),
        ],
    )
    net.fill_random(0)
    return net


def assert_agree(expected, found):
    for theirs, ours in zip(expected.values(), found, strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * max(1, theirs.std()))


def test_the_outputs_of_every_layer_type(tmp_path, data):
    net = every_layer()
    expected = OpenCVEngine(net, "cpu").blobs(data, net.outputs)
    assert list(expected) == ["zoomed", "fc", "p"]
    if BY_CAFFE:
        write_caffe(net, tmp_path / "n.prototxt", tmp_path / "n.caffemodel")
        what, found = run_caffe(tmp_path / "n.prototxt", tmp_path / "n.caffemodel", data)
        assert what == f"OpenCV {cv2.__version__}"
        assert_agree(expected, found)
    onnxruntime = pytest.importorskip("onnxruntime")
    write_onnx(net, tmp_path / "n.onnx")
    what, found = run_onnx(tmp_path / "n.onnx", data)
    assert what == f"onnxruntime {onnxruntime.__version__}"
    assert_agree(expected, found)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_names_that_are_no_utf_8(net, tmp_path, data):
    """Given such a path, OpenCV ends the process."""
    folder = tmp_path / os.fsdecode(b"\xff")
    folder.mkdir()
    if BY_CAFFE:
        write_caffe(net, folder / "n.prototxt", folder / "n.caffemodel")
        assert run_caffe(folder / "n.prototxt", folder / "n.caffemodel", data)[1]
    pytest.importorskip("onnxruntime")
    write_onnx(net, folder / "n.onnx")
    assert run_onnx(folder / "n.onnx", data)[1]


def test_onnxruntime_fails(net, tmp_path, data, capfd):
    version = f"onnxruntime {pytest.importorskip('onnxruntime').__version__}"
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"\x08\x07 no model\n")
    write_onnx(net, tmp_path / "n.onnx")
    for path, given in (
        (broken, data),
        (tmp_path / "n.onnx", data[:, :2]),
        (tmp_path / "n.onnx", data.astype(np.float64)),
    ):
        with pytest.raises(NetError) as caught:
            run_onnx(path, given)
        assert_one_line(caught, f"{version} cannot run the converted net: ", "without verifying")
    assert capfd.readouterr() == ("", "")


def test_no_onnxruntime(tmp_path, data, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(DeviceError) as caught:
        run_onnx(tmp_path / "n.onnx", data)
    assert_one_line(caught, "not installed", 'pip install "deeplab-repro[onnx]"')


@by_caffe
def test_opencv_fails(net, tmp_path, data, monkeypatch):
    prototxt, caffemodel = tmp_path / "n.prototxt", tmp_path / "n.caffemodel"
    write_caffe(net, prototxt, caffemodel)

    def error(given=data):
        with pytest.raises(NetError) as caught:
            run_caffe(prototxt, caffemodel, given)
        prefix, suffix = (
            f"OpenCV {cv2.__version__} cannot run the converted net: ",
            "without verifying",
        )
        assert_one_line(caught, prefix, suffix)
        return str(caught.value).removeprefix(prefix)

    assert error(data[:, :2])
    caffemodel.write_bytes(b"\xff")
    assert error().startswith("FAILED: ReadProtoFromBinary")
    # What bears no details of its own is not told with those of the error before.
    monkeypatch.setattr(cv2.dnn, "readNetFromCaffe", lambda *_: raised(cv2.error("bad_alloc")))
    assert error().startswith("bad_alloc; ")


def raised(error):
    raise error
