"""Lists the NVIDIA GPUs of this machine, and tells what keeps CUDA from using them.

It asks the driver's library by ctypes: no toolkit, no OpenCV and no Numba is needed. No context is
made on a GPU, so it takes no GPU memory.
"""

import ctypes
import os
import sys
from dataclasses import dataclass

from deeplab_repro.errors import one_line

_NAME = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76  # CUdevice_attribute
_NO_DEVICE = 100  # CUresult
_OR_ELSE = "or use --device cpu"
_MENDS = {
    34: "the toolkit's stub was loaded in place of the driver: take it off the library path",
    802: "the machine's fabric manager is not ready: start it",
    803: "its library and its kernel module are of different versions: restart the machine",
    804: "the CUDA compatibility package does not suit this GPU: remove it, or update the driver",
    999: "restart the machine; a container must be given its GPUs (--gpus all)",
}


@dataclass(frozen=True)
class Gpu:
    """A GPU: its name, its compute capability (major, minor), and its memory in bytes."""

    name: str
    capability: tuple[int, int]
    memory: int


def driver_problem() -> str | None:
    """What keeps CUDA programs from using a GPU here, with the mend; None where nothing does."""
    try:
        driver = _driver()
        code = driver.cuInit(0)
    except (OSError, AttributeError) as error:
        return f"this machine has no NVIDIA driver ({one_line(error)}): install it, {_OR_ELSE}"
    if code == 0 and _count(driver) > 0:
        return None
    if code not in (0, _NO_DEVICE):
        mend = _MENDS.get(code, "see nvidia-smi")
        return f"the NVIDIA driver does not start, with error {code}: {mend}, {_OR_ELSE}"
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None:
        return f"CUDA_VISIBLE_DEVICES='{hidden}' leaves no GPU to be seen: unset it, {_OR_ELSE}"
    return f"the NVIDIA driver finds no GPU: see nvidia-smi, {_OR_ELSE}"


def cuda_version() -> tuple[int, int]:
    """The newest CUDA (major, minor) that the driver supports; (0, 0) without a driver."""
    number = ctypes.c_int()
    try:
        _driver().cuDriverGetVersion(ctypes.byref(number))
    except (OSError, AttributeError):
        return 0, 0
    return number.value // 1000, number.value % 1000 // 10


def find_gpus() -> list[Gpu]:
    """The GPUs in CUDA's order: the first is the one that is used. None without a driver."""
    if driver_problem() is not None:
        return []
    driver = _driver()
    return [_gpu(driver, index) for index in range(_count(driver))]


def free_memory() -> int | None:
    """The free bytes of the GPU that is used; None where that cannot be told.

    This makes the context on the GPU that whatever runs there shares.
    """
    if driver_problem() is not None:
        return None
    driver, device, context = _driver(), ctypes.c_int(), ctypes.c_void_p()
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    driver.cuDeviceGet(ctypes.byref(device), 0)
    if driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device) != 0:
        return None
    try:
        driver.cuCtxPushCurrent_v2(context)
        code = driver.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total))
        driver.cuCtxPopCurrent_v2(ctypes.byref(context))
    finally:
        driver.cuDevicePrimaryCtxRelease(device)
    return free.value if code == 0 else None


def _driver() -> ctypes.CDLL:
    return ctypes.CDLL(_NAME)


def _count(driver: ctypes.CDLL) -> int:
    count = ctypes.c_int()
    driver.cuDeviceGetCount(ctypes.byref(count))
    return count.value


def _gpu(driver: ctypes.CDLL, index: int) -> Gpu:
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    name, memory = ctypes.create_string_buffer(256), ctypes.c_size_t()
    driver.cuDeviceGet(ctypes.byref(device), index)
    driver.cuDeviceGetName(name, len(name), device)
    driver.cuDeviceGetAttribute(ctypes.byref(major), _CAPABILITY_MAJOR, device)
    driver.cuDeviceGetAttribute(ctypes.byref(minor), _CAPABILITY_MINOR, device)
    driver.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
    return Gpu(name.value.decode(errors="replace"), (major.value, minor.value), memory.value)
