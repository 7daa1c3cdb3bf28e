"""Every kind of broken .npz is refused on one line, and takes no memory."""

import io
import struct
import zipfile
import zlib
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeplab_repro.convert.npz import read_npz, write_npz
from deeplab_repro.net.layers import (
    InnerProduct,
)
from deeplab_repro.net.net import Layer, Net
from deeplab_repro.net.preprocess import MeanImage, Preprocessing
from tests.convert.npz_files import (
    assert_refused,
    assert_same,
    npy,
    on_disk,
    small,
    small_parts,
    traced_memory,
    use,
    zipped,
)


@pytest.fixture
def parts() -> dict[str, bytes]:
    """The members of the small net's file."""
    return small_parts()


@pytest.fixture
def refused(tmp_path):
    """Assert that a file of some content is refused on one line."""
    return partial(assert_refused, tmp_path / "net.npz")


# --- archives


def test_not_an_archive(refused, parts):
    refused(b"no zip at all", "is not a .npz, or broken: File is not a zip file")
    refused(zipped(parts)[:-1], "is not a .npz, or broken")
    refused(zipped({}), "holds no net.json but nothing, expected a net that `convert --to npz`")
    scores = zipped({"scores.npy": b""}, zipfile.ZIP_DEFLATED)
    refused(scores, "holds no net.json but 'scores.npy', expected a net that")
    refused(npy(np.zeros(3)), "is not a .npz")


def test_compressed_members(refused, parts):
    for compression in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        refused(zipped(parts, compression), "'net.json' is compressed, expected it as it is")


def test_other_members(refused, parts):
    refused(zipped({**parts, "more.npy": b""}), "holds 'more.npy', which is no blob of net.json")
    refused(zipped({**parts, "a\n\u2028": b""}), "holds 'a\\n\\u2028', which is no blob")
    rest = {name: content for name, content in parts.items() if name != "a/conv/bias.npy"}
    refused(zipped(rest), "holds no 'a/conv/bias.npy', expected that blob of net.json")


def test_the_values_of_a_mean_file(refused, tmp_path):
    net = small()
    values = np.arange(3 * 5 * 4, dtype=np.float32).reshape(3, 5, 4)
    net.preprocessing = Preprocessing(MeanImage("m", values))
    path = tmp_path / "mean.npz"
    write_npz(net, path)
    assert_same(read_npz(path), net)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    for array, problem in (
        (values[0], "'mean.npy' is 5x4, expected 3xHxW: blue, green, red"),
        (values[:, :0], "'mean.npy' is 3x0x4, expected 3xHxW"),
        (values[:2], "'mean.npy' is 2x5x4, expected 3xHxW"),
        (values.astype(int), "'mean.npy' is 3x5x4 int64, expected 3x5x4 float32"),
        (values + np.inf, "'mean.npy' holds NaN or infinity"),
    ):
        refused(zipped({**parts, "mean.npy": npy(array)}), problem)
    rest = {name: content for name, content in parts.items() if name != "mean.npy"}
    refused(zipped(rest), "holds no 'mean.npy', expected the values of mean_file")


def test_a_member_twice(refused, parts):
    file = io.BytesIO(zipped(parts))
    with zipfile.ZipFile(file, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("fc/weight.npy", parts["fc/weight.npy"])
    refused(file.getvalue(), "holds 'fc/weight.npy' twice")


def directory_entry(content: bytes, name: str) -> int:
    return content.index(name.encode(), content.index(b"PK\1\2")) - 46


def test_sizes_that_are_not_there(refused, parts):
    content = bytearray(zipped(parts))
    at = directory_entry(content, "fc/weight.npy")
    struct.pack_into("<2L", content, at + 20, 2**32 - 2, 2**32 - 2)
    refused(bytes(content), "its members claim more than its")
    # The same bytes for many members: each one fits, all of them together do not.
    struct.pack_into("<2L", content, at + 20, len(content) - 2, len(content) - 2)
    refused(bytes(content), "its members claim more than its")
    array = parts["fc/weight.npy"]
    struct.pack_into("<3L", content, at + 16, zlib.crc32(array[:-4]), len(array) - 4, len(array))
    refused(bytes(content), "'fc/weight.npy' is cut short: the file is broken")


def test_encrypted_and_damaged(refused, parts):
    content = bytearray(zipped(parts))
    content[directory_entry(content, "fc/weight.npy") + 8] |= 1
    refused(bytes(content), "is encrypted")
    content = bytearray(zipped(parts))
    content[content.index(parts["fc/weight.npy"]) + 130] ^= 1
    refused(bytes(content), "Bad CRC-32 for file 'fc/weight.npy'")


def test_a_directory_of_a_hundred_thousand_files(refused):
    directory = (b"PK\1\2" + bytes(42)) * 100_000
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0, 0, len(directory), 0, 0)
    with traced_memory() as peak:
        refused(directory + end, "its directory has over 1,048,576 bytes")
        assert peak() < 2 * len(directory)


