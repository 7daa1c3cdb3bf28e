import multiprocessing
import os
import threading

import numba
import numpy as np
import pytest

from deeplab_repro.crf.cpu.threads import claim, run_together, wait
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
