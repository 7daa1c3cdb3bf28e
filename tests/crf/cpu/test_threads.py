import multiprocessing
import os
import threading

import numba
import numpy as np
import pytest

from deeplab_repro.crf.cpu.threads import claim, run_all, run_together, wait
from deeplab_repro.machine.jit import jit


@jit
def take_turns(team, counts, differences):
    """Each thread counts; after every meeting all have counted as far."""
    for _ in range(500):
        counts[team.thread] += 1
        wait(team)
        for other in range(team.threads):
            differences[team.thread] += abs(counts[other] - counts[team.thread])
        wait(team)


@jit
def claim_all(team, passes, done):
    """Each pass of some: every task that is claimed counts once in the thread's column."""
    for _ in range(passes):
        for turn in range(done.shape[0]):
            task = claim(team, turn, done.shape[0])
            if task >= 0:
                done[task, team.thread] += 1
        wait(team)


@jit
def fail_in_one(team, failing):
    if team.thread == failing:
        raise ValueError("one thread fails")
    wait(team)


@pytest.fixture(params=[1, 2, 5])
def threads(request, monkeypatch):
    """More threads than cores too."""
    monkeypatch.setattr(numba, "get_num_threads", lambda: request.param)
    return request.param


def test_threads_wait_for_each_other(threads):
    counts, differences = np.zeros(threads), np.zeros(threads)
    run_together(take_turns, counts, differences)
    assert (counts == 500).all()
    assert (differences == 0).all()


@pytest.mark.parametrize("tasks", [1, 2, 8, 13])
def test_every_task_is_done_once_in_each_pass(threads, tasks):
    done = np.zeros((tasks, threads), np.int64)
    run_together(claim_all, 50, done)
    assert done.sum(axis=1).tolist() == [50] * tasks


@pytest.mark.parametrize("failing", [0, 1])
def test_an_error_in_one_calls_the_meeting_off(monkeypatch, failing):
    monkeypatch.setattr(numba, "get_num_threads", lambda: 2)
    before = threading.active_count()
    with pytest.raises(ValueError, match="one thread fails"):
        run_together(fail_in_one, failing)
    assert threading.active_count() == before


@pytest.mark.parametrize("most", [0, 1, 3])
def test_where_threads_cannot_be_started_there_are_fewer(monkeypatch, most):
    """As at the end of a process, or at the system's limit."""
    start, started = threading.Thread.start, []

    def start_some(thread):
        if len(started) == most:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(numba, "get_num_threads", lambda: 5)
    monkeypatch.setattr(threading.Thread, "start", start_some)
    counts, differences = np.zeros(5), np.zeros(5)
    run_together(take_turns, counts, differences)
    assert sorted(counts) == [0] * (5 - max(most, 1)) + [500] * max(most, 1)
    assert (differences == 0).all()
    started.clear()
    assert run_all([lambda n=n: n * n for n in range(9)]) == [n * n for n in range(9)]


def test_an_error_in_a_task_is_raised_and_ends_the_others():
    def fail():
        raise ValueError("a task fails")

    before = threading.active_count()
    with pytest.raises(ValueError, match="a task fails"):
        run_all([fail, *[lambda: None] * 9])
    assert threading.active_count() == before


def run_in_child(counts, differences):
    run_together(take_turns, counts, differences)
    return counts.tolist()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_can_do_it_too(threads):
    """Data loaders fork; OpenMP then ends the process."""
    arrays = np.zeros(threads), np.zeros(threads)
    run_together(take_turns, *arrays)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        results = [pool.apply_async(run_in_child, [np.zeros(threads)] * 2) for _ in range(2)]
        for result in results:
            assert result.get(timeout=60) == [500] * threads
