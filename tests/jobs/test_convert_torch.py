"""A net to a folder for PyTorch: whole and as checked, or not at all; with PyTorch or without."""

from copy import deepcopy
from importlib.util import find_spec

import numpy as np
import pytest

from deeplab_repro.caffe import read_net
from deeplab_repro.convert.converted import read_converted
from deeplab_repro.convert.torch import write_torch
from deeplab_repro.errors import ConversionError, FileError, NetError, WeightsError
from deeplab_repro.files.marks import made_here
from deeplab_repro.jobs import convert as module
from deeplab_repro.jobs import run_torch, verify
from deeplab_repro.jobs.convert import convert_files
from tests.conftest import assert_one_line
from tests.jobs.conversions import assert_agree

HAS_TORCH = find_spec("torch") is not None
FILES = ["model.safetensors", "model.py"]


@pytest.fixture
def net(tiny):
    found = read_net(tiny)
    tiny.unlink()
    found.fill_random(0)
    return found


@pytest.mark.parametrize("half", [False, True])
def test_what_is_written_and_checked(net, tmp_path, half):
    out = tmp_path / "new" / "folder"
    converted = convert_files(net, "torch", out, half=half, verify=True)
    assert converted.files == [out / name for name in FILES]
    assert sorted(out.iterdir()) == sorted(converted.files)
    assert all(map(made_here, converted.files))
    assert_agree(converted)
    assert converted.checked_with.startswith("PyTorch " if HAS_TORCH else "what was read back")
    again = read_converted(out / "model.safetensors")
    data = np.zeros(net.input_shape, np.float32)
    found, expected = (verify._run(each, data)["up"] for each in (again, net))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-2 if half else 0)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    convert_files(net, "torch", out, half=half)  # the same bytes, over its own
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_without_pytorch_the_weights_are_read_back(net, tmp_path, monkeypatch):
    monkeypatch.setattr(verify, "has_torch", lambda: False)
    converted = convert_files(net, "torch", tmp_path / "out", verify=True)
    assert converted.checked_with == "what was read back"
    assert_agree(converted)


@pytest.mark.skipif(not HAS_TORCH, reason="PyTorch is not installed")
def test_code_that_does_not_run(net, tmp_path, monkeypatch):
    monkeypatch.setattr(run_torch, "_CODE", "import sys; sys.exit('one\\ntwo')")
    with pytest.raises(NetError) as caught:
        convert_files(net, "torch", tmp_path / "out", verify=True)
    assert_one_line(caught, "PyTorch cannot run the converted net: two", "without verifying")
    assert list(tmp_path.iterdir()) == []


def write_another(net, *files, **options):
    changed = deepcopy(net)
    changed.layers[0].blobs[0].data[0] += 1
    write_torch(changed, *files, **options)


@pytest.mark.parametrize("is_new", [True, False])
def test_what_fails_leaves_no_file_and_no_folder(net, tmp_path, monkeypatch, is_new):
    out = tmp_path / "out"
    if not is_new:
        out.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(module, "write_torch", write_another)
        with pytest.raises(ConversionError):
            convert_files(net, "torch", out / "in" if is_new else out, verify=True)
    net.layers[0].blobs[0].data = None
    with pytest.raises(WeightsError, match="layer 'conv' has no weights"):
        convert_files(net, "torch", out)
    assert list(tmp_path.rglob("*")) == ([] if is_new else [out])


def test_places_that_cannot_be_written_to(net, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "out" / "model.py").mkdir(parents=True)
    for name, reason in (("file", "file exists"), ("out", "it is a folder"), ("~/x", "in full")):
        with pytest.raises(FileError) as caught:
            convert_files(net, "torch", tmp_path / name)
        assert_one_line(caught, tmp_path / name.split("/")[0], reason)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "out"]
