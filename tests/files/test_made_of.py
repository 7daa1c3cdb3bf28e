"""Marks: what a file was made of is found in it, and a file that was cut or changed has none."""

import hashlib
import io

import numpy as np
import pytest
from PIL import Image

from deeplab_repro.errors import FileError, FormatError
from deeplab_repro.files.images import read_labels
from deeplab_repro.files.made_of import (
    MadeOf,
    check_made_of,
    is_made_of,
    marked,
    read_mark,
    sha256_of,
    sha256_of_text,
    unmarked,
)
from deeplab_repro.files.pictures import write_labels
from deeplab_repro.files.probs import read_coarse, write_coarse
from deeplab_repro.net.scores import CoarseScores
from tests.conftest import assert_one_line

LABELS = np.arange(12, dtype=np.uint8).reshape(3, 4)
SCORES = CoarseScores(np.arange(24, dtype=np.float32).reshape(2, 3, 4), 8, 0)
MADE_OF = MadeOf(sha256_of_text("a photo"), sha256_of_text("settings"))


def write_png(path, made_of=MADE_OF):
    write_labels(path, LABELS, made_of)


def write_npz(path, made_of=MADE_OF):
    write_coarse(path, SCORES, made_of)


def write_own(path, made_of=MADE_OF):
    path.write_bytes(marked(b"some counts", made_of) if made_of else b"some counts")


KINDS = pytest.mark.parametrize("write", [write_png, write_npz, write_own])


def test_digests(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 3_000_000)
    assert sha256_of(tmp_path / "a") == hashlib.sha256(b"x" * 3_000_000).hexdigest()
    assert sha256_of_text("ä") == hashlib.sha256("ä".encode()).hexdigest()


@KINDS
def test_a_mark_is_found(tmp_path, write):
    path = tmp_path / "a"
    write(path)
    assert read_mark(path) == MADE_OF
    write(path, None)
    assert read_mark(path) is None
    assert read_mark(tmp_path / "none") is None
    assert read_mark(tmp_path) is None


def test_other_readers_read_past_it(tmp_path):
    write_png(tmp_path / "a.png")
    np.testing.assert_array_equal(read_labels(tmp_path / "a.png"), LABELS)
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.mode == "P"
        picture.load()
        assert picture.text["deeplab-repro:made-of"].startswith(" ".join(MADE_OF))
    write_npz(tmp_path / "a.npz")
    np.testing.assert_array_equal(read_coarse(tmp_path / "a.npz").values, SCORES.values)
    with np.load(tmp_path / "a.npz") as arrays:
        np.testing.assert_array_equal(arrays["scores"], SCORES.values)
    write_own(tmp_path / "a")
    assert unmarked(tmp_path / "a") == (MADE_OF, b"some counts")


def test_of_an_archive_the_directory_is_compared(tmp_path):
    path = tmp_path / "a.npz"
    for side in (3, 300):  # a small file, and one of which only the end is read
        values = np.random.default_rng(0).random((2, side, side), np.float32)
        write_coarse(path, CoarseScores(values, 8, 0), MADE_OF)
        assert read_mark(path) == MADE_OF
        content = path.read_bytes()
        for place in range(len(content) - 500, len(content)):
            path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
            assert read_mark(path) is None
        path.write_bytes(content[:90] + bytes([content[90] ^ 1]) + content[91:])
        with pytest.raises(FormatError, match="broken"):
            read_coarse(path)


@KINDS
def test_every_change_is_seen(tmp_path, write):
    path = tmp_path / "a"
    write(path)
    content = path.read_bytes()
    end = range(len(content) - 20, len(content))
    for length in (*range(0, len(content), 29), *end):
        path.write_bytes(content[:length])
        assert read_mark(path) is None
    for place in (*range(0, len(content), 29), *end):
        changed = bytearray(content)
        changed[place] ^= 4
        path.write_bytes(changed)
        assert read_mark(path) is None
    path.write_bytes(content + b"\n")
    assert read_mark(path) is None


def test_a_mark_of_another_file_is_none(tmp_path):
    encoded = io.BytesIO()
    Image.fromarray(LABELS + 1).save(encoded, "PNG")
    write_png(tmp_path / "a")
    mark = (tmp_path / "a").read_bytes()[-(12 + 22 + 194 + 12) :]
    (tmp_path / "b").write_bytes(encoded.getvalue()[:-12] + mark)
    with Image.open(tmp_path / "b") as picture:
        picture.load()
        assert "deeplab-repro:made-of" in picture.text
    assert read_mark(tmp_path / "b") is None


def test_a_huge_file_is_not_read(tmp_path):
    write_own(tmp_path / "a")
    mark = (tmp_path / "a").read_bytes()[-194:]
    with open(tmp_path / "b", "wb") as file:
        file.seek(1 << 42)  # takes no room on the disk
        file.write(mark)
    assert read_mark(tmp_path / "b") is None


def test_what_it_was_made_of_is_compared(tmp_path):
    photo, path = tmp_path / "a.jpg", tmp_path / "a.npz"
    photo.write_bytes(b"a photo")
    write_npz(path)

    def inputs():
        return sha256_of(photo)

    assert is_made_of(path, MADE_OF.settings, inputs)
    assert not is_made_of(path, sha256_of_text("other settings"), inputs)
    check_made_of(path, photo)
    photo.write_bytes(b"another")
    assert not is_made_of(path, MADE_OF.settings, inputs)
    with pytest.raises(FileError) as error:
        check_made_of(path, photo)
    assert_one_line(error, path, "was made of another photo", photo)
    photo.write_bytes(b"")
    assert not is_made_of(path, MADE_OF.settings, inputs)
    write_npz(path, None)  # says nothing
    check_made_of(path, photo)
