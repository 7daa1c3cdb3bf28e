import pytest

from deeplab_repro.errors import ArgumentError, DeviceError
from deeplab_repro.machine.device import resolve_device


def test_auto_takes_the_best_there_is():
    assert resolve_device("auto", lambda: None) == "cuda"
    assert resolve_device("auto", lambda: "it is broken") == "cpu"


def test_the_cpu_is_not_asked_for_cuda():
    assert resolve_device("cpu", lambda: pytest.fail("asked")) == "cpu"


def test_cuda_is_never_replaced():
    assert resolve_device("cuda", lambda: None) == "cuda"
    with pytest.raises(DeviceError, match=r"^CUDA was asked for, but it is broken$"):
        resolve_device("cuda", lambda: "it is broken")


def test_other_names():
    with pytest.raises(ArgumentError, match="'gpu', expected one of auto, cpu, cuda"):
        resolve_device("gpu", lambda: None)
