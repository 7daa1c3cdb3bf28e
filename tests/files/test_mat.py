"""MAT-files of level 5: as SciPy reads and writes them, byte by byte, and every kind of broken one.

Broken files are never shown to SciPy, which some of them would crash.
"""

import io
import random
import struct
import zlib

import numpy as np
import pytest
import scipy.io

from deeplab_repro.errors import ArgumentError, FileError, FormatError, ResourceError
from deeplab_repro.files import mat
from deeplab_repro.files.mat import read_mat, write_mat
from tests.conftest import assert_one_line

SCORES = np.random.default_rng(0).standard_normal((3, 4, 5)).astype(np.float32)


@pytest.fixture
def saved(tmp_path):
    """Save variables with SciPy, as MATLAB would."""

    def save(compressed=False, **variables):
        path = tmp_path / "a.mat"
        scipy.io.savemat(path, variables, do_compression=compressed)
        return path

    return save


@pytest.fixture
def ours(tmp_path):
    """A file that we wrote."""
    path = tmp_path / "ours.mat"
    with path.open("wb") as file:
        write_mat(file, "data", SCORES)
    return path


def test_what_scipy_reads(ours):
    assert scipy.io.whosmat(ours) == [("data", (5, 4, 3), "single")]
    data = scipy.io.loadmat(ours)["data"]
    assert data.dtype == np.float32
    # MATLAB sees the transpose: its first axis is the image's width.
    assert data[4, 1, 2] == SCORES[2, 1, 4]
    np.testing.assert_array_equal(data, SCORES.transpose(2, 1, 0))


def test_every_byte(ours):
    content = ours.read_bytes()
    assert content[:19] == b"MATLAB 5.0 MAT-file"
    assert content[124:128] == b"\0\1IM"
    head = struct.pack("<2I2I2I", 14, 296, 6, 8, 7, 0)  # a matrix of class single
    head += struct.pack("<2I3iI", 5, 12, 5, 4, 3, 0)  # its shape, padded to eight bytes
    head += struct.pack("<2H4s", 1, 4, b"data")  # its name, in a small element
    head += struct.pack("<2I", 7, 240)
    assert content[128:] == head + SCORES.tobytes()


def test_an_odd_number_of_values_is_padded(tmp_path):
    path = tmp_path / "odd.mat"
    with path.open("wb") as file:
        write_mat(file, "data", SCORES[:1, :1, :3])
    assert len(path.read_bytes()) % 8 == 0
    np.testing.assert_array_equal(scipy.io.loadmat(path)["data"].ravel(), SCORES[0, 0, :3])
    np.testing.assert_array_equal(read_mat(path, "data"), SCORES[:1, :1, :3])


def test_too_large(monkeypatch):
    monkeypatch.setattr(mat, "_LARGEST", 239)
    with pytest.raises(ArgumentError, match="3x4x5 is too large"):
        write_mat(io.BytesIO(), "data", SCORES)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_scipy_wrote(saved, compressed, dtype):
    text = "b" * 200
    data = SCORES.transpose(2, 1, 0).astype(dtype)
    path = saved(compressed, other=[1.0], text=text, a={"b": 1}, data=data, last=[2])
    found = read_mat(path, "data")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, SCORES)


def test_big_endian_and_numbers_stored_small(tmp_path):
    # MATLAB stores doubles that are small whole numbers as bytes, here in a small element.
    matrix = struct.pack(">2I2I", 6, 8, 6, 0) + struct.pack(">2I2i", 5, 8, 1, 3)
    matrix += struct.pack(">2H4s", 4, 1, b"data") + struct.pack(">2H4B", 3, 2, 7, 0, 9, 0)
    content = bytes(124) + b"\1\0MI" + struct.pack(">2I", 14, len(matrix)) + matrix
    path = tmp_path / "big.mat"
    path.write_bytes(content)
    np.testing.assert_array_equal(read_mat(path, "data"), [[7], [0], [9]])


