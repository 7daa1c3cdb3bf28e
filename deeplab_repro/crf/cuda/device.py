"""What the CUDA twin of the CRF needs from the machine: a GPU that Numba can use, and memory."""

import functools
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deeplab_repro.errors import DeviceError, ResourceError, one_line
from deeplab_repro.machine.device import Device, resolve_device
from deeplab_repro.machine.gpus import driver_problem

# Every kernel is launched with so many blocks, whatever the size, and its threads stride over the
# work: idle blocks cost nothing, and Numba warns of grids below 128. The simulator has a Python
# thread for each of the GPU's.
SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("", "0")
BLOCKS, THREADS = (1, 8) if SIMULATED else (2048, 256)
TOOLKIT = "/usr/local/cuda"  # where NVIDIA's installers put it
MOST_SHAPES = 100  # kept of each array: to make one takes Numba as long as a launch


def crf_device(device: str) -> Device:
    """The device on which the CRF runs, for `device` "cpu", "cuda" or "auto".

    Raises ArgumentError for another, and DeviceError where CUDA is asked for and absent.
    """
    # CUDA only on request, until the twin has been run on GPUs as much as on Numba's simulator.
    return resolve_device("cpu" if device == "auto" else device, crf_cuda_problem)


def crf_cuda_problem() -> str | None:
    """What keeps the CRF from running on CUDA here, with the mend; None where it runs.

    Never raises and compiles nothing. Numba's simulator (NUMBA_ENABLE_CUDASIM=1) counts as a GPU.
    """
    try:
        _check_cuda()
    except DeviceError as error:
        return str(error)
    return None


@functools.cache  # success only, so each photo need not ask the driver again
def _check_cuda() -> None:
    """Raise DeviceError with what keeps the CRF from running on CUDA, and with the mend."""
    try:
        from numba import cuda
        from numba.cuda.cudadrv import driver, nvvm
    except Exception as error:  # a broken installation raises whatever it likes
        raise DeviceError(
            f'Numba has no CUDA here ({one_line(error)}): pip install "numba-cuda[cu13]"'
        ) from error
    if SIMULATED:
        return
    if problem := driver_problem():
        raise DeviceError(problem)
    try:
        if cuda.is_available():
            return
        lacks_compiler = driver.driver.is_available and not nvvm.is_available()
        told = driver.driver.initialization_error
    except Exception as error:
        lacks_compiler, told = False, error
    if lacks_compiler:
        raise DeviceError(f"Numba finds no CUDA compiler (libNVVM): {_compiler_mend()}")
    raise DeviceError(
        f"Numba cannot use the CUDA driver ({one_line(told)}): see nvidia-smi; "
        'with a new driver pip install "numba-cuda[cu13]", or use --device cpu'
    )


def _compiler_mend() -> str:
    """How Numba is made to find libNVVM: it does not look for a toolkit if it has one of pip's."""
    if "CUDA_HOME" not in os.environ and Path(TOOLKIT, "nvvm").is_dir():
        return f"set CUDA_HOME={TOOLKIT}, the toolkit that is there"
    return 'pip install "numba-cuda[cu13]", or [cu12] for drivers below 580'


@contextmanager
def plain_errors() -> Iterator[None]:
    """Turn errors of CUDA's driver, compiler or linker into DeviceError."""
    try:
        yield
    except Exception as error:  # each of Numba's releases has classes of its own
        if not type(error).__module__.startswith(("numba.cuda.", "cuda.")):
            raise
        raise DeviceError(
            f"the GPU fails at the CRF ({one_line(error)}): see nvidia-smi; a CUDA toolkit newer"
            " than the driver is a common reason. Or use device='cpu'"
        ) from error


def kernel(function: Callable[..., None]) -> Any:
    """A decorator like `numba.cuda.jit(cache=True)`.

    Never fastmath. Still, Numba lets the compiler contract a * b + c: see `lattice.product`.
    """
    from numba import cuda

    from deeplab_repro.machine.jit import kept_on_disk

    return kept_on_disk(cuda.jit, function)


class Workspace:
    """Named arrays on the GPU that are kept from one call to the next.

    To allocate them anew would take longer than the CRF itself. Arrays of one name share memory,
    whatever their shape; it is replaced when one needs more. So photos of many sizes take no more
    memory than the largest of them.
    """

    def __init__(self) -> None:
        self._rooms: dict[str, Any] = {}
        self._arrays: dict[str, dict[tuple[int, ...], Any]] = {}

    def array(self, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Any:
        """The device array of this name, which has one dtype, with whatever is in it.

        Raises ResourceError where the GPU's memory does not hold it.
        """
        arrays = self._arrays.setdefault(name, {})
        if shape not in arrays:
            size = math.prod(shape)
            room = self._rooms.get(name)
            if len(arrays) == MOST_SHAPES:
                arrays.clear()
            if room is None or room.size < size:
                # Free the old memory first.
                arrays.clear()
                room = self._rooms[name] = None
                room = self._rooms[name] = self._allocate(size, np.dtype(dtype))
            arrays[shape] = room[:size].reshape(shape)
        return arrays[shape]

    def clear(self) -> None:
        """Give all memory back."""
        self._arrays.clear()
        self._rooms.clear()

    def _allocate(self, size: int, dtype: np.dtype[Any]) -> Any:
        from numba import cuda

        try:
            return cuda.device_array(size, dtype)
        except Exception as error:  # Numba's releases raise different classes here
            if "OUT_OF_MEMORY" not in str(error):
                raise
            held = sum(room.nbytes for room in self._rooms.values() if room is not None)
            self.clear()
            raise ResourceError(
                f"the CRF needs {dtype.itemsize * size / 2**20:,.0f} MiB of GPU memory beside the"
                f" {held / 2**20:,.0f} that it has: use a smaller image or device='cpu'"
            ) from error


def roomy(rows: int) -> int:
    """rows rounded up, by at most a quarter, so that similar images need arrays of one size."""
    step = 1 << max(0, rows.bit_length() - 3)
    return -(-rows // step) * step
