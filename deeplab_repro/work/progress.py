"""Progress callbacks, independent of display."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

Progress = Callable[[str, int], AbstractContextManager[Callable[[], None]]]
"""Takes what is done and in how many steps; yields what is to be called after each step."""


@contextmanager
def unwatched(_doing: str, _steps: int) -> Iterator[Callable[[], None]]:
    """Progress that nobody sees."""
    yield lambda: None
