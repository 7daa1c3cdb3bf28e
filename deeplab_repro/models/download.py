"""A file from the web: what broke is gone on with, and no more is written than was agreed."""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from http.client import HTTPResponse
from pathlib import Path
from typing import TypeVar

from deeplab_repro.errors import FileError, FormatError, WeightsError, one_line
from deeplab_repro.files.whole import write_atomically
from deeplab_repro.models.web import (
    PATIENCE,
    BrokenError,
    DownloadError,
    answer,
    checked_url,
    host_of,
    length_of,
    length_of_rest,
    reading,
    status_of,
    version_of,
)

TIMEOUT = 20.0
"""Seconds without a byte after which a connection counts as broken."""

Advance = Callable[[str, int, int | None], object]
"""Is told the host that is asked, the bytes that are there, and of how many (None: not known)."""

_WAITS = (1, 2, 4, 8)  # seconds before each further try
_LEAST_RATE = 1024  # bytes a second, over PATIENCE timeouts
_PIECE = 1 << 16
_MOST_NOTE_BYTES = 1 << 16

_T = TypeVar("_T")


def download(
    url: str,
    target: Path,
    most_bytes: int,
    check: Callable[[Path], _T],
    *,
    timeout: float = TIMEOUT,
    advance: Advance = lambda _host, _done, _total: None,
) -> _T:
    """Get a file by http or https; returns what `check` says of it.

    Until it is complete the file is <target>.part, and <target>.part.json says of what. Stopped in
    any way, the next call goes on there, if the server still has the same version of the file (its
    ETag, or Last-Modified). What breaks once bytes have come is tried again four times.

    most_bytes: of which not one more is written, whatever the server says or sends.
    check: is called with the complete file before it takes its name `target`; where it raises
        FormatError or WeightsError, which go on to the caller, the file is not kept.
    timeout: seconds without a byte after which a connection counts as broken; so does one that
        brings less than 1 KB/s over three times as long.

    Raises DownloadError where the server does not give the file, and FileError where it cannot be
    written.
    """
    part = _Part(target)
    _Transfer(checked_url(url), part, most_bytes, timeout, advance).run()
    try:
        result = check(part.path)
    except (FormatError, WeightsError):
        part.discard()
        raise
    with _writing(target):
        os.replace(part.path, target)
    part.discard()
    return result


def megabytes(n_bytes: int) -> str:
    """So many bytes in words."""
    return f"{n_bytes / 1e6:,.1f} MB"


@dataclass(frozen=True)
class _Origin:
    """What a partial file is a part of. version: "" where the server does not tell them apart."""

    url: str
    version: str
    length: int | None


class _Part:
    """A file on its way."""

    def __init__(self, target: Path) -> None:
        self.path = target.with_name(f"{target.name}.part")
        self._note = target.with_name(f"{target.name}.part.json")

    @property
    def size(self) -> int:
        """How many bytes of it are there."""
        try:
            return os.path.getsize(self.path)
        except OSError:
            return 0

    def origin(self) -> _Origin | None:
        """What it is a part of; None where nothing tells."""
        try:
            with open(self._note, "rb") as file:
                values = json.loads(file.read(_MOST_NOTE_BYTES))
            origin = _Origin(**values)
        except (OSError, RecursionError, TypeError, ValueError):
            return None
        is_one = isinstance(origin.version, str) and origin.version.isprintable()
        return origin if is_one and isinstance(origin.length, int | None) else None

    def begin(self, origin: _Origin) -> None:
        """Empty it, to be filled from there."""
        with _writing(self.path), open(self.path, "wb"):
            pass
        with write_atomically(self._note) as file:
            file.write(json.dumps(asdict(origin)).encode())

    def discard(self) -> None:
        """Remove what there is of it."""
        for path in (self.path, self._note):
            with _writing(path):
                path.unlink(missing_ok=True)


