"""A server on this machine whose pages are functions, so that they can misbehave."""

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from deeplab_repro.models.web import DownloadError
from tests.conftest import assert_one_line

DATA = np.random.default_rng(0).bytes(300_000)
MOST = 400_000
SHORT = 0.15  # a timeout that the test waits for


class WebServer(ThreadingHTTPServer):
    """Answers by `pages`: a function a path, which is given the request's handler.

    `requests` collects the path and headers of every request. Whoever waits for `over` waits until
    the test is done.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.over = threading.Event()
        self.clear()

    def __enter__(self) -> "WebServer":
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.shutdown()
        self.server_close()

    def clear(self) -> None:
        """Begin the next test."""
        self.over.set()
        self.over = threading.Event()
        self.pages: dict[str, Callable[[_Handler], None]] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"

    def page(self, path: str, serve: Callable[["_Handler"], None]) -> str:
        """Add a page; its URL."""
        self.pages[path] = serve
        return self.url(path)

    def ranges(self) -> list[str | None]:
        """The Range of every request."""
        return [headers.get("Range") for _, headers in self.requests]

    def handle_error(self, *_: object) -> None:
        """Nothing: who asks may well leave in the middle."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: WebServer

    def do_GET(self) -> None:
        self.close_connection = True
        self.server.requests.append((self.path, dict(self.headers)))
        page = self.server.pages.get(self.path, lambda handler: handler.head(404))
        page(self)

    def head(self, status: int, **headers: object) -> None:
        """Send a head, underscores in names as hyphens."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def send(self, data: bytes) -> None:
        self.wfile.write(data)

    def stall(self) -> None:
        self.server.over.wait()

    def log_message(self, *_: object) -> None:
        """Nothing."""


def good(data: bytes, tag: str = '"1"', stop: int | None = None) -> Callable[[_Handler], None]:
    """Give `data` as a good server does, Range and all; `stop`: close before that byte, once."""
    stops = [] if stop is None else [stop]

    def serve(handler: _Handler) -> None:
        start = 0
        if "Range" in handler.headers and handler.headers.get("If-Range") == tag:
            start = int(handler.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        headers = {"ETag": tag, "Content_Length": len(data) - start}
        if start:
            headers["Content_Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        handler.head(206 if start else 200, **headers)
        handler.send(data[start : stops.pop() if stops else None])

    return serve


def refused(get, url, *parts, **options):
    """What is said of a URL, on one line that names it."""
    with pytest.raises(DownloadError) as error:
        get(url, **options)
    assert_one_line(error, url.partition("?")[0], *parts)
    return str(error.value)
