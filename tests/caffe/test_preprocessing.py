"""What a data layer says of mean, scale and size, in both dialects; and the mean_file."""

import os
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplab_repro.caffe import load_mean, read_net, write_mean_file, write_prototxt
from deeplab_repro.caffe.preprocessing import NO_MEAN
from deeplab_repro.errors import DeepLabError, FileError, FormatError, NetError
from deeplab_repro.net.preprocess import MEAN_BGR, MeanImage, Preprocessing
from tests.caffe.caffe_files import (
    check_mutations,
    current,
    field,
    floats,
    legacy,
    net,
    refused,
    shape,
    v1,
)

FILE = MeanImage("mean.binaryproto")
MEMORY = "memory_data_param { batch_size: 1 channels: 3 height: 9 width: 9 }"


@pytest.mark.parametrize("is_current", [False, True])
@pytest.mark.parametrize(
    "kind", ["DATA Data", "IMAGE_DATA ImageData", "IMAGE_SEG_DATA ImageSegData"]
)
@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("", Preprocessing(NO_MEAN)),
        ("transform_param { mirror: true crop_size: 9 }", Preprocessing(NO_MEAN)),
        ("transform_param { mean_value: [1, 2, 3] }", Preprocessing((1, 2, 3))),
        ("transform_param { mean_value: 0 scale: 0.5 }", Preprocessing(NO_MEAN, 0.5)),
        ("transform_param { mean_file: 'mean.binaryproto' }", Preprocessing(FILE)),
        ("data_param { scale: 2 }", Preprocessing(NO_MEAN, 2)),
        ("image_data_param { scale: 2 mean_file: 'mean.binaryproto' }", Preprocessing(FILE, 2)),
        ("transform_param { scale: 4 } data_param { scale: 2 }", Preprocessing(NO_MEAN, 4)),
        (
            "image_data_param { new_height: 5 new_width: 6 }",
            Preprocessing(NO_MEAN, resized_to=(5, 6)),
        ),
    ],
)
def test_layers_that_read_files(tmp_path, is_current, kind, fields, expected):
    v1_kind, current_kind = kind.split()
    text = v1(v1_kind, fields, "", "data") + v1("RELU")
    if is_current:
        text = current(current_kind, fields, "", "data") + current("ReLU")
    found = net(tmp_path, text)
    assert found.preprocessing == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("", None),
        ("transform_param { crop_size: 9 mirror: true }", None),
        ("transform_param { scale: 0.5 }", Preprocessing(MEAN_BGR, 0.5)),
        ("transform_param { mean_value: 0 }", Preprocessing(NO_MEAN)),
    ],
)
def test_layers_that_are_handed_images(tmp_path, fields, expected):
    for text in (
        v1("MEMORY_DATA", MEMORY + fields, "", "data") + v1("RELU"),
        current("MemoryData", MEMORY + fields, "", "data") + current("ReLU"),
        current("Input", "input_param { shape { dim: [1, 3, 9, 9] } }" + fields, "", "data")
        + current("ReLU"),
    ):
        assert net(tmp_path, text).preprocessing == expected


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ("transform_param { mean_value: [1, 2] }", "mean_value is 1, 2, expected one number, or"),
        ("transform_param { mean_value: inf }", "mean_value is inf, inf, inf, expected finite"),
        ("transform_param { scale: 0 }", "scale is 0, expected a finite number other than 0"),
        ("transform_param { scale: nan }", "scale is nan, expected"),
        ("transform_param { mean_value: 1 mean_file: 'm' }", "sets both mean_value and mean_file"),
        ("image_data_param { new_height: 5 }", "it sets one of new_height and new_width"),
        ("transform_param { mean_file: '\\n' }", r"mean_file is '\\n', expected a short name"),
    ],
)
def test_what_caffe_would_refuse(tmp_path, fields, problem):
    text = v1("IMAGE_DATA", fields, "", "data") + v1("RELU")
    refused(lambda: net(tmp_path, text), rf"layer 'data' \(IMAGE_DATA\): .*{problem}", NetError)


@pytest.mark.parametrize(
    "data",
    [
        v1("IMAGE_DATA", "image_data_param { is_color: false }", "", "data") + v1("RELU"),
        current("Data", "transform_param { force_gray: true }", "", "data") + current("ReLU"),
    ],
)
def test_grey_images_have_one_channel(tmp_path, data):
    assert net(tmp_path, data).input_shape == (1, 1, 513, 513)


numbers = st.floats(-300, 300, width=32)
scales = st.floats(0.0009765625, 9, width=32)
sizes = st.none() | st.tuples(st.integers(1, 999), st.integers(1, 999))


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    how=st.none()
    | st.builds(Preprocessing, st.tuples(numbers, numbers, numbers) | st.just(FILE), scales, sizes),
    is_current=st.booleans(),
)
def test_any_comes_back(tmp_path_factory, how, is_current):
    tmp_path = tmp_path_factory.mktemp("net")
    made = net(tmp_path, "input: 'data' input_dim: [1, 3, 9, 9]" + v1("RELU"))
    made = replace(made, preprocessing=how)
    write_prototxt(made, tmp_path / "again", is_current)
    again = read_net(tmp_path / "again")
    assert replace(again, dialect=made.dialect) == made


