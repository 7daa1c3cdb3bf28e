"""Downloads: interrupted and continued, and what is not kept."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from deeplab_repro.errors import FileError, FormatError
from tests.conftest import assert_one_line
from tests.models.web_server import DATA, SHORT, good, refused

# --- whole files


def test_a_file(server, get, tmp_path):
    told = []
    url = server.page("/a%20b?c=d", good(DATA))
    url = url.replace("%20", " ") + "#part"
    assert get(url, on_bytes=lambda *values: told.append(values)) == DATA
    assert (tmp_path / "there").read_bytes() == DATA
    assert told[0] == ("127.0.0.1", 0, None)
    assert told[-1] == ("127.0.0.1", len(DATA), len(DATA))
    [(_, headers)] = server.requests
    assert headers["Accept-Encoding"] == "identity"
    assert headers["User-Agent"].startswith("deeplab-repro/")


def chunked(handler, data, end=b"0\r\n\r\n"):
    handler.head(200, Transfer_Encoding="chunked", ETag='"1"')
    for start in range(0, len(data), 70_000):
        piece = data[start : start + 70_000]
        handler.send(b"%x\r\n%s\r\n" % (len(piece), piece))
    handler.send(end)


@pytest.mark.parametrize("length", [None, "-1", "many"])
def test_without_a_length(server, get, length):
    def serve(handler):
        handler.head(200, **({} if length is None else {"Content_Length": length}))
        handler.send(DATA)

    assert get(server.page("/", serve)) == DATA


def test_in_chunks(server, get):
    assert get(server.page("/", lambda handler: chunked(handler, DATA))) == DATA


# --- continued


def test_what_breaks_off_is_continued(server, get):
    assert get(server.page("/", good(DATA, stop=100_000))) == DATA
    assert server.ranges() == [None, "bytes=100000-"]


def test_chunks_that_break_off(server, get):
    def serve(handler):
        if "Range" in handler.headers:
            good(DATA)(handler)
        else:
            chunked(handler, DATA[:140_000], end=b"")

    assert get(server.page("/", serve)) == DATA
    assert server.ranges() == [None, "bytes=140000-"]


def test_a_stall(server, get):
    def serve(handler):
        if "Range" in handler.headers:
            good(DATA)(handler)
        else:
            handler.head(200, Content_Length=len(DATA), ETag='"1"')
            handler.send(DATA[:5000])
            handler.stall()

    assert get(server.page("/", serve), timeout=SHORT) == DATA
    assert server.ranges() == [None, "bytes=5000-"]


def test_what_is_kept_for_the_next_run(server, get, tmp_path):
    def dated(handler):
        start = 200_000 if "Range" in handler.headers else 0
        handler.head(
            206 if start else 200,
            Content_Length=len(DATA) - start,
            Content_Range=f"bytes {start}-{len(DATA) - 1}/{len(DATA)}",
            Last_Modified="Thu, 01 Jan 2015 00:00:00 GMT",
        )
        if start and healthy:
            handler.send(DATA[start:])
        elif not start:
            handler.send(DATA[:200_000])

    healthy = False
    url = server.page("/", dated)
    refused(get, url, "ended after 200,000 of 300,000 bytes; 0.2 MB are kept: run it")
    assert len(server.requests) == 5
    assert sorted(os.listdir(tmp_path)) == ["there.part", "there.part.json"]
    healthy = True
    server.requests.clear()
    assert get(url) == DATA
    [(_, headers)] = server.requests
    assert headers["Range"] == "bytes=200000-"
    assert headers["If-Range"] == "Thu, 01 Jan 2015 00:00:00 GMT"


def test_nothing_is_mixed(server, get):
    """Another version by now: a good server begins afresh."""
    newer = DATA[::-1]

    def serve(handler):
        if len(server.requests) == 1:
            good(DATA, tag='"old"', stop=100_000)(handler)
        else:
            good(newer, tag='"new"')(handler)

    assert get(server.page("/", serve)) == newer


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (206, {"ETag": '"new"', "Content_Range": "bytes 100000-299999/300000"}),
        (206, {"Content_Range": "bytes 100001-299999/300000"}),
        (206, {"Content_Range": "bytes 100000-299999/300001"}),
        (206, {}),
        (416, {"Content_Range": "bytes */300000"}),
    ],
)
def test_a_rest_that_does_not_fit(server, get, status, headers):
    def serve(handler):
        if "Range" in handler.headers:
            handler.head(status, **headers)
            handler.send(b"x" * 200_000)
        else:
            good(DATA, stop=100_000 if len(server.requests) == 1 else None)(handler)

    assert get(server.page("/", serve)) == DATA
    assert server.ranges() == [None, "bytes=100000-", None]


def test_a_server_that_knows_no_ranges(server, get):
    def serve(handler):
        handler.head(200, Content_Length=len(DATA), ETag='"1"')
        handler.send(DATA[: 100_000 if len(server.requests) == 1 else None])

    assert get(server.page("/", serve)) == DATA


@pytest.mark.parametrize("tag", ["", 'W/"1"', "1"])
def test_without_a_version_nothing_is_continued(server, get, tmp_path, tag):
    def serve(handler):
        handler.head(200, Content_Length=len(DATA), **({"ETag": tag} if tag else {}))
        handler.send(DATA[:100_000])

    refused(get, server.page("/", serve), "ended after 100,000 of 300,000 bytes")
    assert server.ranges() == [None] * 5
    assert os.listdir(tmp_path) == []


def begun(tmp_path, url, changes=()):
    (tmp_path / "there.part").write_bytes(DATA[:100_000])
    note = {"url": url, "version": '"1"', "length": len(DATA), **dict(changes)}
    (tmp_path / "there.part.json").write_text(json.dumps(note))


@pytest.mark.parametrize(
    "changes",
    [
        {"url": "http://other/"},
        {"version": '"0"'},
        {"version": ""},
        {"length": 50_000},
        {"unknown": 1},
    ],
)
def test_a_part_of_something_else(server, get, tmp_path, changes):
    url = server.page("/", good(DATA))
    begun(tmp_path, url, changes)
    (tmp_path / "there.part").write_bytes(b"x" * 100_000)
    assert get(url) == DATA


@pytest.mark.parametrize("note", [b"", b"[1]"])
def test_a_part_without_a_sound_note(server, get, tmp_path, note):
    (tmp_path / "there.part").write_bytes(b"x" * 100_000)
    (tmp_path / "there.part.json").write_bytes(note)
    assert get(server.page("/", good(DATA))) == DATA


def test_a_part_without_a_note_is_anothers(server, get, tmp_path):
    (tmp_path / "there.part").write_bytes(b"")  # of a run that was killed between the two
    assert get(server.page("/", good(DATA))) == DATA
    (tmp_path / "there").unlink()
    (tmp_path / "there.part").write_bytes(b"of a browser")
    with pytest.raises(FileError, match=r"there.part: is not a part that .* fetched: move it"):
        get(server.url("/"))
    assert (tmp_path / "there.part").read_bytes() == b"of a browser"


def test_what_came_meanwhile_is_kept(server, get, tmp_path):
    def check(_):
        (tmp_path / "there").write_bytes(b"mine")

    with pytest.raises(FileError, match="there: somebody else wrote it meanwhile"):
        get(server.page("/", good(DATA)), check=check)
    assert (tmp_path / "there").read_bytes() == b"mine"


def test_a_part_that_is_whole_needs_no_server(server, get, tmp_path):
    begun(tmp_path, server.url("/"))
    (tmp_path / "there.part").write_bytes(DATA)
    assert get(server.url("/")) == DATA
    assert server.requests == []


def test_a_server_that_is_gone_costs_nothing(server, get, tmp_path):
    begun(tmp_path, server.url("/"))
    refused(get, server.url("/"), "404: Not Found; 0.1 MB are kept: run it again")
    server.page("/", good(DATA))
    assert get(server.url("/")) == DATA
    assert server.ranges() == ["bytes=100000-"] * 2


# --- what is not taken


def test_a_file_that_is_not_wanted_is_not_kept(server, get, tmp_path):
    def check(_):
        raise FormatError("no")

    with pytest.raises(FormatError):
        get(server.page("/", good(DATA)), check)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("status", [204, 206, 304, 404, 416, 503])
def test_other_statuses(server, get, tmp_path, status):
    url = server.page("/", lambda handler: handler.head(status))
    refused(get, url, "HTTP ", str(status))
    assert len(server.requests) == 1
    assert os.listdir(tmp_path) == []


def test_endless_data(server, get, tmp_path):
    def serve(handler):
        handler.head(200, ETag='"1"')
        while True:
            handler.send(b"x" * 65536)

    refused(get, server.page("/", serve), "does not end, expected less than 400,000")
    assert os.listdir(tmp_path) == []


def test_a_length_that_is_too_large_is_not_waited_for(server, get, tmp_path):
    def serve(handler):
        handler.head(200, Content_Length=10**15)
        handler.stall()

    refused(get, server.page("/", serve), "has 1,000,000,000,000,000 bytes, expected less than")
    assert os.listdir(tmp_path) == []


def test_a_length_that_is_too_small_cuts_the_file(server, get):
    def serve(handler):
        handler.head(200, Content_Length=1000)
        handler.send(DATA)

    assert get(server.page("/", serve)) == DATA[:1000]


def test_an_empty_file(server, get, tmp_path):
    for headers in ({"Content_Length": 0}, {}):
        refused(get, server.page("/", lambda handler, h=headers: handler.head(200, **h)), "empty")
    assert "there" not in os.listdir(tmp_path)


# --- the disk


@pytest.mark.skipif(sys.platform == "win32", reason="has no such limit")
def test_a_disk_that_fills(server, get, tmp_path):
    import resource

    url = server.page("/", good(DATA))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(FileError) as error:
            get(url)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert_one_line(error, tmp_path / "there.part", "cannot be written", "too large")
    assert get(url) == DATA
    assert server.ranges() == [None, "bytes=100000-"]


def test_a_folder_in_the_way(server, get, tmp_path):
    (tmp_path / "there.part").mkdir()
    with pytest.raises(FileError) as error:
        get(server.page("/", good(DATA)))
    assert_one_line(error, tmp_path / "there.part", "cannot be written")


def wait_for(path, size):
    while not path.exists() or path.stat().st_size < size:
        time.sleep(0.001)


def test_two_at_once(server, get, tmp_path):
    part = tmp_path / "there.part"

    def serve(handler):
        handler.head(200, Content_Length=len(DATA), ETag='"1"')
        handler.send(DATA[:100_000])
        wait_for(part, 100_000)
        with open(part, "ab") as other:
            other.write(b"x")
        handler.send(DATA[100_000:])

    with pytest.raises(FileError) as error:
        get(server.page("/", serve))
    assert_one_line(error, "there.part", "another process writes to it")


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_stopped_from_outside(server, get, tmp_path, end):
    def serve(handler):
        if "Range" in handler.headers:
            good(DATA)(handler)
        else:
            handler.head(200, Content_Length=len(DATA), ETag='"1"')
            handler.send(DATA[:100_000])
            handler.stall()

    url = server.page("/", serve)
    code = (
        "import sys; from pathlib import Path; from deeplab_repro.models.download import download; "
        "download(sys.argv[1], Path(sys.argv[2]), 400_000, print)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, url, tmp_path / "there"], stderr=subprocess.PIPE
    )
    wait_for(tmp_path / "there.part", 100_000)
    process.send_signal(end)
    _, err = process.communicate(timeout=10)
    assert (b"KeyboardInterrupt" in err) == (end == signal.SIGINT)
    assert get(url) == DATA
    assert server.ranges() == [None, "bytes=100000-"]