@dataclass
class _Transfer:
    url: str
    part: _Part
    most_bytes: int
    timeout: float
    advance: Advance
    has_begun: bool = False

    def run(self) -> None:
        """Fill the part."""
        for wait in (*_WAITS, None):
            try:
                self._try()
                return
            except BrokenError as error:
                # A server that has not given a byte will hardly give one in a moment.
                if wait is None or not self.has_begun:
                    raise DownloadError(self.url, f"{error}{self._what_is_kept()}") from None
            time.sleep(wait)

    def _try(self) -> None:
        self.advance(host_of(self.url), 0, None)
        origin, done = self._there()
        length = origin.length if origin else None
        if origin and done == length:
            return
        found = self._ask(origin, done)
        if origin and found.status in (206, 416):
            length = length_of_rest(found, origin.version, done, length)
            if length is None:
                found.close()
                origin = None
                found = self._ask(None, 0)
        with found:
            if found.status == 200:
                done, length = 0, length_of(found)
            elif found.status != 206 or not origin:
                raise BrokenError(status_of(found))
            if length is not None:
                self._check_room(length, done)
            if not done:
                self.part.begin(_Origin(self.url, version_of(found), length))
            self._receive(found, done, length)

    def _there(self) -> tuple[_Origin | None, int]:
        """What can be gone on with, and how many bytes of it there are."""
        origin, done = self.part.origin(), self.part.size
        if not (done and origin and origin.url == self.url and origin.version):
            return None, 0
        return (None, 0) if origin.length is not None and done > origin.length else (origin, done)

    def _ask(self, origin: _Origin | None, done: int) -> HTTPResponse:
        """Ask for what is missing, or for all if there is another version by now."""
        headers = {"Range": f"bytes={done}-", "If-Range": origin.version} if origin else {}
        return answer(self.url, headers, self.timeout)

    def _check_room(self, length: int, done: int) -> None:
        if length > self.most_bytes:
            raise self._too_much(f"has {length:,} bytes")
        with _writing(self.part.path):
            free = shutil.disk_usage(self.part.path.parent).free
        if length - done > free:
            raise FileError(
                f"{one_line(self.part.path)}: needs {megabytes(length - done)}, "
                f"{megabytes(free)} are free on the disk: make room, or give another folder"
            )

    def _receive(self, found: HTTPResponse, done: int, length: int | None) -> None:
        """Append the answer's body to what is there."""
        host = host_of(self.url)
        end = self.most_bytes if length is None else length
        window = PATIENCE * self.timeout
        since, before = time.monotonic(), done
        with _writing(self.part.path), open(self.part.path, "ab") as file:
            while done < end:
                self.advance(host, done, length)
                with reading(self.timeout):
                    piece = found.read1(min(_PIECE, end - done))
                if not piece:
                    break
                if os.fstat(file.fileno()).st_size != done:
                    raise FileError(
                        f"{one_line(self.part.path)}: another process writes to it: wait for it"
                    )
                file.write(piece)
                file.flush()
                done += len(piece)
                self.has_begun = True
                now = time.monotonic()
                if now - since >= window:
                    if done - before < _LEAST_RATE * window:
                        raise BrokenError(f"sent less than 1 KB/s for {window:g} s")
                    since, before = now, done
        self.advance(host, done, length)
        if done == 0:
            raise BrokenError("is empty")
        if length is not None and done < length:
            raise BrokenError(f"ended after {done:,} of {length:,} bytes")
        if length is None and done == end:
            self.part.discard()
            raise self._too_much("sends on and on")

    def _too_much(self, found: str) -> DownloadError:
        reason = f"{found}, expected less than {self.most_bytes:,}: this is another file"
        return DownloadError(self.url, reason)

    def _what_is_kept(self) -> str:
        """What to say of the part when it is given up."""
        origin, done = self._there()
        if origin:
            of = "" if origin.length is None else f" of {megabytes(origin.length)}"
            return f"; {megabytes(done)}{of} are kept: run it again to go on"
        if self.has_begun:
            self.part.discard()
            return "; nothing is kept, since the server does not tell versions of the file apart"
        return ""


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        name = one_line(path)
        raise FileError(f"{name}: cannot be written: {error.strerror or error}") from error
