"""Which engine runs a net, where more than one could."""

import importlib.util

import pytest

from deeplab_repro.caffe import read_net
from deeplab_repro.engines import ENGINES, choose, onnxruntime, opencv_cuda
from deeplab_repro.engines.choose import make_engine
from deeplab_repro.engines.opencv import OpenCVEngine
from deeplab_repro.engines.opencv_cpu import OpenCVCpuEngine
from deeplab_repro.errors import ArgumentError, DeviceError


class OnAnother:
    """Takes the place of onnxruntime's engine."""

    def __init__(self, *arguments):
        _, self.device, _ = arguments


@pytest.fixture
def machine(monkeypatch):
    """A machine where these are installed, and have CUDA."""

    def make(ours="none", cuda=()):
        found = importlib.util.find_spec
        has = {"onnxruntime": None if ours == "none" else ours}
        monkeypatch.setattr(
            choose.importlib.util,
            "find_spec",
            lambda name: has[name] if name in has else found(name),
        )
        problems = {
            name: (lambda *_, name=name: None if name in cuda else f"{name} has no CUDA: buy one")
            for name in ("opencv", "onnxruntime")
        }
        for module in (choose, opencv_cuda):
            monkeypatch.setattr(module, "cuda_problem", problems["opencv"])
        monkeypatch.setattr(onnxruntime, "cuda_problem", problems["onnxruntime"])

        def load():
            if ours == "broken":
                raise DeviceError("onnxruntime does not import: install it again")

        monkeypatch.setattr(onnxruntime, "load_onnxruntime", load)

        monkeypatch.setattr(onnxruntime, "OnnxRuntimeEngine", OnAnother)

    return make


def kind(tiny, *arguments, **named):
    engine = make_engine(read_net(tiny), *arguments, **named)
    return f"{type(engine).__name__} on {engine.device}"


@pytest.mark.parametrize("engine", ["auto", "opencv"])
@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_opencv_alone(tiny, machine, engine, device):
    machine()
    assert kind(tiny, device, engine=engine) == "OpenCVCpuEngine on cpu"


def test_onnxruntime_is_better_on_the_cpu(tiny, machine):
    machine("installed")
    assert kind(tiny, "cpu") == "OnAnother on cpu"
    assert kind(tiny, "auto") == "OnAnother on auto"
    assert kind(tiny, "cpu", engine="opencv") == "OpenCVCpuEngine on cpu"
    machine("installed", cuda=["opencv"])
    assert kind(tiny, "cpu") == "OnAnother on cpu"


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_opencv_is_better_on_cuda(tiny, machine, device):
    machine("installed", cuda=["opencv", "onnxruntime"])
    assert kind(tiny, device) == "OpenCVEngine on cuda"
    assert kind(tiny, device, "float16") == "OpenCVEngine on cuda"
    assert kind(tiny, device, engine="onnxruntime") == f"OnAnother on {device}"


def test_onnxruntime_where_only_that_has_cuda(tiny, machine):
    machine("installed", cuda=["onnxruntime"])
    assert kind(tiny, "cuda") == "OnAnother on cuda"
    with pytest.raises(DeviceError, match="opencv has no CUDA: buy one"):
        make_engine(read_net(tiny), "cuda", "float16")


def test_no_cuda_at_all(tiny, machine):
    for ours in ("none", "installed", "broken"):
        machine(ours)
        with pytest.raises(DeviceError, match="CUDA was asked for, but opencv has no CUDA"):
            make_engine(read_net(tiny), "cuda")


def test_a_broken_onnxruntime_is_told_and_not_used(tiny, machine, caplog):
    machine("broken")
    assert kind(tiny, "cpu") == "OpenCVCpuEngine on cpu"
    assert "onnxruntime does not import: install it again: OpenCV is used" in caplog.text


def test_other_names(tiny):
    with pytest.raises(ArgumentError, match="engine is 'caffe', expected one of auto, opencv"):
        make_engine(read_net(tiny), engine="caffe")
    with pytest.raises(ArgumentError, match="precision is 'float64', expected float32 or float16"):
        make_engine(read_net(tiny), "cpu", "float64", "opencv")
    assert ENGINES == ("auto", "opencv", "onnxruntime")


@pytest.mark.parametrize("engine", [OpenCVEngine, OpenCVCpuEngine])
def test_the_name_has_the_version(tiny, engine):
    assert make_engine(read_net(tiny), "cpu", engine="opencv").name.startswith("OpenCV ")
    assert engine.name.split()[1][0].isdigit()
