"""One HTTP request: redirects are followed, waits are bounded, errors say why in plain words."""

import http.client
import re
import socket
import string
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPResponse
from typing import cast
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit
from urllib.request import Request, build_opener

from deeplab_repro.errors import FileError, one_line
from deeplab_repro.version import __version__

_LONGEST_SHOWN = 120
_NO_SUCH_RANGE = 416


class DownloadError(FileError):
    """A server does not give its file."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"{one_line(url)}: {reason}")


class BrokenError(Exception):
    """There is no response, or no more of it; the message says why. Another try may help."""


def checked_url(url: str) -> str:
    """The URL in ASCII; DownloadError unless it is one of http or https, with a host."""
    try:
        text = quote(url, safe=string.punctuation)
        parts = urlsplit(text)
        is_web = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_web = False
    if not is_web:
        raise DownloadError(url[:_LONGEST_SHOWN], "is not an http or https address")
    if parts.username is not None:
        # Not shown: there may be a password behind it.
        address = f"{parts.scheme}://...@{parts.hostname}"
        raise DownloadError(address, "has a user's name in it, which is not supported")
    return text


def host_of(url: str) -> str:
    """The URL's host."""
    return urlsplit(url).hostname or ""


def open_url(url: str, headers: Mapping[str, str], timeout: float) -> HTTPResponse:
    """The response to a GET request, its body still to be read: its status is 2xx or 416.

    timeout: seconds without a byte. Raises BrokenError for other statuses, or no response.
    """
    ours = {"User-Agent": f"deeplab-repro/{__version__}", "Accept-Encoding": "identity"}
    request = Request(url, headers={**ours, **headers})
    with connection_errors(timeout):
        try:
            return cast(HTTPResponse, build_opener().open(request, timeout=timeout))
        except HTTPError as error:
            if error.code != _NO_SUCH_RANGE:
                raise
            return cast(HTTPResponse, error)


def version_of(response: HTTPResponse) -> str:
    """The server's ETag for this version of the file, or else its date; "" for neither."""
    tag: str = response.headers.get("ETag", "").strip()
    if tag.startswith('"'):  # a weak one, W/"...", does not vouch for every byte
        return tag
    return response.headers.get("Last-Modified", "").strip()


def is_rest(response: HTTPResponse, version: str, start: int, length: int | None) -> bool:
    """Whether the response holds the bytes from `start` on of this version of the file.

    length: of the whole file; None where it is not known.
    """
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    return (
        response.status != _NO_SUCH_RANGE
        and version_of(response) in ("", version)
        and found is not None
        and int(found[1]) == start
        and (length is None or found[2] in ("*", str(length)))
    )


@contextmanager
def connection_errors(timeout: float) -> Iterator[None]:
    """Turn everything that a connection can raise into a BrokenError that says why."""
    try:
        yield
    except (OSError, http.client.HTTPException, ValueError) as error:
        cause = error.reason if isinstance(error, URLError) else error
        if isinstance(cause, socket.gaierror):
            why = "its host is not known, or there is no network"
        elif isinstance(cause, TimeoutError):
            why = f"no answer for {timeout:g} s"
        else:
            why = one_line(getattr(cause, "strerror", None) or error, _LONGEST_SHOWN)
        raise BrokenError(why) from error
