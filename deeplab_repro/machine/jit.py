"""How this package compiles its Numba functions: without the GIL, and kept on disk if possible."""

import logging
from collections.abc import Callable
from typing import Any

import numba as numba  # for others to import from here

logger = logging.getLogger(__name__)


def jit(function: Callable[..., Any]) -> Any:
    """A decorator like `numba.njit(nogil=True, cache=True, error_model="numpy")`.

    Numba refuses to define a function when no folder can be written for its cache (a read-only
    installation with no home folder). Here the function is then compiled anew in each process.
    """
    try:
        return numba.njit(nogil=True, error_model="numpy", cache=True)(function)
    except RuntimeError as error:
        logger.info("compiled code is not kept, set NUMBA_CACHE_DIR to keep it: %s", error)
        return numba.njit(nogil=True, error_model="numpy")(function)
