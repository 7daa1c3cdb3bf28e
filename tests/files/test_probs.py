"""Files of label probabilities: what is in each format, and every kind of broken one."""

import io
import random
import struct
import warnings
import zipfile

import numpy as np
import pytest
import scipy.io
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from deeplab_repro.errors import DeepLabError, FormatError, ResourceError
from deeplab_repro.files.probs import FORMATS, read_probs, write_bin, write_scores_mat
from deeplab_repro.net.scores import softmax
from tests.conftest import assert_one_line

SCORES = 3 * np.random.default_rng(0).standard_normal((4, 5, 7)).astype(np.float32)
PROBS = softmax(SCORES)
SIZE = (5, 7)

maps = arrays(np.float32, array_shapes(min_dims=3, max_dims=3, max_side=6))
on_disk = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def npy(array) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.fixture
def refused(tmp_path):
    """The one-line error for a file of this content."""

    def read(name, content, kind=FormatError):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(kind) as error:
            read_probs(tmp_path / name, SIZE)
        assert_one_line(error, f"{name}")
        return str(error.value)

    return read


# --- what is read


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "f2", "f8"])
def test_npy_of_any_float(tmp_path, dtype):
    for array in (PROBS.astype(dtype), np.asfortranarray(PROBS.astype(dtype))):
        np.save(tmp_path / "a.npy", array)
        found = read_probs(tmp_path / "a.npy", SIZE)
        assert found.dtype == np.float32
        assert found.flags.c_contiguous
        assert found.flags.writeable
        np.testing.assert_array_equal(found, PROBS.astype(dtype).astype(np.float32))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize(
    "names", [["arr_0"], ["anything"], ["probs", "x"], ["x", "marginals"]], ids="-".join
)
def test_npz(tmp_path, save, names):
    others = {name: np.arange(3) for name in names}
    wanted = next((name for name in names if name in ("probs", "marginals")), names[0])
    save(tmp_path / "a.npz", **{**others, wanted: PROBS})
    np.testing.assert_array_equal(read_probs(tmp_path / "a.npz", SIZE), PROBS)


def test_bin_lies_column_by_column(tmp_path):
    write_bin(tmp_path / "a.bin", PROBS)
    content = (tmp_path / "a.bin").read_bytes()
    assert struct.unpack("<3i", content[:12]) == (5, 7, 4)  # rows, columns, channels
    # What MATLAB's fwrite makes of rows x columns x channels.
    in_matlab = np.asfortranarray(PROBS.transpose(1, 2, 0))
    assert content[12:] == in_matlab.tobytes(order="F")
    rows, cols = 5, 7
    (value,) = struct.unpack_from("<f", content, 12 + 4 * ((2 * cols + 3) * rows + 1))
    assert value == PROBS[2, 1, 3]  # channel, row, column


@on_disk
@given(maps)
def test_bin_and_back(tmp_path, array):
    write_bin(tmp_path / "a.bin", array)
    found = read_probs(tmp_path / "a.bin", array.shape[1:])
    assert found.flags.c_contiguous
    assert found.tobytes() == np.ascontiguousarray(array).tobytes()  # NaNs too


def test_a_map_that_does_not_lie_in_rows_is_written_right(tmp_path):
    write_bin(tmp_path / "a.bin", PROBS[::2].transpose(0, 2, 1))
    found = read_probs(tmp_path / "a.bin", SIZE[::-1])
    np.testing.assert_array_equal(found, PROBS[::2].transpose(0, 2, 1))


def test_mat_is_a_square_with_the_scores_in_its_corner(tmp_path):
    write_scores_mat(tmp_path / "a.mat", SCORES)
    data = scipy.io.loadmat(tmp_path / "a.mat")["data"]
    assert data.shape == (7, 7, 4)  # width, height, channels
    # As SaveMatAsBin.m: permute(data, [2 1 3]), and the first rows and columns.
    np.testing.assert_array_equal(data.transpose(1, 0, 2)[:5, :7], SCORES.transpose(1, 2, 0))
    # As the original's dense CRF for .mat, which steps from row to row by dims[1], the height.
    flat = data.ravel(order="F")
    assert flat[3 + 1 * data.shape[1] + 2 * 49] == SCORES[2, 1, 3]


@on_disk
@given(st.integers(2, 5), st.integers(1, 9), st.integers(1, 9), st.integers(0, 99))
def test_mat_and_back(tmp_path, labels, height, width, seed):
    scores = 3 * np.random.default_rng(seed).standard_normal((labels, height, width))
    scores = scores.astype(np.float32)
    write_scores_mat(tmp_path / "a.mat", scores)
    found = read_probs(tmp_path / "a.mat", (height, width))
    np.testing.assert_array_equal(found, softmax(scores))


