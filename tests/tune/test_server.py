"""The server: the page to those who know the secret, nothing to anybody else, and no tracebacks."""

import base64
import hashlib
import http.client
import io
import json
import re
import socket
import threading
import time
from itertools import pairwise
from urllib.parse import urlencode

import numpy as np
import pytest
from PIL import Image

from deeplab_repro.crf.dense_crf import dense_crf
from deeplab_repro.errors import ArgumentError
from deeplab_repro.tune.server import TuneServer
from tests.conftest import assert_one_line
from tests.tune.test_setting import GOOD


@pytest.fixture(scope="module")
def server(session):
    with TuneServer(session) as server:
        threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def ask(server):
    """Ask for a path, "@" for the secret: the status, the headers and the content."""

    def request(path, method="GET", body=None, host=None, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
        path = path.replace("@", server.token)
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for each in [server.hosts[0]] if host is None else host:
            connection.putheader("Host", each.replace("PORT", str(server.server_port)))
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders(body)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, answer.headers, content

    return request


def query(**changes):
    return urlencode(GOOD | {"number": time.time_ns() // 1000} | changes)


def labels_of(text):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))


def test_the_page_and_its_pictures(ask, server, session):
    status, headers, page = ask("/@/")
    assert status == 200
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    for script in re.findall(rb"<script>(.*?)</script>", page, re.DOTALL):
        assert base64.b64encode(hashlib.sha256(script).digest()).decode() in policy
    assert "http" not in page.decode().replace(server.address, "")
    for name, expected in (("net.png", session.net_labels), ("truth.png", session.truth)):
        picture = Image.open(io.BytesIO(ask(f"/@/{name}")[2]))
        np.testing.assert_array_equal(np.asarray(picture), expected)
    assert Image.open(io.BytesIO(ask("/@/photo.jpg")[2])).size == session.size[::-1]
    assert ask("/@/", host=["localhost:PORT"])[0] == 200


def test_labels(ask, session):
    status, headers, content = ask(f"/@/result?{query(small=0, step=2)}")
    assert status == 200
    assert headers["Content-Type"] == "application/json"
    found = json.loads(content)
    params = session.start.params
    expected = dense_crf(session.image, session.probs, type(params)(4, 1e-7, 5.5, 0, 3), 2)
    np.testing.assert_array_equal(labels_of(found["labels"]), expected.labels)
    belief = np.rint(255 * expected.marginals[3])
    np.testing.assert_array_equal(labels_of(found["belief"]), belief)
    assert found["scores"]["net"].keys() == found["scores"]["crf"].keys()
    assert labels_of(found["errors"]).shape == session.size
    assert "--iterations 2" in found["copies"]["command"]


def test_a_small_copy_has_no_more_than_its_pictures(ask):
    found = json.loads(ask(f"/@/result?{query()}")[2])
    assert labels_of(found["labels"]).shape == (51, 256)
    assert not found.keys() & {"copies", "scores", "errors"}


def test_iteration_by_iteration(ask):
    found = json.loads(ask(f"/@/steps?{query(iterations=3, label=2, sigma_alpha=30)}")[2])["steps"]
    assert len(found) == 4
    maps = [labels_of(each["belief"]).astype(int) for each in found]
    assert all((one != other).any() for one, other in pairwise(maps))
    last = json.loads(ask(f"/@/result?{query(iterations=3, step=3, label=2, sigma_alpha=30)}")[2])
    assert last["labels"] == found[-1]["labels"]
    assert last["belief"] == found[-1]["belief"]


def test_of_numbers_that_are_out_of_range_it_says_so(ask):
    found = json.loads(ask(f"/@/result?{query(sigma_beta=0)}")[2])
    assert found == {
        "error": "CRF parameter sigma_beta is 0.0; expected a number above 0 (1e-30 to 1e6), for "
        "example 50"
    }


def test_an_older_number_is_overtaken(ask):
    newest = time.time_ns() // 1000
    assert "labels" in json.loads(ask(f"/@/result?{query(number=newest)}")[2])
    assert json.loads(ask(f"/@/result?{query(number=5)}")[2]) == {"overtaken": newest}


REFUSED = {
    "no secret": ("/", {}),
    "no slash": ("/@", {}),
    "another secret": ("/" + "a" * 32 + "/", {}),
    "a part of it": ("/@x/", {}),
    "before another": ("/a/@/", {}),
    "another path": ("/@/passwd", {}),
    "up": ("/@/../../etc/passwd", {}),
    "a page's file": ("/@/page.js", {}),
    "a whole address": ("http://127.0.0.1/@/", {}),
    "a picture with a query": ("/@/net.png?a=1", {}),
    "another host": ("/@/", {"host": ["evil.example"]}),
    "without the port": ("/@/", {"host": ["127.0.0.1"]}),
    "another port": ("/@/", {"host": ["127.0.0.1:1"]}),
    "no host": ("/@/", {"host": []}),
    "two hosts": ("/@/", {"host": ["127.0.0.1:PORT", "evil.example"]}),
    "another site": ("/@/", {"Origin": "http://evil.example"}),
    "another server here": ("/@/", {"Origin": "http://127.0.0.1:1"}),
    "a page from a file": ("/@/", {"Origin": "null"}),
    "a body": ("/@/", {"body": b"abc", "Content_Length": "3"}),
    "a body of unknown length": ("/@/", {"body": b"0\r\n\r\n", "Transfer_Encoding": "chunked"}),
    "POST": ("/@/", {"method": "POST"}),
    "HEAD": ("/@/", {"method": "HEAD"}),
    "OPTIONS": ("/@/", {"method": "OPTIONS"}),
    "PUT": ("/@/result", {"method": "PUT"}),
    "no method": ("/@/", {"method": "get"}),
    "no query": ("/@/result", {}),
    "no numbers": ("/@/result?number=a", {}),
    "a long query": (f"/@/result?{urlencode(GOOD)}&{'a' * 2000}=1", {}),
    "a very long path": (f"/@/{'a' * 70_000}", {}),
    "many headers": ("/@/", {f"X-{number}": "1" for number in range(200)}),
}


@pytest.mark.parametrize("what", REFUSED)
def test_all_else_gets_nothing(ask, capfd, what):
    path, how = REFUSED[what]
    status, headers, content = ask(path, **how)
    assert status in (400, 403, 404, 414, 431, 501)
    assert content == b""
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"\r\n\r\n",
        b"GET",
        b"GET /\r\n",
        b"\x16\x03\x01\x02\x00" + b"\xff" * 100,
        b"GET /\xe9/ HTTP/1.1\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /%00 HTTP/1.1\r\nHost: \xff\xfe\r\n\r\n",
    ],
)
def test_what_is_no_request_does_no_harm(ask, server, capfd, sent):
    with socket.create_connection(("127.0.0.1", server.server_port)) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(10_000), b""))
    assert b"<" not in answer
    assert ask("/@/")[0] == 200
    assert capfd.readouterr() == ("", "")


def test_a_tab_that_is_closed_in_the_middle(ask, server, capfd):
    text = (
        f"GET /{server.token}/result?{query(small=0)} HTTP/1.1\r\nHost: {server.hosts[0]}\r\n\r\n"
    )
    for _ in range(5):
        connection = socket.create_connection(("127.0.0.1", server.server_port))
        connection.sendall(text.encode())
        # Closed without its rest: what is written to it is then refused.
        linger = np.array([1, 0], np.int32).tobytes()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        connection.close()
    assert "labels" in json.loads(ask(f"/@/result?{query()}")[2])
    assert capfd.readouterr() == ("", "")


def test_a_port_in_use(server, session):
    with pytest.raises(ArgumentError) as error:
        TuneServer(session, server.server_port)
    assert_one_line(error, f"port {server.server_port}: cannot be used: address already in use")


def test_every_server_has_a_secret_of_its_own(server, session):
    with TuneServer(session) as other:
        assert other.token != server.token
        assert len(other.token) >= 32
        assert other.server_address[0] == "127.0.0.1"
