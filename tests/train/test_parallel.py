"""The threads of training, and OpenBLAS's own beside them."""

import threading

import numba
import pytest

from deeplab_repro.train.parallel import in_turn, warn_of_blas_threads


@pytest.mark.parametrize(
    ("threads", "settings", "warnings"),
    [
        (2, {}, 1),
        (2, {"OPENBLAS_NUM_THREADS": "8"}, 1),
        (2, {"OPENBLAS_NUM_THREADS": "1"}, 0),
        (2, {"OMP_NUM_THREADS": "1"}, 0),
        (1, {}, 0),
    ],
)
def test_blas_threads_that_would_hurt(monkeypatch, caplog, threads, settings, warnings):
    monkeypatch.setattr(numba, "get_num_threads", lambda: threads)
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    warn_of_blas_threads.cache_clear()
    for _ in range(2):
        warn_of_blas_threads()
    warn_of_blas_threads.cache_clear()
    assert len(caplog.messages) == warnings
    assert all("set OPENBLAS_NUM_THREADS=1" in message for message in caplog.messages)


@pytest.fixture(params=[1, 3])
def threads(request, monkeypatch) -> int:
    monkeypatch.setattr(numba, "get_num_threads", lambda: request.param)
    return request.param


def test_what_comes_after_comes_in_turn_and_in_the_same_thread(threads):
    mine, turns, done = threading.local(), [], [threading.Event() for _ in range(12)]

    def work(item: int) -> None:
        if threads > 1 and item % 2 == 0:
            assert done[item + 1].wait(10)  # the later one is ready first
        mine.item = item
        done[item].set()

    in_turn(range(12), work, lambda: turns.append(mine.item))
    assert turns == list(range(12))


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("failing", [0, 4, 11])
def test_an_error_ends_the_work_of_all_threads(failing):
    turns, began = [], []

    def work(item: int) -> None:
        began.append(item)
        if item == failing:
            raise MemoryError(item)

    with pytest.raises(MemoryError, match=str(failing)):
        in_turn(range(12), work, lambda: turns.append(1))
    assert len(turns) == failing
    so_far = len(began)
    in_turn(range(3), turns.append)
    assert len(began) == so_far  # none of the old ones came after
