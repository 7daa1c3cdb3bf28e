"""Marks: a file says in itself what it was made of, and so is found by that and not by its name.

A mark is text at the end of the file: in a PNG a text chunk, in a .npz the archive's comment; other
programs read past it. It holds the digest of what lies before it too, so that a file that was cut
short, emptied or changed is known; of a .npz it is the directory, whose checksums are compared when
the arrays are read. File and mark are written in one piece: they always agree.
"""

import hashlib
import os
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from deeplab_repro.errors import FileError, ResourceError, one_line
from deeplab_repro.files.whole import open_to_read
from deeplab_repro.machine.memory import require_memory

_KEYWORD = b"deeplab-repro:made-of"
_TEXT = re.compile(rb"([0-9a-f]{64}) ([0-9a-f]{64}) [0-9a-f]{64}")
_LENGTH = 3 * 64 + 2

# Bytes that are read at a time: below the size from which memory is fetched from the system anew.
_PART = 1 << 16
# The end of a .npz with its directory: three arrays take a fifth of it.
_DIRECTORY = 1024

# The end of a PNG, and that of a .zip without a comment: a mark comes before the one, and in place
# of the other.
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
_ZIP_END = b"\0\0"


class MadeOf(NamedTuple):
    """What a file was made of, as SHA-256 in hex.

    inputs: of the file that it was made of, as a photo. settings: of all else that changes it.
    """

    inputs: str
    settings: str


def sha256_of(path: str | os.PathLike[str]) -> str:
    """The digest of a file's content, in hex. Raises FileError if it cannot be read."""
    digest = hashlib.sha256()
    with open_to_read(path) as (file, _):
        while part := file.read(_PART):
            digest.update(part)
    return digest.hexdigest()


def sha256_of_text(text: str) -> str:
    """The digest of a text, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def marked(content: bytes, made_of: MadeOf) -> bytes:
    """The content of a PNG, a .npz without comment, or a file of our own, with its mark."""
    end = _PNG_END if _is_png(content) else _ZIP_END if _is_zip(content) else b""
    head = content[: len(content) - len(end)]
    return head + _tail(head, _text(head, made_of))


def read_mark(path: str | os.PathLike[str]) -> MadeOf | None:
    """What a file was made of; None if it is missing, broken, changed, or has no mark."""
    return unmarked(path)[0]


def is_made_of(path: str | os.PathLike[str], settings: str, inputs: Callable[[], str]) -> bool:
    """Whether a file is whole, and was made with these settings and inputs.

    inputs: gives their digest, which is asked for only if all else is right. A FileError that it
    raises is a no.
    """
    made_of = read_mark(path)
    try:
        return made_of is not None and made_of.settings == settings and made_of.inputs == inputs()
    except FileError:
        return False


def check_made_of(path: str | os.PathLike[str], source: Path) -> None:
    """Raise FileError if a file's mark says that it was made of another file than `source`."""
    made_of = read_mark(path)
    if made_of and made_of.inputs != sha256_of(source):
        raise FileError(
            f"{one_line(path)}: was made of another photo than {one_line(source)} is now: make it "
            "again, as predict --scores does by itself"
        )


def unmarked(path: str | os.PathLike[str]) -> tuple[MadeOf | None, bytes]:
    """What a file of our own was made of, and the content before its mark; None and b"" as above.

    A file that cannot be read is as one that is missing: writing it will say why.
    """
    try:
        with open_to_read(path) as (file, size):
            content = file.read(4)
            if size > _PART:
                file.seek(size - _DIRECTORY - _LENGTH - 2)
                end = file.read()
                if _is_zip(content):
                    content += end
                elif _TEXT.search(end):
                    require_memory(2 * size, "the file")
                    file.seek(4)
            content += file.read()
    except (FileError, ResourceError):
        return None, b""
    end_of_text = len(content) - (4 + len(_PNG_END) if _is_png(content) else 0)
    text = content[max(0, end_of_text - _LENGTH) : end_of_text]
    match = _TEXT.fullmatch(text)
    if match is None:
        return None, b""
    made_of = MadeOf(match[1].decode(), match[2].decode())
    head = content[: -len(_tail(content, text))]
    is_whole = content[len(head) :] == _tail(head, _text(head, made_of))
    return (made_of, head) if is_whole else (None, b"")


def _is_png(content: bytes) -> bool:
    return content.startswith(b"\x89PNG")


def _is_zip(content: bytes) -> bool:
    return content.startswith(b"PK")


def _text(head: bytes, made_of: MadeOf) -> bytes:
    """The text of a mark: what the file was made of, and the digest of that and of the file."""
    given = " ".join(made_of).encode()
    digest = hashlib.sha256(head[-_DIRECTORY:] if _is_zip(head) else head)
    digest.update(given)
    return given + b" " + digest.hexdigest().encode()


def _tail(head: bytes, text: bytes) -> bytes:
    """What follows the content of a file of this kind: the text, and how the file has to end."""
    if _is_png(head):
        chunk = b"tEXt" + _KEYWORD + b"\0" + text
        length, check = struct.pack(">I", len(chunk) - 4), struct.pack(">I", zlib.crc32(chunk))
        return length + chunk + check + _PNG_END
    if _is_zip(head):
        return struct.pack("<H", len(text)) + text
    return text
