"""The GPU's measured top rates, and the least time of a net at them."""

import ctypes
import math
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from steps import Checking, Finding, left_out, times_of

from deeplab_repro.arrays import Shape
from deeplab_repro.crf.cuda.device import plain_errors
from deeplab_repro.errors import DeviceError
from deeplab_repro.machine.device import Precision
from deeplab_repro.net.net import Net

# NVIDIA's datasheet of the H100 SXM: float32 without tensor cores, float16 with them and dense.
DATASHEET = {"float32": 67e12, "float16": 990e12, "memory": 3.35e12}
BYTES: dict[Precision, int] = {"float32": 4, "float16": 2}

_SIDE = 8192  # of the matrices
_COPIED = 1 << 30  # bytes, far beyond any cache
_MOVED = 1 << 26
_RUNS = 10

# cuBLAS's codes: for types, for summing in float32, and for its own choice of kernel.
_TYPES: dict[Precision, int] = {"float32": 0, "float16": 2}
_COMPUTE_32F, _DEFAULT_KERNEL = 68, -1


def measure_rates(job: Checking) -> Iterator[Finding]:
    """Operations a second of large matrix products, bytes a second of large copies."""
    if job.rehearsal:
        yield left_out("a GPU's rates")
        return
    with plain_errors():
        for name, rate in (
            ("memory", copy_rate),
            ("to the GPU", partial(transfer_rate, True)),
            ("from the GPU", partial(transfer_rate, False)),
            ("float32", partial(product_rate, "float32")),
            ("float16", partial(product_rate, "float16")),
        ):
            facts = {"what": name, "a second": rate(), "datasheet of an H100": DATASHEET.get(name)}
            yield Finding("rates", facts)


def product_rate(precision: Precision) -> float:
    """Operations (a multiply-add counts two) a second of cuBLAS's product of square matrices.

    Raises DeviceError where OpenCV has not loaded cuBLAS, or cuBLAS fails.
    """
    from numba import cuda

    library, handle = _cublas()
    rng = np.random.default_rng(0)
    few = rng.standard_normal(1 << 20).astype(precision)  # zeros take less power, and so run faster
    a, b, c = (
        cuda.to_device(np.resize(few, _SIDE * _SIDE).reshape(_SIDE, _SIDE)) for _ in range(3)
    )
    kind, side = _TYPES[precision], ctypes.c_int(_SIDE)
    one, zero = ctypes.c_float(1), ctypes.c_float(0)

    def multiply() -> None:
        _succeed(
            library.cublasGemmEx(
                handle,
                *(0, 0, side, side, side, ctypes.byref(one)),  # 0: not transposed
                *(ctypes.c_void_p(a.device_ctypes_pointer.value), kind, side),
                *(ctypes.c_void_p(b.device_ctypes_pointer.value), kind, side),
                ctypes.byref(zero),
                *(ctypes.c_void_p(c.device_ctypes_pointer.value), kind, side),
                *(_COMPUTE_32F, _DEFAULT_KERNEL),
            ),
            "cublasGemmEx",
        )

    return 2 * _SIDE**3 / on_gpu(multiply)


def copy_rate() -> float:
    """Bytes read and written a second when an array is copied on the GPU."""
    from numba import cuda

    source, target = (cuda.device_array(_COPIED, np.uint8) for _ in range(2))
    return 2 * _COPIED / on_gpu(lambda: target.copy_to_device(source))


def transfer_rate(there: bool) -> float:
    """Bytes a second from ordinary memory to the GPU, or back."""
    from numba import cuda

    host = np.ones(_MOVED, np.uint8)
    device = cuda.to_device(host)
    move = partial(device.copy_to_device if there else device.copy_to_host, host)
    return 1e3 * _MOVED / statistics.median(times_of(move, _RUNS))


def on_gpu(run: Callable[[], object]) -> float:
    """The median seconds that the GPU works on one run."""
    from numba import cuda

    run()
    times = []
    for _ in range(_RUNS):
        before, after = cuda.event(), cuda.event()
        before.record()
        run()
        after.record()
        after.synchronize()
        times.append(before.elapsed_time(after) / 1e3)
    return statistics.median(times)


def _cublas() -> tuple[Any, ctypes.c_void_p]:
    """The cuBLAS that OpenCV has loaded, and a handle to it."""
    import deeplab_repro.machine.opencv  # noqa: F401 - which loads it

    maps = Path("/proc/self/maps")
    lines = maps.read_text().splitlines() if maps.is_file() else []
    paths = [line.split(maxsplit=5)[5] for line in lines if "/libcublas.so" in line]
    if not paths:
        raise DeviceError("OpenCV has loaded no cuBLAS: is it built with CUDA?")
    library = ctypes.CDLL(paths[0])
    handle = ctypes.c_void_p()
    _succeed(library.cublasCreate_v2(ctypes.byref(handle)), "cublasCreate")
    return library, handle


def _succeed(status: int, what: str) -> None:
    if status:
        raise DeviceError(f"cuBLAS fails at {what} with status {status}: see nvidia-smi")


@dataclass(frozen=True)
class Rates:
    """What a GPU does a second: operations, of which a multiply-add is two, and bytes."""

    float32: float
    float16: float
    memory: float
    source: str

    @classmethod
    def of(cls, job: Checking) -> "Rates":
        """Those that an earlier step measured, or else those of an H100's datasheet."""
        found = [each.facts for each in job.found.get("rates", ()) if each.kind == "rates"]
        rates, source = {each["what"]: each["a second"] for each in found}, "measured"
        if not rates.keys() >= DATASHEET.keys():
            rates, source = DATASHEET, "an H100's datasheet"
        return cls(rates["float32"], rates["float16"], rates["memory"], source)


def net_floor(net: Net, shape: Shape, precision: Precision, rates: Rates) -> dict[str, float]:
    """The operations and bytes of a net up to its coarse scores, and their milliseconds.

    Each layer reads its bottoms and weights and writes its top, and takes the longer time of its
    operations and its bytes. Layers that change a blob in place run with the layer before, and are
    not counted.
    """
    operations = n_bytes = 0
    seconds = 0.0
    for layer, bottoms, (top, *_) in net.walk(shape):
        if layer.tops != layer.bottoms:
            own = layer.op.operations(bottoms)
            moved = sum(map(math.prod, bottoms)) + math.prod(top) + layer.parameters
            moved *= BYTES[precision]
            operations, n_bytes = operations + own, n_bytes + moved
            seconds += max(own / getattr(rates, precision), moved / rates.memory)
        if net.coarse_output[0] in layer.tops:
            break
    return {"GFLOP": operations / 1e9, "MB": n_bytes / 1e6, "floor ms": 1e3 * seconds}
