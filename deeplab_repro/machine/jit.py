"""How this package compiles functions with Numba: without the GIL, and kept on disk if possible."""

import logging
import os
from collections.abc import Callable
from functools import partial
from typing import Any

import numba as numba  # for others to import from here
from numba.core import event

from deeplab_repro.machine.home import has_cache_folder

logger = logging.getLogger(__name__)


def kept_on_disk(decorator: Callable[..., Any], function: Callable[..., Any]) -> Any:
    """`decorator(cache=True)(function)`, or without a cache where no folder can be written for it.

    Numba refuses to define a function then (a read-only installation with no home folder). Without
    a cache each process compiles it anew.
    """
    reason: object = "there is no folder for it"
    try:
        if _can_keep(function):
            return decorator(cache=True)(function)
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
