"""Every engine runs the nets of later Caffes as these did, blob by blob; so do conversions."""

import pytest

from deeplab_repro.caffe import load_weights, read_net
from deeplab_repro.convert.caffe import write_caffe
from deeplab_repro.convert.npz import read_npz, write_npz
from deeplab_repro.convert.onnx import to_onnx
from deeplab_repro.engines.exact import exact_blobs
from deeplab_repro.engines.folding import folded
from deeplab_repro.engines.onnxruntime import OnnxRuntimeEngine
from deeplab_repro.engines.opencv import OpenCVEngine
from deeplab_repro.engines.opencv_cpu import OpenCVCpuEngine
from deeplab_repro.net.channel_layers import BatchNorm, Scale
from tests.convert.onnx_runs import Runs
from tests.engines.golden_nets import FAMILY, assert_originals, family_net

pytestmark = pytest.mark.golden


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize("engine", [OpenCVEngine, OpenCVCpuEngine, OnnxRuntimeEngine])
def test_every_blob_is_the_originals(golden, name, engine):
    net, data, expected = family_net(golden / name)
    made = engine(net) if engine is OpenCVCpuEngine else engine(net, "cpu")
    assert_originals(made.blobs(data, expected), expected, net.output)
    # To the scores alone more can be folded.
    assert_originals(made.blobs(data, [net.output]), {net.output: expected[net.output]}, net.output)


@pytest.mark.parametrize("name", FAMILY)
def test_conversions_make_the_originals_blobs(golden, tmp_path, name):
    net, data, expected = family_net(golden / name)
    names = list(expected)
    for found in Runs(to_onnx(net, data.shape, names))(data).values():
        assert_originals(dict(zip(names, found.values(), strict=True)), expected, net.output)
    write_npz(net, tmp_path / "net.npz")
    write_caffe(net, tmp_path / "net.prototxt", tmp_path / "net.caffemodel")
    from_caffe = read_net(tmp_path / "net.prototxt")
    load_weights(from_caffe, tmp_path / "net.caffemodel")
    for read in (read_npz(tmp_path / "net.npz"), from_caffe):
        found = OnnxRuntimeEngine(read, "cpu").blobs(data, names)
        assert_originals(found, expected, net.output)


@pytest.mark.parametrize("name", FAMILY)
def test_every_blob_in_float64_is_the_originals(golden, name):
    net, data, expected = family_net(golden / name)
    assert_originals(exact_blobs(net, data, expected), expected, net.output)


def test_resnet_runs_without_its_normalisations(golden):
    """All 104 of each scale follow a convolution, and fold into it."""
    net, *_ = family_net(golden / "v2/ResNet101")
    lean = folded(net)
    kinds = [type(layer.op) for layer in net.layers]
    assert kinds.count(BatchNorm) == kinds.count(Scale) == 312
    assert not {BatchNorm, Scale} & {type(layer.op) for layer in lean.layers}
