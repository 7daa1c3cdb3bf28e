"""Files of label probabilities: NumPy's .npy and .npz, and the original's .bin and .mat.

A .bin holds the input of the original's dense CRF: probabilities at the image's size. A .mat holds
the output of its net: scores, padded to the net's input (docs/original.md, sections 1.10, 3 and 4).
"""

import io
import math
import os
import struct
import zipfile
from pathlib import Path
from typing import IO, Literal

import numpy as np

from deeplab_repro.arrays import F32, HW, Shape, dims
from deeplab_repro.errors import ArgumentError, FormatError, one_line
from deeplab_repro.files.given_scores import (
    GivenScores,
    Taken,
    given_scores,
    kind_of_values,
    tell,
)
from deeplab_repro.files.made_of import MadeOf, marked
from deeplab_repro.files.marks import write_noted
from deeplab_repro.files.mat import read_mat, write_mat
from deeplab_repro.files.npy import ZIP_ERRORS, read_header
from deeplab_repro.files.whole import open_to_read, write_atomically
from deeplab_repro.machine.memory import require_memory
from deeplab_repro.net.scores import CoarseScores, softmax

FORMATS = (".npy", ".npz", ".bin", ".mat")
"""What `read_probs` reads."""

# The array to take from a .npz of several, and the variable in a .mat.
_NPZ_NAMES = ("probs", "marginals", "scores", "logits")
_MAT_NAME = "data"
_COARSE_NAMES = ("scores", "stride", "offset")
_LONGEST_NUMBER = 1024  # bytes, with NumPy's header


def read_probs(path: str | os.PathLike[str], size: HW) -> F32:
    """Read label probabilities for an image of `size` = (H, W): CxHxW float32.

    .npy, .npz: an array of 16-, 32- or 64-bit floats; if a .npz has several, the one named probs,
    marginals, scores or logits. It holds probabilities or a net's scores, CxHxW or HxWxC, at the
    image's size or on a coarse grid (`given_scores` finds out). A .npz of coarse scores
    (`write_coarse`). Scores are enlarged, then softmax. .bin: probabilities, float32. .mat: scores
    `data`, W x H x C single or double: the top left corner, then softmax. Of .bin neither the
    values nor the shape are checked further: `dense_crf` does that.

    Raises FileError for a file that cannot be read, FormatError for one that is broken or holds
    something else, ResourceError, before memory is taken, if it needs more than there is.
    """
    extension = Path(path).suffix.lower()
    if extension == ".mat":
        return _softmax_of_corner(read_mat(path, _MAT_NAME), size, one_line(path))
    if extension == ".bin":
        with open_to_read(path) as (file, n_bytes):
            return _read_bin(file, n_bytes, one_line(path))
    given = _read_given(path, size)
    if given.taken.kind == "probabilities" and given.taken.stride == 1:
        return given.values
    return softmax(_enlarged(given.as_scores(size), size, one_line(path)))


def read_scores(path: str | os.PathLike[str], size: HW) -> tuple[CoarseScores, Taken]:
    """Read what `read_probs` reads as scores that cover an image, and what it was taken as.

    Of probabilities they are the logarithm. Raises what `read_probs` raises.
    """
    if Path(path).suffix.lower() in (".npy", ".npz"):
        given = _read_given(path, size)
    else:
        given = GivenScores(read_probs(path, size), Taken("probabilities", "CxHxW", 1))
        if given.values.shape[1:] != tuple(size):
            raise FormatError(
                f"{one_line(path)}: holds {dims(given.values.shape)}, expected CxHxW of the "
                f"image's {dims(size)} (HxW): is it another photo's?"
            )
        kind_of_values(given.values, one_line(path))
    scores = given.as_scores(size)
    try:
        scores.check_covers(size)
    except ArgumentError as error:
        raise FormatError(f"{one_line(path)}: {error}") from error
    return scores, given.taken


def _read_given(path: str | os.PathLike[str], size: HW) -> GivenScores:
    extension, name = Path(path).suffix.lower(), one_line(path)
    if extension == ".npz":
        found, is_ours = _read_npz(path)
        if isinstance(found, CoarseScores):
            # Of our own nothing is in doubt, nor is anything told.
            kind = "scores" if is_ours else kind_of_values(found.values, name, are_scores=True)
            given = GivenScores(found.values, Taken(kind, "CxHxW", found.stride, found.offset))
        else:
            given = given_scores(found, size, name)
    elif extension == ".npy":
        is_ours = False
        with open_to_read(path) as (file, n_bytes):
            given = given_scores(_read_npy(file, n_bytes, name), size, name)
    else:
        expected = ", ".join(FORMATS)
        raise FormatError(f"{name}: is none of {expected}: save it as one of these")
    if not is_ours:
        tell(Path(path), given.taken)
    return given


