"""Holding folders: one run at a time, whoever is killed, and the second is told who has it."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading

import pytest

from deeplab_repro.errors import FileError
from deeplab_repro.files import holding
from deeplab_repro.files.holding import hold
from tests.conftest import assert_one_line

pytestmark = pytest.mark.skipif(holding.fcntl is None, reason="there are no such locks here")

# Holds a folder until it is told to end, or killed; a child that it forks or starts lives on.
HOLDER = """
import os, subprocess, sys, time
from pathlib import Path
from deeplab_repro.files.holding import hold
folder, child = Path(sys.argv[1]), sys.argv[2]
with hold(folder):
    if child == "forked" and not os.fork():
        time.sleep(60)
    if child == "started":
        subprocess.Popen(["sleep", "60"], close_fds=False)
    print("held", flush=True)
    sys.stdin.read(1)
"""


@pytest.fixture
def holder(tmp_path):
    """Start a process that holds the folder; it and its children are killed in the end."""
    started = []

    def start(child="none"):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, tmp_path, child],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdin.close()
        process.stdout.close()


def refused(folder, **how) -> pytest.ExceptionInfo:
    with pytest.raises(FileError) as error, hold(folder, **how):
        pass
    return error


def test_nothing_is_left(tmp_path):
    with hold(tmp_path / "new/a", tmp_path / "b"):
        assert len(list(tmp_path.rglob(".deeplab.lock"))) == 2
    assert not list(tmp_path.rglob(".*"))


def test_the_second_is_told_who_has_it(tmp_path, holder):
    process = holder()
    shown = ["is in use by", f"process {process.pid} on {socket.gethostname()}", "since 20", "wait"]
    assert_one_line(refused(tmp_path), tmp_path, *shown, "give another folder")
    process.stdin.write("e")
    process.stdin.flush()
    process.wait()
    with hold(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("child", ["none", "forked", "started"])
def test_the_hold_of_a_killed_process_ends(tmp_path, holder, child):
    process = holder(child)
    refused(tmp_path)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert (tmp_path / ".deeplab.lock").exists()
    with hold(tmp_path):
        refused(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_forked_child_that_ends_lets_go_of_nothing(tmp_path):
    with hold(tmp_path):
        child = os.fork()
        if not child:
            os._exit(0)
        os.waitpid(child, 0)
        refused(tmp_path)


def test_threads_of_one_process_are_kept_apart_too(tmp_path):
    got = []

    def work():
        try:
            with hold(tmp_path):
                got.append("it")
                together.wait(5)
        except FileError:
            got.append("an error")
            together.wait(5)

    together = threading.Barrier(3)
    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == ["an error", "an error", "it"]


def test_readers_share_a_folder_and_keep_writers_out(tmp_path):
    with hold(tmp_path / "a", reading=[tmp_path]):
        with hold(tmp_path / "b", reading=[tmp_path]):
            refused(tmp_path)
        assert_one_line(refused(tmp_path), "is in use by process")
    with hold(tmp_path):
        refused(tmp_path / "c", reading=[tmp_path])
    assert not list(tmp_path.rglob(".*"))


def test_a_folder_that_is_named_twice(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)
    with hold(tmp_path, tmp_path / "link", reading=[tmp_path / "link/."]):
        refused(tmp_path)


def test_one_that_others_hold_gives_back_the_rest(tmp_path):
    with hold(tmp_path / "b"):
        with pytest.raises(FileError), hold(tmp_path / "a", tmp_path / "b"):
            pass
        with hold(tmp_path / "a"):
            pass


def test_those_who_write_for_a_killed_run_see_that_another_has_it(tmp_path, holder):
    process = holder()
    orphan = holding.Held((tmp_path / ".deeplab.lock",), (tmp_path / ".deeplab.lock").read_text())
    orphan.check()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    orphan.check()  # nobody minds
    with hold(tmp_path) as held:
        held.check()
        with pytest.raises(FileError) as error:
            orphan.check()
        assert_one_line(error, "is now in use by", str(os.getpid()), "no longer by", process.pid)


def test_where_there_are_no_locks_it_says_so(tmp_path, monkeypatch, caplog):
    def none(*_: object) -> None:
        raise OSError(38, "function not implemented")

    monkeypatch.setattr(holding.fcntl, "flock", none)
    with hold(tmp_path) as held:
        held.check()
    assert "cannot be locked here: see that no other run works on it" in caplog.text


@pytest.mark.parametrize("make", ["mkdir", "a link", "mkfifo"])
def test_a_lock_that_is_something_else(tmp_path, make):
    lock, other = tmp_path / ".deeplab.lock", tmp_path / "other"
    other.write_text("mine")
    {"mkdir": lock.mkdir, "a link": lambda: lock.symlink_to(other)}.get(
        make, lambda: os.mkfifo(lock)
    )()
    assert_one_line(refused(tmp_path), lock, "cannot be written")
    assert other.read_text() == "mine"


def test_a_folder_that_can_only_be_read(tmp_path, monkeypatch, caplog):
    def readonly(*_: object) -> int:
        raise OSError(30, "read-only file system")

    monkeypatch.setattr(os, "open", readonly)
    with hold(reading=[tmp_path]):
        assert "cannot be locked here" in caplog.text
    assert_one_line(refused(tmp_path), "cannot be written: read-only file system")
