"""What becomes of one item of many: its result, or the error that takes its place."""

import pickle
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from deeplab_repro.errors import (
    DeepLabError,
    DeviceError,
    FileError,
    FormatError,
    ImageError,
    ResourceError,
    one_line,
)
from deeplab_repro.machine.shortage import shortage

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Failed:
    """A photo without a result, and why."""

    path: Path
    error: DeepLabError


def attempt(
    function: Callable[[Item], Result],
    item: Item,
    path: Path,
    ends_run: type[DeepLabError] = DeviceError,
) -> Result | Failed:
    """Call `function` with a photo on its way: what it returns, or Failed with the photo's path.

    ends_run: the errors that affect every photo, which are raised. A shortage of memory or of
    threads is the photo's.
    """
    try:
        return function(item)
    except ends_run:
        raise
    except DeepLabError as error:
        return Failed(path, _named(error, one_line(path)))
    except Exception as error:
        return Failed(path, _of_shortage(error, one_line(path)))


def outcome_of(function: Callable[[Item], Result], item: Item) -> Result | DeepLabError:
    """Call `function` with an item: its result, or the DeepLabError that it raised.

    A shortage of memory or of threads is a ResourceError, with the item if that is a name.
    """
    try:
        return function(item)
    except DeepLabError as error:
        return _without_traceback(error)
    except Exception as error:
        return _of_shortage(error, one_line(item) if isinstance(item, (str, Path)) else "")


def _of_shortage(error: Exception, name: str) -> ResourceError:
    """The ResourceError that an exception stands for; raises the exception if it is another.

    name: of what it befell; "" where the caller tells it.
    """
    problem = shortage(error)
    if problem is None:
        raise error
    return ResourceError(f"{name}: it {problem}" if name else f"it {problem}")


def _named(error: DeepLabError, name: str) -> DeepLabError:
    """The error without its traceback, and with the photo's name, unless it names a file."""
    if isinstance(error, (FileError, FormatError, ImageError)) or name in str(error):
        return _without_traceback(error)
    return type(error)(f"{name}: {error}")


def _without_traceback(error: DeepLabError) -> DeepLabError:
    # The traceback would keep what the function held, images and all.
    return type(error)(*error.args)


def packed_outcome(function: Callable[[str], Any], name: str) -> bytes:
    """Call `function` with a name in a worker; pickle what comes of it for `unpack_outcome`."""
    try:
        return pickle.dumps((outcome_of(function, name), None))
    except Exception as error:
        return pack_error(error)


def unpack_outcome(data: bytes) -> Any:
    """Return the result or DeepLabError in what a worker sent, or raise what was raised there."""
    result, told = pickle.loads(data)
    if told is not None:
        raise result from _WorkerError(told)
    return result


class _WorkerError(Exception):
    """Holds the traceback of a worker, as text, where Python shows it: as a cause."""

    def __str__(self) -> str:
        return f"in a worker:\n{self.args[0]}"


def pack_error(error: Exception) -> bytes:
    """Pickle an error that is being handled, with its traceback, for `unpack_outcome`."""
    told = traceback.format_exc()
    try:
        data = pickle.dumps((error, told))
        pickle.loads(data)  # many an exception can be pickled but not unpickled
        return data
    except Exception:
        return pickle.dumps((RuntimeError(f"{type(error).__name__}: {error}"), told))


def died_over(name: str, count: int, how: str) -> ResourceError:
    """The error for a name over which several workers died."""
    return ResourceError(
        f"{name}: workers died over it {count} times ({how}): see whether the memory is enough, "
        "and use fewer at a time"
    )
