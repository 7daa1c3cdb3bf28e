"""deeplab-repro convert: what it writes and tells, and what it refuses in one line."""

import json
import os
import re
import subprocess
import sys
from copy import deepcopy

import numpy as np
import pytest

from deeplab_repro.caffe import load_weights, read_net, write_caffemodel
from deeplab_repro.convert import read_npz, write_npz
from deeplab_repro.jobs import convert as module
from deeplab_repro.jobs import verify
from deeplab_repro.models.registry import MODELS, VOC_CLASSES

TOY = "ToyVOC-LargeFOV"
FORMATS = ("caffe", "onnx", "npz", "safetensors")
TINY = ("--prototxt", "tiny.prototxt", "--weights", "tiny.caffemodel")
TOLD = r"{}: differs by at most \S+ \(allowed: \S+\), run with {}\n"


@pytest.fixture(autouse=True)
def here(tiny, monkeypatch):
    """The folder that the tests are in, with tiny.prototxt, tiny.caffemodel and tiny.npz."""
    net = read_net(tiny)
    net.fill_random(0)
    write_caffemodel(net, tiny.with_suffix(".caffemodel"))
    write_npz(net, tiny.with_suffix(".npz"))
    monkeypatch.chdir(tiny.parent)
    return tiny.parent


@pytest.fixture
def convert(command):
    """Convert tiny, or another source, to `x`: what is printed."""

    def run(*arguments, source=TINY):
        status, out, err = command("convert", *source, "--out", "x", *arguments)
        assert (status, err) == (0, "")
        return out

    return run


@pytest.fixture
def wrong(refused, here):
    """Convert tiny, or another source, to `x`: the error; nothing is written."""

    def run(*arguments, source=TINY):
        before = set(here.iterdir())
        error = refused("convert", *source, "--out", "x", *arguments)
        assert set(here.iterdir()) == before
        return error

    return run


def metadata(path):
    onnx = pytest.importorskip("onnx")
    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


# --- what is written


def test_caffe(here, convert):
    assert convert("--to", "caffe") == (
        f"written: x.prototxt ({os.path.getsize('x.prototxt')} bytes)\n"
        f"written: x.caffemodel ({os.path.getsize('x.caffemodel')} bytes)\n"
    )
    again = read_net(here / "x.prototxt")
    load_weights(again, here / "x.caffemodel")
    assert "Interp" in {layer.type for layer in again.layers}
    convert("--to", "caffe", "--no-interp")
    assert "Interp" not in {layer.type for layer in read_net(here / "x.prototxt").layers}


def test_onnx(here, convert):
    assert convert("--to", "onnx") == f"written: x.onnx ({os.path.getsize('x.onnx'):,} bytes)\n"
    assert metadata("x.onnx") == {"channel_order": "BGR", "mean": "104.008,116.669,122.675"}
    (here / "names").write_text("sky\nroad\n\ngrass\ncar\n")
    options = ("--input", "rgb-uint8", "--softmax", "--classes", "names")
    convert("--to", "onnx", *options)
    told = metadata("x.onnx")
    assert json.loads(told.pop("labels")) == ["sky", "road", "grass", "car"]
    assert told == {"channel_order": "RGB"}


def test_the_21_labels_are_vocs(convert):
    convert("--to", "onnx", source=("--model", TOY))
    assert json.loads(metadata("x.onnx")["labels"]) == list(VOC_CLASSES)


@pytest.mark.parametrize("first", ["npz", "safetensors"])
def test_to_arrays_and_back(here, convert, first):
    told = convert("--to", first)
    assert told == f"written: x.{first} ({os.path.getsize(f'x.{first}'):,} bytes)\n"
    (here / f"x.{first}").rename(here / f"y.{first}")
    for to, files in (
        ("caffe", ["x.prototxt", "x.caffemodel"]),
        ("onnx", ["x.onnx"]),
        ("npz", ["x.npz"]),
        ("safetensors", ["x.safetensors"]),
    ):
        convert("--to", to)
        direct = [(here / file).read_bytes() for file in files]
        convert("--to", to, source=("--weights", f"y.{first}"))
        assert [(here / file).read_bytes() for file in files] == direct


def test_half(convert):
    convert("--to", "npz")
    whole = os.path.getsize("x.npz")
    told = convert("--to", "npz", "--half", "--verify")
    assert re.search(r"^labels as with float32: (99|100)\.\d\d% \(at least: 99%\)$", told, re.M)
    assert os.path.getsize("x.npz") < whole
    # Of arrays that others saved, or that lie by a net given here.
    convert("--to", "safetensors", "--half")
    convert("--to", "caffe", source=("--weights", "x.safetensors", *TINY[:2]))


