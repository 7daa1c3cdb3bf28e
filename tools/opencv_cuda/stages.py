"""Stages of a long build that are not repeated once done, and commands with a log and progress."""

from __future__ import annotations

import fcntl
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from needs import BuildError

_SILENCE = 60.0  # seconds between two lines of progress where there is no terminal
_LAST_LINES = 15
_ERROR = re.compile(r"^(FAILED|ERROR): |CMake Error|\berror: ")


class Stages:
    """Runs stages one after the other; those that are done already only say so.

    A stage is done when its mark, a file, holds its key: all that its result depends on. The mark
    lies in the folder that the stage makes, so that deleting the folder deletes the mark.
    """

    def __init__(self, work: Path, count: int) -> None:
        self.log = work / "log.txt"
        self._count = count
        self._number = 0
        self._title = ""
        self._shown = 0.0
        self._terminal = sys.stderr.isatty()

    def run(self, title: str, mark: Path, key: str, work: Callable[[], None]) -> None:
        """Do `work` unless `mark` holds `key`; write the mark when it is done."""
        self._number += 1
        self._title = f"[{self._number}/{self._count}] {title}"
        if mark.is_file() and mark.read_text("utf-8") == key:
            self.say("done before")
            return
        mark.unlink(missing_ok=True)
        start = self._shown = time.monotonic()
        self.say("...")
        work()
        part = mark.with_name(mark.name + ".part")
        part.write_text(key, "utf-8")
        part.replace(mark)
        minutes, seconds = divmod(round(time.monotonic() - start), 60)
        self.say(f"{minutes} min {seconds} s")

    def progress(self, text: str) -> None:
        """Show how far the stage is: on one line of a terminal, elsewhere once a minute."""
        if self._terminal:
            width = shutil.get_terminal_size().columns - 1
            line = f"{self._title}: {text}"[:width]
            print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)
        elif time.monotonic() - self._shown >= _SILENCE:
            self._shown = time.monotonic()
            self.say(text)

    def say(self, text: str) -> None:
        """Print a line that stays."""
        clear = "\r\x1b[K" if self._terminal else ""
        print(f"{clear}{self._title}: {text}", file=sys.stderr, flush=True)

    def call(
        self,
        command: list[str],
        *,
        cwd: Path | None = None,
        env: dict[str, str] | None = None,
        watch: Callable[[str], None] | None = None,
    ) -> None:
        """Run a command; what it prints goes to the log, and each line to `watch`.

        Raises BuildError with its first error and its last lines where it fails.
        """
        watch = watch or self.progress
        lines = []
        with self.log.open("a", encoding="utf-8", buffering=1) as log:
            print(f"$ {shlex.join(command)}", file=log)
            process = subprocess.Popen(
                command,
                cwd=cwd,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,
                close_fds=False,  # the lock is held as long as any of the compilers lives
            )
            try:
                for line in process.stdout or ():
                    log.write(line)
                    lines.append(line.rstrip())
                    if line.strip():
                        watch(line.strip())
                process.wait()
            finally:
                if process.returncode is None:
                    os.killpg(process.pid, signal.SIGTERM)
                    process.communicate()  # till the last of the group is gone
        if process.returncode:
            told = "\n".join(f"    {line}" for line in _telling(lines))
            raise BuildError(f"{self._title}: failed; its log is {self.log}\n{told}")


def _telling(lines: list[str]) -> list[str]:
    """The first error with what follows it, and the last lines."""
    last = max(len(lines) - _LAST_LINES, 0)
    first = next((i for i, line in enumerate(lines) if _ERROR.search(line)), last)
    return lines[first : min(first + _LAST_LINES, last)] + lines[last:]


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, which the compilers hold too: they may outlive a killed build.

    Raises BuildError where another build holds it.
    """
    with (folder / "lock").open("w") as lock:
        os.set_inheritable(lock.fileno(), True)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BuildError(
                f"{folder}: another build runs there (or the compilers of one that was killed): "
                "wait for its end, or give another --work"
            ) from None
        yield
