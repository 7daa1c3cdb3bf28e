"""Download one file: resumable, bounded in size, and checked before it takes its name."""

import json
import os
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
    BrokenError,
    DownloadError,
    checked_url,
    connection_errors,
    host_of,
    is_rest,
    open_url,
    version_of,
)

TIMEOUT = 20.0
"""Seconds without a byte after which a connection counts as broken."""

OnBytes = Callable[[str, int, int | None], object]
"""Called with the host, how many bytes are there, and of how many (None: not known)."""

_WAITS = (1, 2, 4, 8)  # seconds before each further try
_PIECE = 1 << 16

_T = TypeVar("_T")


def download(
    url: str,
    target: Path,
    most_bytes: int,
    check: Callable[[Path], _T],
    *,
    timeout: float = TIMEOUT,
    on_bytes: OnBytes = lambda _host, _done, _total: None,
) -> _T:
    """Get a file by http or https; returns what `check` returns for it.

    Until it is complete the file is <target>.part, and <target>.part.json says which file it is a
    part of. After any interruption the next call continues there, if the server still has the same
    version of the file (its ETag, or Last-Modified). A connection that breaks once bytes have come
    is tried again four times.

    most_bytes: the file has fewer; no more are written, whatever the server says or sends.
    check: is called with the complete file before it takes its name `target`. If it raises
        FormatError or WeightsError, the file is not kept, and the error goes on to the caller.
    timeout: seconds without a byte after which a connection counts as broken.

    Raises DownloadError if the server does not give the file, FileError if it cannot be written.
    """
    transfer = _Transfer(checked_url(url), target, most_bytes, timeout, on_bytes)
    transfer.run()
    try:
        result = check(transfer.part)
    except (FormatError, WeightsError):
        transfer.discard()
        raise
    with writing(target):
        if target.exists():
            raise FileError(f"{one_line(target)}: somebody else wrote it meanwhile: fetch it again")
        os.replace(transfer.part, target)
    transfer.discard()
    return result


@dataclass(frozen=True)
class _Origin:
    """The file that a partial file is a part of. version: "" if the server does not tell any."""

    url: str
    version: str
    length: int | None


class _Transfer:
    """A file on its way: `part` has its first bytes, `note` says of which file."""

    def __init__(
        self, url: str, target: Path, most_bytes: int, timeout: float, on_bytes: OnBytes
    ) -> None:
        self.url, self.most_bytes, self.timeout, self.on_bytes = url, most_bytes, timeout, on_bytes
        self.part = target.with_name(f"{target.name}.part")
        self.note = target.with_name(f"{target.name}.part.json")
        self.has_begun = False

    def run(self) -> None:
        """Complete the part."""
        for wait in (*_WAITS, None):
            try:
                self._try()
                return
            except BrokenError as error:
                # A server that has not sent a byte will hardly send one in a moment.
                if wait is None or not self.has_begun:
                    raise DownloadError(self.url, f"{error}{self._what_is_kept()}") from None
            time.sleep(wait)

    def discard(self) -> None:
        """Remove the part and its note."""
        for path in (self.part, self.note):
            with writing(path):
                path.unlink(missing_ok=True)

    def _try(self) -> None:
        self.on_bytes(host_of(self.url), 0, None)
        origin, done = self._kept()
        if origin and done == origin.length:
            return
        # The server sends all of the file, status 200, if it has another version by now.
        headers = {"Range": f"bytes={done}-", "If-Range": origin.version} if origin else {}
        response = open_url(self.url, headers, self.timeout)
        if (
            origin
            and response.status != 200
            and not is_rest(response, origin.version, done, origin.length)
        ):
            response.close()
            origin = None
            response = open_url(self.url, {}, self.timeout)
        with response:
            if response.status == 200:
                origin, done = _Origin(self.url, version_of(response), response.length), 0
                self._begin(origin)
            elif not origin:
                raise BrokenError(f"HTTP status {response.status}, expected 200")
            self._receive(response, done, origin.length)

    def _kept(self) -> tuple[_Origin | None, int]:
        """What can be continued, and how many bytes of it there are."""
        try:
            origin = _Origin(**json.loads(self.note.read_bytes()))
            done = self.part.stat().st_size
            fits = 0 < done <= (origin.length or self.most_bytes) and origin.url == self.url
        except (OSError, TypeError, ValueError):
            return None, 0
        return (origin, done) if fits and origin.version else (None, 0)

    def _begin(self, origin: _Origin) -> None:
        """Empty the part, and note what will come."""
        if origin.length is not None and origin.length > self.most_bytes:
            raise self._too_much(f"has {origin.length:,} bytes")
        with writing(self.part):
            # Without a note it may be a browser's.
            if self.part.is_file() and self.part.stat().st_size and not self.note.exists():
                raise FileError(
                    f"{one_line(self.part)}: is not a part that deeplab-repro fetched: move it"
                )
            with open(self.part, "wb"):
                pass
        with write_atomically(self.note) as file:
            file.write(json.dumps(asdict(origin)).encode())

    def _receive(self, response: HTTPResponse, done: int, length: int | None) -> None:
        """Append the response's body to the part."""
        host = host_of(self.url)
        end = self.most_bytes if length is None else length
        with writing(self.part), open(self.part, "ab") as file:
            while done < end:
                self.on_bytes(host, done, length)
                with connection_errors(self.timeout):
                    piece = response.read1(min(_PIECE, end - done))
                if not piece:
                    break
                if os.fstat(file.fileno()).st_size != done:
                    raise FileError(
                        f"{one_line(self.part)}: another process writes to it: wait for it"
                    )
                file.write(piece)
                file.flush()
                done += len(piece)
                self.has_begun = True
        self.on_bytes(host, done, length)
        if done == 0:
            raise BrokenError("is empty")
        if length is not None and done < length:
            raise BrokenError(f"ended after {done:,} of {length:,} bytes")
        if length is None and done == end:
            self.discard()
            raise self._too_much("does not end")

    def _too_much(self, found: str) -> DownloadError:
        reason = f"{found}, expected less than {self.most_bytes:,}: this is another file"
        return DownloadError(self.url, reason)

    def _what_is_kept(self) -> str:
        """What a message says of the part, which is removed where it cannot be continued."""
        origin, done = self._kept()
        if origin:
            return f"; {done / 1e6:,.1f} MB are kept: run it again to continue"
        if self.has_begun:
            self.discard()
        return ""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError of the block into a FileError: `path` cannot be written."""
    try:
        yield
    except OSError as error:
        name = one_line(path)
        raise FileError(f"{name}: cannot be written: {error.strerror or error}") from error
