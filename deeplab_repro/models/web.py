"""One answer from the web: no server is believed, or waited for longer than it was agreed."""

import http.client
import queue
import socket
import ssl
import string
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPResponse
from urllib.error import URLError
from urllib.parse import quote, urljoin, urlsplit
from urllib.request import HTTPHandler, HTTPSHandler, OpenerDirector, ProxyHandler, Request

from deeplab_repro.errors import FileError, one_line
from deeplab_repro.version import __version__

PATIENCE = 3
"""Timeouts in which the head of an answer has to be there."""

_MOST_REDIRECTS = 10
_REDIRECTS = (301, 302, 303, 307, 308)
_LONGEST_SHOWN = 120


class DownloadError(FileError):
    """A server does not give its file."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"{one_line(url)}: {reason}")


class BrokenError(Exception):
    """Why there is no answer, or no more of it; another try may mend it."""


def checked_url(url: str) -> str:
    """The URL in ASCII; DownloadError unless it is one of http or https, with a host."""
    try:
        text = quote(url, safe=string.punctuation)
        parts = urlsplit(text)
        is_one = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_one = False
    if not is_one:
        raise DownloadError(url[:_LONGEST_SHOWN], "is not an http or https address")
    if parts.username is not None:
        # Not shown: there may be a password behind it.
        address = f"{parts.scheme}://...@{parts.hostname}"
        raise DownloadError(address, "has a user's name in it, which is not supported")
    return text


def host_of(url: str) -> str:
    """The URL's host."""
    return urlsplit(url).hostname or ""


def answer(url: str, headers: Mapping[str, str], timeout: float) -> HTTPResponse:
    """The answer to a request, of any status, with its body still to be read; redirects followed.

    timeout: seconds without a byte; the whole head may take three times as long. Raises BrokenError
    where there is no answer, DownloadError where it leads on to something else than http and https,
    or round and round, and for a body that is compressed.
    """
    here = url
    for _ in range(_MOST_REDIRECTS):
        with reading(timeout):
            found = _one_answer(here, headers, timeout)
        location = found.headers.get("Location")
        if found.status not in _REDIRECTS or not location:
            _check_encoding(url, found)
            return found
        found.close()  # its body may be endless
        try:
            here = checked_url(urljoin(here, location))
        except (DownloadError, ValueError):
            shown = one_line(location[:_LONGEST_SHOWN])
            reason = f"leads on to {shown}, expected an http or https address"
            raise DownloadError(url, reason) from None
    raise DownloadError(url, f"leads on to another address more than {_MOST_REDIRECTS} times")


def _one_answer(url: str, headers: Mapping[str, str], timeout: float) -> HTTPResponse:
    # In a thread: the search for a host cannot be interrupted, and a head that comes byte by byte
    # does not time out.
    opener = OpenerDirector()  # without handlers for file: and ftp:, for redirects and statuses
    for handler in (ProxyHandler(), HTTPHandler(), HTTPSHandler()):
        opener.add_handler(handler)
    ours = {"User-Agent": f"deeplab-repro/{__version__}", "Accept-Encoding": "identity"}
    request = Request(url, headers={**ours, **headers})
    answers: queue.SimpleQueue[HTTPResponse | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(opener.open(request, timeout=timeout))
        except Exception as error:  # raised where it is waited for
            answers.put(error)

    threading.Thread(target=ask, name="web", daemon=True).start()
    try:
        found = answers.get(timeout=PATIENCE * timeout)
    except queue.Empty:
        raise TimeoutError from None
    if isinstance(found, Exception):
        raise found
    return found


def _check_encoding(url: str, found: HTTPResponse) -> None:
    for header in ("Content-Encoding", "Transfer-Encoding"):
        encoding = found.headers.get(header, "identity").strip()
        if encoding.lower() not in ("identity", "chunked"):
            shown = one_line(encoding[:_LONGEST_SHOWN])
            raise DownloadError(url, f"comes encoded ({shown}), expected plain bytes")


def status_of(found: HTTPResponse) -> str:
    """An answer's status in words."""
    return f"{found.status} {http.client.responses.get(found.status, '(unknown status)')}"


def length_of(found: HTTPResponse) -> int | None:
    """How long an answer's body is said to be; None where nothing, or no number, is said."""
    text = found.headers.get("Content-Length", "").strip()
    return int(text) if _is_number(text) and "Transfer-Encoding" not in found.headers else None


def version_of(found: HTTPResponse) -> str:
    """What the server calls this version of the file, or its date; "" for neither."""
    tag = found.headers.get("ETag", "").strip()
    if tag.startswith('"'):  # a weak one, W/"...", does not vouch for every byte
        return tag
    return found.headers.get("Last-Modified", "").strip()


def length_of_rest(found: HTTPResponse, version: str, start: int, length: int | None) -> int | None:
    """How long the file is whose bytes from `start` on the answer holds.

    None where it holds others, or those of another version or length (None: not known).
    """
    if found.status != 206 or version_of(found) not in ("", version):
        return None
    unit, _, rest = found.headers.get("Content-Range", "").strip().partition(" ")
    span, _, total = rest.partition("/")
    first, _, last = span.partition("-")
    if unit != "bytes" or not (_is_number(first) and _is_number(last)) or int(first) != start:
        return None
    end = int(last) + 1
    fits = total in ("*", str(end)) and length in (None, end)
    return end if fits and length_of(found) in (None, end - start) else None


def _is_number(text: str) -> bool:
    return text.isdecimal() and text.isascii() and len(text) < 19


@contextmanager
def reading(timeout: float) -> Iterator[None]:
    """Make a BrokenError that says why of everything that a connection can raise."""
    try:
        yield
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise BrokenError(_why(error, timeout)) from error


def _why(error: Exception, timeout: float) -> str:
    if isinstance(error, URLError) and isinstance(error.reason, Exception):
        error = error.reason
    if isinstance(error, socket.gaierror | UnicodeError):
        return "its host is not known, or there is no network"
    if isinstance(error, TimeoutError):
        return f"no answer for {timeout:g} s"
    if isinstance(error, http.client.IncompleteRead):
        return "the connection was closed"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not valid: {one_line(error.verify_message)}"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return one_line(text[:_LONGEST_SHOWN])
