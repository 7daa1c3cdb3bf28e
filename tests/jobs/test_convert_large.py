"""Files that are smaller than the net's own, in float16, and those too large for one ONNX file."""

import numpy as np
import pytest

from deeplab_repro.convert import onnx as onnx_module
from deeplab_repro.errors import ArgumentError, ConversionError
from deeplab_repro.jobs import convert as module
from deeplab_repro.jobs import verify
from deeplab_repro.jobs.convert import OnnxOptions, convert_files, files_written
from deeplab_repro.models.loading import load_net
from deeplab_repro.net.layers import Convolution
from tests.conftest import assert_one_line
from tests.jobs.conversions import PHOTOS, checked, conv, layer, net_of

HALVED = ["onnx", "npz", "safetensors"]


@pytest.mark.parametrize("to", HALVED)
def test_half_of_the_bytes_and_the_same_labels(tmp_path, to):
    net = load_net("ToyVOC-LargeFOV")
    options = {"onnx": PHOTOS} if to == "onnx" else {}
    converted = checked(net, to, tmp_path / "x", half=True, **options)
    assert 0.99 < converted.agreement <= 1
    (difference,) = converted.differences
    assert difference.largest <= difference.tolerance
    (whole,) = convert_files(net, to, tmp_path / "whole", **options).files
    # What does not halve is the net itself, 20,000 bytes of JSON in two of the formats.
    assert 0.45 < converted.files[0].stat().st_size / whole.stat().st_size < 0.55


def test_labels_that_change(tmp_path):
    """Scores that differ by less than float16 resolves."""
    net = net_of(layer("a", Convolution(2, (1, 1)), "data", "a"))
    for blob in net.layers[0].blobs:
        blob.data[:] = 0
    # Of two labels the second is the likelier, but in float16 they tie.
    net.layers[0].blobs[1].data[:] = [1, 1.0001]
    with pytest.raises(ConversionError) as error:
        checked(net, "npz", tmp_path / "x", half=True)
    assert_one_line(error, "'a' with float16 weights gives the label of float32 to 0.00% of", "99%")
    assert not list(tmp_path.iterdir())
    converted = checked(net, "npz", tmp_path / "x")
    assert converted.agreement is None


def test_a_wrong_half(tmp_path, monkeypatch):
    """The labels agree, the scores do not."""
    net = net_of(conv("a", "data", "a"))
    write = module.write_npz

    def write_changed(net, path, half):
        weight = net.layers[0].blobs[0]
        weight.data = weight.data * np.float32(1.001)
        write(net, path, half=half)

    monkeypatch.setattr(module, "write_npz", write_changed)
    monkeypatch.setattr(module, "check_files", lambda _, *rest: verify.check_files(before, *rest))
    before = net_of(conv("a", "data", "a"))
    with pytest.raises(ConversionError, match="output 'a' of the converted net differs by"):
        checked(net, "npz", tmp_path / "x", half=True)


def test_caffemodels_have_no_half(tmp_path):
    with pytest.raises(ArgumentError) as error:
        convert_files(net_of(conv("a", "data", "a")), "caffe", tmp_path / "x", half=True)
    assert_one_line(error, "caffemodels have no float16: use half with onnx, npz or safetensors")


# --- ONNX


@pytest.fixture
def limited(monkeypatch):
    """Let an ONNX file be no larger than a net of some hundred numbers."""
    monkeypatch.setattr(onnx_module, "LARGEST_FILE", onnx_module._REST + 100)


@pytest.mark.usefixtures("limited")
@pytest.mark.parametrize("half", [False, True])
def test_a_second_file_for_the_weights(tmp_path, half):
    onnxruntime = pytest.importorskip("onnxruntime")
    net = net_of(conv("a", "data", "a"), layer("b", Convolution(30, (3, 3)), "a", "b"))
    assert files_written(net, "onnx", "x", half)[1].name == "x.onnx.data"
    for _ in range(2):  # also in place of older ones
        converted = checked(net, "onnx", tmp_path / "x", half=half)
    assert [file.name for file in converted.files] == ["x.onnx", "x.onnx.data"]
    assert sorted(tmp_path.iterdir()) == converted.files
    assert converted.differences[0].largest <= converted.differences[0].tolerance
    assert onnxruntime.InferenceSession(tmp_path / "x.onnx", providers=["CPUExecutionProvider"])


@pytest.mark.usefixtures("limited")
def test_neither_file_is_left_where_one_fails(tmp_path, monkeypatch):
    net = net_of(layer("a", Convolution(30, (3, 3)), "data", "a"))
    for name in ("x.onnx", "x.onnx.data"):
        (tmp_path / name).write_bytes(b"old")
    monkeypatch.setattr(verify, "LEAST_AGREEMENT", 1.1)
    with pytest.raises(ConversionError):
        checked(net, "onnx", tmp_path / "x", half=True)
    found = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert found == {"x.onnx": b"old", "x.onnx.data": b"old"}


def test_opsets_that_onnxruntime_does_not_take(tmp_path, monkeypatch):
    net = net_of(conv("a", "data", "a"))
    monkeypatch.setattr(module, "newest_opset", lambda: 20)
    monkeypatch.setattr(module, "find_spec", lambda _: "there")
    assert convert_files(net, "onnx", tmp_path / "x", onnx=OnnxOptions(opset=20)).files
    with pytest.raises(ArgumentError) as error:
        convert_files(net, "onnx", tmp_path / "y", onnx=OnnxOptions(opset=21))
    assert_one_line(error, "opset is 21, expected at most 20, the newest that the installed onnx")
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    assert convert_files(net, "onnx", tmp_path / "y", onnx=OnnxOptions(opset=21)).files
    with pytest.raises(ArgumentError, match="opset is 29, expected a number from 13 to 28"):
        convert_files(net, "onnx", tmp_path / "z", onnx=OnnxOptions(opset=29))


def test_the_newest_opset_of_onnxruntime(tmp_path):
    pytest.importorskip("onnxruntime")
    newest = module.newest_opset()
    net = net_of(conv("a", "data", "a"))
    assert checked(net, "onnx", tmp_path / "x", onnx=OnnxOptions(opset=newest)).differences
