"""Tells the files that this tool made, and may replace, from those of others.

Where a format has a place for it, a file says itself who made it. Tables and JSON have none: a note
in their folder has a digest of each, so that one that was changed since is another's.
"""

import hashlib
import json
import os
import re
import threading
from pathlib import Path

from deeplab_repro.errors import FileError
from deeplab_repro.files.made_of import sha256_of
from deeplab_repro.files.whole import write_atomically
from deeplab_repro.version import __version__

MADE_BY = f"deeplab-repro {__version__}"
"""The mark. A file with that of another version is this tool's too."""

NOTE = ".deeplab-repro.json"
"""The note in a folder: {"made_by": MADE_BY, "files": {name: [sha256, ...]}}."""

OVERLAY = ".overlay.jpg"
"""The ending of the labels over a photo."""

PAGE_PICTURES = "index.files"
"""The folder with the pictures of a page about segmented photos."""

# How marked files begin, and how they end. A .npy has no place for a text, but may have a longer
# head than NumPy gives it: see npy.write_npy.
_BEGIN = re.compile(
    rb"\x89PNG.{4,1000}tEXtSoftware\0deeplab-repro "
    rb"|\xff\xd8.{0,100}\xff\xfe..deeplab-repro "  # JPEG
    rb"|\x93NUMPY\x01\0\xb6\x01\{'descr': "
    rb"|MATLAB 5\.0 MAT-file, written by deeplab-repro"
    rb"|\x08.\x12\x0ddeeplab-repro"  # ONNX
    rb"|.{8}\{\"__metadata__\":\{\"made_by\":\"deeplab-repro "  # .safetensors
    rb"|deeplab-repro [\w.+]+: values of an ONNX file\n"
    rb"|<!DOCTYPE html>.{1,200}<meta name=\"generator\" content=\"deeplab-repro "
    rb"|<\?xml [^>]*>\s*<!DOCTYPE svg .{1,1000}<dc:title>deeplab-repro "
    rb"|\x1f\x8b.{8}deeplab-repro ",  # gzip
    re.DOTALL,
)
_END = re.compile(
    rb"PK\x05\x06.{16}.\0deeplab-repro [\w.+]+\Z"  # .npz
    rb"|[0-9a-f]{64} [0-9a-f]{64} [0-9a-f]{64}\Z"  # what ends as made_of.py has it
    rb"|\xc2\xa9\x07.deeplab-repro [\w.+]+\Z"  # caffemodel, binaryproto
    rb"|/Creator \(deeplab-repro .+%%EOF\s*\Z",  # PDF
    re.DOTALL,
)
# Kinds of a PNG's colours.
_INDEXED, _WITH_ALPHA = 3, 6
_SIGNED = b"# deeplab-repro "
_BEGINNING, _ENDING = 1 << 11, 1 << 16  # bytes

# Results are written in several threads, and the note of a folder in one at a time.
_note_lock = threading.Lock()


def made_here(path: str | os.PathLike[str]) -> bool:
    """Whether this tool made a file. What is missing, unreadable or no file is not its own."""
    path = Path(path)
    try:
        if not path.is_file():
            return False
        with open(path, "rb") as file:
            beginning = file.read(_BEGINNING)
            file.seek(max(0, os.fstat(file.fileno()).st_size - _ENDING))
            ending = file.read()
        if _BEGIN.match(beginning) or _END.search(ending):
            return True
        if beginning.startswith(_SIGNED):
            first, _, text = path.read_bytes().partition(b"\n")
            return first.endswith(_digest(text))
        known = (_noted(path.parent) or {}).get(path.name, [])
        return known != [] and _digest_of(path) in known
    except (FileError, OSError, ValueError):  # ValueError: a null character in the name
        return False


def is_result(path: str | os.PathLike[str]) -> bool:
    """Whether a file is a picture that this tool made of a photo, and so no photo itself.

    These are labels, overlays, cutouts, and what a page shows. The scenes that `toyvoc` draws are
    photos.
    """
    is_made_of_photo = (
        _png_colours(path) in (_INDEXED, _WITH_ALPHA)
        or os.fspath(path).endswith(OVERLAY)
        or Path(os.path.abspath(path)).parent.name == PAGE_PICTURES
    )
    return is_made_of_photo and made_here(path)


def is_cutout(path: str | os.PathLike[str]) -> bool:
    """Whether a file is a part of a photo that this tool cut out, a PNG that is transparent."""
    return _png_colours(path) == _WITH_ALPHA and made_here(path)


def _png_colours(path: str | os.PathLike[str]) -> int | None:
    """The kind of a PNG's colours, as its head has it; None for any other file."""
    if not os.path.isfile(path):
        return None
    try:
        with open(path, "rb") as file:
            head = file.read(26)
    except (OSError, ValueError):
        return None
    return head[25] if head.startswith(b"\x89PNG") and len(head) == 26 else None


def signed(text: str) -> bytes:
    """A text below a comment with the mark and its digest: once it is changed, it is another's."""
    content = text.encode()
    return b"# %b %b\n%b" % (MADE_BY.encode(), _digest(content), content)


def write_noted(path: Path, *content: bytes | memoryview) -> None:
    """Write a file that has no place for a mark, atomically, and note it in its folder.

    content: of the file, in pieces. Raises FileError if it cannot be written.
    """
    digest = hashlib.sha256()
    for piece in content:
        digest.update(piece)
    with _note_lock:
        files = _noted(path.parent)
        if files is not None:
            # The old file's digest stays until the new file is there.
            known = [*files.get(path.name, [])[-1:], digest.hexdigest()]
            note = {"made_by": MADE_BY, "files": {**files, path.name: list(dict.fromkeys(known))}}
            with write_atomically(path.with_name(NOTE)) as file:
                file.write(json.dumps(note, indent=1).encode())
    with write_atomically(path) as file:
        for piece in content:
            file.write(piece)


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


def _digest_of(path: Path) -> str:
    return sha256_of(path) if path.stat().st_size else _digest(b"").decode()


def _noted(folder: Path) -> dict[str, list[str]] | None:
    """The digests in a folder's note, by file name; None for a note that is not this tool's."""
    note = folder / NOTE
    if not note.exists():
        return {}
    try:
        found = json.loads(note.read_bytes())["files"]
        return {name: [*map(str, digests)] for name, digests in found.items()}
    except (OSError, AttributeError, LookupError, RecursionError, TypeError, ValueError):
        return None
