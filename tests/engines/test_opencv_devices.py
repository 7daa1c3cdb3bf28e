"""Which device OpenCV runs our nets on, and what keeps it from running them."""

import cv2
import pytest

from deeplab_repro.caffe import read_net
from deeplab_repro.engines.opencv import OpenCVEngine, cuda_problem
from deeplab_repro.errors import DeviceError


def pretend(monkeypatch, built="YES (ver 12.4, CUFFT CUBLAS)", count=1, targets=(6,)):
    text = f"General configuration\n  NVIDIA CUDA:                   {built}\n"
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: text)
    monkeypatch.setattr(cv2.cuda, "getCudaEnabledDeviceCount", lambda: count)
    monkeypatch.setattr(cv2.dnn, "getAvailableTargets", lambda _: list(targets))


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"built": "NO"}, "is built without CUDA"),
        ({"count": 0}, "finds no GPU"),
        ({"count": -1}, "finds no usable driver"),
        ({"targets": ()}, "has no CUDA target"),
    ],
)
def test_what_keeps_cuda_from_running(monkeypatch, tiny, found, expected):
    pretend(monkeypatch, **found)
    assert OpenCVEngine(read_net(tiny), "auto").device == "cpu"
    with pytest.raises(DeviceError) as error:
        OpenCVEngine(read_net(tiny), "cuda")
    message = str(error.value)
    assert message.startswith("CUDA was asked for, but ")
    assert expected in message
    assert "--device cpu" in message
    assert "\n" not in message


def test_cuda_where_it_is(monkeypatch, tiny):
    pretend(monkeypatch, targets=[cv2.dnn.DNN_TARGET_CUDA])
    assert cuda_problem() is None
    for device in ("cuda", "auto"):
        assert OpenCVEngine(read_net(tiny), device).device == "cuda"
