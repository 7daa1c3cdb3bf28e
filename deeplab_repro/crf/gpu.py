"""What the CUDA twin of the CRF needs from the machine: a GPU that Numba can use, and memory."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from deeplab_repro.errors import DeviceError, ResourceError

logger = logging.getLogger(__name__)

# Every kernel is launched with so many blocks, whatever the size, and each thread or row strides
# over the work that is left: idle blocks cost nothing, and Numba warns of grids below 128. The
# simulator takes a Python thread for each of the GPU's.
SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("", "0")
BLOCKS, THREADS = (1, 8) if SIMULATED else (2048, 256)


def crf_cuda_problem() -> str | None:
    """What keeps the CRF from running on CUDA here, with the mend; None where it runs.

    Never raises and compiles nothing. Numba's simulator (NUMBA_ENABLE_CUDASIM=1) counts as a GPU.
    """
    try:
        from numba import cuda
        from numba.cuda.cudadrv import driver, nvvm
    except Exception as error:  # a broken installation raises whatever it likes
        return f'Numba has no CUDA here ({_line(error)}): pip install "numba-cuda[cu13]"'
    try:
        if cuda.is_available():
            if driver.driver.get_device_count() > 0:
                return None
            return _NO_GPU
        if driver.driver.is_available and not nvvm.is_available():
            return (
                "Numba finds no CUDA compiler (libNVVM): "
                'pip install "numba-cuda[cu13]", or [cu12] for drivers below 580'
            )
        return _driver_problem(driver.driver.initialization_error)
    except Exception as error:
        return _driver_problem(error)


_NO_GPU = "Numba finds no GPU on this machine: see nvidia-smi, or use --device cpu"


def _driver_problem(error: object) -> str:
    if "NO_DEVICE" in str(error):
        return _NO_GPU
    return (
        f"Numba finds no usable CUDA driver ({_line(error)}): see nvidia-smi; "
        'with a new driver pip install "numba-cuda[cu13]", or use --device cpu'
    )


def _line(error: object) -> str:
    """The first sentence of a message that may go on for lines."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(".:")


@contextmanager
def plain_errors() -> Iterator[None]:
    """Raise DeviceError for what CUDA's driver, compiler or linker brings up."""
    try:
        yield
    except Exception as error:  # each of Numba's releases has classes of its own
        if not type(error).__module__.startswith(("numba.cuda.", "cuda.")):
            raise
        raise DeviceError(
            f"the GPU fails at the CRF ({_line(error)}): see nvidia-smi; a CUDA toolkit newer than"
            " the driver is a common reason. Or use device='cpu'"
        ) from error


def kernel(function: Callable[..., None]) -> Any:
    """A decorator like `numba.cuda.jit(cache=True)`; without the cache where no folder has it.

    Never fastmath. Still, Numba lets the compiler contract a * b + c: see `gpu_lattice.product`.
    """
    from numba import cuda

    try:
        return cuda.jit(cache=True)(function)
    except RuntimeError as error:
        logger.info("compiled code is not kept, set NUMBA_CACHE_DIR to keep it: %s", error)
        return cuda.jit(function)


class Workspace:
    """Named arrays on the GPU that are kept from one call to the next.

    Allocating them anew would take longer than the CRF itself. An array is replaced when another
    shape is asked for.
    """

    def __init__(self) -> None:
        self._arrays: dict[str, Any] = {}

    def array(self, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Any:
        """The device array of this name, with whatever the last call left in it.

        Raises ResourceError where the GPU's memory does not hold it.
        """
        array = self._arrays.get(name)
        if array is None or array.shape != shape:
            # The old one goes first, and its memory with it.
            array = self._arrays[name] = None
            array = self._arrays[name] = self._allocate(shape, np.dtype(dtype))
        return array

    def clear(self) -> None:
        """Give all memory back."""
        self._arrays.clear()

    def _allocate(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        from numba import cuda

        try:
            return cuda.device_array(shape, dtype)
        except Exception as error:  # Numba's releases raise different classes here
            if "OUT_OF_MEMORY" not in str(error):
                raise
            held = sum(array.nbytes for array in self._arrays.values() if array is not None)
            size = dtype.itemsize * int(np.prod(shape, dtype=np.int64))
            self.clear()
            raise ResourceError(
                f"the CRF needs {size / 2**20:,.0f} MiB of GPU memory beside the"
                f" {held / 2**20:,.0f} that it has: use a smaller image or device='cpu'"
            ) from error


def roomy(rows: int) -> int:
    """rows rounded up, by at most a quarter, so that similar images need arrays of one size."""
    step = 1 << max(0, rows.bit_length() - 3)
    return -(-rows // step) * step
