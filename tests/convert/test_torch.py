"""model.py is code as a person would have written it; PyTorch itself is not needed here."""

import re
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from deeplab_repro.caffe import load_weights, read_net, read_train_net
from deeplab_repro.convert.converted import read_converted
from deeplab_repro.convert.torch import model_code, write_torch
from deeplab_repro.convert.torch.code import Call, Chain, identifier, loop, number
from deeplab_repro.engines.exact import exact_blobs
from deeplab_repro.errors import NetError
from deeplab_repro.files.safetensors import open_safetensors
from deeplab_repro.models.loading import load_net
from deeplab_repro.models.registry import MODELS
from deeplab_repro.net.channel_layers import BatchNorm
from deeplab_repro.net.layers import Convolution, Eltwise, InnerProduct, Pooling, ReLU
from deeplab_repro.net.net import Layer
from tests.conftest import assert_one_line
from tests.slow_layers import net_of, one_layer, random_input


def conv(name, bottom, top, **settings):
    return Layer(name, Convolution(4, (3, 3), (1, 1), **settings), (bottom,), (top,))


def check_style(folder, codes):
    """That the codes compile, and ruff finds nothing by its own defaults but the line's length."""
    for name, code in codes.items():
        compile(code, name, "exec")
        (folder / f"{name}.py").write_text(code)
    for what in (["check"], ["format", "--diff"]):
        ruff = [sys.executable, "-m", "ruff", *what, "--isolated", "--line-length", "100"]
        done = subprocess.run([*ruff, folder], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


def test_code_of_all_models(tmp_path):
    codes = {name: model_code(read_net(model.test_prototxt)) for name, model in MODELS.items()}
    check_style(tmp_path, codes)
    assert len(codes["DeepLab-LargeFOV"].splitlines()) < 120
    assert len(codes["DeepLabv2-ResNet101"].splitlines()) < 200
    for code in codes.values():
        assert code.count("super().__init__()") == code.count("(nn.Module):")
        for helper in re.findall(r"^(?:def|class) (\w+)|^    def (_\w+)\(", code, re.MULTILINE):
            assert len(re.findall(rf"\b{''.join(helper)}\b", code)) > 1 or "preprocess" in helper


@pytest.mark.golden
def test_scales_with_statistics_of_their_own(golden, tmp_path):
    folder = golden / "v2/ResNet101"
    net = read_net(folder / "deploy.prototxt")
    load_weights(net, folder / "weights.caffemodel")
    code = model_code(net)
    check_style(tmp_path, {"net": code})
    assert len(code.splitlines()) < 200
    assert 'for suffix in ("_res05", "_res075")' in code


def test_modules_are_those_of_the_weights(tmp_path):
    net = load_net("ToyVOC-LargeFOV")
    weights, code = tmp_path / "model.safetensors", tmp_path / "model.py"
    write_torch(net, weights, code)
    made = re.findall(r"self\.(\w+) = nn\.Conv2d", code.read_text())
    with open_safetensors(weights) as file:
        assert list(dict.fromkeys(name.split(".")[0] for name in file.arrays)) == made
    assert made == [layer.name for layer in net.layers if layer.blobs]


# --- names from outside

NAMES = {
    "conv1/7x7_s2": "conv1_7x7_s2",
    "2": "layer_2",
    "forward": "forward_2",
    "class": "class_2",
    "__init__": "init",
    "a.b": "a_b",
    "a b": "a_b_2",
    "größe": "gr_e",
    "'); import os": "import_os",
}


def test_names_that_python_does_not_take(tmp_path):
    bottoms = ["data", *(f'top"""{name}\\' for name in NAMES)]
    layers = [conv(*each) for each in zip(NAMES, bottoms[:-1], bottoms[1:], strict=True)]
    net = net_of(*layers, shape=(1, 3, 9, 9))
    net.name = 'x"""; raise SystemExit \\'
    weights, code = tmp_path / "model.safetensors", tmp_path / "code"
    write_torch(net, weights, code)
    text = code.read_text()
    check_style(tmp_path, {"net": text})
    for name, called in NAMES.items():
        assert f"        self.{called} = nn.Conv2d(" in text
        assert f'# {called} is "' in text, name
    again = read_converted(weights)
    assert [layer.name for layer in again.layers] == list(NAMES.values())
    data = random_input(1, 3, 9, 9)
    (found,), (expected,) = (exact_blobs(n, data, n.outputs).values() for n in (again, net))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", ["WEIGHTS", "ValueError", "Scale", "1", "", "None"])
def test_names_that_the_code_needs(tmp_path, name):
    blobs = ["data", "range", "F", "len", "torch"]
    layers = [conv(f"c{top}", *each) for top, each in zip(blobs[1:], pairwise(blobs), strict=True)]
    net = net_of(*layers, shape=(1, 3, 9, 9))
    net.name = name
    code = model_code(net)
    check_style(tmp_path, {"net": code})
    assert re.findall(r"^class (\w+)", code, re.MULTILINE)[0] in (f"{name}Net", f"Net{name}")
    assert not re.search(r"^ +(range|F|len|torch) = ", code, re.MULTILINE)


def test_long_names(tmp_path):
    """Lines are split as ruff splits them."""
    long = [f"{letter * 60}_{'x' * 60}" for letter in "abcdef"]
    op = Convolution(4, (3, 3), (1, 1), hole=(1, 2), bias=False)
    layers = [Layer(name, op, ("data",), (name,)) for name in long]
    layers += [Layer("sum", Eltwise("SUM", (0.25,) * 6), tuple(long), ("sum",))]
    layers += [Layer("max", Eltwise("MAX"), tuple(long), ("max",))]
    code = model_code(net_of(*layers, shape=(1, 3, 9, 9)))
    check_style(tmp_path, {"net": code})


def test_identifiers():
    assert identifier("conv1_1", {"conv1_1"}, "layer") == "conv1_1_2"
    assert identifier("", (), "layer") == "layer"
    assert identifier("7", (), "layer") == "layer_7"
    assert identifier("lambda", (), "layer") == "lambda_2"


def test_numbers():
    assert number(float(np.float32(0.1))) == "0.1"
    assert number(0.1) == "0.1"
    assert number(1 / 3) == repr(1 / 3)
    assert number(float("inf")) == 'float("inf")'
    assert number(3) == "3"


def test_lines_are_split_where_they_are_too_long():
    call = Call("f", ("a" * 40, "b" * 40))
    assert call.lines("    x = ") == [f"    x = {call}"]
    long = Call("f", ("a" * 40, "b" * 48))
    assert long.lines("    x = ") == ["    x = f(", f"        {'a' * 40}, {'b' * 48}", "    )"]
    longer = Call("f", ("a" * 60, "b" * 60))
    assert longer.lines("x = ") == ["x = f(", f"    {'a' * 60},", f"    {'b' * 60},", ")"]
    terms = Chain(("a" * 60, f"+ {'b' * 60}"))
    assert terms.lines("return ") == ["return (", f"    {'a' * 60}", f"    + {'b' * 60}", ")"]


def test_loops():
    assert loop(["1"], "f({})", 4) == ['    f("1")']
    assert loop(["1", "3"], "f({})", 0) == ['for key in ("1", "3"):', "    f(key)"]
    numbered = [f"4b{n}" for n in range(1, 5)]
    assert loop(numbered, "f({})", 0) == ["for n in range(1, 5):", '    f(f"4b{n}")']
    assert loop(["07", "08", "09", "10"], "f({})", 0)[0] == 'for key in ("07", "08", "09", "10"):'


# --- what repeats, and what is not written


def test_many_layers_are_quick_to_write():
    """What repeats is looked for in a net of hundreds of layers too."""
    layers = []
    for n in range(300):
        layers += [
            conv(f"c{n}_a", f"b{n}", f"b{n + 1}"),
            Layer(f"r{n}", ReLU(), (f"b{n + 1}",), (f"b{n + 1}",)),
        ]
    layers[0] = replace(layers[0], bottoms=("data",))
    code = model_code(net_of(*layers, shape=(1, 4, 9, 9)))
    assert len(code.splitlines()) > 100


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        (
            [Layer("p", Pooling("MAX", (1, 1), stride=(2, 2)), ("data",), ("p",))],
            "stride 2x2, over",
        ),
        ([Layer("p", Pooling("AVE", (3, 3), (2, 2)), ("data",), ("p",))], "pad 2x2, over half its"),
        ([Layer("b", BatchNorm(), ("data",), ("b",)), Layer("p", ReLU(), ("b",), ("b",))], None),
    ],
)
def test_settings_that_are_not_written(layers, expected):
    net = net_of(*layers, shape=(1, 3, 8, 8))
    if expected is None:
        assert "BatchNorm(3)" in model_code(net)
        return
    with pytest.raises(NetError) as caught:
        model_code(net)
    assert_one_line(caught, f"layer 'p' (Pooling) has {expected}", "convert it to ONNX")


def test_train_nets_are_not_written():
    model = MODELS["ToyVOC-LargeFOV"]
    with pytest.raises(NetError) as caught:
        model_code(read_train_net(model.train_prototxt, {"EXP": model.exp}))
    assert_one_line(caught, "takes 'label'", "convert its test net")


def test_a_part_of_shared_weights():
    net = net_of(conv("one", "data", "a"), conv("two", "a", "b"), shape=(1, 4, 8, 8))
    net.layers[1].blobs[0] = net.layers[0].blobs[0]
    with pytest.raises(NetError) as caught:
        model_code(net)
    assert_one_line(caught, "layer 'two' (Convolution) has only a part of another layer's weights")


def test_weights_of_other_settings():
    net = one_layer(InnerProduct(4), (1, 2, 2, 1))
    net.layers.append(Layer("b", InnerProduct(4, bias=False), ("a",), ("b",)))
    net = replace(net, layers=net.layers)
    net.layers[1].blobs = net.layers[0].blobs[:1]
    with pytest.raises(NetError) as caught:
        model_code(net)
    assert_one_line(caught, "layer 'b' (InnerProduct) has only a part")
