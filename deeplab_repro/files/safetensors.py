"""Reads and writes .safetensors files: named arrays behind a short description, without pickle.

A file begins with eight bytes, the length of its header, little-endian. The header is JSON:
{"__metadata__": {text: text}, name: {"dtype": "F32", "shape": [...], "data_offsets": [begin,
end]}, ...}, filled up with blanks. Then come the values without gaps, in C order, little-endian.

The package safetensors writes and reads the same files; a test compares them. It is not needed
here: it has no bfloat16 for NumPy, and wants all arrays in memory before it writes the first.
"""

import json
import math
import os
import struct
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from deeplab_repro.arrays import F32, Shape, dims
from deeplab_repro.errors import DeepLabError, FormatError, NetError, ResourceError, one_line
from deeplab_repro.files.marks import MADE_BY
from deeplab_repro.files.whole import open_to_read, write_atomically
from deeplab_repro.machine.memory import require_memory

_METADATA = "__metadata__"
_LONGEST_HEADER = 8 << 20  # bytes; that of DeepLabv2-ResNet101 has 1.1 MB
_MOST_AXES, _MOST_VALUES = 64, 2**59  # of NumPy's arrays
_VALUES_AT_ONCE = 1 << 18
_LONGEST_SHOWN = 60
_FLOATS = {"F16": "<f2", "BF16": "<u2", "F32": "<f4", "F64": "<f8"}
_MEND = "copy or save it again"


class Stored(NamedTuple):
    """An array in a file: its type as the format names it, its shape, and its place."""

    dtype: str
    shape: Shape
    begin: int
    end: int


