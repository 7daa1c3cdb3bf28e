"""Threads that run one compiled function together and wait for each other in it.

They replace Numba's parallel loops, of which one CRF takes hundreds. With OpenMP these are many
times slower while other programs use the cores, and fail in a process that was forked after a CRF;
with Numba's own pool the process aborts if two Python threads run them.
"""

# See vectors.py about these.
# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: ARG001

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt
from numba import extending, types

from deeplab_repro.machine.jit import jit

intrinsic: Any = extending.intrinsic

# A meeting is a few int64: how many have arrived, how often all have, whether it is called off, and
# for each task when it was last claimed.
ARRIVED, MET, OFF, CLAIMED = range(4)
MOST_TASKS = 1024
SPINS = 2000  # some microseconds, after which the core is offered to others


class Team(NamedTuple):
    """What a compiled function knows of the threads that run it: its own number, and how many."""

    thread: int
    threads: int
    meeting: npt.NDArray[np.int64]


def run_together(function: Any, *arguments: Any) -> None:
    """Call function(team, *arguments) on each of Numba's threads at once.

    The function is compiled without the GIL. It may call `wait(team)`, each thread as often as the
    others.
    """
    threads = numba.get_num_threads()
    meeting = np.zeros(CLAIMED + MOST_TASKS, np.int64)

    def run(thread: int) -> None:
        try:
            function(Team(thread, threads, meeting), *arguments)
        except BaseException:
            meeting[OFF] = 1  # or the others would wait for ever
            raise

    if threads == 1:
        run(0)
        return
    with ThreadPoolExecutor(threads - 1) as pool:
        try:
            others = [pool.submit(run, thread) for thread in range(1, threads)]
            run(0)
            for other in others:
                other.result()
        except BaseException:
            meeting[OFF] = 1
            raise


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


_add = _atomic("add")
_exchange = _atomic("xchg")


if os.name == "posix":
    _rest: Any = types.ExternalFunction("sched_yield", types.int32())
else:

    @jit
    def _rest() -> int:
        return 0


@jit
def share(team: Any, first: Any, last: Any) -> Any:
    """The thread's part of first..last: the same each time, so that its core finds its caches."""
    n = last - first
    return first + n * team.thread // team.threads, first + n * (team.thread + 1) // team.threads


@jit
def claim(team: Any, turn: Any, tasks: Any) -> Any:
    """A task for this thread alone, or -1 if that of this turn has been claimed since all met.

    With a turn for each task, all get done: first the thread's share, then what others have not
    begun, from the end of theirs.
    """
    first, last = share(team, 0, tasks)
    own = last - first
    task = first + turn if turn < own else (first - 1 - (turn - own)) % tasks
    now = _add(team.meeting, MET, 0) + 1
    return task if _exchange(team.meeting, CLAIMED + task, now) != now else -1


@jit
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
