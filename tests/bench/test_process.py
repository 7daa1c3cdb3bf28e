"""Processes that are asked for one thing after the other."""

import pytest

from deeplab_repro.bench.process import Process
from deeplab_repro.errors import NetError, ResourceError
from tests.conftest import assert_one_line

ECHO = """
import os
from deeplab_repro.bench.process import answer

class Asked:
    def join(self, *words):
        print("what a library prints is no answer")
        return os.environ["BETWEEN"].join(words)
    def fail(self):
        raise KeyError("two\\nlines")
    def die(self):
        raise SystemExit("it is over")

answer(Asked())
"""


def test_answers_errors_and_a_death(tmp_path):
    said = tmp_path / "said.txt"
    with Process("echo", ECHO, {"BETWEEN": "-"}, said) as process:
        assert process.ask("join", "a", "ü", "c") == "a-ü-c"
        with pytest.raises(NetError, match="echo: 'two") as error:
            process.ask("fail")
        assert_one_line(error)
        assert process.ask("join", "still", "there") == "still-there"
        for _ in range(2):
            with pytest.raises(ResourceError, match="echo: its process failed: it is over"):
                process.ask("die")
    assert "no answer" in said.read_text()


def test_one_that_ends_at_once(tmp_path):
    with Process("none", "import os; os._exit(3)", {}, tmp_path / "said.txt") as process:
        process._process.wait()
        with pytest.raises(ResourceError, match="none: its process failed: the system ended it"):
            process.ask("anything")
