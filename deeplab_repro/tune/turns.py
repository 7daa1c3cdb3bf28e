"""One computation at a time; what was asked for before the newest request is given up."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial


class OvertakenError(Exception):
    """A newer request has come. newest: its number."""

    def __init__(self, newest: int) -> None:
        super().__init__(f"request {newest} is newer")
        self.newest = newest


class Turns:
    """Lets requests, which have numbers, work one after the other; the highest number counts."""

    def __init__(self) -> None:
        self._newest = 0
        self._arrival, self._work = threading.Lock(), threading.Lock()

    @contextmanager
    def turn(self, number: int) -> Iterator[Callable[[], None]]:
        """Wait for the turn of a request; yields what is to be called now and then in the work.

        Both raise OvertakenError as soon as a higher number has come.
        """
        with self._arrival:
            self._newest = max(self._newest, number)
        check = partial(self._check, number)
        with self._work:
            check()
            yield check

    def _check(self, number: int) -> None:
        if number < self._newest:
            raise OvertakenError(self._newest)
