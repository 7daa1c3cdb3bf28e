"""Names of layers and blobs: which are plain, how messages show them, and unused ones."""

from deeplab_repro.errors import one_line

_LONGEST_NAME = 200
_LONGEST_SHOWN = 60


def is_plain_name(name: str) -> bool:
    """Whether messages and tables can show the name unchanged."""
    return name.isprintable() and len(name) <= _LONGEST_NAME


def unused_name(wanted: str, taken: set[str]) -> str:
    """The wanted name, or it with a number where it is taken or empty; then it is taken too."""
    name, number = wanted, 1
    while name in taken or not name:
        name, number = f"{wanted}_{number}", number + 1
    taken.add(name)
    return name


def shown(text: str) -> str:
    """Text in quotes, as messages show it."""
    return f"'{one_line(text, _LONGEST_SHOWN)}'"
