"""What can go wrong, one class per kind.

Every message is one line that names the file, layer or field, what was found, what was expected,
and the mend. The command line prints that line and exits with 2.
"""

_LONGEST_ERROR = 200


def one_line(what: object, longest: int | None = None) -> str:
    """Text for a message or a terminal: printable, on one line, cut where it is longer.

    what: a text, a path, or the error of another library, which is cut in any case.
    """
    text = str(what)
    if isinstance(what, Exception):
        text, longest = " ".join(text.split()) or type(what).__name__, longest or _LONGEST_ERROR
    if longest and len(text) > longest:
        text = text[:longest] + "..."
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


class DeepLabError(Exception):
    """Anything that a user can mend; every error of this package is one."""


class FileError(DeepLabError):
    """A file or folder is missing, empty, unreadable, of the wrong kind, or cannot be written."""


class FormatError(DeepLabError):
    """A file is not in the format that it should have, or it is broken."""


class NetError(DeepLabError):
    """A net does not hold together: a missing bottom, shapes that do not fit, an unknown layer."""


class WeightsError(DeepLabError):
    """Weights do not fit the net."""


class ConversionError(DeepLabError):
    """A converted net gives something else than the net that it was made from."""


class ImageError(DeepLabError):
    """A picture cannot be read as one."""


class ArgumentError(DeepLabError, ValueError):
    """A value given by the caller is out of range or has the wrong shape or type."""


class TrainingError(DeepLabError):
    """Training cannot go on: the loss is no number any more."""


class DeviceError(DeepLabError):
    """The asked-for device is not to be had here."""


class ResourceError(DeepLabError):
    """The work would need more memory than the machine has."""
