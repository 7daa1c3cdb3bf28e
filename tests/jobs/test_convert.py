"""Nets to files of other formats: written whole and as checked, or not at all."""

import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deeplab_repro.caffe import load_weights, read_net, read_train_net
from deeplab_repro.convert.converted import NET_READERS
from deeplab_repro.engines.opencv import BY_CAFFE
from deeplab_repro.errors import (
    ConversionError,
    DeepLabError,
    DeviceError,
    FileError,
    NetError,
    ResourceError,
    WeightsError,
)
from deeplab_repro.jobs import convert as module
from deeplab_repro.jobs import verify
from deeplab_repro.jobs.convert import ENDINGS, OnnxOptions, convert_files, file_names
from deeplab_repro.models.loading import load_net
from deeplab_repro.models.registry import MODELS
from deeplab_repro.net.layers import (
    Interp,
    ReLU,
)
from tests.conftest import assert_one_line
from tests.jobs.conversions import PHOTOS, assert_agree, checked, conv, layer, net_of

TOYS = [name for name, model in MODELS.items() if model.shipped_weights]
FORMATS = [to for to in ENDINGS if to != "torch"]  # that is a folder: test_convert_torch.py
WAYS = [
    ("caffe", {}),
    ("caffe", {"interp": False}),
    ("onnx", {}),
    ("onnx", {"onnx": OnnxOptions(softmax=True)}),
    ("onnx", {"onnx": OnnxOptions(rgb_uint8=True)}),
    ("npz", {}),
    ("safetensors", {}),
]


@pytest.fixture
def net(tiny):
    found = read_net(tiny)
    tiny.unlink()
    found.fill_random(0)
    return found


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# --- what is written


@pytest.mark.parametrize("to", FORMATS)
def test_the_writers_bytes_under_the_formats_names(net, to, tmp_path):
    expected = tmp_path / "expected"
    expected.mkdir()
    files = file_names(to, expected / "x")
    getattr(module, f"write_{to}")(net, *files)
    for ending in ("", *ENDINGS[to]):
        folder = tmp_path / f"as{ending}"
        folder.mkdir()
        converted = convert_files(net, to, folder / f"x{ending}")
        assert converted.files == [folder / file.name for file in files]
        assert contents(folder) == contents(expected)
        assert (converted.checked_with, list(converted.differences)) == (None, [])
        # A check changes nothing.
        assert checked(net, to, folder / f"x{ending}").checked_with
        assert contents(folder) == contents(expected)


def test_names_of_files():
    assert file_names("caffe", "a/b") == [Path("a/b.prototxt"), Path("a/b.caffemodel")]
    assert file_names("caffe", "b.caffemodel") == [Path("b.prototxt"), Path("b.caffemodel")]
    assert file_names("onnx", "v1.5") == [Path("v1.5.onnx")]
    assert file_names("npz", "a.onnx") == [Path("a.onnx.npz")]


@pytest.mark.parametrize("out", ["", ".", "..", "there/", "there/..", "there/.npz"])
def test_a_folder_is_no_name_of_a_file(net, tmp_path, monkeypatch, out):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    with pytest.raises(FileError) as caught:
        convert_files(net, "npz", out)
    assert_one_line(caught, f"'{out}' names no file to write to: add a file's name")
    assert list(tmp_path.rglob("*")) == [tmp_path / "there"]


@pytest.mark.golden
@pytest.mark.parametrize(
    ("name", "to", "options"),
    [("DeepLab", *WAYS[2]), *(("DeepLab-MSc-LargeFOV", *way) for way in WAYS)],
)
def test_golden_nets(golden, tmp_path, name, to, options):
    folder = golden / "nets" / name
    net = load_net(folder / "deploy.prototxt", folder / "weights.caffemodel")
    converted = checked(net, to, tmp_path / "x", **options)
    assert_agree(converted)
    assert len(converted.differences) == 1


@pytest.mark.parametrize(
    ("name", "to", "options"),
    [(TOYS[0], *WAYS[1]), (TOYS[1], *WAYS[2]), (TOYS[1], "onnx", {"onnx": PHOTOS})],
)
def test_shipped_models(tmp_path, name, to, options):
    assert_agree(checked(load_net(name), to, tmp_path / "x", **options))


