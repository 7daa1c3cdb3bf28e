"""Reads and writes Caffe's binary files field by field: protobuf's wire format.

Protobuf's own parser would copy the weights through a message, or turn them into Python objects;
here they go from the file straight into their arrays. No length found in a file is trusted: it must
fit what encloses it before anything is read.
"""

import codecs
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeVar

from deeplab_repro.errors import FormatError, one_line
from deeplab_repro.files.marks import MADE_BY
from deeplab_repro.files.whole import open_to_read
from deeplab_repro.machine.memory import require_memory

_T = TypeVar("_T")

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

# A net of a thousand layers has about 30,000 fields, and 200,000 bytes that are no weights. The
# limits bound the time and the memory that a broken file takes.
_MOST_FIELDS = 100_000
_MOST_DESCRIPTIONS = 1 << 20  # bytes
_MARK = 15_000  # a number that no dialect has
_LONGEST_NUMBER = 10  # bytes of a varint
_ZIP = b"PK\x03\x04"
_OTHER_FORMATS = {
    b"\x89HDF": "an HDF5 file",
    _ZIP: "a zip file, as .npz and PyTorch's are",
    b"\x1f\x8b": "a gzip file",
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
}


def read_binary(path: str | Path, expected: str, read: Callable[["Reader", int], _T]) -> _T:
    """What `read` makes of a binary file, given its Reader and its size in bytes.

    expected: what the file should be, with its article. Raises FileError, FormatError, with the
    path, for another kind of file and from `read`, and ResourceError where it is larger than the
    free memory.
    """
    name = one_line(path)
    try:
        with open_to_read(path) as (file, size):
            _refuse_other_formats(file.read(512), expected)
            require_memory(size, name, "check that it is the right file")
            return read(Reader(file), size)
    except FormatError as error:
        raise FormatError(f"{name}: {error}") from None


def _refuse_other_formats(head: bytes, expected: str) -> None:
    """Raise FormatError if a file that begins so is text, or of a format known by its beginning."""
    for magic, kind in _OTHER_FORMATS.items():
        if head.startswith(magic):
            mend = ": make a .safetensors of its weights" if magic == _ZIP else ""
            raise FormatError(f"this is {kind}, expected {expected}{mend}")
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(head)
    except UnicodeDecodeError:
        return
    # Caffe's files have control characters in their first bytes: the tags and lengths of fields.
    if any(char < " " and char not in "\t\n\v\f\r" for char in text):
        return
    if text.lstrip().lower().startswith(("<!doctype", "<html")):
        raise FormatError(f"this is a web page, expected {expected}: download it again")
    raise FormatError(
        f"this is a text file, expected {expected} (binary); is it the prototxt in the wrong place?"
    )


class Field(NamedTuple):
    """A field of a message. Positions are bytes of the file."""

    number: int
    kind: int  # VARINT, FIXED64, BYTES or FIXED32
    start: int  # of the tag
    begin: int  # of the payload
    end: int  # of the payload
    value: int  # of a VARINT


class Reader:
    """Walks the messages of one file. Raises FormatError where the file is broken or cut off."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self._fields_left = _MOST_FIELDS
        self._descriptions_left = _MOST_DESCRIPTIONS

    def varint(self, end: int) -> int:
        """The number at the file's position, from 0 to 2^64 - 1."""
        start = self.file.tell()
        value, length = _number(self.file.read(min(_LONGEST_NUMBER, end - start)), 0, start)
        self.file.seek(start + length)
        return value

    def fields(self, begin: int, end: int) -> Iterator[Field]:
        """Every field from `begin` to `end`; the file stands at the field's payload.

        The next field is read behind the payload, or further on where the caller has read further.
        """
        after = begin
        while after < end:
            self._fields_left -= 1
            if self._fields_left < 0:
                raise FormatError(f"broken: more than {_MOST_FIELDS} fields, too many for a net")
            start = self.file.seek(after)
            head = self.file.read(min(2 * _LONGEST_NUMBER, end - start))
            tag, used = _number(head, 0, start)
            number, kind = tag >> 3, tag & 7
            if not 0 < number < 2**29:
                raise FormatError(f"broken at byte {start}: no field has number {number}")
            value = length = 0
            if kind == VARINT:
                value, used = _number(head, used, start)
            elif kind == BYTES:
                length, used = _number(head, used, start)
            elif kind in (FIXED32, FIXED64):
                length = 4 if kind == FIXED32 else 8
            else:
                raise FormatError(f"broken at byte {start}: no field here is of kind {kind}")
            payload = self.file.seek(start + used)
            after = payload + length
            if after > end:
                raise FormatError(
                    f"cut off or broken: field {number} at byte {start} asks for {length} bytes, "
                    f"but {end - payload} are left"
                )
            yield Field(number, kind, start, payload, after, value)
            after = max(after, self.file.tell())

    def description(self, field: Field) -> bytes:
        """A field with its tag, for protobuf's own parser, which takes many times its bytes."""
        self._descriptions_left -= field.end - field.start
        if self._descriptions_left < 0:
            raise FormatError(
                f"broken: field {field.number} at byte {field.start} is too long for a description"
            )
        return self.between(field.start, field.end)

    def between(self, begin: int, end: int) -> bytes:
        """The bytes from `begin` to `end`."""
        self.file.seek(begin)
        return self.file.read(end - begin)


def _number(head: bytes, begin: int, start: int) -> tuple[int, int]:
    """The varint at `begin` of the bytes that stand at byte `start` of the file, and its end."""
    value = 0
    for i, byte in enumerate(head[begin : begin + _LONGEST_NUMBER]):
        value |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, begin + i + 1
    end = start + min(len(head), begin + _LONGEST_NUMBER)
    if begin + _LONGEST_NUMBER > len(head):
        raise FormatError(f"cut off or broken at byte {end}, inside a number")
    raise FormatError(f"broken at byte {end}: a number above 64 bits")


def signed(value: int, bits: int) -> int:
    """A varint as the signed integer of that many bits that it stands for."""
    value &= (1 << bits) - 1
    return value - (value >> (bits - 1) << bits)


def varint(value: int) -> bytes:
    """A number that is not negative, in the wire format."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def made_by() -> bytes:
    """A field that other readers skip, by which `made_here` knows a file that it ends."""
    return prefix(_MARK, len(MADE_BY)) + MADE_BY.encode()


def prefix(number: int, length: int) -> bytes:
    """What stands before a BYTES field's payload: its tag and length."""
    return varint(number << 3 | BYTES) + varint(length)