def test_names_of_torchvision(convert, wrong):
    told = convert("--to", "safetensors", "--names", "torchvision", source=("--model", TOY))
    assert told.startswith(
        "conv1_1 to conv5_3 as features.0 to features.28, for red, green, blue as torchvision "
        "feeds them: the same numbers except where they see the border; left out: fc6, fc7, "
        "fc8_toyvoc\nwritten: x.safetensors ("
    )
    options = ("--names", "torchvision", "--force")
    assert "net 'tiny' has no 'conv1_1'" in wrong("--to", "safetensors", *options)
    assert "--names goes with --to safetensors" in wrong("--to", "npz", *options)
    source = ("--weights", "x.safetensors")
    error = wrong("--to", "npz", source=source)
    assert "x.safetensors: holds weights but no net, expected one in its metadata" in error


def test_opset(convert):
    onnx = pytest.importorskip("onnx")
    convert("--to", "onnx", "--opset", "17")
    assert onnx.load("x.onnx").opset_import[0].version == 17


def test_models_weights_and_variables(here, convert):
    convert("--to", "npz", source=("--model", TOY))
    shipped = (here / "x.npz").read_bytes()
    prototxt = ("--prototxt", MODELS[TOY].test_prototxt, "--weights", TOY)
    convert("--to", "npz", "--set", "EXP=toyvoc", source=prototxt)
    assert (here / "x.npz").read_bytes() == shipped
    convert("--to", "npz", source=("--model", TOY, "--weights", "random:1"))
    expected = read_npz(here / "x.npz")
    expected.fill_random(1)
    for layer, other in zip(read_npz(here / "x.npz").layers, expected.layers, strict=True):
        for blob, same in zip(layer.blobs, other.blobs, strict=True):
            np.testing.assert_array_equal(blob.data, same.data)


@pytest.mark.parametrize("to", FORMATS)
def test_verify(convert, to):
    if to == "onnx":
        pytest.importorskip("onnxruntime")
    by = {"caffe": "(OpenCV 4.*|what was read back)", "onnx": "onnxruntime 1.*"}
    for options in ((), ("--softmax", "--input", "rgb-uint8") if to == "onnx" else ()):
        plain = convert("--to", to, *options)
        told = convert("--to", to, "--verify", *options)
        output = r"probs \(its logarithms\)" if options else "up"
        expected = TOLD.format(output, by.get(to, "what was read back"))
        assert re.fullmatch(expected, told.removesuffix(plain))


def test_verify_where_opencv_is_off(convert, monkeypatch):
    run = verify._run

    def off(net, data):
        return {name: values + 0.01 for name, values in run(net, data).items()}

    monkeypatch.setattr(verify, "_run", off)
    pytest.importorskip("onnxruntime")
    told = convert("--to", "onnx", "--verify").splitlines()[0]
    assert re.fullmatch(
        r"up: differs by at most \S+ from a run in float64 \(allowed: \S+\), run with onnxruntime "
        r"1\.\S+; OpenCV [45]\.\S+ differs by 0\.01",
        told,
    )


# --- what is refused


