"""Which engine runs a net, where more than one could."""

import importlib.util

import pytest

from deeplab_repro.caffe import read_net
from deeplab_repro.engines import ENGINES, choose, onnxruntime, opencv_cuda, openvino
from deeplab_repro.engines.choose import make_engine
from deeplab_repro.engines.fastest import FastestEngine
from deeplab_repro.engines.opencv import OpenCVEngine
from deeplab_repro.engines.opencv_cpu import OpenCVCpuEngine
from deeplab_repro.errors import ArgumentError, DeviceError
from deeplab_repro.models.loading import read_model
from tests.conftest import assert_one_line


class Another:
    """Takes the place of another library's engine."""

    def __init__(self, net, device, precision):
        self.net, self.device, self.precision = net, device, precision
        self.name = type(self).__name__


class OnOnnxRuntime(Another):
    pass


class OnOpenVino(Another):
    pass


@pytest.fixture
def machine(monkeypatch):
    """A machine where these are installed, some of them broken, and these have CUDA."""

    def make(*installed, broken=(), cuda=()):
        found = importlib.util.find_spec
        monkeypatch.setattr(
            choose.importlib.util,
            "find_spec",
            lambda name: (name in installed or None) if name in ENGINES else found(name),
        )
        problems = {
            name: (lambda *_, name=name: None if name in cuda else f"{name} has no CUDA: buy one")
            for name in ("opencv", "onnxruntime")
        }
        for module in (choose, opencv_cuda):
            monkeypatch.setattr(module, "cuda_problem", problems["opencv"])
        monkeypatch.setattr(onnxruntime, "cuda_problem", problems["onnxruntime"])

        def load(name):
            if name in broken:
                raise DeviceError(f"{name} does not import: install it again")

        monkeypatch.setattr(onnxruntime, "load_onnxruntime", lambda: load("onnxruntime"))
        monkeypatch.setattr(openvino, "load_openvino", lambda: load("openvino"))
        monkeypatch.setattr(onnxruntime, "OnnxRuntimeEngine", OnOnnxRuntime)
        monkeypatch.setattr(openvino, "OpenVinoEngine", OnOpenVino)

    return make


def kind(tiny, *arguments, **named):
    engine = make_engine(read_net(tiny), *arguments, **named)
    if isinstance(engine, FastestEngine):
        names = (type(each).__name__ for each in engine._engines.values())
        return f"the fastest of {', '.join(names)} on {engine.device}"
    return f"{type(engine).__name__} on {engine.device}"


@pytest.mark.parametrize("engine", ["auto", "opencv"])
@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_opencv_alone(tiny, machine, engine, device):
    machine()
    assert kind(tiny, device, engine=engine) == "OpenCVCpuEngine on cpu"


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_on_the_cpu_it_is_the_fastest(tiny, machine, device):
    machine("onnxruntime", "openvino", cuda=["opencv"] if device == "cpu" else [])
    every = "the fastest of OnOpenVino, OnOnnxRuntime, OpenCVCpuEngine on cpu"
    assert kind(tiny, device) == every
    assert kind(tiny, device, engine="opencv") == "OpenCVCpuEngine on cpu"
    assert kind(tiny, device, engine="openvino") == f"OnOpenVino on {device}"
    machine("openvino")
    assert kind(tiny, device) == "the fastest of OnOpenVino, OpenCVCpuEngine on cpu"


@pytest.mark.parametrize(
    ("model", "first"),
    [
        ("DeepLab-LargeFOV", "OpenCV"),
        ("DeepLabv2-VGG16", "OpenCV"),
        ("DeepLabv2-ResNet101", "OnOpenVino"),  # OpenCV runs it as a whole
        ("ToyVOC-LargeFOV", "OnOpenVino"),  # as narrow as it is, OpenCV's own way is the fastest
    ],
)
def test_until_it_is_measured_opencv_runs_the_vgg_nets(machine, model, first):
    machine("onnxruntime", "openvino")
    engine = make_engine(read_model(model, None), "cpu")
    assert engine.name.startswith(first)
    assert len(engine._engines) == 3


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_opencv_is_better_on_cuda(tiny, machine, device):
    machine("onnxruntime", "openvino", cuda=["opencv", "onnxruntime"])
    assert kind(tiny, device) == "OpenCVEngine on cuda"
    assert kind(tiny, device, "float16") == "OpenCVEngine on cuda"
    assert kind(tiny, device, engine="onnxruntime") == f"OnOnnxRuntime on {device}"


def test_onnxruntime_where_only_that_has_cuda(tiny, machine):
    machine("onnxruntime", cuda=["onnxruntime"])
    for device in ("cuda", "auto"):
        assert kind(tiny, device) == f"OnOnnxRuntime on {device}"
    with pytest.raises(DeviceError, match="opencv has no CUDA: buy one"):
        make_engine(read_net(tiny), "cuda", "float16")


def test_no_cuda_at_all(tiny, machine):
    for installed, broken in ([], []), (["onnxruntime"], []), (["onnxruntime"], ["onnxruntime"]):
        machine(*installed, broken=broken)
        with pytest.raises(DeviceError, match="CUDA was asked for, but opencv has no CUDA"):
            make_engine(read_net(tiny), "cuda")


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_a_broken_library_is_told_and_not_used(tiny, machine, caplog, name):
    machine(name, broken=[name])
    assert kind(tiny, "cpu") == "OpenCVCpuEngine on cpu"
    assert f"{name} does not import: install it again: others are used" in caplog.text


def test_bfloat16_is_openvinos(tiny, machine):
    machine("onnxruntime", "openvino", cuda=["opencv"])
    for device in ("cpu", "auto"):
        assert kind(tiny, device, "bfloat16") == f"OnOpenVino on {device}"
    with pytest.raises(DeviceError) as caught:
        make_engine(read_net(tiny), "cpu", "bfloat16", "opencv")
    assert_one_line(caught, "OpenCV has none", "--precision float32", "--engine openvino")


def test_other_names(tiny):
    with pytest.raises(ArgumentError, match="engine is 'caffe', expected one of auto, opencv"):
        make_engine(read_net(tiny), engine="caffe")
    with pytest.raises(ArgumentError, match="precision is 'float64', expected float32 or float16"):
        make_engine(read_net(tiny), "cpu", "float64", "opencv")
    for engine in ("auto", "opencv"):
        with pytest.raises(ArgumentError, match="device is 'gpu', expected one of auto, cpu, cuda"):
            make_engine(read_net(tiny), "gpu", engine=engine)
    assert ENGINES == ("auto", "opencv", "onnxruntime", "openvino")


@pytest.mark.parametrize("engine", [OpenCVEngine, OpenCVCpuEngine])
def test_the_name_has_the_version(tiny, engine):
    assert make_engine(read_net(tiny), "cpu", engine="opencv").name.startswith("OpenCV ")
    assert engine.name.split()[1][0].isdigit()
