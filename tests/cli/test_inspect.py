"""deeplab-repro inspect: the table, the JSON, and the paper's figures in them."""

import json
import shutil

import numpy as np
import pytest
from rich.console import Console

from deeplab_repro.caffe import read_net, write_caffemodel, write_mean_file, write_solverstate
from deeplab_repro.cli import console
from deeplab_repro.convert import onnx_model_pb2, write_onnx
from deeplab_repro.files.safetensors import write_arrays
from deeplab_repro.jobs.convert import convert_files
from deeplab_repro.models.registry import MODELS
from deeplab_repro.net.preprocess import MeanImage
from deeplab_repro.net.solver import SolverState


@pytest.fixture
def caffemodel(tiny):
    net = read_net(tiny)
    net.fill_random(0)
    path = tiny.with_suffix(".caffemodel")
    write_caffemodel(net, path)
    return path


def test_table_of_a_net(command, tiny):
    status, out, err = command("inspect", tiny)
    assert (status, err) == (0, "")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "layer type output shape parameters kernel stride hole pad bottoms" in lines
    assert "conv Convolution 1x5x5x6 140 3 8 2 2 data" in lines
    assert "relu ReLU 1x5x5x6 conv" in lines
    assert "up Interp 1x4x33x41 fc8" in lines
    assert "net tiny" in lines
    assert "dialect DeepLab v1" in lines
    assert "parameters 164 (0.0M)" in lines
    assert "input data 1x3x33x41" in lines
    assert "pixels less 104.008, 116.669, 122.675 (VOC's: the file names none)" in lines
    assert "output up 1x4x33x41" in lines
    assert "output stride 8 (before the scores are enlarged)" in lines
    assert "field of view" not in out


def test_json_of_a_net(command, tiny):
    status, out, _ = command("inspect", "--json", tiny)
    assert status == 0
    found = json.loads(out)
    assert found.pop("layers")[0] == {
        "name": "conv",
        "type": "Convolution",
        "bottoms": ["data"],
        "tops": {"conv": [1, 5, 5, 6]},
        "output_shape": [1, 5, 5, 6],
        "kernel": [3, 3],
        "stride": [8, 8],
        "hole": [2, 2],
        "pad": [2, 2],
        "settings": {
            "num_output": 5,
            "kernel": [3, 3],
            "pad": [2, 2],
            "stride": [8, 8],
            "hole": [2, 2],
            "group": 1,
            "bias": True,
        },
        "blob_shapes": [[5, 3, 3, 3], [5]],
        "parameters": 140,
        "shares_weights_of": None,
    }
    assert found == {
        "kind": "net",
        "name": "tiny",
        "dialect": "DeepLab v1",
        "input": "data",
        "input_shape": [1, 3, 33, 41],
        "preprocessing": {
            "from_file": False,
            "mean_bgr": [104.008, 116.669, 122.675],
            "mean_file": None,
            "scale": 1.0,
            "resized_to": None,
        },
        "output": "up",
        "output_shape": [1, 4, 33, 41],
        "output_stride": 8,
        "field_of_view": None,
        "parameters": 164,
    }


@pytest.mark.parametrize(
    ("name", "parameters", "field_of_view"),
    [
        ("DeepLab-7x7", "134.3M", 224),
        ("DeepLab", "65.1M", 128),
        ("DeepLab-4x4", "65.1M", 224),
        ("DeepLab-LargeFOV", "20.5M", 224),
    ],
)
def test_table_2_of_the_paper(command, name, parameters, field_of_view):
    _, out, _ = command("inspect", MODELS[name].test_prototxt)
    assert f"({parameters})" in out
    assert f"field of view  {field_of_view} pixels" in out


def test_a_caffemodel(command, caffemodel):
    status, out, _ = command("inspect", caffemodel)
    assert status == 0
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "conv CONVOLUTION 5x3x3x3, 1x1x1x5 140" in lines
    assert "input" not in out
    status, out, _ = command("inspect", caffemodel, "--json")
    found = json.loads(out)
    assert found["parameters"] == 164
    assert found["layers"][0]["blob_shapes"] == [[5, 3, 3, 3], [1, 1, 1, 5]]


def test_a_caffemodel_without_weights(command, tmp_path):
    """Caffe writes such a one for a net that learns nothing; there is no 0 in it."""
    for name in ("relu.caffemodel", "relu"):
        path = tmp_path / name
        path.write_bytes(b"\x0a\x01n\xa2\x06\x0c\x0a\x04relu\x12\x04ReLU")
        assert b"\0" not in path.read_bytes()
        _, out, _ = command("inspect", path)
        assert "relu   ReLU" in out


@pytest.mark.parametrize("to", ["npz", "safetensors"])
def test_a_converted_file_is_shown_as_its_net(command, tiny, to):
    net = read_net(tiny)
    net.fill_random(0)
    (file,) = convert_files(net, to, tiny).files
    assert command("inspect", file) == command("inspect", tiny)


