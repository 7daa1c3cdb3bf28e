"""Requests take turns, and the newest counts."""

import threading

import pytest

from deeplab_repro.tune.turns import OvertakenError, Turns


def test_what_waits_and_what_works_is_given_up_for_a_newer_one():
    turns, events = Turns(), []
    at_work, go_on = threading.Event(), threading.Event()

    def ask(number):
        try:
            with turns.turn(number) as check:
                events.append(("works", number))
                at_work.set()
                assert go_on.wait(10)
                check()
                events.append(("done", number))
        except OvertakenError as overtaken:
            events.append(("overtaken by", overtaken.newest))

    threads = [threading.Thread(target=ask, args=[number]) for number in (1, 2, 3)]
    threads[0].start()
    assert at_work.wait(10)
    for thread in threads[1:]:
        thread.start()
    while turns._newest < 3:
        pass
    go_on.set()
    for thread in threads:
        thread.join(10)
    assert sorted(events) == sorted(
        [("works", 1), ("overtaken by", 3), ("overtaken by", 3), ("works", 3), ("done", 3)]
    )


def test_one_that_comes_late_is_too_late():
    turns = Turns()
    with turns.turn(5) as check:
        check()
    with pytest.raises(OvertakenError), turns.turn(4):
        pass
    with turns.turn(5):  # the same once more
        pass
