"""Run code in a separate Python process, and get its results or one line about its failure."""

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any

from deeplab_repro.errors import DeepLabError, ResourceError, one_line

_CHILD = """
import sys
sys.path[:] = {path!r}
from deeplab_repro.bench.process import serve
serve()
"""


class Process:
    """A Python process that holds an object and calls its methods when it is asked to.

    title: names the process in messages. held: the object, which pickle sends there. environment:
    variables that differ from this process's, None for one that is to be absent. seconds: after so
    many the process is killed. quiet: what it prints is kept for the message about its death;
    otherwise it goes to stderr.
    """

    def __init__(
        self,
        title: str,
        held: object,
        environment: Mapping[str, str | None] | None = None,
        seconds: float | None = None,
        quiet: bool = True,
    ) -> None:
        """Raises ResourceError where the system cannot start a process."""
        self._title, self._seconds, self._is_late = title, seconds, False
        variables = {**os.environ, **(environment or {})}
        self._printed = tempfile.TemporaryFile() if quiet else None  # noqa: SIM115 - see `close`
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _CHILD.format(path=sys.path)],
                env={name: value for name, value in variables.items() if value is not None},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._printed,
                start_new_session=True,  # a group of its own, with all that it starts
            )
        except OSError as error:
            raise ResourceError(f"{title}: cannot start a process: {one_line(error)}") from error
        self._timer = threading.Timer(seconds or 0, self._be_late)
        if seconds is not None:
            self._timer.start()
        self._send(pickle.dumps(held))  # as bytes, so that a failure to unpickle can be told

    def ask(self, method: str, *arguments: Any) -> Any:
        """Return what a method of the object returns there.

        Raises the DeepLabError that the method raises, or one for another exception, with the
        process's title before its text; ResourceError where the process has ended or was too slow.
        """
        self._send((method, arguments))
        return self._receive()[1]

    def each(self, method: str, *arguments: Any) -> Iterator[Any]:
        """Yield what a generator method yields there, as it comes. Raises as `ask` does."""
        self._send((method, arguments))
        while True:
            is_last, value = self._receive()
            if is_last:
                return
            yield value

    def close(self) -> None:
        """Kill the process, and those that it has started."""
        self._timer.cancel()
        self._kill()
        self._process.wait()
        for file in (self._process.stdin, self._process.stdout, self._printed):
            with contextlib.suppress(OSError):  # requests that were never read
                if file:
                    file.close()

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, what: object) -> None:
        assert self._process.stdin
        with contextlib.suppress(OSError):  # it is dead: `_receive` tells why
            pickle.dump(what, self._process.stdin)
            self._process.stdin.flush()

    def _receive(self) -> tuple[bool, Any]:
        """Whether a reply is the last one to what was asked, and the reply."""
        assert self._process.stdout
        try:
            is_last, value, error = pickle.load(self._process.stdout)
        except (EOFError, OSError, pickle.UnpicklingError):
            raise ResourceError(f"{self._title}: {self._how_it_ended()}") from None
        if error is not None:
            kind, text = error
            raise kind(f"{self._title}: {text}")
        return is_last, value

    def _how_it_ended(self) -> str:
        self._process.wait()
        if self._is_late:
            return f"its process took longer than {self._seconds:g} s and was ended"
        code = self._process.returncode
        how = f"exit status {code}" if code >= 0 else f"{signal.strsignal(-code)}"
        told = ""
        if self._printed:
            self._printed.seek(0)
            lines = self._printed.read().decode(errors="replace").splitlines() or [""]
            told = f": {one_line(lines[-1], 200)}" if lines[-1].strip() else ""
        mend = ": see whether the memory is enough" if code == -9 else ""
        return f"its process ended ({how}){told}{mend}"

    def _be_late(self) -> None:
        self._is_late = True
        self._kill()

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # all of them have ended
            if sys.platform == "win32":
                self._process.kill()
            else:
                os.killpg(self._process.pid, signal.SIGKILL)


def call_apart(
    title: str,
    function: Callable[..., Any],
    *arguments: Any,
    environment: Mapping[str, str | None] | None = None,
) -> Any:
    """Call a module's function in a new process and return its result. Raises as `ask` does."""
    with Process(title, function, environment) as process:
        return process.ask("__call__", *arguments)


def serve() -> None:
    """In the process: unpickle the object, then call the methods asked for until nobody asks."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one that asks
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)  # libraries may print
    held = None
    with contextlib.suppress(EOFError):
        pickled = pickle.load(requests)
        while True:
            method, arguments = pickle.load(requests)
            try:
                held = pickle.loads(pickled) if held is None else held
                result = getattr(held, method)(*arguments)
                if isinstance(result, Iterator):
                    for value in result:
                        _reply(replies, False, value)
                    result = None
                _reply(replies, True, result)
            except DeepLabError as error:
                _reply(replies, True, None, (type(error), one_line(str(error))))
            except Exception as error:
                traceback.print_exc()
                text = f"{type(error).__name__}: {one_line(error)}"
                _reply(replies, True, None, (DeepLabError, text))


def _reply(replies: IO[bytes], is_last: bool, value: object, error: object = None) -> None:
    replies.write(pickle.dumps((is_last, value, error)))  # first as a whole: it may be refused
    replies.flush()