def test_weights_of_others(command, refused, tmp_path):
    path = tmp_path / "a.safetensors"
    write_arrays(
        path, {"features.0.weight": np.ones((4, 3, 3, 3)), "features.0.bias": np.ones(4)}, {}
    )
    status, out, _ = command("inspect", path, "--json")
    found = json.loads(out)
    assert (status, found["kind"], found["parameters"]) == (0, "weights", 112)
    assert found["layers"][0]["blob_shapes"] == [[4, 3, 3, 3], [4]]
    assert "features.0" in command("inspect", path)[1]
    path.write_bytes(path.read_bytes()[:-1])
    assert "its arrays have 448 bytes, expected the 447 there" in refused("inspect", path)


def test_a_narrow_terminal_gets_the_other_columns_below(command, tiny, monkeypatch):
    narrow = Console(highlight=False, markup=False, emoji=False, width=50)
    monkeypatch.setattr(console, "table_console", lambda: narrow)
    _, out, _ = command("inspect", tiny)
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "conv Convolution 1x5x5x6 140" in lines
    assert "conv 3 8 2 2 data" in lines


SHARING = """
name: "scales" input: "data" input_dim: [1, 3, 9, 9]
layer { name: "half" type: "Interp" bottom: "data" top: "half" interp_param { shrink_factor: 2 } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" param { name: "w" }
  convolution_param { num_output: 2 kernel_h: 1 kernel_w: 3 bias_term: false } }
layer { name: "conv_half" type: "Convolution" bottom: "half" top: "conv_half" param { name: "w" }
  convolution_param { num_output: 2 kernel_h: 1 kernel_w: 3 bias_term: false } }
layer { name: "all" type: "Concat" bottom: "data" bottom: "data" bottom: "data" bottom: "data"
  top: "all" }
"""