def read_coarse(path: str | os.PathLike[str]) -> CoarseScores:
    """Read the coarse scores of `write_coarse`, as float32. Raises what `read_probs` raises."""
    found, _ = _read_npz(path)
    if not isinstance(found, CoarseScores):
        expected = ", ".join(_COARSE_NAMES)
        raise FormatError(f"{one_line(path)}: holds no coarse scores, expected {expected}")
    return found


def write_coarse(
    path: str | os.PathLike[str], coarse: CoarseScores, made_of: MadeOf | None = None
) -> None:
    """Write coarse scores as a .npz: `scores` CxHxW, `stride` and `offset`, atomically.

    See `deeplab_repro.net.scores`. made_of: for a mark in the file (see `files.made_of`), or None.

    Raises FileError if the file cannot be written.
    """
    arrays = (coarse.values, np.int64(coarse.stride), np.int64(coarse.offset))
    archive = io.BytesIO()
    np.savez_compressed(archive, **dict(zip(_COARSE_NAMES, arrays, strict=True)))
    content = archive.getvalue()
    with write_atomically(path) as file:
        file.write(marked(content, made_of) if made_of else content)


def write_bin(path: str | os.PathLike[str], probs: F32) -> None:
    """Write label probabilities, CxHxW float32, for the original's dense CRF, atomically.

    The format has no place for a mark: the folder's note has its digest.

    Raises FileError if the file cannot be written.
    """
    channels, rows, cols = probs.shape
    values = np.ascontiguousarray(probs.transpose(0, 2, 1), "<f4")
    write_noted(Path(path), struct.pack("<3i", rows, cols, channels), values.data)


def write_scores_mat(path: str | os.PathLike[str], scores: F32) -> None:
    """Write scores, CxHxW float32, for the original's MATLAB scripts and dense CRF, atomically.

    They lie in the top left corner of a square, as the scores of the net's square input do; the
    original's scripts crop them to the image.

    Raises ArgumentError for more than a MAT-file can hold, FileError if it cannot be written.
    """
    channels, height, width = scores.shape
    side = max(height, width)
    square = np.zeros((channels, side, side), np.float32)
    square[:, :height, :width] = scores
    with write_atomically(path) as file:
        write_mat(file, _MAT_NAME, square)


def _read_npy(file: IO[bytes], n_bytes: int, name: str) -> F32:
    """Read one array in NumPy's format; `n_bytes`: its size with the header."""
    header = read_header(file, name)
    shape, dtype = header.shape, header.dtype
    if len(shape) == 4 and shape[0] == 1:  # a batch of one, as nets give it
        shape = shape[1:]
    if len(shape) != 3 or not header.is_float:
        raise FormatError(
            f"{name}: holds {dims(header.shape)} {dtype}, expected probabilities, CxHxW float32: "
            f"{_mend_for_array(shape, dtype.kind)}"
        )
    left, wanted = n_bytes - file.tell(), math.prod(shape) * dtype.itemsize
    if left != wanted:
        raise FormatError(
            f"{name}: an array of {dims(shape)} {dtype} has {wanted:,} bytes, but {left:,} are "
            "there: the file is broken or cut short, save it again"
        )
    require_memory(2 * 4 * math.prod(shape), f"{name}: an array of {dims(shape)}")
    order: Literal["F", "C"] = "F" if header.columns_first else "C"
    values = np.frombuffer(_read_exactly(file, wanted, name), dtype)
    with np.errstate(over="ignore"):  # of doubles: becomes infinite
        return np.array(values.reshape(shape, order=order), np.float32, order="C")


def _mend_for_array(shape: Shape, kind: str) -> str:
    """What to save in place of an array of this shape and kind of numbers, as NumPy calls it."""
    if len(shape) == 4:
        return "save the map of each photo in a file of its own"
    if len(shape) == 2 and kind == "f":
        return "if it is the probability p of one of two labels, save numpy.stack([1 - p, p])"
    if len(shape) == 2 and kind in "iu":
        return (
            "if these are labels from 0 to C - 1, save "
            "0.7 * numpy.moveaxis(numpy.eye(C)[labels], -1, 0) + 0.3 / C"
        )
    if kind in "iub":
        return "save p / p.sum(axis=0)"
    return "save them so, with .astype(numpy.float32)"


def _read_npz(path: str | os.PathLike[str]) -> tuple[F32 | CoarseScores, bool]:
    """What a .npz holds, and whether it has a mark of ours."""
    name = one_line(path)
    try:
        with open_to_read(path) as (file, _), zipfile.ZipFile(file) as archive:
            arrays = {each.filename.removesuffix(".npy"): each for each in archive.infolist()}
            if arrays.keys() == set(_COARSE_NAMES):
                entries = [arrays[each] for each in _COARSE_NAMES]
                return _read_coarse(archive, entries, name), bool(archive.comment)
            wanted = list(arrays) if len(arrays) == 1 else [n for n in _NPZ_NAMES if n in arrays]
            if len(wanted) != 1:
                held = ", ".join(f"'{one_line(each)}'" for each in list(arrays)[:9]) or "nothing"
                raise FormatError(
                    f"{name}: holds {held}: expected one array, or one of several named "
                    f"{', '.join(_NPZ_NAMES[:-1])} or {_NPZ_NAMES[-1]}"
                )
            entry = arrays[wanted[0]]
            with _open_member(archive, entry) as member:
                what = f"{name}, '{one_line(wanted[0])}'"
                return _read_npy(member, entry.file_size, what), False
    except ZIP_ERRORS as error:
        raise FormatError(
            f"{name}: is not a .npz, or broken: {one_line(error)}: save it again, with numpy.savez"
        ) from error


