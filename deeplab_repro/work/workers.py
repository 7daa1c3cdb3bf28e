"""Work on images one by one: in this process, in processes on this machine, or on a Dask cluster.

Imports nothing large, so that a new process can be told how many threads to use before NumPy,
OpenCV and Numba are loaded into it.
"""

import contextlib
import multiprocessing
import os
import pickle
import signal
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import connection, resource_tracker
from multiprocessing.connection import Connection
from typing import NoReturn

from deeplab_repro.errors import DeepLabError, ResourceError
from deeplab_repro.machine.heap import keep_freed_memory
from deeplab_repro.work.outcomes import (
    Result,
    died_over,
    outcome_of,
    pack_error,
    packed_outcome,
    unpack_outcome,
)
from deeplab_repro.work.stages import n_cores

TRIES = 3
"""How many processes may die over an image before it is given up."""

# How long a process may take to end: as long as the one call of a library that it may be in.
_SECONDS_TO_END = 3
_READY = pickle.dumps((None, None))
_THREADS = (
    "NUMBA_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "OPENCV_FOR_THREADS_NUM",
)


@dataclass(frozen=True)
class Workers:
    """Who does the work: some processes of this machine (0: this one alone), or a Dask cluster.

    scheduler: the address of a cluster's scheduler, as in "tcp://host:8786"; its workers must have
    the same version of this package, and find the same files under the same paths.
    """

    processes: int = 0
    scheduler: str | None = None

    def map(
        self, function: Callable[[str], Result], names: Sequence[str]
    ) -> Iterator[tuple[str, Result | DeepLabError]]:
        """Call `function` with each name, and yield names and results as they come, in no order.

        A DeepLabError that the function raises takes the place of its result; so does a
        ResourceError for a name over which several workers died. Any other exception is raised
        here. Processes share the cores. `function` must be one that pickle can name, as a module's
        is, or a small partial of one. To close the iterator ends the work.

        Raises, when the first is asked for, ArgumentError for a scheduler that is not there or
        whose workers lack this package; later, ResourceError for a scheduler or workers that are
        lost, and for processes that cannot be started.
        """
        if self.scheduler is not None:
            from deeplab_repro.work.cluster import on_cluster

            return on_cluster(function, names, self.scheduler)
        if self.processes and names:
            return _in_processes(function, names, min(self.processes, len(names)))
        return ((name, outcome_of(function, name)) for name in names)


HERE = Workers()
"""This process alone, image after image."""


# --- processes


class _Process:
    """A worker process, and the names that it has been given, in their order."""

    def __init__(self, function: bytes, threads: int) -> None:
        self.given: deque[str] = deque()
        self.is_ready = False
        # Spawned, not forked: the threads of OpenCV and Numba do not survive a fork.
        context = multiprocessing.get_context("spawn")
        self.connection, other_end = context.Pipe()
        self._process = context.Process(target=_serve, args=(other_end, threads), daemon=True)
        with other_end, _without_interrupts():
            self._process.start()
        self._send(function)

    def give(self, name: str) -> None:
        """Give it one more name to work on."""
        self.given.append(name)
        self._send(name)

    def _send(self, what: bytes | str) -> None:
        with contextlib.suppress(OSError):  # it is dead: the next read from it shows that
            self.connection.send(what)

    def how_it_ended(self) -> str:
        """How a process ended that is no longer there, in words."""
        _end([self])
        code = self._process.exitcode or 0
        return f"exit status {code}" if code >= 0 else f"{signal.strsignal(-code)}"


def _end(processes: Sequence[_Process]) -> None:
    """End the processes. What they are writing is removed: files appear whole or not at all."""
    for each in processes:
        each.connection.close()
        each._process.terminate()
    latest = time.monotonic() + _SECONDS_TO_END
    for each in processes:
        each._process.join(max(0, latest - time.monotonic()))
        each._process.kill()


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Keep Ctrl-C from processes that are started in this block, from their first moment on."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # it comes with the first process, and would lift the mask
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _in_processes(
    function: Callable[[str], Result], names: Sequence[str], count: int
) -> Iterator[tuple[str, Result | DeepLabError]]:
    pickled = pickle.dumps(function)
    threads = max(1, n_cores() // count)
    waiting = deque(names)
    deaths: Counter[str] = Counter()
    stillborn = 0
    processes: list[_Process] = []
    try:
        while waiting or any(each.given for each in processes):
            while waiting and len(processes) < count:
                processes.append(_started(pickled, threads))
            _deal(waiting, processes)
            for process in _ready(processes):
                try:
                    data = process.connection.recv_bytes()
                except (EOFError, OSError):
                    processes.remove(process)
                    how = process.how_it_ended()
                    if process.is_ready:
                        name = process.given.popleft()
                        deaths[name] += 1
                        if deaths[name] == TRIES:
                            yield name, died_over(name, TRIES, how)
                        else:
                            waiting.append(name)  # tried again last, when there may be more memory
                    else:
                        stillborn += 1
                        if stillborn == TRIES:
                            raise _cannot_begin(how) from None
                    waiting.extendleft(reversed(process.given))
                    continue
                result = unpack_outcome(data)
                if process.is_ready:
                    name = process.given.popleft()
                    _deal(waiting, processes)  # before the yield: the caller may take its time
                    yield name, result
                else:
                    process.is_ready, stillborn = True, 0
    finally:
        _end(processes)


def _started(function: bytes, threads: int) -> _Process:
    try:
        return _Process(function, threads)
    except OSError as error:
        raise ResourceError(
            f"a worker process cannot be started: {error.strerror}: use fewer"
        ) from error


def _cannot_begin(how: str) -> ResourceError:
    return ResourceError(
        f"{TRIES} worker processes ended before they began ({how}): see what they said, and "
        "whether the memory is enough"
    )


def _deal(waiting: deque[str], processes: Sequence[_Process]) -> None:
    """Give a name to each idle process, and while many names are left a second one to each."""
    for process in processes:
        if waiting and not process.given:
            process.give(waiting.popleft())
    for process in processes:
        if len(waiting) > len(processes) and len(process.given) < 2:
            process.give(waiting.popleft())


def _ready(processes: Sequence[_Process]) -> list[_Process]:
    """Wait until processes have sent something; return these."""
    ready = connection.wait([each.connection for each in processes if each.given])
    return [each for each in processes if each.connection in ready]


def _serve(parent: Connection, threads: int) -> None:
    """The worker process: answer the parent until it is gone or ends this process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave)
    os.environ.update(dict.fromkeys(_THREADS, str(threads)))
    keep_freed_memory()
    # SystemExit comes from _leave. The others mean that the parent is gone.
    with contextlib.suppress(EOFError, OSError, SystemExit):
        _answer_all(parent)
    os._exit(0)  # at once: an orderly exit takes a third of a second to unload Numba


def _leave(*_: object) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once: files are being removed
    sys.exit()


def _answer_all(parent: Connection) -> None:
    pickled = parent.recv()
    try:
        function = pickle.loads(pickled)  # which imports what it needs
    except Exception as error:
        parent.send_bytes(pack_error(error))
        return
    parent.send_bytes(_READY)
    while True:
        parent.send_bytes(packed_outcome(function, parent.recv()))
