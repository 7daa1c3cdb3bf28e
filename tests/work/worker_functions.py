"""What the tests let workers do: in a file that worker processes can import."""

import os
import signal
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np

from deeplab_repro.errors import ImageError
from deeplab_repro.files.whole import write_atomically
from deeplab_repro.work.workers import Workers


def squares(name):
    """A large result, or none for a 'broken' image, or a 'vast' one."""
    if name.startswith("broken"):
        raise ImageError(f"{name}: is broken")
    if name.startswith("vast"):
        raise MemoryError
    return np.full((190, 190), len(name) ** 2, np.float32)


def die(name):
    """Die at once of an image called 'deadly', the others take a moment."""
    if name.startswith("deadly"):
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.05)
    return name.upper()


def die_once(folder, name):
    """Die of the image when it comes for the first time."""
    try:
        (Path(folder) / name).touch(exist_ok=False)
    except FileExistsError:
        return name.upper()
    os._exit(3)


def wait_for_each_other(folder, names, name):
    """Return when all the images are being worked on."""
    (Path(folder) / name).touch()
    latest = time.monotonic() + 20
    while not all((Path(folder) / each).exists() for each in names):
        if time.monotonic() > latest:
            return None
        time.sleep(0.01)
    return os.getpid()


def told(name):
    """A setting of the process, which NumPy has been loaded into."""
    return os.environ.get(name) if "numpy.linalg" in sys.modules else None


def process(_):
    return os.getpid()


def unpicklable(name):
    return lambda: name


def raise_error(name):
    raise LookupError(f"no {name}")


class TwoArgumentsError(Exception):
    """Pickles, but cannot be unpickled."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


def raise_odd_error(name):
    raise TwoArgumentsError(name, 2)


def write_slowly(folder, name):
    """Be in the middle of writing for a long time."""
    with write_atomically(Path(folder) / name) as file:
        file.write(b"half")
        file.flush()
        (Path(folder) / f"{name}.begun").touch()
        time.sleep(60)


def write_after_a_second(folder, name):
    """Do what hears of nothing, then write a file."""
    (Path(folder) / f"{name}.begun").touch()
    time.sleep(1)
    with write_atomically(Path(folder) / name) as file:
        file.write(b"whole")


class Deadly:
    """Ends the process that unpickles it."""

    def __reduce__(self):
        return os._exit, (4,)


class Missing:
    """Cannot be unpickled, as if a worker had no such module."""

    def __reduce__(self):
        return __import__, ("no_such_module",)


def take(_, name):
    return name


if __name__ == "__main__":  # as the command line would: the function, its folder, who works
    function, folder, processes = sys.argv[1:]
    for _ in Workers(int(processes)).map(partial(globals()[function], folder), list("abcd")):
        pass
