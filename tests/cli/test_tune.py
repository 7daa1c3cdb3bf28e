"""deeplab-repro tune: its server ends well, and what it cannot use is one line."""

import os
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

from tests.tune.conftest import inputs  # noqa: F401

GIVEN = ("photo.png", "--probs", "photo.npy")


@pytest.mark.usefixtures("inputs")
def test_the_server_ends_as_other_commands_do():
    command = [sys.executable, "-m", "deeplab_repro", "tune", *GIVEN, "--no-browser"]
    pipe = subprocess.PIPE
    ended = {signal.SIGINT: (130, "interrupted"), signal.SIGTERM: (143, "terminated")}
    started = {
        each: subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) for each in ended
    }
    for which, process in started.items():
        address = process.stdout.readline().strip()
        with urllib.request.urlopen(address, timeout=10) as answer:
            assert b"photo.png" in answer.read()
        process.send_signal(which)
        out, err = process.communicate(timeout=20)
        status, told = ended[which]
        assert (process.returncode, out) == (status, "")
        *_, first, last = err.splitlines()  # before them, that code is compiled for this computer
        assert "on this machine alone; Ctrl-C ends it" in first
        assert last == f"deeplab-repro: {told}"


@pytest.mark.usefixtures("inputs")
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["photo.png"], "one of the arguments --probs --model is required"),
        ([*GIVEN, "--model", "DeepLab"], "--model: not allowed with argument --probs"),
        ([*GIVEN, "--weights", "a"], "--weights are a model's: name it, as --model DeepLab-Large"),
        ([*GIVEN, "--crf", "1,2"], "'1,2' is not W1,SIGMA_ALPHA,SIGMA_BETA (three numbers)"),
        ([*GIVEN, "--positional", "0,0"], "CRF parameter sigma_gamma is 0.0; expected a number"),
        ([*GIVEN, "--port", "70000"], "'70000' is not a whole number from 0 to 65535"),
        (["none.png", "--probs", "photo.npy"], "none.png: cannot be read"),
        (["photo.png", "--probs", "none.npy"], "none.npy: cannot be read"),
        (["photo.png", "--model", "DeepLabs"], "there is no model 'DeepLabs'"),
        ([*GIVEN, "--truth", "none.png"], "none.png: cannot be read"),
    ],
)
def test_what_cannot_be_used_is_one_line(refused, arguments, told):
    assert told in refused("tune", *arguments)
    assert sorted(os.listdir()) == ["photo.npy", "photo.png", "truth.png"]


@pytest.mark.usefixtures("inputs")
def test_a_port_in_use(refused):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        error = refused("tune", *GIVEN, "--no-browser", "--port", port)
    assert f"port {port}: cannot be used: address already in use: give another --port" in error


@pytest.mark.usefixtures("inputs")
def test_export(command):
    status, out, err = command("tune", *GIVEN, "--truth", "truth.png", "--export", "new/grid")
    assert (status, out) == (0, "")
    assert err.splitlines()[-1] == "deeplab-repro: open new/grid/index.html in a browser"
    assert os.listdir("new/grid") == ["index.html"]
