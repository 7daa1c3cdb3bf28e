"""deeplab-repro inspect: the table, the JSON, and the paper's figures in them."""

import json

import pytest

from deeplab_repro.caffe import read_net, write_caffemodel
from deeplab_repro.convert import write_npz
from deeplab_repro.models.registry import MODELS


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
    assert "conv Convolution 1x5x5x6 140" in lines
    assert "relu ReLU 1x5x5x6" in lines
    assert "up Interp 1x4x33x41" in lines
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
        "output_shape": [1, 5, 5, 6],
        "parameters": 140,
    }
    assert found == {
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


def test_a_converted_npz_is_shown_as_its_net(command, tiny):
    net = read_net(tiny)
    net.fill_random(0)
    write_npz(net, tiny.with_suffix(".npz"))
    assert command("inspect", tiny.with_suffix(".npz")) == command("inspect", tiny)


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