def test_a_difference_leaves_no_file(wrong, here, monkeypatch):
    def write_changed(net, path, half):
        changed = deepcopy(net)
        changed.layers[0].blobs[0].data[0] += 1
        write_npz(changed, path, half=half)

    monkeypatch.setattr(module, "write_npz", write_changed)
    (here / "y.npz").write_bytes(b"old")
    for out in ("y", "z"):
        error = wrong("--to", "npz", "--verify", "--force", "--out", out)
        assert "output 'up' of the converted net differs by" in error
    assert (here / "y.npz").read_bytes() == b"old"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["--to", "caffe", "--softmax"],
            "--input, --softmax, --classes and --opset go with --to onnx",
        ),
        (["--to", "npz", "--input", "rgb-uint8"], "go with --to onnx"),
        (["--to", "npz", "--classes", "tiny.prototxt"], "go with --to onnx"),
        (["--to", "caffe", "--opset", "17"], "--classes and --opset go with --to onnx"),
        (["--to", "onnx", "--opset", "12"], "opset is 12, expected a number from 13 to 28"),
        (["--to", "onnx", "--opset", "29"], "opset is 29, expected a number from 13 to 28"),
        (["--to", "onnx", "--opset", "-1"], "argument --opset: "),
        (["--to", "caffe", "--half"], "--half goes with --to onnx, npz, safetensors and torch"),
        (["--to", "onnx", "--no-interp"], "--no-interp goes with --to caffe"),
        (["--to", "npz", "--no-interp"], "--no-interp goes with --to caffe"),
        (["--to", "keras"], "argument --to: invalid choice: 'keras'"),
        (["--to", "onnx", "--input", "bgr"], "argument --input: invalid choice: 'bgr'"),
        (["--to", "npz", "--model", TOY], "not allowed with argument --prototxt"),
        (["--to", "npz", "--set", "EXP"], "'EXP' is not KEY=VALUE"),
        ([], "the following arguments are required: --to"),
        (["--to", "onnx", "--classes", "nothing"], "nothing: cannot be read"),
        (["--to", "onnx", "--classes", "names"], "names: has 2 names of labels, expected 4, one"),
        (["--to", "npz", "--out", "a\nb/x"], r"a\nb/x.npz: cannot be written: there is no"),
        (["--to", "npz", "--out", "."], "'.' names no file"),
    ],
)
def test_options_that_do_not_fit(wrong, here, arguments, expected):
    (here / "names").write_text("one\ntwo\n")
    assert expected in wrong(*arguments)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ([], "no net is given: use --prototxt or --model, or a .npz or .safetensors as --weights"),
        (["--weights", "tiny.caffemodel"], "no net is given"),
        (["--weights", "nothing.npz"], "nothing.npz: cannot be read"),
        (["--weights", "broken.npz"], "broken.npz: is not a .npz, or broken"),
        (["--weights", "tiny.npz", "--prototxt", "tiny.prototxt"], "tiny.npz: holds its own net"),
        (["--weights", "tiny.npz", "--model", TOY], "tiny.npz: holds its own net"),
        (["--weights", "tiny.npz", "--set", "EXP=x"], "tiny.npz: holds its own net"),
        (["--prototxt", "tiny.prototxt"], "net 'tiny' needs weights: give a caffemodel"),
        (["--prototxt", "tiny.prototxt", "--weights", "random:x"], "expected random: and a whole"),
        (["--prototxt", "tiny.prototxt", "--weights", TOY], "has no layer 'conv'"),
        (["--prototxt", "nothing", "--weights", "random:0"], "nothing: cannot be read"),
        (["--prototxt", "tiny.caffemodel", "--weights", "random:0"], "tiny.caffemodel: "),
        (["--model", "Deeplab-LargeFOW"], "did you mean DeepLab-LargeFOV"),
        (
            ["--model", "DeepLab-LargeFOV"],
            "needs weights: run deeplab-repro fetch DeepLab-LargeFOV, or",
        ),
        (["--model", TOY, "--set", "EXP=other"], "has no layer 'fc8_other'"),
    ],
)
@pytest.mark.parametrize("to", ["caffe", "npz"])
def test_sources_that_are_none(wrong, here, to, source, expected):
    (here / "broken.npz").write_bytes((here / "tiny.npz").read_bytes()[:-30])
    assert expected in wrong("--to", to, source=source)


@pytest.mark.parametrize(
    ("to", "out", "source"),
    [
        ("caffe", "tiny", ["--prototxt", "tiny.prototxt", "--weights", "random:0"]),
        ("caffe", "./tiny.caffemodel", ["--model", TOY, "--weights", "tiny.caffemodel"]),
        ("npz", "tiny", ["--weights", "tiny.npz"]),
        ("npz", "link", ["--weights", "tiny.npz"]),
    ],
)
def test_the_source_is_not_overwritten(wrong, here, to, out, source):
    (here / "link.npz").symlink_to("tiny.npz")
    before = [path.read_bytes() for path in sorted(here.iterdir())]
    error = wrong("--to", to, "--out", out, source=source)
    assert "the results would overwrite it" in error
    assert [path.read_bytes() for path in sorted(here.iterdir())] == before


def test_without_onnxruntime(wrong, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert 'pip install "deeplab-repro[onnx]"' in wrong("--to", "onnx", "--verify")


def test_interrupted(command, here, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    before = set(here.iterdir())
    monkeypatch.setattr(module, "check_files", interrupt)
    found = command("convert", *TINY, "--to", "npz", "--out", "x", "--verify")
    assert found == (130, "", "deeplab-repro: interrupted\n")
    assert set(here.iterdir()) == before


def test_no_heavy_imports_for_help():
    code = (
        "import sys, deeplab_repro.cli as cli\n"
        "try: cli.main(['convert', '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'cv2', 'numpy', 'onnx', 'onnxruntime', 'google.protobuf', 'numba'}\n"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--verify" in done.stdout
