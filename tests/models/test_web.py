"""Requests: redirects, and servers and addresses that give no file."""

import os
import socket

import pytest

from deeplab_repro.models.web import DownloadError
from tests.conftest import assert_one_line
from tests.models.web_server import DATA, SHORT, good, refused


def test_redirects(server, get):
    server.page("/far", good(DATA))
    server.page("/nearer", lambda handler: handler.head(307, Location=server.url("/far")))
    assert get(server.page("/", lambda handler: handler.head(302, Location="nearer"))) == DATA


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"", "closed connection"),
        (b"\0\1\2\n\n", "\\x00"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "SSH-2.0"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "IncompleteRead"),
    ],
)
def test_no_http(server, get, answer, said):
    refused(get, server.page("/", lambda handler: handler.send(answer)), said)


def test_no_answer(server, get):
    refused(get, server.page("/", lambda handler: handler.stall()), "for 0.15 s", timeout=SHORT)


def test_nobody_there(get):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    refused(get, f"http://127.0.0.1:{port}/", "refused")


def test_no_such_host(get):
    refused(get, "http://nowhere.invalid/", "host is not known, or there is no network")


def test_no_certificate(server, get, tmp_path):
    refused(get, server.url("/").replace("http", "https"), "SSL")
    assert os.listdir(tmp_path) == []


def test_a_redirect_to_a_file(server, get):
    url = server.page("/", lambda handler: handler.head(302, Location="file:///etc/passwd"))
    refused(get, url, "Redirection to url 'file:///etc/passwd' is not allowed")


def test_redirects_without_end(server, get):
    url = server.page("/", lambda handler: handler.head(302, Location="/"))
    refused(get, url, "redirect error that would lead to an infinite loop")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ftp://host/file",
        "file:///etc/passwd",
        "http:///file",
        "http://host:0/",
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
