"""docs/layers.md is what the code gives, and no stage lacks a layer type in silence."""

import numpy as np
import pytest

from deeplab_repro.caffe import load_weights, prototxt_text, read_net, write_caffemodel
from deeplab_repro.convert.net_json import TYPES
from deeplab_repro.convert.npz import read_npz, write_npz
from deeplab_repro.convert.torch import write_torch
from deeplab_repro.engines.exact import exact_blobs
from deeplab_repro.engines.opencv import OpenCVEngine
from deeplab_repro.engines.opencv_cpu import OpenCVCpuEngine
from deeplab_repro.errors import DeepLabError
from deeplab_repro.net.channel_layers import BatchNorm
from deeplab_repro.net.layers import (
    Convolution,
    Deconvolution,
    InnerProduct,
    Pooling,
    SegAccuracy,
    SoftmaxLoss,
)
from deeplab_repro.net.net import Layer, Net
from deeplab_repro.net.shape_layers import ArgMax, Crop, Reshape, Slice, Tile
from deeplab_repro.train.network import Network
from tests.conftest import assert_one_line
from tests.slow_layers import net_of, random_input
from tests.tools.conftest import TOOLS, load

table = load("layer_table")

SHAPE = (1, 4, 6, 7)
# Those that have no parameters by default, or no such a top, or do not train as they are.
EXAMPLES = {
    BatchNorm: BatchNorm(use_global_stats=True),
    Convolution: Convolution(3, (3, 3)),
    Deconvolution: Deconvolution(2, (2, 2)),
    InnerProduct: InnerProduct(5),
    Pooling: Pooling("MAX", (2, 2)),
    Reshape: Reshape((0, -1, 7)),
    Tile: Tile(2),
}
KINDS = [kind for kind in TYPES.values() if kind not in (SegAccuracy, SoftmaxLoss)]


def example(kind) -> Net:
    """A net of one layer of the type, and one that takes its tops."""
    op = EXAMPLES.get(kind) or kind()
    bottoms = ("data", "data") if kind is Crop else ("data",)
    tops = ("a", "b") if kind is Slice else ("a",)
    after = [Layer(f"after {top}", Tile(1), (top,), (f"{top}2",)) for top in tops]
    return net_of(Layer("the layer", op, bottoms, tops), *after, shape=SHAPE)


def alone(kind) -> Net:
    """The net without what only the current format has."""
    net = example(kind)
    return Net(net.name, net.input, net.input_shape, net.layers[:1])


def v1(net, tmp_path):
    (tmp_path / "v1.prototxt").write_text(prototxt_text(net))
    found = read_net(tmp_path / "v1.prototxt")
    assert [layer.op for layer in found.layers] == [layer.op for layer in net.layers]


def current(net, tmp_path):
    (tmp_path / "net.prototxt").write_text(prototxt_text(net, current=True))
    write_caffemodel(net, tmp_path / "net.caffemodel", current=True)
    found = read_net(tmp_path / "net.prototxt")
    load_weights(found, tmp_path / "net.caffemodel")
    assert [layer.op for layer in found.layers] == [layer.op for layer in net.layers]


def npz(net, tmp_path):
    write_npz(net, tmp_path / "net.npz")
    assert read_npz(tmp_path / "net.npz").layers[0].op == net.layers[0].op


def runs_alike(net, engines):
    data = random_input(*SHAPE) / 50
    expected = exact_blobs(net, data, net.outputs)
    for engine in engines:
        for blob, found in engine.blobs(data, net.outputs).items():
            np.testing.assert_allclose(found, expected[blob], rtol=1e-4, atol=1e-4)


def onnx(net, _):
    from deeplab_repro.engines.onnxruntime import OnnxRuntimeEngine

    pytest.importorskip("onnxruntime")
    runs_alike(net, [OnnxRuntimeEngine(net, "cpu")])


def torch(net, tmp_path):
    write_torch(net, tmp_path / "model.safetensors", tmp_path / "model.py")


def opencv(net, _):
    runs_alike(net, [OpenCVEngine(net, "cpu"), OpenCVCpuEngine(net)])


def in_float64(net, _):
    exact_blobs(net, random_input(*SHAPE), net.outputs)


def train(net, _):
    scores = net.layers[0].tops[0]
    n, _, height, width = net.blob_shapes()[scores]
    loss = Layer("loss", SoftmaxLoss(), (scores, "label"), ("loss",))
    labels = {"label": (n, 1, height, width)}
    Network(Net("n", "data", SHAPE, [net.layers[0], loss], labels=labels))


STAGES = {
    "V1": v1,
    "current": current,
    "npz": npz,
    "ONNX": onnx,
    "torch": torch,
    "OpenCV 4": opencv,
    "float64": in_float64,
    "train": train,
}


def test_the_page_is_what_the_code_gives():
    assert (TOOLS.parent / "docs" / "layers.md").read_text() == table.page(), (
        "run tools/layer_table.py"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_no_stage_lacks_a_layer_in_silence(kind, tmp_path):
    known = table.stages(kind)
    assert known.keys() == STAGES.keys()
    for stage, run in STAGES.items():
        net = alone(kind) if stage in ("V1", "train") or kind is ArgMax else example(kind)
        if kind is ArgMax and stage in ("V1", "current"):
            continue  # at the end of a net it is left out: tests/caffe/test_shape_parameters.py
        if stage == "train" and len(net.output_shape()) != 4:
            continue  # a loss is of a map
        if known[stage]:
            run(net, tmp_path)
        else:
            with pytest.raises(DeepLabError) as error:
                run(net, tmp_path)
            assert_one_line(error, "'the layer'", kind.__name__)
