"""Released weights from a file of the user's: a caffemodel, or the authors' .zip with one in it."""

import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, TypeVar

from deeplab_repro.errors import FormatError, one_line
from deeplab_repro.files.whole import open_to_read, replace_together
from deeplab_repro.models.download import writing

_PIECE = 1 << 20

# What zipfile raises for a damaged archive, or one that it cannot read.
_BROKEN = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, ValueError)

_T = TypeVar("_T")


def copy_given(
    source: Path, file: str, target: Path, most_bytes: int, check: Callable[[Path], _T]
) -> _T:
    """Copy the weights in `source` to `target`, whole or not at all; what `check` returns for them.

    source: the caffemodel, or a .zip that holds it under the name `file`, in whatever folder.
    most_bytes: a larger one is another file. check: is called with the whole copy before it takes
        its name; what it raises goes on to the caller, and nothing is kept.

    Raises FileError for what cannot be read or written, and FormatError for other archives.
    """
    with _opened(source, file) as (stream, size), replace_together([target]) as (copy,):
        if size >= most_bytes:
            raise FormatError(
                f"{one_line(source)}: has {size:,} bytes, expected less than {most_bytes:,}: this "
                "is another file"
            )
        with writing(target):
            copy.touch()
        with open(copy, "wb") as copied:
            while piece := stream.read(_PIECE):
                with writing(target):
                    copied.write(piece)
                    copied.flush()
        return check(copy)


@contextmanager
def _opened(source: Path, file: str) -> Iterator[tuple[IO[bytes], int]]:
    """The caffemodel in `source`, and its size in bytes."""
    shown = one_line(source)
    with open_to_read(source) as (stream, size):
        if not zipfile.is_zipfile(source):
            yield stream, size
            return
        try:
            with zipfile.ZipFile(stream) as archive:
                inside = [each for each in archive.infolist() if _name(each) == file]
                if not inside:
                    names = ", ".join(sorted({_name(each) for each in archive.infolist()})[:9])
                    raise FormatError(f"{shown}: holds no {file}, but {one_line(names, 200)}")
                with archive.open(inside[0]) as member:
                    yield member, inside[0].file_size
        except _BROKEN as error:
            raise FormatError(
                f"{shown}: is a broken .zip ({one_line(error)}): copy or download it again"
            ) from error


def _name(entry: zipfile.ZipInfo) -> str:
    return PurePosixPath(entry.filename).name
