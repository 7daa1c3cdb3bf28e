"""How this package compiles functions with Numba: without the GIL, and kept on disk if possible."""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import numba as numba  # for others to import from here

logger = logging.getLogger(__name__)


def kept_on_disk(decorator: Callable[..., Any], function: Callable[..., Any]) -> Any:
    """`decorator(cache=True)(function)`, or without a cache where no folder can be written for it.

    Numba refuses to define a function then (a read-only installation with no home folder). Without
    a cache each process compiles it anew.
    """
    try:
        return decorator(cache=True)(function)
    except RuntimeError as error:
        logger.info("compiled code is not kept, set NUMBA_CACHE_DIR to keep it: %s", error)
        return decorator(cache=False)(function)


def jit(function: Callable[..., Any]) -> Any:
    """A decorator like `numba.njit(nogil=True, cache=True, error_model="numpy")`."""
    return kept_on_disk(partial(numba.njit, nogil=True, error_model="numpy"), function)