class Safetensors:
    """An open file: `metadata` holds its texts, `arrays` what it stores by name."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        """Read the header. Raises FormatError where it is broken."""
        self._file = file
        self._values_at, header = _header(file, size)
        self.metadata = _texts(header.pop(_METADATA, {}))
        self.arrays = {name: _stored(name, entry) for name, entry in header.items()}
        _check_places(self.arrays, size - self._values_at)

    def require_memory(self) -> None:
        """Raise ResourceError where the arrays are larger than the free memory."""
        count = sum(math.prod(stored.shape) for stored in self.arrays.values())
        require_memory(4 * count, "its arrays", "check that it is the right file")

    def read(self, name: str) -> F32:
        """An array as float32, whatever its floats are; float64 beyond float32 becomes infinite.

        Raises FormatError for an array of no floats.
        """
        stored = self.arrays[name]
        if stored.dtype not in _FLOATS:
            raise FormatError(
                f"{_shown(name)} is of {stored.dtype}, expected {', '.join(_FLOATS)}: save its "
                "values as floats"
            )
        count = math.prod(stored.shape)
        values = np.empty(count, "<f4")
        self._file.seek(self._values_at + stored.begin)
        for at in range(0, count, _VALUES_AT_ONCE):
            part = values[at : at + _VALUES_AT_ONCE]
            raw = part if stored.dtype == "F32" else np.empty(len(part), _FLOATS[stored.dtype])
            if self._file.readinto(raw.view(np.uint8)) != raw.nbytes:  # type: ignore[attr-defined]
                raise FormatError(f"{_shown(name)} is cut short: {_MEND}")
            if stored.dtype == "BF16":  # the upper half of a float32
                part.view("<u4")[:] = raw
                part.view("<u4")[:] <<= 16
            elif raw is not part:
                with np.errstate(over="ignore"):
                    part[:] = raw
        return values.reshape(stored.shape).astype(np.float32, copy=False)


def is_safetensors(path: str | os.PathLike[str]) -> bool:
    """Whether a file is a .safetensors, by its name."""
    return os.fspath(path).endswith(".safetensors")


@contextmanager
def open_safetensors(path: str | os.PathLike[str]) -> Iterator[Safetensors]:
    """Open a file to read it; errors in the block begin with its name.

    Raises FileError, and FormatError where the file is cut off, broken or something else.
    """
    try:
        with open_to_read(path) as (file, size):
            yield Safetensors(file, size)
    except (FormatError, NetError, ResourceError) as error:
        raise type(error)(f"{one_line(path)}: {error}") from None


def write_arrays(
    path: str | os.PathLike[str],
    arrays: Mapping[str, np.ndarray],
    metadata: Mapping[str, str],
    half: Collection[str] = (),
) -> None:
    """Write arrays by name as float32, those named in `half` as float16; atomically, and marked.

    The same arrays give the same bytes. Raises FileError if the file cannot be written, and
    NetError where the names and the metadata are too long for a header.
    """
    # Wide ones first, so that each value lies on a multiple of its size.
    kinds = dict(sorted(((x, "F16" if x in half else "F32") for x in arrays), key=_wide_first))
    header: dict[str, Any] = {_METADATA: {"made_by": MADE_BY, **metadata}}
    end = 0
    for name, kind in kinds.items():
        begin, end = end, end + arrays[name].size * np.dtype(_FLOATS[kind]).itemsize
        shape = list(arrays[name].shape)
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text = text.ljust(-(-len(text) // 8) * 8)
    _check_length(len(text), NetError)
    with write_atomically(path) as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, kind in kinds.items():
            file.write(_raw(arrays[name], _FLOATS[kind]))


def _raw(array: np.ndarray, dtype: str) -> memoryview:
    return np.ascontiguousarray(array, dtype).reshape(-1).view(np.uint8).data


def _wide_first(named: tuple[str, str]) -> bool:
    return named[1] == "F16"


def _check_length(n_bytes: int, kind: type[DeepLabError]) -> None:
    if n_bytes > _LONGEST_HEADER:
        raise kind(f"its header has {n_bytes:,} bytes, expected at most {_LONGEST_HEADER:,}")


def _header(file: BinaryIO, size: int) -> tuple[int, dict[str, Any]]:
    """Where the values begin, and the header."""
    head = file.read(8)
    length = int.from_bytes(head, "little")
    if len(head) < 8 or 8 + length > size or file.read(1) != b"{":
        raise FormatError(f"is not a .safetensors, or cut short: {_MEND}")
    _check_length(length, FormatError)
    try:
        text = (b"{" + file.read(length - 1)).decode()
        found = json.loads(text, object_pairs_hook=_without_doubles)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise FormatError(f"its header is broken: {one_line(error)}: {_MEND}") from None
    return 8 + length, found


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("it has a name twice")
    return found


def _texts(found: Any) -> dict[str, str]:
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise FormatError(f"{_METADATA} is no object of texts, expected one: {_MEND}")
    return found


def _stored(name: str, entry: Any) -> Stored:
    what = f"its header, at {_shown(name)}"
    if not (isinstance(entry, dict) and entry.keys() == {"dtype", "shape", "data_offsets"}):
        raise FormatError(f"{what}, has other fields than dtype, shape and data_offsets: {_MEND}")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not (isinstance(dtype, str) and dtype.isidentifier() and len(dtype) < 16):
        raise FormatError(f"{what}, has a dtype that is none: {_MEND}")
    # NumPy counts what an array would have without its axes of 0.
    if not (
        _are_sizes(shape)
        and len(shape) <= _MOST_AXES
        and math.prod(filter(None, shape)) <= _MOST_VALUES
    ):
        raise FormatError(f"{what}, has a shape that no array can have: {_MEND}")
    if not (_are_sizes(offsets) and len(offsets) == 2 and offsets[0] <= offsets[1]):
        raise FormatError(f"{what}, has data_offsets that are none: {_MEND}")
    stored = Stored(dtype, tuple(shape), *offsets)
    if dtype in _FLOATS:
        wanted = math.prod(stored.shape) * np.dtype(_FLOATS[dtype]).itemsize
        there = stored.end - stored.begin
        if wanted != there:
            told = f"{_shown(name)} is {dims(stored.shape)} {dtype}"[:300]
            raise FormatError(f"{told}, expected {there:,} bytes of it: {_MEND}")
    return stored


def _are_sizes(found: Any) -> bool:
    return isinstance(found, list) and all(type(n) is int and 0 <= n < 2**63 for n in found)


def _check_places(arrays: Mapping[str, Stored], size: int) -> None:
    """Raise FormatError unless the arrays lie one behind the other, up to the end of the file."""
    end = 0
    for name, stored in sorted(arrays.items(), key=lambda each: each[1][2:]):
        if stored.begin != end:
            raise FormatError(
                f"{_shown(name)} begins at {stored.begin:,}, expected {end:,}: {_MEND}"
            )
        end = stored.end
    if end != size:
        raise FormatError(f"its arrays have {end:,} bytes, expected the {size:,} there: {_MEND}")


def _shown(name: str) -> str:
    return f"'{one_line(name, _LONGEST_SHOWN)}'"
