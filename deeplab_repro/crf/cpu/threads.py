"""Threads that run one compiled function together and wait for each other in it.

They replace Numba's parallel loops, of which one CRF takes hundreds. With OpenMP these are many
times slower while other programs use the cores, and fail in a process that was forked after a CRF;
with Numba's own pool the process aborts if two Python threads run them.
"""

# See vectors.py about these.
# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: ARG001

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import Any, NamedTuple, TypeVar

import numba
import numpy as np
import numpy.typing as npt
from numba import extending, types

from deeplab_repro.machine.jit import jit, jit_inner

intrinsic: Any = extending.intrinsic
Result = TypeVar("Result")

# A meeting is a few int64: how many have arrived, how often all have, whether it is called off, and
# for each task when it was last claimed.
ARRIVED, MET, OFF, CLAIMED = range(4)
MOST_TASKS = 1024
SMALL = 200_000  # floats of a value for each point and label
SPINS = 2000  # some microseconds, after which the core is offered to others


class Team(NamedTuple):
    """What a compiled function knows of the threads that run it: its own number, and how many."""

    thread: int
    threads: int
    meeting: npt.NDArray[np.int64]


def is_small(points: int, lanes: int) -> bool:
    """Whether to start threads would take longer than they save."""
    return points * lanes < SMALL


def run_alone(function: Any, *arguments: Any) -> None:
    """Call function(team, *arguments) here, with a team of one: for little work."""
    function(Team(0, 1, np.zeros(CLAIMED + MOST_TASKS, np.int64)), *arguments)


def run_here(tasks: Iterable[Callable[[], Result]]) -> list[Result]:
    """The results of tasks, without threads: for little work."""
    return [task() for task in tasks]


def run_together(function: Any, *arguments: Any) -> None:
    """Call function(team, *arguments) on as many threads at once as Numba has.

    The function is compiled without the GIL. It may call `wait(team)`, each thread as often as the
    others, and should look at `is_off(team)` a few times a second: then nobody needs its results.
    """
    meeting = np.zeros(CLAIMED + MOST_TASKS, np.int64)

    def work(thread: int, threads: int) -> None:
        function(Team(thread, threads, meeting), *arguments)

    def stop() -> None:
        meeting[OFF] = 1

    _on_threads(work, stop)


def run_all(tasks: Iterable[Callable[[], Result]]) -> list[Result]:
    """The results of tasks of less than a second each, which Numba's threads share."""
    left = list(enumerate(tasks))
    results: dict[int, Result] = {}
    following = iter(left)

    def work(thread: int, threads: int) -> None:
        for number, task in following:
            results[number] = task()

    count = len(left)
    _on_threads(work, left.clear)
    return [results[number] for number in range(count)]


def _on_threads(work: Callable[[int, int], None], stop: Callable[[], None]) -> None:
    """Call work(thread, threads) on threads at once.

    The calling thread waits, so it hears Ctrl-C. Then, or if one fails, stop() is called, which is
    to end all work soon. Where a thread cannot be started (at the end of the process, or at the
    system's limit), there are fewer, and if need be only the calling one.
    """
    entrance: SimpleQueue[int] = SimpleQueue()
    errors: list[BaseException] = []

    def attend(thread: int) -> None:
        threads = entrance.get()
        try:
            if thread < threads:
                work(thread, threads)
        except BaseException as error:
            errors.append(error)
            stop()

    # The process is to wait for them at its end: code must not go away while it is run.
    numbers = range(numba.get_num_threads())
    others = [Thread(target=attend, args=(number,), daemon=False) for number in numbers]
    started = threads = 0
    try:
        with suppress(RuntimeError):
            for other in others:
                other.start()
                started += 1
        threads = started
    finally:
        for _ in others:
            entrance.put(threads)
    if threads == 0:
        work(0, 1)
        return
    try:
        _join(others[:threads])
    except BaseException:
        stop()
        _join(others[:threads])
        raise
    if errors:
        raise errors[0]


def _join(threads: list[Thread]) -> None:
    for thread in threads:
        thread.join()


def _atomic(change: str) -> Any:
    """A function that adds to a field of a meeting, or exchanges it, and returns what it was."""

    @intrinsic
    def atomic(typingctx, meeting, field, value):
        def codegen(context, builder, signature, arguments):
            array, field, value = arguments
            data = context.make_array(meeting)(context, builder, array).data
            return builder.atomic_rmw(change, builder.gep(data, [field]), value, "seq_cst")

        return types.int64(meeting, types.int64, types.int64), codegen

    return atomic


@intrinsic
def _peek(typingctx, meeting, field):
    """A field of a meeting as it is now; much cheaper than _add(meeting, field, 0)."""

    def codegen(context, builder, signature, arguments):
        array, field = arguments
        data = context.make_array(meeting)(context, builder, array).data
        return builder.load_atomic(builder.gep(data, [field]), "monotonic", 8)

    return types.int64(meeting, types.int64), codegen


_add = _atomic("add")
_exchange = _atomic("xchg")


if os.name == "posix":
    _rest: Any = types.ExternalFunction("sched_yield", types.int32())
else:

    @jit
    def _rest() -> int:
        return 0


@jit_inner
def share(team: Any, first: Any, last: Any) -> Any:
    """The thread's part of first..last: the same each time, so that its core finds its caches."""
    n = last - first
    return first + n * team.thread // team.threads, first + n * (team.thread + 1) // team.threads


@jit_inner
def claim(team: Any, turn: Any, tasks: Any) -> Any:
    """A task for this thread alone, or -1 if that of this turn has been claimed since all met.

    With a turn for each task, all get done: first the thread's share, then what others have not
    begun, from the end of theirs.
    """
    first, last = share(team, np.int64(0), tasks)
    own = last - first
    task = first + turn if turn < own else (first - 1 - (turn - own)) % tasks
    now = _add(team.meeting, MET, 0) + 1
    return task if _exchange(team.meeting, CLAIMED + task, now) != now else -1


@jit_inner
def is_off(team: Any) -> Any:
    """Whether the meeting is called off: all should return, and what they leave is not used."""
    return _peek(team.meeting, OFF) != 0


@jit_inner
def wait(team: Any) -> None:
    """Return when all threads have called this as often; at once when the meeting is off."""
    met = _add(team.meeting, MET, 0)
    if _add(team.meeting, ARRIVED, 1) == team.threads - 1:
        team.meeting[ARRIVED] = 0
        _add(team.meeting, MET, 1)
        return
    spins = 0
    while _add(team.meeting, MET, 0) == met and _add(team.meeting, OFF, 0) == 0:
        spins += 1
        if spins > SPINS:
            _rest()
