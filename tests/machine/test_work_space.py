"""Arrays whose memory is used again: never while anybody holds it, bounded, and not for ever."""

import gc
import threading
import time

import numpy as np
import pytest

from deeplab_repro.machine import heap, work_space
from deeplab_repro.machine.work_space import empty, free_memory


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch):
    monkeypatch.setattr(heap, "_keeps", False)  # as in a program that is not told to keep memory
    gc.collect()
    free_memory()
    yield
    free_memory()


def address(array):
    return array.__array_interface__["data"][0]


def test_arrays_are_as_asked_for():
    for shape, dtype in (((3, 5), np.float32), ((0, 4), np.uint8), ((300, 1000), np.uint32)):
        array = empty(shape, dtype)
        assert (array.shape, array.dtype) == (shape, dtype)
        assert array.flags.c_contiguous
        assert array.flags.writeable
        assert address(array) % 64 == 0 or not array.size


def test_memory_is_used_again():
    array = empty((100, 1000))
    first = address(array)
    del array
    again = empty((1000, 98))
    assert address(again) == first
    assert address(empty((100, 1000))) != first  # it is in use


def test_a_view_holds_the_memory():
    array = empty((100, 1000))
    view = array[3:, ::7].T
    view[...] = 5
    del array
    other = empty((100, 1000))
    other[...] = 6
    assert (view == 5).all()


def test_no_memory_that_is_much_larger():
    del_me = empty((100, 1000))
    first = address(del_me)
    del del_me
    assert address(empty((100, 500))) != first


def test_what_is_kept_is_bounded(monkeypatch):
    monkeypatch.setattr(work_space, "MOST_KEPT", 1_000_000)
    arrays = [empty((100, 1000)) for _ in range(5)]
    del arrays
    assert 0 < sum(memory.size for _, memory in work_space._kept.values()) <= 1_000_000


def test_free_memory_drops_all():
    del_me = empty((100, 1000))
    del del_me
    assert work_space._kept
    free_memory()
    assert not work_space._kept


def test_what_is_not_used_for_a_while_is_dropped(monkeypatch):
    monkeypatch.setattr(work_space, "SECONDS_KEPT", 0.05)
    monkeypatch.setattr(work_space, "_watch", threading.Thread())
    del_me = empty((100, 1000))
    del del_me
    assert work_space._kept
    latest = time.monotonic() + 5
    while work_space._kept and time.monotonic() < latest:
        time.sleep(0.01)
    assert not work_space._kept


def test_threads_never_share_an_array():
    wrong = []

    def work(number):
        for _ in range(300):
            array = empty((20, 1000), np.int64)
            array[...] = number
            time.sleep(0)
            if (array != number).any():
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