def test_shared_weights_and_many_bottoms(command, tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(SHARING)
    _, out, _ = command("inspect", path)
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "conv Convolution 1x2x9x7 18 1x3 1 1 0 data" in lines
    assert "conv_half Convolution 1x2x5x3 as conv 1x3 1 1 0 half" in lines
    assert "all Concat 1x12x9x9 data, data, data and 1 more" in lines
    assert "parameters 18 (0.0M)" in lines
    _, out, _ = command("inspect", path, "--json")
    layers = {layer["name"]: layer for layer in json.loads(out)["layers"]}
    assert layers["conv_half"]["shares_weights_of"] == "conv"
    assert layers["all"]["bottoms"] == ["data"] * 4


def test_a_models_name(command, refused, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    name = "ToyVOC-LargeFOV"
    _, out, _ = command("inspect", name)
    assert "fc8_toyvoc" in out
    path = MODELS[name].test_prototxt
    assert command("inspect", name, "--set", "EXP=x") == command("inspect", path, "--set", "EXP=x")
    assert "ToyVOC-LargeFOV" in refused("inspect", "ToyVOC-LargFOV")
    shutil.copy(path, name)  # a file of that name goes first
    assert "fc8_voc12" in command("inspect", name)[1]


# --- solvers, snapshots, means, ONNX


def test_a_solver(command, tmp_path):
    path = tmp_path / "solver.prototxt"
    path.write_text(
        'train_net: "t.prototxt" base_lr: 0.1 lr_policy: "poly" power: 0.9 max_iter: 20 '
        'stepvalue: [1, 2] iter_size: 10 solver_mode: GPU snapshot_prefix: "${EXP}/s"'
    )
    _, out, _ = command("inspect", path, "--set", "EXP=mine")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    for line in ("train_net t.prototxt", "base_lr 0.1", "stepvalue 1, 2", "solver_mode GPU"):
        assert line in lines
    assert "snapshot_prefix mine/s" in lines
    path.write_text('net: "t.prototxt" base_lr: 0.1 type: "Adam"')
    found = json.loads(command("inspect", path, "--json")[1])
    assert found["settings"] == {"base_lr": 0.1, "net": "t.prototxt", "type": "Adam"}
    assert found["does_not_train"][0].startswith("type is 'Adam', which is not supported")
    assert "train would refuse it: type is 'Adam'" in " ".join(command("inspect", path)[1].split())


def test_a_solverstate(command, tmp_path):
    path = tmp_path / "s.solverstate"
    history = [np.zeros((2, 3, 1, 1), np.float32), np.zeros(2, np.float32)]
    write_solverstate(SolverState(7, "s_iter_7.caffemodel", history, 1), path)
    _, out, _ = command("inspect", path)
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert {"1 2x3x1x1", "2 1x1x1x2", "iteration 7", "learned_net s_iter_7.caffemodel"} <= {*lines}
    found = json.loads(command("inspect", path, "--json")[1])
    assert (found["iteration"], found["current_step"], found["parameters"]) == (7, 1, 8)
    assert found["learned_sha256"] is None


@pytest.mark.parametrize("whole", [True, False])
def test_a_mean(command, tmp_path, whole):
    path = tmp_path / "mean.binaryproto"
    values = np.arange(12, dtype=np.float32).reshape(3, 2, 2)
    if not whole:
        values[0, 0, 0] = np.nan
    write_mean_file(MeanImage("mean.binaryproto", values), path)
    found = json.loads(command("inspect", path, "--json")[1])
    means = [1.5 if whole else None, 5.5, 9.5]
    assert (found["shape"], found["channel_means"]) == ([1, 3, 2, 2], means)
    assert found["largest"] == (11 if whole else None)
    _, out, _ = command("inspect", path)
    assert ("mean           1.5, 5.5, 9.5 (of each channel)" in out) == whole


def test_our_onnx(command, tiny):
    net = read_net(tiny)
    net.fill_random(0)
    path = tiny.with_suffix(".onnx")
    write_onnx(net, path, labels=["a", "b", "c", "d"], softmax=True)
    _, out, _ = command("inspect", path)
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert any(line.startswith("conv/conv Conv 5x3x3x3, 5 140 data") for line in lines)
    assert "input data batchx3xheightxwidth float32" in lines
    assert 'labels ["a", "b", "c", "d"]' in lines
    assert "channel_order BGR" in lines
    found = json.loads(command("inspect", path, "--json")[1])
    assert found["outputs"][0]["name"] == "probs"
    assert found["opset"] == 13
    assert found["producer"].startswith("deeplab-repro ")
    assert found["nodes"][0]["attributes"]["strides"] == [8, 8]


@pytest.mark.parametrize("ending", ["onnx", "solverstate", "binaryproto", "npz"])
def test_other_files_under_these_names(refused, tiny, caffemodel, ending):
    path = tiny.with_suffix(f".{ending}")
    for content in (b"\xff" * 300, b"", tiny.read_bytes(), caffemodel.read_bytes()[:200]):
        path.write_bytes(content)
        assert f"tiny.{ending}: " in refused("inspect", path)


def test_hostile_onnx(command, refused, tiny):
    """Names that are not UTF-8, and sizes that no number of 64 bits holds."""
    path = tiny.with_suffix(".onnx")
    model = onnx_model_pb2.ModelProto(ir_version=7, producer_name="abc")
    model.graph.node.add(op_type="Relu", input=["abcabc"], output=["abc"])
    model.metadata_props.add(key="abc", value="abc")
    path.write_bytes(model.SerializeToString().replace(b"abc", b"\xff\xfe\x1b"))
    found = json.loads(command("inspect", path, "--json")[1])
    assert found["nodes"][0]["outputs"] == ["\ufffd\ufffd\x1b"]
    assert "\x1b" not in command("inspect", path)[1]
    for sizes in ([2**62] * 5000, [-1]):
        del model.graph.initializer[:]
        model.graph.initializer.add(name="w", dims=sizes, data_type=1)
        path.write_bytes(model.SerializeToString())
        assert "tiny.onnx: is broken: an array has impossible sizes" in refused("inspect", path)


def test_variables(command, tiny):
    tiny.write_text(tiny.read_text().replace("fc8", "fc8_${EXP}_${MORE}"))
    status, out, _ = command("inspect", tiny, "--set", "EXP=coco", "--set", "MORE=a=b")
    assert status == 0
    assert "fc8_coco_a=b" in out


def test_names_are_printed_as_they_are(command, tiny):
    tiny.write_text(tiny.read_text().replace('"relu"', '"[red]:boom:[/red]"'))
    _, out, _ = command("inspect", tiny)
    assert " [red]:boom:[/red] " in out


def test_terminal_codes_in_a_file_do_not_reach_the_terminal(refused, tiny):
    tiny.write_text(tiny.read_text().replace('"relu"', r'"\033]0;title\007\n"'))
    assert r"\x1b]0;title\x07\n" in refused("inspect", tiny)


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])
    return path


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda net, _: net.parent, "is a folder"),
        (lambda net, _: net.parent / "missing", "no such file"),
        (lambda net, _: net.write_bytes(b"") or net, "is empty"),
        (lambda net, _: net.write_text("GIF89a") and net, "tiny.prototxt"),
        (lambda net, _: net.write_bytes(bytes(range(256))) and net, "tiny.prototxt"),
        (lambda _, model: cut(model), "tiny.caffemodel"),
        (lambda net, _: net.write_text(net.read_text()[:-9]) and net, "tiny.prototxt:"),
        (lambda net, _: net.write_text(net.read_text() + 'layers { name: "a" }') and net, "'a'"),
    ],
)
def test_bad_input(refused, tiny, caffemodel, spoil, expected):
    path = spoil(tiny, caffemodel)
    assert expected in refused("inspect", path)
    assert expected in refused("inspect", "--json", path)