def _open_member(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> IO[bytes]:
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise zipfile.BadZipFile("compressed in another way than numpy.savez does")
    return archive.open(entry)


def _read_coarse(
    archive: zipfile.ZipFile, entries: list[zipfile.ZipInfo], name: str
) -> CoarseScores:
    scores, *numbers = entries
    with _open_member(archive, scores) as member:
        values = _read_npy(member, scores.file_size, f"{name}, 'scores'")
    if not np.isfinite(values).all():
        raise FormatError(f"{name}: has scores that are NaN or infinite")
    stride, offset = (_read_number(archive, entry, name) for entry in numbers)
    if stride < 1 or not values.size:
        raise FormatError(
            f"{name}: holds {dims(values.shape)} scores with a stride of {stride}: save it again"
        )
    return CoarseScores(values, stride, offset)


def _read_number(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str) -> int:
    """Read a whole number from 0 to 32767 that NumPy wrote as int64."""
    with _open_member(archive, entry) as member:
        content = member.read(_LONGEST_NUMBER)
    header, number = content[:-8], int.from_bytes(content[-8:], "little")
    if b"'descr': '<i8'" not in header or b"'shape': ()" not in header or number >= 1 << 15:
        raise FormatError(f"{name}: '{entry.filename}' is no whole number from 0: save it again")
    return number


def _enlarged(coarse: CoarseScores, size: HW, name: str) -> F32:
    labels = len(coarse.values)
    require_memory(5 * 4 * labels * math.prod(size), f"{name}: scores of {labels}x{dims(size)}")
    try:
        return coarse.enlarged(size)
    except ArgumentError as error:
        raise FormatError(f"{name}: {error}") from error


def _read_bin(file: IO[bytes], n_bytes: int, name: str) -> F32:
    header = file.read(12)
    if len(header) < 12:
        raise FormatError(
            f"{name}: is cut short: expected 12 bytes (rows, columns, channels) first"
        )
    rows, cols, channels = struct.unpack("<3i", header)
    count = rows * cols * channels
    if min(rows, cols, channels) <= 0 or n_bytes != 12 + 4 * count:
        found = {12 + 8 * count: "doubles", 12 + 2 * count: "16-bit integers"}.get(n_bytes)
        reason = f"it holds {found}" if found and count > 0 else "it is cut short, or no such file"
        raise FormatError(
            f"{name}: begins with {rows} rows, {cols} columns and {channels} channels but has "
            f"{n_bytes:,} bytes, expected float32: {reason}, save it with SaveBinFile(..., 'float')"
        )
    require_memory(2 * 4 * count, f"{name}: an array of {channels}x{rows}x{cols}")
    values = np.frombuffer(_read_exactly(file, 4 * count, name), "<f4")
    return np.array(values.reshape(channels, cols, rows).transpose(0, 2, 1), np.float32, order="C")


def _read_exactly(file: IO[bytes], n_bytes: int, name: str) -> bytes:
    content = file.read(n_bytes)
    if len(content) != n_bytes:
        raise FormatError(f"{name}: is cut short: save it again")
    return content


def _softmax_of_corner(scores: F32, size: HW, name: str) -> F32:
    if scores.ndim == 4 and len(scores) == 1:
        scores = scores[0]
    if scores.ndim == 2 or (scores.ndim == 3 and len(scores) == 1):  # MATLAB drops a last axis of 1
        raise FormatError(
            f"{name}: '{_MAT_NAME}' has scores of one label, which is then everywhere: of a "
            "sigmoid's score x save those of both labels, numpy.stack([0 * x, x], axis=-1)"
        )
    if scores.ndim != 3 or scores.shape[1] < size[0] or scores.shape[2] < size[1]:
        raise FormatError(
            f"{name}: '{_MAT_NAME}' is {dims(scores.shape[::-1])}, expected W x H x C, at least "
            f"the image's {size[1]}x{size[0]} (W x H)"
        )
    scores = scores[:, : size[0], : size[1]]
    if not np.isfinite(scores).all():
        raise FormatError(f"{name}: '{_MAT_NAME}' has scores that are NaN or infinite")
    if len(scores) > 1 and scores.min() >= 0 and np.allclose(scores.sum(axis=0), 1, atol=1e-3):
        raise FormatError(
            f"{name}: '{_MAT_NAME}' holds probabilities, expected scores, whose softmax is taken "
            "here: save it as .bin"
        )
    return softmax(scores)
