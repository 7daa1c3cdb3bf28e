"""How this package compiles its Numba functions: without the GIL, and kept on disk if possible."""

import logging
from collections.abc import Callable
from typing import Any

import numba

logger = logging.getLogger(__name__)


def jit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """A decorator like `numba.njit(nogil=True, cache=True, **options)`.

    Numba refuses to define a function when no folder can be written for its cache (a read-only
    installation with no home folder). Here the function is then compiled anew in each process.
    """
    options = {"nogil": True, "error_model": "numpy", **options}

    def decorate(function: Callable[..., Any]) -> Any:
        try:
            return numba.njit(cache=True, **options)(function)
        except RuntimeError as error:
            logger.info("compiled code is not kept, set NUMBA_CACHE_DIR to keep it: %s", error)
            return numba.njit(**options)(function)

    return decorate
