"""Where work is done: on the CPU, or on a GPU with CUDA."""

from collections.abc import Callable
from typing import Literal

from deeplab_repro.errors import ArgumentError, DeviceError

Device = Literal["cpu", "cuda"]
AnyDevice = Literal["auto", "cpu", "cuda"]
DEVICES = ("auto", "cpu", "cuda")


def resolve_device(device: str, cuda_problem: Callable[[], str | None]) -> Device:
    """`device` ("cpu", "cuda", or "auto" for the best there is) as what will be used.

    cuda_problem: tells what keeps CUDA from being used, or None. Raises ArgumentError for another
    device, and DeviceError where CUDA is asked for and absent: there is no silent fall back.
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
