"""Every error of this package, one class per kind.

Every message is one line that names the file, layer or field, what was found, what was expected,
and the mend. The command line prints that line and exits with 2.
"""

import difflib
from collections.abc import Iterable

_LONGEST_ERROR = 200
_LONGEST_COMPARED = 60


def one_line(what: object, longest: int | None = None) -> str:
    """Text that is safe in a message or on a terminal: printable, on one line.

    what: a text, a path, or another library's error. longest: cut it after so many characters; an
    error is always cut, after 200.
    """
    text = str(what)
    if isinstance(what, Exception):
        text, longest = " ".join(text.split()) or type(what).__name__, longest or _LONGEST_ERROR
    if longest and len(text) > longest:
        text = text[:longest] + "..."
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def did_you_mean(word: str, known: Iterable[str], most: int = 2) -> str:
    """The end of a message about a word that is not known: "; did you mean A or B?".

    known: what it may be; "" where none of it is near. most: so many are named.
    """
    # The dashes of options would make any two alike.
    by_lower_case = {name.lower().lstrip("-"): name for name in known}
    short = word.lower().lstrip("-")[:_LONGEST_COMPARED]
    near = [short] if short in by_lower_case else []
    near = near or difflib.get_close_matches(short, by_lower_case, n=most, cutoff=0.6)
    # A name's middle or end, as "resnet101", is less like it than it is meant.
    near = near or [name for name in by_lower_case if len(short) > 1 and short in name][:most]
    return f"; did you mean {' or '.join(by_lower_case[name] for name in near)}?" if near else ""


class DeepLabError(Exception):
    """The base of every error of this package: all are such as a user can mend.

    >>> try:
    ...     read_image("nowhere.jpg")
    ... except DeepLabError as error:
    ...     print(error)
    nowhere.jpg: cannot be read: no such file or directory
    """


class FileError(DeepLabError):
    """A file or folder is missing, empty, unreadable, of the wrong kind, or cannot be written."""


class FormatError(DeepLabError):
    """A file is not in the format that it should have, or it is broken."""


class NetError(DeepLabError):
    """A net does not hold together: a missing bottom, shapes that do not fit, an unknown layer."""


class WeightsError(DeepLabError):
    """Weights do not fit the net."""


class ConversionError(DeepLabError):
    """A converted net gives other results than the original net."""


class ImageError(DeepLabError):
    """A picture cannot be read."""


class ArgumentError(DeepLabError, ValueError):
    """A value given by the caller is out of range or has the wrong shape or type."""


class ArgumentTypeError(ArgumentError, TypeError):
    """A value given by the caller is of a type that is not taken, None say."""


class TrainingError(DeepLabError):
    """Training cannot continue: the loss is not a number."""


class DeviceError(DeepLabError):
    """The requested device is unavailable."""


class ResourceError(DeepLabError):
    """The work needs more memory than the machine has."""