def test_vocs_mean_is_what_v1s_input_stands_for(tmp_path):
    made = net(tmp_path, "input: 'data' input_dim: [1, 3, 9, 9]" + v1("RELU"))
    write_prototxt(made, tmp_path / "silent")
    mean = tuple(map(float, np.float32(MEAN_BGR)))
    write_prototxt(replace(made, preprocessing=Preprocessing(mean)), tmp_path / "said")
    assert (tmp_path / "said").read_bytes() == (tmp_path / "silent").read_bytes()


# --- the mean_file


@pytest.fixture
def loaded(tmp_path, monkeypatch):
    """The mean of a net whose mean_file holds these bytes, in some folder."""
    monkeypatch.chdir(tmp_path)

    def load(content: bytes, folder: str = ".", fields: str = ""):
        os.makedirs(folder, exist_ok=True)
        (tmp_path / folder / "mean.binaryproto").write_bytes(content)
        data = f"transform_param {{ mean_file: 'mean.binaryproto' }} {fields}"
        (tmp_path / "nets").mkdir(exist_ok=True)
        path = tmp_path / "nets" / "net.prototxt"
        path.write_text(v1("IMAGE_DATA", data, "", "data") + v1("RELU"))
        found = read_net(path)
        load_mean(found, path)
        return found.preprocessing.mean

    return load


IMAGE = np.arange(3 * 2 * 4, dtype=np.float32).reshape(3, 2, 4)


@pytest.mark.parametrize("folder", [".", "nets"])
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (legacy(1, 3, 2, 4) + field(5, floats(*range(24))), MeanImage(FILE.file, IMAGE)),
        (shape(3, 2, 4) + field(5, floats(*range(24))), MeanImage(FILE.file, IMAGE)),
        (legacy(1, 3, 1, 2) + field(5, floats(7, 7, 8, 8, 9, 9)), (7, 8, 9)),
        (legacy(1, 3, 1, 1) + field(5, floats(7, 8, 9)), (7, 8, 9)),
        (shape(3) + field(5, floats(7, 8, 9)), (7, 8, 9)),
    ],
)
def test_a_mean_file(loaded, content, expected, folder):
    assert loaded(content, folder) == expected


def test_a_mean_file_comes_back(loaded, tmp_path):
    write_mean_file(MeanImage("", IMAGE), tmp_path / "mean")
    assert loaded((tmp_path / "mean").read_bytes()) == MeanImage(FILE.file, IMAGE)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"text", "this is a text file, expected a mean_file"),
        (legacy(1, 3, 2, 4) + field(5, floats(*range(23))), "23 values for shape 1x3x2x4"),
        (legacy(1, 3, 2**30, 2**30) + field(5, floats(1)), "1 values for shape"),
        (legacy(1, 1, 2, 4) + field(5, floats(*range(8))), "a mean of 1x1x2x4, expected 3xHxW"),
        (legacy(2, 3, 1, 2) + field(5, floats(*range(12))), "a mean of 2x3x1x2, expected 3xHxW"),
        (legacy(1, 3, 0, 0), "a mean of 1x3x0x0, expected 3xHxW"),
        (legacy(1, 3, 1, 2) + field(5, floats(*[np.nan] * 6)), "holds NaN or infinity"),
        ((legacy(1, 3, 2, 4) + field(5, floats(*range(24))))[:-1], "cut off or broken"),
    ],
)
def test_a_mean_file_that_is_none(loaded, content, problem):
    message = refused(lambda: loaded(content), problem, FormatError)
    assert message.startswith("mean.binaryproto: ")


def test_a_mean_file_of_any_bytes(loaded, tmp_path):
    content = legacy(1, 3, 2, 4) + field(5, floats(*range(24)))
    check_mutations(tmp_path / "x", content, lambda path: loaded(path.read_bytes()))


def test_a_mean_file_that_is_not_there(tmp_path):
    text = "transform_param { mean_file: 'mean.binaryproto' }"
    found = net(tmp_path, v1("DATA", text, "", "data") + v1("RELU"))
    with pytest.raises(FileError) as error:
        load_mean(found, tmp_path / "net.prototxt")
    assert "no mean_file 'mean.binaryproto' in the working directory, nor in" in str(error.value)
    with pytest.raises(DeepLabError, match="is not loaded"):
        assert found.preprocessing.image_size


def test_a_mean_file_of_another_size_than_images_are_resized_to(loaded):
    content = legacy(1, 3, 2, 4) + field(5, floats(*range(24)))
    sized = "image_data_param { new_height: 2 new_width: 5 }"
    problem = "mean_file 'mean.binaryproto' is 2x4, expected 2x5 as new_height and new_width say"
    refused(lambda: loaded(content, fields=sized), problem, NetError)
