"""A process of its own that is asked for one thing after the other, and is idle in between."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deeplab_repro.errors import NetError, ResourceError, one_line

_SECONDS_TO_END = 3


class Process:
    """Runs `code`, which calls `answer`, in a new process with these environment variables.

    title: what messages call it. said: the file for what it says on stderr.
    """

    def __init__(self, title: str, code: str, environment: Mapping[str, str], said: Path) -> None:
        """Raises ResourceError where the system cannot start one."""
        self._title, self._said = title, said
        try:
            with said.open("wb") as file:
                self._process = subprocess.Popen(
                    [sys.executable, "-c", code],
                    env={**os.environ, **environment},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=file,
                    text=True,
                )
        except OSError as error:
            raise ResourceError(f"{title}: cannot start a process: {one_line(error)}") from error

    def ask(self, method: str, *arguments: Any) -> Any:
        """What a method of its object returns; arguments and result are plain data.

        Raises NetError for what is raised there, and ResourceError where the process has ended.
        """
        reply = ""
        with contextlib.suppress(OSError):  # as it ended before it was asked
            print(json.dumps([method, *arguments]), file=self._process.stdin, flush=True)
            reply = self._process.stdout.readline()  # type: ignore[union-attr]
        if not reply:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_SECONDS_TO_END)  # it has yet to say why
            told = self._said.read_text(errors="replace").splitlines()
            reason = told[-1] if told else "the system ended it: is there enough memory?"
            raise ResourceError(f"{self._title}: its process failed: {one_line(Exception(reason))}")
        result, error = json.loads(reply)
        if error is not None:
            raise NetError(f"{self._title}: {error}")
        return result

    def close(self) -> None:
        """End it, whatever it does."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):  # what was not sent is of no use any more
                pipe.close()  # type: ignore[union-attr]

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def answer(asked: object) -> None:
    """In the process: call the methods of an object that `Process.ask` names, until it is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one that asks
    with os.fdopen(os.dup(sys.stdout.fileno()), "w") as replies:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # libraries may print
        for line in sys.stdin:
            method, *arguments = json.loads(line)
            result = told = None
            try:
                result = getattr(asked, method)(*arguments)
            except Exception as error:  # whatever it is, it is told on the other side
                told = one_line(error)
            print(json.dumps([result, told]), file=replies, flush=True)
