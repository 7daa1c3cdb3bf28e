"""How this package compiles functions with Numba: without the GIL, and kept on disk if possible."""

import logging
import os
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from deeplab_repro.errors import DeviceError, one_line
from deeplab_repro.machine.code_files import CodeFiles, stamp_of
from deeplab_repro.machine.home import has_cache_folder
from deeplab_repro.machine.packages import load

# Of a machine without /dev/shm; nobody here shares Numba's lock with another process.
warnings.filterwarnings("ignore", "Could not obtain multiprocessing lock")
load("numba", "__version__", "njit", "get_num_threads")

import numba as numba  # noqa: E402 - for others to import from here
from numba.core import event  # noqa: E402

if numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
    raise DeviceError("NUMBA_DISABLE_JIT is set, and the CRF runs only when compiled: unset it")

logger = logging.getLogger(__name__)


def kept_on_disk(decorator: Callable[..., Any], function: Callable[..., Any]) -> Any:
    """`decorator(cache=True)(function)`, or without a cache where no folder can be written for it.

    Numba refuses to define a function then (a read-only installation with no home folder). Without
    a cache each process compiles it anew.
    """
    reason: object = "there is no folder for it"
    try:
        if _can_keep(function):
            kept = decorator(cache=True)(function)
            if hasattr(kept, "_cache"):  # Numba's simulator of CUDA keeps nothing
                _keep_in_files(kept._cache)
            return kept
    except RuntimeError as error:
        reason = error
    logger.info("compiled code is not kept, set NUMBA_CACHE_DIR to keep it: %s", reason)
    _teller.is_kept = False
    return decorator(cache=False)(function)


def _can_keep(function: Callable[..., Any]) -> bool:
    """Whether Numba has a folder for it: its own, one beside the function, or the user's."""
    # Else Numba would make one called `~`.
    if given := os.environ.get("NUMBA_CACHE_DIR"):
        return not given.startswith("~")
    beside = os.path.dirname(function.__code__.co_filename)
    cache = os.path.join(beside, "__pycache__")
    place = cache if os.path.exists(cache) else beside
    return has_cache_folder() or os.access(place, os.W_OK | os.X_OK)


def folder_of(function: Any) -> Path | None:
    """Where the code of a compiled function is kept, or None where it is not."""
    cache = getattr(function, "_cache", None)
    return Path(cache.cache_path) if cache and cache.cache_path else None


def _keep_in_files(cache: Any) -> None:
    """Give a cache of Numba's our files, and let it tell what goes wrong in place of raising it."""
    files, base = cache._cache_file, os.path.join(cache.cache_path, cache._impl.filename_base)
    # A function is compiled together with those that it calls, which are in the same folder.
    stamp = stamp_of(Path(cache._impl.locator._py_file).parent, files._version)
    cache._cache_file = CodeFiles(base, stamp, files._dump)
    load, save = cache.load_overload, cache.save_overload

    def load_or_tell(*arguments: Any) -> Any:
        try:
            return load(*arguments)
        except Exception as error:  # whatever Numba and LLVM raise over broken code
            where = getattr(error, "filename", None) or cache.cache_path
            _tell_once(where, "compiled code was kept here, and is compiled again", error)
            return None

    def save_or_tell(*arguments: Any) -> None:
        try:
            save(*arguments)
        except Exception as error:  # whatever pickle raises, too
            _tell_once(
                cache.cache_path,
                "compiled code cannot be kept here, and is compiled again in every run: make "
                "room, or set NUMBA_CACHE_DIR to another folder",
                error,
            )

    cache.load_overload, cache.save_overload = load_or_tell, save_or_tell


_told: set[str] = set()


def _tell_once(where: str, what: str, error: Exception) -> None:
    """Warn in a process of one thing, which most often is the same for all functions."""
    if what not in _told:
        _told.add(what)
        reason = getattr(error, "strerror", None) or one_line(error)
        logger.warning("%s: %s (%s)", one_line(where), what, reason)


def jit(function: Callable[..., Any]) -> Any:
    """A decorator like `numba.njit(nogil=True, cache=True, error_model="numpy")`."""
    return kept_on_disk(_njit, function)


def jit_inner(function: Callable[..., Any]) -> Any:
    """`jit` for functions that only compiled code calls: these compile in less time."""
    return kept_on_disk(partial(_njit, no_cpython_wrapper=True), function)


_njit = partial(numba.njit, nogil=True, error_model="numpy", no_cfunc_wrapper=True)


class _Teller(event.Listener):
    """Says once in a process that it compiles, which takes a while, and how to spare that."""

    is_kept = True
    has_told = False

    def on_start(self, event: Any) -> None:
        """Numba found nothing on disk, and begins to compile a function."""
        function = event.data["dispatcher"].py_func
        if self.has_told or not function.__module__.startswith("deeplab_repro."):
            return
        self.has_told = True
        if self.is_kept:
            is_crf = function.__module__.startswith("deeplab_repro.crf.")
            logger.warning(
                "compiling for this computer takes some seconds, and is kept for later runs%s",
                "; `deeplab-repro doctor --compile` does it ahead" if is_crf else "",
            )
        else:
            logger.warning(
                "compiling for this computer takes some seconds in every run, as there is no"
                " folder to keep the code in: set NUMBA_CACHE_DIR to one that can be written"
            )

    def on_end(self, event: Any) -> None:
        """Nothing to say."""


_teller = _Teller()
event.register("numba:compile", _teller)
