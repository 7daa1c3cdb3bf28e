"""HTTP for the page: this machine only, a secret in the address, and nothing for anybody else."""

import hmac
import json
import secrets
import sys
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from deeplab_repro.errors import ArgumentError, DeepLabError
from deeplab_repro.files.whole import reason
from deeplab_repro.machine.shortage import shortage
from deeplab_repro.tune import answers
from deeplab_repro.tune.page import Page, policy
from deeplab_repro.tune.session import Session
from deeplab_repro.tune.setting import read_query
from deeplab_repro.tune.turns import OvertakenError, Turns

_HOST = "127.0.0.1"
_LONGEST = 1000  # characters of an address; the page's own have some 300
_SECONDS = 30  # for which a connection may be silent
_JSON = "application/json"

_HEADERS = {
    "Cache-Control": "no-store",
    "Connection": "close",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

_Answer = Callable[[Session, Any, Callable[[], None]], dict[str, Any]]
_ANSWERS: Mapping[str, _Answer] = {"result": answers.result, "steps": answers.steps}


class TuneServer(ThreadingHTTPServer):
    """Serves the page of one session. port: 0 for one that is free.

    `address` is where the page is, with the secret. `serve_forever` and `server_close` are the
    standard library's. Raises ArgumentError for a port that cannot be used.
    """

    daemon_threads = True

    def __init__(self, session: Session, port: int = 0) -> None:
        try:
            super().__init__((_HOST, port), _Handler)
        except OSError as error:
            raise ArgumentError(
                f"port {port}: cannot be used: {reason(error)}: give another --port, or none for "
                "one that is free"
            ) from error
        self.session, self.turns, self.page = session, Turns(), Page(session)
        self.token = secrets.token_urlsafe(24)
        self.hosts = [f"{name}:{self.server_port}" for name in (_HOST, "localhost")]

    @property
    def address(self) -> str:
        """Of the page, to be given to a browser."""
        return f"http://{self.hosts[0]}/{self.token}/"

    def answer(self, name: str, query: str) -> dict[str, Any]:
        """What a query is answered. Raises LookupError or ValueError for what is none."""
        answer = _ANSWERS[name]
        try:
            asked = read_query(query, len(self.session.names))
            with self.turns.turn(asked.number) as check:
                return answer(self.session, asked, check)
        except OvertakenError as overtaken:
            return {"overtaken": overtaken.newest}
        except DeepLabError as error:
            return {"error": str(error)}
        except Exception as error:
            if problem := shortage(error):
                return {"error": f"this setting {problem}"}
            raise

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A tab that is closed in the middle of an answer is no error."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: TuneServer
    timeout = _SECONDS
    server_version, sys_version = "deeplab-repro", ""

    def do_GET(self) -> None:
        """Answer the page, one of its pictures, or what it asks for."""
        path, _, query = self.path.partition("?")
        _, _, rest = path.partition("/")
        token, slash, name = rest.partition("/")
        is_secret = hmac.compare_digest(token.encode(), self.server.token.encode())
        if not (self._is_from_here() and is_secret):
            self._send(403)
        elif not slash or len(self.path) > _LONGEST:
            self._send(404)
        elif not query and (file := self.server.page.files.get(name)):
            self._send(200, *file)
        else:
            self._answer(name, query)

    def _is_from_here(self) -> bool:
        """Whether the request is one of our page's or of the address bar, and brings nothing.

        Another site's page could reach this port by a name of its own (DNS rebinding).
        """
        hosts, origins = (self.headers.get_all(name, []) for name in ("Host", "Origin"))
        is_ours = len(hosts) == 1 and hosts[0] in self.server.hosts
        is_bare = not any(
            self.headers.get(each) for each in ("Content-Length", "Transfer-Encoding")
        )
        return is_ours and is_bare and origins in ([], [f"http://{hosts[0]}"])

    def _answer(self, name: str, query: str) -> None:
        try:
            found = self.server.answer(name, query)
        except (LookupError, ValueError):
            self._send(404)
        else:
            self._send(200, _JSON, json.dumps(found).encode())

    def send_error(self, code: int, *_: Any) -> None:
        """Refuse what the standard library refuses, other methods say, without a word."""
        self._send(code)

    def _send(self, code: int, kind: str = "text/plain", content: bytes = b"") -> None:
        self.send_response(code)
        self.send_header("Content-Type", f"{kind}; charset=utf-8" if "text" in kind else kind)
        self.send_header("Content-Length", str(len(content)))
        for header, value in _HEADERS.items():
            self.send_header(header, value)
        self.send_header("Content-Security-Policy", policy(content if "html" in kind else b""))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
        self.close_connection = True

    def log_message(self, *_: Any) -> None:
        """Say nothing: the terminal is the user's."""
