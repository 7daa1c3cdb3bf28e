"""Work in threads, in order."""

import sys
import threading
import time

import pytest

from deeplab_repro.work.stages import in_threads, io_threads, n_cores, quick_turns


def named(name):
    return [thread for thread in threading.enumerate() if thread.name.startswith(name)]


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_results_come_in_order_of_the_items(threads):
    def later_is_faster(item):
        time.sleep((9 - item) / 1000)
        return item, threading.current_thread().name

    results = list(in_threads(later_is_faster, range(10), threads, "stage"))
    assert [item for item, _ in results] == list(range(10))
    here = {name == threading.current_thread().name for _, name in results}
    assert here == {threads == 0}
    assert not named("stage")


def test_items_are_taken_a_few_ahead():
    taken = []
    go = threading.Event()

    def items():
        for item in range(9):
            taken.append(item)
            yield item

    def wait(item):
        assert go.wait(timeout=30)
        return item

    results = in_threads(wait, items(), 2, "stage")
    threading.Timer(0.05, go.set).start()
    assert next(results) == 0
    assert taken == [0, 1, 2]
    assert list(results) == list(range(1, 9))


def test_what_is_raised_comes_in_its_place_and_ends_it():
    begun = []

    def fails_at_2(item):
        begun.append(item)
        if item == 2:
            raise ValueError("two")
        return item

    results = in_threads(fails_at_2, range(100), 1, "stage")
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="two"):
        next(results)
    assert len(begun) <= 4
    assert not named("stage")


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_what_the_items_raise_comes_after_the_results_before(threads):
    def items():
        yield from (1, 2)
        raise RuntimeError("no more")

    results = in_threads(lambda item: time.sleep(0.01) or item, items(), threads, "test")
    assert [next(results), next(results)] == [1, 2]
    with pytest.raises(RuntimeError, match="no more"):
        next(results)


def test_items_that_fail_and_a_caller_who_stops_end_the_threads():
    def interrupted():
        yield 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(in_threads(str, interrupted(), 2, "stage"))
    results = in_threads(str, range(100), 2, "stage")
    next(results)
    results.close()
    assert not named("stage")


def test_threads_beside_a_gpu_only():
    assert io_threads("cpu") == 0
    assert 1 <= io_threads("cuda") <= n_cores()


def test_threads_take_turns_sooner_for_a_while():
    before = sys.getswitchinterval()
    with quick_turns():
        assert sys.getswitchinterval() == pytest.approx(2e-4)
    assert sys.getswitchinterval() == before
