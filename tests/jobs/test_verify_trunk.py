"""The check of a trunk with torchvision's names: it passes what is right, and nothing else."""

from dataclasses import replace

import numpy as np
import pytest

from deeplab_repro.errors import ArgumentError, ConversionError, NetError
from deeplab_repro.files.safetensors import open_safetensors, write_arrays
from deeplab_repro.jobs import convert as module
from deeplab_repro.jobs.convert import convert_files
from deeplab_repro.models.loading import load_net
from tests.conftest import assert_one_line
from tests.jobs.conversions import assert_agree, conv, net_of

TOY = "ToyVOC-LargeFOV"


@pytest.fixture
def convert(tmp_path):
    def run(pad=1, **options):
        net = load_net(TOY)
        net.layers[0].op = replace(net.layers[0].op, pad=(pad, pad))
        net = replace(net)
        return convert_files(
            net, "safetensors", tmp_path / "x", names="torchvision", verify=True, **options
        )

    return run


@pytest.mark.parametrize(("pad", "half"), [(1, False), (1, True), (20, False), (0, False)])
def test_right(convert, pad, half):
    """Also with FCN's wide border, which is around the image as a whole."""
    converted = convert(pad=pad, half=half)
    assert_agree(converted)
    assert [each.output for each in converted.differences] == ["conv1_1"]


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("features.0.weight", "'conv1_1', fed as torchvision does, differs by"),
        ("features.0.bias", "'conv1_1', fed as torchvision does, differs by"),
        ("features.28.bias", "the bias of 'conv5_3' differs"),
    ],
)
def test_wrong(convert, tmp_path, monkeypatch, half, name, expected):
    write = module.write_trunk

    def write_changed(net, path, half):
        write(net, path, half=half)
        with open_safetensors(path) as file:
            arrays = {each: file.read(each) for each in file.arrays}
        arrays[name] = arrays[name] + np.float32(0.1)
        write_arrays(path, arrays, {})

    monkeypatch.setattr(module, "write_trunk", write_changed)
    with pytest.raises(ConversionError) as error:
        convert(half=half)
    assert_one_line(error, expected, "nothing was written")
    assert not list(tmp_path.iterdir())


def test_what_has_no_such_names(tmp_path):
    net = net_of(conv("a", "data", "a"))
    with pytest.raises(NetError, match="net 'n' has no 'conv1_1'"):
        convert_files(net, "safetensors", tmp_path / "x", names="torchvision")
    with pytest.raises(ArgumentError, match="which go with safetensors alone"):
        convert_files(net, "npz", tmp_path / "x", names="torchvision")
