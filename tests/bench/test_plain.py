"""The peers run what was converted to the blob that they are asked for."""

import numpy as np
import pytest

from deeplab_repro.bench.plain import plain_onnxruntime, plain_opencv
from deeplab_repro.caffe import read_net
from deeplab_repro.convert import write_caffe
from deeplab_repro.convert.onnx import to_onnx
from deeplab_repro.engines.opencv import OpenCVEngine

SIZES = [(33, 41), (49, 57)]  # the second one is not that of the files


@pytest.fixture
def net(tiny):
    found = read_net(tiny)
    found.fill_random(0)
    return found


def check(run, net):
    for height, width in SIZES:
        data = np.random.default_rng(0).normal(0, 50, (1, 3, height, width)).astype(np.float32)
        expected = OpenCVEngine(net, "cpu").blobs(data, ["fc8"])["fc8"]
        found = run(data)
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, atol=1e-5 * expected.std())


def test_plain_opencv(net, tmp_path):
    paths = [tmp_path / f"net.{kind}" for kind in ("prototxt", "caffemodel", "onnx")]
    write_caffe(net, *paths[:2])
    paths[2].write_bytes(to_onnx(net, net.input_shape, ["fc8"]))
    check(plain_opencv(*paths, "fc8"), net)


def test_plain_onnxruntime(net, tmp_path):
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    path = tmp_path / "net.onnx"
    path.write_bytes(to_onnx(net, net.input_shape, ["fc8"]))
    check(plain_onnxruntime(path, threads=1), net)
