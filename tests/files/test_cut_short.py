"""Arrays in files that were cut short, at a hundred lengths: one line with the file's name."""

import io
import struct

import numpy as np
import pytest
import scipy.io

from deeplab_repro.errors import DeepLabError
from deeplab_repro.files.mat import read_mat
from deeplab_repro.files.probs import read_coarse, read_probs, write_coarse
from deeplab_repro.net.scores import CoarseScores
from tests.conftest import assert_one_line

PROBS = np.full((2, 2, 3), 0.5, np.float32)


def bytes_of(save):
    file = io.BytesIO()
    save(file)
    return file.getvalue()


def read_as_probs(path):
    return read_probs(path, (2, 3))


def read_as_mat(path):
    return read_mat(path, "data")


def mat(**how):
    return bytes_of(lambda file: scipy.io.savemat(file, {"data": PROBS}, **how))


@pytest.mark.parametrize(
    ("name", "content", "read"),
    [
        ("a.npy", bytes_of(lambda file: np.save(file, PROBS)), read_as_probs),
        ("a.npz", bytes_of(lambda file: np.savez(file, PROBS)), read_as_probs),
        ("b.npz", bytes_of(lambda file: np.savez_compressed(file, PROBS)), read_as_probs),
        ("a.bin", struct.pack("<3i", 2, 3, 2) + PROBS.tobytes(), read_as_probs),
        ("a.mat", mat(), read_as_mat),
        ("b.mat", mat(do_compression=True), read_as_mat),
    ],
    ids=["npy", "npz", "npz, packed", "bin", "mat", "mat, packed"],
)
def test_arrays(tmp_path, name, content, read):
    path = tmp_path / name
    path.write_bytes(content)
    refuses_parts(path, read)


def test_coarse_scores(tmp_path):
    write_coarse(tmp_path / "a.npz", CoarseScores(PROBS, 8, 0))
    refuses_parts(tmp_path / "a.npz", read_coarse)


def refuses_parts(path, read):
    read(path)
    content = path.read_bytes()
    for length in range(0, len(content), 1 + len(content) // 100):
        path.write_bytes(content[:length])
        with pytest.raises(DeepLabError) as error:
            read(path)
        assert_one_line(error, path)
