"""Servers that give no answer, a false one, or lead astray."""

import os
import socket

import pytest

from deeplab_repro.models import download as module
from deeplab_repro.models.download import download
from deeplab_repro.models.web import DownloadError
from tests.conftest import assert_one_line
from tests.models.web_server import DATA, MOST, SHORT, WebServer, good, refused


@pytest.fixture(scope="module")
def serving():
    with WebServer() as server:
        yield server


@pytest.fixture
def server(serving):
    serving.clear()
    return serving


@pytest.fixture
def get(tmp_path, monkeypatch):
    """Download to the file `there`; its contents."""
    monkeypatch.setattr(module, "_WAITS", (0,) * len(module._WAITS))

    def run(url, check=lambda path: path.read_bytes(), **options):
        result = download(url, tmp_path / "there", MOST, check, **options)
        assert os.listdir(tmp_path) == ["there"]
        return result

    return run


def test_led_on(server, get):
    server.page("/far", good(DATA))
    server.page("/nearer", lambda handler: handler.head(307, Location=server.url("/far")))

    def endless(handler):
        handler.head(302, Location="nearer")
        while True:
            handler.send(DATA)

    assert get(server.page("/here", endless)) == DATA


@pytest.mark.parametrize(
    "headers", [{"Content_Encoding": "gzip"}, {"Transfer_Encoding": "gzip, chunked"}]
)
def test_encoded(server, get, headers):
    url = server.page("/", lambda handler: handler.head(200, **headers))
    refused(get, url, "comes encoded (gzip", "expected plain bytes")


@pytest.mark.parametrize("begin", [b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"])
def test_a_head_that_never_ends(server, get, begin):
    def serve(handler):
        handler.send(begin)
        while True:
            handler.send(begin)
            handler.server.over.wait(0.02)

    refused(get, server.page("/", serve), "no answer for 0.15 s", timeout=SHORT)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"", "closed connection"),
        (b"\0\1\2\n\n", "\\x00"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "SSH-2.0"),
        (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 200, "100 headers"),
        (b"HTTP/1.1 200 OK\r\na: " + b"b" * 100_000, "65536"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "connection was closed"),
    ],
)
def test_no_http(server, get, answer, said):
    refused(get, server.page("/", lambda handler: handler.send(answer)), said)


def test_nobody_there(get):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    refused(get, f"http://127.0.0.1:{port}/", "refused")


def test_no_such_host(get):
    refused(get, "http://nowhere.invalid/", "host is not known, or there is no network")
    refused(get, f"http://{'a' * 70}.org/", "host is not known")


def test_no_certificate(server, get, tmp_path):
    refused(get, server.url("/").replace("http", "https"), "SSL")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("to", ["file:///etc/passwd", "ftp://127.0.0.1/a", "http://["])
def test_led_on_to_no_web_address(server, get, to):
    url = server.page("/", lambda handler: handler.head(302, Location=to))
    refused(get, url, "leads on to ", "expected an http or https address")


def test_led_round_and_round(server, get):
    url = server.page("/", lambda handler: handler.head(302, Location="/"))
    refused(get, url, "more than 10 times")
    assert len(server.requests) == 10


@pytest.mark.parametrize(
    "url",
    [
        "",
        "there",
        "ftp://host/file",
        "file:///etc/passwd",
        "data:,x",
        "http:///file",
        "http://host:0/",
        "http://host:99999/",
        "http://host:x/",
        "http://[::1/",
        "http://a\udcff/",
    ],
)
def test_no_web_address(get, url):
    with pytest.raises(DownloadError) as error:
        get(url)
    assert_one_line(error, "is not an http or https address")


def test_a_password_is_not_shown(get):
    with pytest.raises(DownloadError) as error:
        get("https://me:secret@host/file")
    assert_one_line(error, "https://...@host: has a user's name in it")
    assert "secret" not in str(error.value)


def test_a_proxy(server, get, monkeypatch):
    monkeypatch.setenv("http_proxy", server.url(""))
    server.page("http://nowhere.invalid/file", good(DATA))
    assert get("http://nowhere.invalid/file") == DATA