@pytest.mark.parametrize(("name", "to"), list(zip(TOYS, NET_READERS, strict=True)))
def test_from_caffe_and_back(tmp_path, name, to):
    net = load_net(name)
    (file,) = convert_files(net, to, tmp_path / "a").files
    again = NET_READERS[to](file)
    assert arrays(again) == arrays(net)
    assert without_weights(again) == without_weights(net)
    assert contents_of(again, "caffe", tmp_path) == contents_of(net, "caffe", tmp_path)
    stock = read_net(tmp_path / "x.prototxt")
    load_weights(stock, tmp_path / "x.caffemodel")
    assert arrays(net).items() <= arrays(stock).items()


def contents_of(net, to, folder):
    return [file.read_bytes() for file in convert_files(net, to, folder / "x").files]


def arrays(net):
    return {
        (layer.name, index): (blob.data.shape, blob.data.tobytes())
        for layer in net.layers
        for index, blob in enumerate(layer.blobs)
    }


def without_weights(net):
    return replace(net, layers=[replace(layer, blobs=[]) for layer in net.layers])


# --- what fails leaves no file, and the old one


@pytest.fixture
def untouched(tmp_path):
    """A name to write under; in the end the folder must be as it was, with some old files in it."""
    folder = tmp_path / "out"
    folder.mkdir()
    for name in ("x.prototxt", "x.onnx"):
        (folder / name).write_bytes(b"old")
    before = contents(folder)
    yield folder / "x"
    assert contents(folder) == before


def patched(monkeypatch, to, change):
    """Let a format's writer write a changed net."""
    write = getattr(module, f"write_{to}")

    def write_changed(net, *files, **options):
        changed = replace(net, layers=[replace(each) for each in net.layers])
        first = changed.layers[0]
        first.blobs = [replace(blob, data=blob.data.copy()) for blob in first.blobs]
        change(changed)
        write(changed, *files, **options)

    monkeypatch.setattr(module, f"write_{to}", write_changed)


@pytest.mark.parametrize("to", FORMATS)
@pytest.mark.parametrize("value", [1.0, np.nan])
def test_a_changed_weight(net, untouched, monkeypatch, to, value):
    def change(changed):
        changed.layers[0].blobs[0].data[0, 0] = value

    patched(monkeypatch, to, change)
    with pytest.raises(ConversionError) as caught:
        checked(net, to, untouched)
    named = ("output 'up' of the converted net differs by", "from a run in float64, expected at")
    assert_one_line(caught, *named, "nothing was written")


@pytest.mark.parametrize("to", FORMATS)
def test_another_shape(net, untouched, monkeypatch, to):
    def change(changed):
        changed.layers[-1].op = Interp(zoom_factor=4)

    patched(monkeypatch, to, change)
    with pytest.raises(ConversionError) as caught:
        checked(net, to, untouched)
    assert_one_line(caught, "'up' of the converted net is 1x4x17x21, expected 1x4x33x41")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("to", "value"), list(zip(FORMATS, [np.nan, np.inf, 3e38, np.nan], strict=True))
)
def test_weights_that_are_no_numbers(net, untouched, to, value):
    for each in (net.layers[0], net.layers[2]):
        each.blobs[0].data[:] = np.float32(value)
    with pytest.raises(WeightsError) as caught:
        checked(net, to, untouched)
    assert_one_line(caught, "net 'tiny' gives scores that are NaN or infinite")


@pytest.mark.parametrize("to", FORMATS)
def test_no_weights(net, untouched, to):
    net.layers[2].blobs[1].data = None
    with pytest.raises(WeightsError, match="layer 'fc8' has no weights"):
        convert_files(net, to, untouched)


@pytest.mark.parametrize("to", FORMATS)
@pytest.mark.parametrize("where", ["_run", "_compared"])
def test_interrupted_while_it_is_checked(net, untouched, monkeypatch, to, where):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(verify, where, interrupt)
    with pytest.raises(KeyboardInterrupt):
        checked(net, to, untouched)


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files")
@pytest.mark.parametrize("to", FORMATS)
def test_no_space_left(net, untouched, to):
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (700, hard))
    try:
        with pytest.raises(FileError) as caught:
            convert_files(net, to, untouched)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    # Not by the name that the file has until it is whole.
    assert str(caught.value) == f"{untouched}{ENDINGS[to][-1]}: cannot be written: file too large"