# --- arrays


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.zeros((4, 162), np.int32), "is 4x162 int32, expected 4x162 float32, as in net.json"),
        (np.zeros((4, 162), complex), "is 4x162 complex128, expected"),
        (np.zeros((4, 162), np.longdouble), f"is 4x162 {np.dtype(np.longdouble)}, expected"),
        (np.full((4, 162), None), "is 4x162 object, expected"),
        (np.zeros((4, 162), [("a" * 999, "f4")]), "is 4x162 [('aaaa"),
        (np.zeros((4, 161), "f4"), "is 4x161 float32, expected 4x162 float32"),
        (np.zeros((1, 4, 162), "f4"), "is 1x4x162 float32, expected 4x162"),
        (np.float32(1), "is scalar float32, expected 4x162"),
    ],
)
def test_arrays_of_other_things(refused, parts, array, expected):
    refused(zipped({**parts, "fc/weight.npy": npy(array)}), f"'fc/weight.npy' {expected}")


def header(text: str) -> bytes:
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text.encode("latin-1")


F4 = "{'descr': '<f4', 'fortran_order': False, 'shape': %s}"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "is not an array of NumPy's, or broken"),
        (b"\x93NUMPY\3\0" + bytes(99), "its version is 3.0"),
        (b"\x93NUMPY\2\0" + bytes([255] * 9), "is not an array of NumPy's, or broken"),
        (header(F4 % ("(" * 5000)), "is not an array of NumPy's, or broken"),
        (header(F4 % "(-4, -162)"), "has a header that no array can have"),
        (header(F4 % "(4, 162)"), "which has 2,592 bytes, but 0 are there"),
        (header(F4 % "(4, 162)") + bytes(2593), "which has 2,592 bytes, but 2,593 are there"),
        (header(F4 % f"({'9' * 18}, {'9' * 18})"), "expected 4x162 float32"),
    ],
)
def test_broken_arrays(refused, parts, content, expected):
    refused(zipped({**parts, "fc/weight.npy": content}), expected)


def test_no_pickle_is_opened(refused, parts):
    class Trap:
        def __reduce__(self):
            return pytest.fail, ("a pickle was run",)

    file = io.BytesIO()
    np.save(file, np.array([Trap()]), allow_pickle=True)
    refused(zipped({**parts, "fc/weight.npy": file.getvalue()}), "is 1 object, expected")


def test_no_more_memory_than_for_the_weights(tmp_path):
    net = Net("n", "d", (1, 1024, 1, 1), [Layer("fc", InnerProduct(2048), ("d",), ("fc",))])
    net.fill_random(0)
    with traced_memory() as peak:
        write_npz(net, tmp_path / "a.npz")
        assert peak() < 1_000_000
        found = read_npz(tmp_path / "a.npz")
        assert 4 * net.parameters <= peak() < 1.5 * 4 * net.parameters
    assert_same(found, net)


# --- anything else


@on_disk
@given(st.data())
def test_flipped_and_missing_bytes(tmp_path, parts, data):
    content = bytearray(zipped(parts))
    for at in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=3)):
        content[at] ^= data.draw(st.integers(1, 255))
    # Most of what matters to zipfile lies at the end.
    directory = content.index(b"PK\1\2")
    for at in data.draw(st.lists(st.integers(directory, len(content) - 1), max_size=3)):
        content[at] = data.draw(st.integers(0, 255))
    start = data.draw(st.integers(0, 9))
    end = data.draw(st.just(len(content)) | st.integers(start, len(content)))
    (tmp_path / "a.npz").write_bytes(bytes(content[start:end]) or b"x")
    use(tmp_path / "a.npz")