def test_mat_of_the_original_is_cropped_before_its_softmax(tmp_path):
    padded = np.full((1, 4, 9, 9), 50, np.float32)  # N x C x H x W, as in Caffe's memory
    padded[0, :, :5, :7] = SCORES
    for data in (padded.transpose(), padded[0].transpose()):
        scipy.io.savemat(tmp_path / "a.mat", {"data": data})
        np.testing.assert_array_equal(read_probs(tmp_path / "a.mat", SIZE), PROBS)


def test_mat_of_one_label_is_told_to_hold_both(tmp_path, refused):
    """One that is followed is the sigmoid of the score. MATLAB drops a last axis of 1."""
    x = SCORES[0].T
    for data in (x, x[..., None]):
        scipy.io.savemat(file := io.BytesIO(), {"data": data})
        told = refused("a.mat", file.getvalue())
        both = eval(told.split("labels, ")[1], {"numpy": np, "x": x})
        scipy.io.savemat(tmp_path / "b.mat", {"data": both})
        sigmoid = 1 / (1 + np.exp(-SCORES[0]))
        np.testing.assert_allclose(read_probs(tmp_path / "b.mat", SIZE)[1], sigmoid, rtol=1e-5)


# --- what is refused


@pytest.mark.parametrize("name", ["a.png", "a", "a.npy.gz", ".npy"])
def test_other_formats(refused, name):
    assert "is none of .npy, .npz, .bin, .mat" in refused(name, b"x")


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.zeros((4, 5, 7), np.uint8), "holds 4x5x7 uint8, expected probabilities, CxHxW float32"),
        (np.zeros((4, 5, 7), complex), "complex128"),
        (np.zeros((4, 5, 7), np.longdouble), np.dtype(np.longdouble).name),
        (np.array([{}]), "object"),
        (np.zeros(3, [("a", "f4")]), "('a', '<f4')"),
        (np.array("text"), "holds scalar <U4"),
        (PROBS[0], "holds 5x7 float32"),
        (np.stack([PROBS, PROBS]), "in a file of its own"),
    ],
)
def test_arrays_of_other_things(refused, array, expected):
    assert expected in refused("a.npy", npy(array))
    file = io.BytesIO()
    np.savez(file, probs=array)
    assert expected in refused("a.npz", file.getvalue())


def header(text: str, version: tuple[int, int] = (1, 0)) -> bytes:
    length = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + length + text.encode("latin-1")


F4 = "{'descr': '<f4', 'fortran_order': False, 'shape': %s}"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"no array at all", "is not an array of NumPy's"),
        (header(F4 % "(3,)", (3, 0)), "its version is 3.0"),
        (header(F4 % "(1000000, 1000000, 1000000)"), "4,000,000,000,000,000,000 bytes, but 0 are"),
        (header(F4 % "(-1, -1, 4)") + bytes(16), "has a header that no array can have"),
        (header(F4 % f"({', '.join(['9' * 4000] * 2)},)"), "has a header that no array can have"),
        (header(F4 % f"({'9' * 4500},)"), "is not an array of NumPy's, or broken"),
        (header(F4 % f"({'1, ' * 99})") + bytes(4), "has a header that no array can have"),
        (header(F4 % ("(" * 5000)), "is not an array of NumPy's, or broken"),
        (header(F4 % ("-" * 9000 + "1")), "is not an array of NumPy's, or broken"),
        (header("{'descr': '<f4'}"), "is not an array of NumPy's, or broken"),
        (header("[" * 300, (2, 0)), "is not an array of NumPy's, or broken"),
        (npy(PROBS)[:-1], "an array of 4x5x7 float32 has 560 bytes, but 559 are there"),
        (npy(PROBS) + b"x", "has 560 bytes, but 561 are there"),
    ],
)
def test_broken_npy(refused, content, expected):
    assert expected in refused("a.npy", content)


def test_npz_of_several_arrays(refused):
    file = io.BytesIO()
    np.savez(file, x=PROBS, **{"y\n": PROBS})
    expected = r"holds 'x', 'y\n': expected one array, or one of several named probs, "
    expected += "marginals, scores or logits"
    assert expected in refused("a.npz", file.getvalue())
    file = io.BytesIO()
    np.savez(file, probs=PROBS, marginals=PROBS)
    assert "holds 'probs', 'marginals'" in refused("a.npz", file.getvalue())


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_npz_that_numpy_does_not_write(refused, method):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr("probs.npy", npy(PROBS))
    assert "compressed in another way" in refused("a.npz", file.getvalue())