@pytest.mark.parametrize("to", ["caffe", "npz", "safetensors"])
def test_the_reason_names_the_file_as_it_is_to_be_called(net, untouched, monkeypatch, to):
    def write_garbage(_, *files, **__):
        for file in files:
            file.write_bytes(b"garbage")

    monkeypatch.setattr(module, f"write_{to}", write_garbage)
    with pytest.raises(DeepLabError) as caught:
        checked(net, to, untouched)
    assert_one_line(caught, file_names(to, untouched)[0].name)
    assert ".deeplab-" not in str(caught.value)


def test_without_onnxruntime(net, untouched, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(DeviceError) as caught:
        convert_files(net, "onnx", untouched, verify=True)
    assert_one_line(caught, "onnxruntime", 'pip install "deeplab-repro[onnx]"')


@pytest.mark.skipif(not BY_CAFFE, reason="OpenCV 5 has no Caffe importer")
def test_a_net_that_opencv_does_not_take(untouched):
    # A convolution goes by its blob's name there.
    net = net_of(conv("b", "data", "a"), layer("a", ReLU(), "a", "b"))
    with pytest.raises(NetError) as caught:
        convert_files(net, "caffe", untouched, verify=True)
    assert_one_line(caught, 'Layer "a" already into net', "convert it without verifying")


def test_too_little_memory_for_a_check(net, untouched, monkeypatch):
    monkeypatch.setattr("deeplab_repro.machine.memory.available_memory", lambda: 10**9)
    large = replace(net, input_shape=(1, 3, 2**31 - 1, 2**31 - 1))
    with pytest.raises(ResourceError) as caught:
        convert_files(large, "npz", untouched, verify=True)
    assert_one_line(caught, "net 'tiny' at 1x3x2147483647x2147483647", "without verifying")


@pytest.mark.parametrize(("to", "verify"), [("onnx", False), *((to, True) for to in FORMATS)])
def test_train_nets_are_not_run(untouched, to, verify):
    model = MODELS[TOYS[0]]
    net = read_train_net(model.train_prototxt, {"EXP": model.exp})
    with pytest.raises(NetError) as caught:
        convert_files(net, to, untouched, verify=verify)
    assert_one_line(caught, f"'{model.name}' takes labels, to train: convert its test net")


# --- where it is written


@pytest.mark.parametrize("to", FORMATS)
def test_places_that_cannot_be_written_to(net, tmp_path, to):
    (tmp_path / "file").touch()
    last = ENDINGS[to][-1]
    (tmp_path / f"folder{last}").mkdir()
    for name, reason in (
        ("missing/x", "there is no folder"),
        ("file/x", "there is no folder"),
        ("folder", "it is a folder"),
        ("x" * 300, "file name too long"),
    ):
        with pytest.raises(FileError) as caught:
            convert_files(net, to, tmp_path / name)
        assert_one_line(caught, f"{tmp_path / name}.", ": cannot be written: ", reason)
    assert sorted(os.listdir(tmp_path)) == ["file", f"folder{last}"]


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_is_read_only(net, tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(FileError) as caught:
        convert_files(net, "npz", tmp_path / "x")
    tmp_path.chmod(0o700)
    assert_one_line(caught, f"{tmp_path / 'x.npz'}: cannot be written: permission denied")


@pytest.mark.parametrize("to", FORMATS)
def test_links_stay_links(net, tmp_path, to):
    folders = [tmp_path / name for name in ("links", "a", "b")]
    for folder in folders:
        folder.mkdir()
    links = file_names(to, folders[0] / "x")
    targets = [folder / "target" for folder, _ in zip(folders[1:], links, strict=False)]
    for link, target in zip(links, targets, strict=True):
        link.symlink_to(target)
    assert convert_files(net, to, folders[0] / "x").files == links
    assert all(link.is_symlink() for link in links)
    plain = convert_files(net, to, tmp_path / "x").files
    assert [file.read_bytes() for file in plain] == [file.read_bytes() for file in targets]


@pytest.mark.skipif(sys.platform == "win32", reason="permissions of POSIX")
def test_permissions_follow_the_umask(net, tmp_path):
    old = os.umask(0o027)
    try:
        (file,) = convert_files(net, "npz", tmp_path / "x").files
    finally:
        os.umask(old)
    assert file.stat().st_mode & 0o777 == 0o640
