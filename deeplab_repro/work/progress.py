"""How long work tells how far it is, whoever shows it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

Progress = Callable[[str, int], AbstractContextManager[Callable[[], None]]]
"""Takes what is done and in how many steps; what it yields is called after each of them."""


@contextmanager
def unwatched(_doing: str, _steps: int) -> Iterator[Callable[[], None]]:
    """Progress that nobody sees."""
    yield lambda: None
