"""Separate processes: what they answer, and what is told when they fail."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deeplab_repro.bench.process import Process, call_apart
from deeplab_repro.errors import DeepLabError, DeviceError, ResourceError
from tests.conftest import assert_one_line


class Held:
    def __init__(self, between):
        self.between = between

    def join(self, *words):
        print("what a library prints is no answer")
        self.between += "-"  # it is held from one call to the next
        return self.between.join(words) + os.environ.get("GIVEN", "") + os.environ.get("HOME", "")

    def fail(self):
        raise KeyError("two\nlines")

    def refuse(self):
        raise DeviceError("no GPU")

    def count(self, last, refuse=False):
        yield from range(last)
        if refuse:
            self.refuse()

    def die(self):
        raise SystemExit("it is over")

    def hang(self):
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        yield child.pid
        time.sleep(60)


class Broken:
    def __reduce__(self):
        return (int, ("no number",))


def test_answers_errors_and_a_death():
    with Process("echo", Held("-"), {"GIVEN": "!", "HOME": None}) as process:
        assert process.ask("join", "a", "ü") == "a--ü!"
        with pytest.raises(DeepLabError, match="echo: KeyError: 'two") as error:
            process.ask("fail")
        assert_one_line(error)
        with pytest.raises(DeviceError, match="echo: no GPU"):
            process.ask("refuse")
        assert process.ask("join", "a", "b") == "a---b!"
        assert list(process.each("count", 3)) == [0, 1, 2]
        counted = process.each("count", 1, True)
        assert next(counted) == 0
        with pytest.raises(DeviceError, match="echo: no GPU"):
            next(counted)
        for _ in range(2):
            with pytest.raises(ResourceError, match=r"process ended \(exit status 1\): it is over"):
                process.ask("die")


def test_one_that_takes_too_long_ends_with_what_it_started():
    with Process("slow", Held(""), seconds=1.5, quiet=False) as process:
        told = process.each("hang")
        child = next(told)
        with pytest.raises(ResourceError, match=r"slow: its process took longer than 1\.5 s"):
            next(told)
    status = Path(f"/proc/{child}/status")
    end = time.monotonic() + 10
    while status.exists() and "State:\tZ" not in status.read_text():  # nobody may wait for it
        assert time.monotonic() < end


def test_a_function_and_what_is_not_there():
    assert call_apart("sum", sum, [1, 2]) == 3
    with pytest.raises(DeepLabError, match="broken: ValueError: invalid literal"):
        call_apart("broken", Broken())