def test_doubles_beyond_single_become_infinite(saved):
    assert read_mat(saved(data=[[1e300, 1.0]]), "data").tolist() == [[np.inf], [1.0]]


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, "holds no variables, expected 'data'"),
        ({"x": 1, "date": [1]}, "holds 'x', 'date', expected 'data'"),
        ({"data": "text"}, "'data' is text, expected single or double"),
        ({"data": {"a": 1}}, "'data' is a struct"),
        ({"data": np.array([1, "a"], object)}, "'data' is a cell"),
        ({"data": np.array([[1j]])}, "'data' is complex"),
        ({"data": np.array([[1]], np.uint8)}, "'data' is uint8"),
        ({"data": np.zeros((0, 3))}, "an array of 0x3"),
    ],
)
def test_other_variables(saved, compressed, variables, expected):
    with pytest.raises(FormatError) as error:
        read_mat(saved(compressed, **variables), "data")
    assert_one_line(error, "a.mat: ", expected)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"no such file" * 20, "is not a MAT-file of level 5"),
        (b"MATLAB 5.0", "is not a MAT-file of level 5"),
        (b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM", "version 7.3: save it with -v7"),
        (b"\x89HDF\r\n\x1a\n".ljust(200), "version 7.3: save it with -v7"),
        (bytes(124) + b"\0\1IM", "holds no variables"),
    ],
)
def test_no_such_file(tmp_path, content, expected):
    path = tmp_path / "a.mat"
    path.write_bytes(content)
    with pytest.raises(FormatError) as error:
        read_mat(path, "data")
    assert_one_line(error, "a.mat: ", expected)


def test_missing_and_empty(tmp_path):
    with pytest.raises(FileError, match="no such file"):
        read_mat(tmp_path / "a.mat", "data")
    (tmp_path / "a.mat").touch()
    with pytest.raises(FileError, match="is empty"):
        read_mat(tmp_path / "a.mat", "data")


def test_cut_anywhere(ours):
    content = ours.read_bytes()
    for end in range(1, len(content), 3):
        ours.write_bytes(content[:end])
        with pytest.raises(FormatError):
            read_mat(ours, "data")


@pytest.mark.parametrize("compressed", [False, True])
def test_mutations(saved, compressed):
    path = saved(compressed, x=[1.5], data=SCORES)
    good = path.read_bytes()
    outcomes = set()
    for seed in range(250):
        rng = random.Random(seed)
        content = bytearray(good)
        for _ in range(rng.randint(1, 3)):
            content[rng.randrange(124, len(content))] = rng.choice([0, 1, 127, 255, seed % 256])
        path.write_bytes(content)
        try:
            assert read_mat(path, "data").dtype == np.float32
            outcomes.add("read")
        except (FormatError, ResourceError) as error:
            outcomes.add("refused" if str(error).isprintable() else "refused in several lines")
    assert outcomes == {"read", "refused"}


def compressed_file(inner: bytes) -> bytes:
    packed = zlib.compress(inner, 9)
    return bytes(124) + b"\0\1IM" + struct.pack("<2I", 15, len(packed)) + packed


def test_a_bomb_is_inflated_no_further_than_it_says(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(mat, "require_memory", lambda n_bytes, _: asked.append(n_bytes))
    path = tmp_path / "a.mat"
    path.write_bytes(compressed_file(struct.pack("<2I", 14, 1000) + bytes(5_000_000)))
    with pytest.raises(FormatError):
        read_mat(path, "data")
    assert max(asked) == 2 * path.stat().st_size < 20_000


def test_a_bomb_that_says_so_must_fit_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("deeplab_repro.machine.memory.available_memory", lambda: 10**9)
    path = tmp_path / "a.mat"
    path.write_bytes(compressed_file(struct.pack("<2I", 14, 2**32 - 1) + bytes(1000)))
    with pytest.raises(ResourceError, match=r"a.mat: needs 8.6 GB of memory"):
        read_mat(path, "data")


def test_more_axes_than_an_array_has(tmp_path):
    shape = struct.pack("<1000i", *[2**31 - 1] * 1000)
    matrix = struct.pack("<4I", 6, 8, 6, 0) + struct.pack("<2I", 5, len(shape)) + shape
    matrix += struct.pack("<2H4s", 1, 4, b"data") + struct.pack("<2H4B", 2, 1, 7, 0, 0, 0)
    path = tmp_path / "a.mat"
    path.write_bytes(bytes(124) + b"\0\1IM" + struct.pack("<2I", 14, len(matrix)) + matrix)
    with pytest.raises(FormatError) as error:
        read_mat(path, "data")
    assert_one_line(error, "the head of 'data' has another size than it should")