def test_a_small_file_with_a_huge_array(refused, monkeypatch):
    monkeypatch.setattr("deeplab_repro.machine.memory.available_memory", lambda: 5 * 10**7)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        shape = (21, 600, 600)
        archive.writestr("probs.npy", header(F4 % str(shape)) + bytes(4 * 21 * 600 * 600))
    assert len(file.getvalue()) < 300_000
    message = refused("a.npz", file.getvalue(), ResourceError)
    assert "a.npz, 'probs': an array of 21x600x600: needs 0.1 GB of memory" in message


def test_an_array_smaller_than_its_entry_says(refused):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("probs.npy", npy(PROBS)[:-100])
    assert "has 560 bytes, but 460 are there" in refused("a.npz", file.getvalue())


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"\1\0\0\0", "is cut short"),
        (struct.pack("<3i", 5, 7, 4) + bytes(559), "begins with 5 rows, 7 columns and 4 channels"),
        (struct.pack("<3i", 5, 7, 4) + bytes(561), "has 573 bytes, expected float32"),
        (struct.pack("<3i", 5, 7, 1) + bytes(70), "it holds 16-bit integers"),
        (struct.pack("<3i", 5, 7, 4) + bytes(1120), "it holds doubles"),
        (struct.pack("<3i", -5, -7, 4) + bytes(560), "begins with -5 rows"),
        (struct.pack("<3i", 0, 7, 4), "begins with 0 rows"),
        (struct.pack("<3i", *3 * [2**31 - 1]) + bytes(99), "begins with 2147483647 rows"),
    ],
)
def test_broken_bin(refused, content, expected):
    assert expected in refused("a.bin", content)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (
            SCORES[:, :4].transpose(),
            "'data' is 7x4x4, expected W x H x C, at least the image's 7x5",
        ),
        (SCORES, "'data' is 4x5x7"),
        (np.stack([SCORES.transpose()] * 2, axis=3), "'data' is 7x5x4x2"),
        (np.zeros((7, 5, 4, 1, 1, 3)), "'data' is 7x5x4x1x1x3"),
        (np.where(SCORES < 0, np.nan, SCORES).transpose(), "scores that are NaN or infinite"),
        (
            np.where(SCORES < 0, 1e300, SCORES.astype(float)).transpose(),
            "scores that are NaN or infinite",
        ),
        (PROBS.transpose(), "holds probabilities, expected scores"),
    ],
)
def test_mat_that_does_not_fit(refused, data, expected):
    file = io.BytesIO()
    scipy.io.savemat(file, {"data": data})
    assert expected in refused("a.mat", file.getvalue())


# --- no other errors, and no warnings, whatever the bytes


@pytest.mark.filterwarnings("error")
@on_disk
@given(st.sampled_from(FORMATS), st.binary(min_size=1, max_size=300))
def test_random_bytes(tmp_path, extension, content):
    path = tmp_path / f"a{extension}"
    path.write_bytes(content)
    with pytest.raises(DeepLabError) as error:
        read_probs(path, (1, 1))
    assert_one_line(error, "a.")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("save", [np.save, np.savez, np.savez_compressed])
def test_mutations(tmp_path, save):
    path = tmp_path / ("a.npy" if save is np.save else "a.npz")
    save(path, PROBS)
    good = path.read_bytes()
    outcomes = set()
    for seed in range(150):
        rng = random.Random(seed)
        content = bytearray(good)
        for _ in range(rng.randint(1, 4)):
            at = rng.choice([rng.randrange(len(content)), rng.randrange(120), -rng.randint(1, 120)])
            content[at] = rng.choice([0, 1, 127, 255, rng.randrange(256), ord("("), ord("-")])
        if rng.random() < 0.2:
            del content[rng.randrange(1, len(content)) :]
        path.write_bytes(content)
        try:
            read_probs(path, SIZE)
            outcomes.add("read")
        except DeepLabError as error:
            outcomes.add("refused" if str(error).isprintable() else "refused in several lines")
    assert outcomes == {"read", "refused"}


def test_softmax():
    scores = np.random.default_rng(0).normal(0, 30, (5, 4, 3)).astype(np.float32)
    exact = np.exp(scores.astype(np.float64) - scores.max(axis=0))
    exact /= exact.sum(axis=0)
    probs = softmax(scores)
    assert probs.dtype == np.float32
    # float32's exp of differences up to 100, and below 1e-38 it has no numbers.
    np.testing.assert_allclose(probs, exact, rtol=1e-5, atol=1e-38)
    large = np.float32([[[3e38]], [[-3e38]]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(softmax(large).ravel(), [1, 0])
