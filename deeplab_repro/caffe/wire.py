"""Protobuf's wire format, as far as walking a caffemodel and writing one takes.

Caffemodels are walked here, and not by protobuf's own parser, so that the weights go from the file
straight into their arrays: neither copied through a message nor turned into Python objects.
No length found in a file is trusted: it must fit what encloses it before anything is read.
"""

from collections.abc import Iterator
from typing import BinaryIO

from deeplab_repro.errors import FormatError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


def read_varint(file: BinaryIO, end: int) -> int:
    """The varint at the file's position; FormatError where it passes `end` or 64 bits."""
    value = shift = 0
    while True:
        byte = file.read(1) if file.tell() < end else b""
        if not byte:
            raise FormatError(f"cut off at byte {file.tell()}, inside a number")
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF
        shift += 7
        if shift > 63:
            raise FormatError(f"broken at byte {file.tell()}: a number of more than 64 bits")


def fields(file: BinaryIO, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Every field from the file's position to `end`: (number, wire type, start, value).

    `start` is where the field's tag begins. `value` is a VARINT's value, and for the other types
    the payload's length; the file then stands at the payload. The next field is looked for behind
    the payload, or further on where the caller has read further.
    """
    while (start := file.tell()) < end:
        tag = read_varint(file, end)
        number, kind = tag >> 3, tag & 7
        if not 0 < number < 2**29:
            raise FormatError(f"broken at byte {start}: no field has number {number}")
        if kind == VARINT:
            value, length = read_varint(file, end), 0
        elif kind == BYTES:
            value = length = read_varint(file, end)
        elif kind in (FIXED32, FIXED64):
            value = length = 4 if kind == FIXED32 else 8
        else:
            raise FormatError(f"broken at byte {start}: no field of a caffemodel is of kind {kind}")
        after = file.tell() + length
        if after > end:
            raise FormatError(
                f"cut off or broken: field {number} at byte {start} asks for {length} bytes, "
                f"but {end - file.tell()} are left"
            )
        yield number, kind, start, value
        file.seek(max(after, file.tell()))


def varint(value: int) -> bytes:
    """A number that is not negative, in the wire format."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def prefix(number: int, length: int) -> bytes:
    """What stands before a BYTES field's payload: its tag and length."""
    return varint(number << 3 | BYTES) + varint(length)
