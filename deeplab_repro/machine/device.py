"""The devices that do the work: the CPU, or a GPU with CUDA."""

from collections.abc import Callable
from typing import Literal

from deeplab_repro.errors import ArgumentError, DeviceError

Device = Literal["cpu", "cuda"]
AnyDevice = Literal["auto", "cpu", "cuda"]
Precision = Literal["float32", "float16", "bfloat16"]
ScoresType = Literal["float32", "float16"]  # of scores that are kept in files
DEVICES: tuple[AnyDevice, ...] = ("auto", "cpu", "cuda")
PRECISIONS: tuple[Precision, ...] = ("float32", "float16", "bfloat16")
SCORES_TYPES: tuple[ScoresType, ...] = ("float32", "float16")


def resolve_device(device: str, cuda_problem: Callable[[], str | None]) -> Device:
    """The device to use: `device`, or the best there is for "auto".

    cuda_problem: tells what keeps CUDA from being used, or None. Raises ArgumentError for another
    name, and DeviceError where CUDA is requested and unavailable: it never falls back silently.
    """
    if device not in DEVICES:
        raise ArgumentError(f"device is '{device}', expected one of {', '.join(DEVICES)}")
    if device == "cpu":
        return "cpu"
    problem = cuda_problem()
    if problem is None:
        return "cuda"
    if device == "auto":
        return "cpu"
    raise DeviceError(f"CUDA was asked for, but {problem}")
