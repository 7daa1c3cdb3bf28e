"""Whether Numba compiles a kernel for a GPU, and runs it there."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from numba import cuda, int32
from steps import Checking, Finding, left_out, milliseconds

from deeplab_repro.crf.cuda.device import (
    BLOCKS,
    SIMULATED,
    THREADS,
    crf_cuda_problem,
    plain_errors,
)
from deeplab_repro.errors import DeviceError

_ARCHITECTURE = (9, 0)  # of the compiled text; what runs is compiled for the GPU that is there


def check_first_kernel(job: Checking) -> Iterator[Finding]:
    """Compile, which takes no GPU and is the first thing to fail, then run and count threads."""
    if job.crf_device == "cpu":
        yield left_out("a kernel needs a GPU or Numba's simulator")
        return
    with plain_errors():
        if not SIMULATED:
            to_text = partial(cuda.compile_ptx, count, (int32[:],), cc=_ARCHITECTURE)
            yield Finding("Numba", {"compiled in ms": milliseconds(to_text)})
        if problem := crf_cuda_problem():
            raise DeviceError(problem)
        counts = cuda.to_device(np.zeros(2, np.int32))
        ran = milliseconds(partial(cuda.jit(count)[BLOCKS, THREADS], counts))
        found = counts.copy_to_host().tolist()
    good = found == [BLOCKS * THREADS // 2] * 2
    yield Finding("Numba", {"first run ms": ran, "counted": found}, "pass" if good else "fail")


def count(counts: Any) -> None:
    """Count the threads of even and of odd numbers."""
    cuda.atomic.add(counts, cuda.grid(1) % 2, 1)
