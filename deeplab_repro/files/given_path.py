"""A path as people give it: a text, or a Path."""

import os

from deeplab_repro.errors import ArgumentError, ArgumentTypeError


def given_path(name: str, value: object) -> str:
    """A path as text. `name` is what the caller knows it by.

    Raises ArgumentTypeError for what is no path, an open file say, and ArgumentError for "".
    """
    try:
        path = os.fsdecode(value)  # type: ignore[arg-type]  # bytes too, which are paths to Python
    except Exception:  # of any kind: the value's own code may run here
        mend = ": give the path of that file" if hasattr(value, "read") else ""
        raise ArgumentTypeError(f"{name} is {kind_of(value)}, expected a path{mend}") from None
    if not path:
        raise ArgumentError(f"{name} is empty, expected a path")
    return path


def kind_of(value: object) -> str:
    """What a value is, in words."""
    return "None" if value is None else f"a {type(value).__name__}"
