"""Nets of other people's Caffe, as BVLC's ran them: in every engine, and after conversion."""

from dataclasses import replace

import numpy as np
import pytest

from deeplab_repro.caffe import load_weights, read_net
from deeplab_repro.convert.npz import read_npz
from deeplab_repro.engines.exact import exact_blobs
from deeplab_repro.engines.onnxruntime import OnnxRuntimeEngine
from deeplab_repro.engines.opencv import OpenCVEngine
from deeplab_repro.engines.opencv_cpu import OpenCVCpuEngine
from deeplab_repro.jobs.convert import convert_files
from deeplab_repro.jobs.verify import run_onnx

pytestmark = pytest.mark.golden
pytest.importorskip("onnxruntime")

BVLC = [
    *("bilinear_group_deconvolution", "crop", "crop_two_offsets", "fcn_skips"),
    *("flatten_reshape_inner_product", "global_pooling", "shared_by_name", "slice_concat"),
]
REAL = ["cifar10-quick-v1", "lenet-rmsprop-v2", "lenet-v1"]


def read(golden, name):
    """A net with weights, its input, and the blobs that Caffe made of it."""
    if name in BVLC:
        folder = golden / "bvlc" / name
        net = read_net(folder / "net.prototxt")
        with np.load(folder / "blobs.npz") as arrays:
            blobs = dict(arrays)
        data = blobs.pop(net.input)
    else:
        folder = golden / "real" / name
        net = read_net(folder / "deploy.prototxt")
        with np.load(folder / "io.npz") as arrays:
            data, blobs = arrays["input"], {net.output: arrays["output"]}
        net = replace(net, input_shape=data.shape)
    load_weights(net, folder / "weights.caffemodel")
    return net, data, blobs


def assert_are_caffes(found, blobs):
    for blob, theirs in blobs.items():
        assert found[blob].shape == theirs.shape, blob
        assert np.abs(found[blob] - theirs).max() <= 1e-4 * max(1, theirs.std()), blob
        np.testing.assert_array_equal(found[blob].argmax(1), theirs.argmax(1), blob)


def runs(net):
    """What runs a net, by name: a function of the input and the names of blobs."""
    yield OpenCVEngine(net, "cpu").blobs
    yield OpenCVCpuEngine(net).blobs
    yield OnnxRuntimeEngine(net, "cpu").blobs
    yield lambda data, names: exact_blobs(net, data, names)


@pytest.mark.parametrize("name", BVLC + REAL)
def test_every_blob(golden, name):
    net, data, blobs = read(golden, name)
    for run in runs(net):
        assert_are_caffes(run(data, blobs), blobs)


@pytest.mark.parametrize("name", BVLC + REAL)
@pytest.mark.parametrize("to", ["onnx", "caffe", "npz"])
def test_after_conversion(golden, tmp_path, name, to):
    net, data, blobs = read(golden, name)
    files = convert_files(net, to, tmp_path / "x", verify=True).files
    if to == "onnx":
        found = dict(zip(net.outputs, run_onnx(files[0], data)[1], strict=True))
        assert_are_caffes(found, {output: blobs[output] for output in net.outputs})
        return
    again = read_npz(files[0]) if to == "npz" else read_net(files[0])
    if to == "caffe":
        load_weights(again, files[1])
    for run in runs(again):
        assert_are_caffes(run(data, blobs), blobs)
