"""Arrays in .safetensors files: as the safetensors package has them, and broken ones refused."""

import json
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deeplab_repro.errors import DeepLabError, FormatError, NetError
from deeplab_repro.files.marks import made_here
from deeplab_repro.files.safetensors import open_safetensors, write_arrays
from tests.conftest import assert_one_line

F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
VALUES = np.array([1.5, -2.0], np.float32).tobytes()


def file_of(header: object, values: bytes = VALUES) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + values


def read_all(path):
    with open_safetensors(path) as file:
        return {name: file.read(name) for name in file.arrays}, file.metadata


def test_as_the_package_reads_and_writes_them(tmp_path):
    package = pytest.importorskip("safetensors.numpy")
    rng = np.random.default_rng(0)
    shapes = {"a.b.weight": (2, 3, 1, 5), "größe/\U0001f600.bias": (3,), "none": (0, 2), "one": ()}
    arrays = {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    arrays["a.b.weight"] = np.asfortranarray(arrays["a.b.weight"])
    write_arrays(tmp_path / "ours", arrays, {"net": "a\nü"}, half={"größe/\U0001f600.bias"})
    found = package.load_file(tmp_path / "ours")
    assert {name: str(array.dtype) for name, array in found.items()} == {
        name: "float16" if name.endswith("bias") else "float32" for name in arrays
    }
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array.astype(found[name].dtype))
    package.save_file(found, tmp_path / "theirs", metadata={"x": "y"})
    again, metadata = read_all(tmp_path / "theirs")
    assert metadata == {"x": "y"}
    for name, array in again.items():
        np.testing.assert_array_equal(array, found[name])
        assert array.dtype == np.float32


@pytest.mark.parametrize(
    ("dtype", "raw"),
    [
        ("F16", np.array([1.5, -2], "<f2").tobytes()),
        ("BF16", np.array([0x3FC0, 0xC000], "<u2").tobytes()),
        ("F64", np.array([1.5, -2], "<f8").tobytes()),
    ],
)
def test_other_floats_become_float32(tmp_path, dtype, raw):
    header = {"w": {"dtype": dtype, "shape": [2], "data_offsets": [0, len(raw)]}}
    (tmp_path / "a").write_bytes(file_of(header, raw))
    (found,), _ = read_all(tmp_path / "a")[0].values(), None
    np.testing.assert_array_equal(found, np.array([1.5, -2], np.float32))
    assert found.flags.writeable


def test_the_same_arrays_give_the_same_bytes_marked_as_ours(tmp_path):
    for name in "ab":
        write_arrays(tmp_path / name, {"w": np.ones(3)}, {"x": "y"})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert made_here(tmp_path / "a")


def test_no_more_memory_than_one_array(tmp_path):
    arrays = {str(number): np.ones(500_000, np.float32) for number in range(4)}
    tracemalloc.start()
    write_arrays(tmp_path / "a", arrays, {}, half=arrays)
    assert tracemalloc.get_traced_memory()[1] < 1_500_000
    read_all(tmp_path / "a")
    assert tracemalloc.get_traced_memory()[1] < 4 * 2_000_000 + 2_000_000
    tracemalloc.stop()


def test_a_header_that_is_too_long_is_not_written(tmp_path):
    with pytest.raises(NetError, match=r"its header has 9,000,0\d\d bytes, expected at most"):
        write_arrays(tmp_path / "a", {}, {"x": "y" * 9_000_000})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"PK\3\4", "is not a .safetensors, or cut short"),
        (b"<!DOCTYPE html><title>not found", "is not a .safetensors, or cut short"),
        (struct.pack("<Q", 2**63) + b"{}", "is not a .safetensors, or cut short"),
        (file_of(b"[]"), "is not a .safetensors"),
        (struct.pack("<Q", 9 << 20) + b"{" + bytes(9 << 20), "its header has 9,437,184 bytes"),
        (file_of(b"{"), "its header is broken"),
        (file_of(b'{"\xff"}'), "its header is broken: 'utf-8' codec can't decode"),
        (file_of(b'{"a":' + b"[" * 100_000), "its header is broken"),
        (file_of(b'{"a":' + b"9" * 100_000 + b"}"), "its header is broken"),
        (file_of(b'{"a":1,"a":1}'), "its header is broken: it has a name twice"),
        (file_of({"__metadata__": {"a": 1}}), "__metadata__ is no object of texts"),
        (file_of({"a": []}), "at 'a', has other fields than dtype, shape and data_offsets"),
        (file_of({"a": {**F32, "more": 1}}), "has other fields"),
        (file_of({"a\n\u2028": {**F32, "dtype": 7}}), "at 'a\\n\\u2028', has a dtype that is"),
        (file_of({"a": {**F32, "shape": [-2]}}), "has a shape that no array can have"),
        (file_of({"a": {**F32, "shape": [True]}}), "has a shape that no array can have"),
        (file_of({"a": {**F32, "shape": [1] * 65}}), "has a shape that no array can have"),
        (file_of({"a": {**F32, "shape": [2**64]}}), "has a shape that no array can have"),
        (file_of({"a": {**F32, "shape": [2**62]}}), "'a' is 4611686018427387904 F32, expected 8"),
        (file_of({"a": {**F32, "data_offsets": [8, 0]}}), "has data_offsets that are none"),
        (file_of({"a": {**F32, "data_offsets": [8, 16]}}), "'a' begins at 8, expected 0"),
        (file_of({"a": F32, "b": F32}), "'b' begins at 0, expected 8"),
        (file_of({"a": F32}, VALUES[:4]), "its arrays have 8 bytes, expected the 4 there"),
        (file_of({"a": F32}, VALUES * 2), "its arrays have 8 bytes, expected the 16 there"),
        (
            file_of({"a": {**F32, "dtype": "I64", "shape": [1]}}),
            "'a' is of I64, expected F16, BF16",
        ),
        (file_of({"a": {**F32, "dtype": "F8_E4M3"}}), "'a' is of F8_E4M3, expected"),
    ],
)
def test_broken_files(tmp_path, content, expected):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(FormatError) as error:
        read_all(tmp_path / "a")
    assert_one_line(error, f"{tmp_path / 'a'}: ", expected)
    assert len(str(error.value)) < 1000


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_flipped_and_missing_bytes(tmp_path, data):
    content = bytearray(file_of({"__metadata__": {"a": "b"}, "w.x": F32}))
    for at in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=3)):
        content[at] ^= data.draw(st.integers(1, 255))
    del content[data.draw(st.just(len(content)) | st.integers(1, len(content))) :]
    (tmp_path / "a").write_bytes(content)
    assert problem(tmp_path / "a").isprintable()


def problem(path) -> str:
    try:
        read_all(path)
    except DeepLabError as error:
        return str(error)
    return "none"
