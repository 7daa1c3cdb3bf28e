"""Which device OpenCV runs our nets on, what keeps it from running them, and how it does on CUDA.

Without a GPU, the engine for CUDA is run with OpenCV's CPU in CUDA's place.
"""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from deeplab_repro.caffe import read_net
from deeplab_repro.engines import opencv, opencv_cuda
from deeplab_repro.engines.engine import check_finite
from deeplab_repro.engines.opencv import OpenCVEngine
from deeplab_repro.engines.opencv_cuda import cuda_problem, layers_on_cpu, opencv_device
from deeplab_repro.errors import (
    ArgumentError,
    DeviceError,
    ResourceError,
    WeightsError,
)
from deeplab_repro.machine.gpus import Gpu
from deeplab_repro.net.layers import Concat, Convolution, Interp
from deeplab_repro.net.net import Layer
from tests.conftest import assert_one_line
from tests.slow_layers import net_of, random_input, scores_of

INFORMATION = """
  NVIDIA CUDA:                   YES (ver 13.0, CUBLAS)
    NVIDIA GPU arch:             86 90
    NVIDIA PTX archs:            90
  cuDNN:                         YES (ver 9.13.1)

"""
BOTH = (6, 7)  # the targets CUDA and CUDA_FP16


def pretend(
    monkeypatch,
    information=INFORMATION,
    driver=None,
    version=(13, 0),
    capability=(8, 9),
    cudnn=91301,
    targets=BOTH,
    by_caffe=True,
):
    """A machine with an OpenCV for sm_86, and sm_90 and newer."""

    def library(name):
        assert name == "libcudnn.so.9"
        return SimpleNamespace(cudnnGetVersion=lambda: cudnn)

    architectures = SimpleNamespace(
        hasBin=lambda major, minor: (major, minor) in ((8, 6), (9, 0)),
        hasEqualOrLessPtx=lambda major, minor: (major, minor) >= (9, 0),
    )
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: information)
    monkeypatch.setattr(opencv_cuda, "BY_CAFFE", by_caffe)
    monkeypatch.setattr(opencv_cuda, "driver_problem", lambda: driver)
    monkeypatch.setattr(opencv_cuda, "cuda_version", lambda: version)
    monkeypatch.setattr(opencv_cuda, "find_gpus", lambda: [Gpu("RTX", capability, 8 << 30)])
    monkeypatch.setattr(opencv_cuda.ctypes, "CDLL", library)
    monkeypatch.setattr(cv2.cuda, "TargetArchs", architectures)
    monkeypatch.setattr(cv2.dnn, "getAvailableTargets", lambda _: targets)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"information": "NVIDIA CUDA:    NO\n"}, "is built without CUDA"),
        ({"information": INFORMATION.replace("cuDNN", "no")}, "is built without cuDNN"),
        (
            {"by_caffe": False},
            "has no engine that runs these nets on CUDA: make a wheel",
        ),
        ({"driver": "no driver: buy one, or use --device cpu"}, "no driver: buy one"),
        ({"version": (12, 8)}, "supports CUDA up to 12.8, and OpenCV is built with 13.0"),
        ({"cudnn": 90900}, "cuDNN is 9.9, and OpenCV is built with 9.13: pip install --upgrade"),
        ({"capability": (8, 0)}, "for GPUs of sm_86, sm_90, and RTX is sm_80: make a wheel"),
        ({"capability": (7, 5)}, "for GPUs of sm_86, sm_90, and RTX is sm_75: make a wheel"),
        ({"targets": ()}, "dnn has no float32 on this GPU"),
    ],
)
def test_what_keeps_cuda_from_running(monkeypatch, found, expected):
    pretend(monkeypatch, **found)
    assert opencv_device("auto", "float32") == "cpu"
    with pytest.raises(DeviceError) as error:
        opencv_device("cuda", "float32")
    assert str(error.value).startswith("CUDA was asked for, but ")
    assert_one_line(error, expected, "or use --device cpu")


def test_a_driver_that_opencv_cannot_use(monkeypatch):
    def fail(_):
        raise cv2.error("API call\nis not supported")

    pretend(monkeypatch)
    monkeypatch.setattr(cv2.dnn, "getAvailableTargets", fail)
    assert cuda_problem().startswith("OpenCV's CUDA fails (API call is not supported): see nvidia-")


@pytest.mark.parametrize(
    "found",
    [
        {},
        {"version": (13, 5)},
        {"cudnn": 92801},
        {"capability": (8, 6)},
        {"capability": (9, 0)},
        {"capability": (12, 0)},
    ],
)
def test_cuda_where_it_is(monkeypatch, found):
    pretend(monkeypatch, **found)
    for precision in ("float32", "float16"):
        assert cuda_problem(precision) is None
        for device in ("cuda", "auto"):
            assert opencv_device(device, precision) == "cuda"


def test_a_gpu_without_float16(monkeypatch):
    pretend(monkeypatch, targets=BOTH[:1])
    assert opencv_device("cuda", "float32") == "cuda"
    with pytest.raises(DeviceError, match=r"^CUDA was asked for, but .* no float16 on this GPU"):
        opencv_device("cuda", "float16")


def test_float16_wants_cuda(monkeypatch):
    pretend(monkeypatch, driver="there is no driver: buy one, or use --device cpu")
    for device, why in (("cpu", "the device is 'cpu'"), ("auto", "there is no driver: buy one")):
        with pytest.raises(DeviceError) as error:
            opencv_device(device, "float16")
        assert_one_line(error, "float16 runs on CUDA only", "--precision float32", why)


def test_scores_that_are_no_numbers(tiny):
    net = read_net(tiny)
    scores = np.array([1, np.nan], np.float32)
    with pytest.raises(WeightsError, match="its weights are broken"):
        check_finite(net, scores)
    with pytest.raises(ArgumentError, match=r"infinite in float16, .* use --precision float32"):
        check_finite(net, scores, "float16")


# --- how it runs on CUDA


def test_a_net_for_every_size(on_cuda, tiny, monkeypatch):
    engine = on_cuda(read_net(tiny))
    engine.build()
    small, large = (1, 3, 33, 41), (1, 3, 41, 33)
    assert list(engine._built) == [(small, ("2",))]  # up to the coarse scores of the net's own size
    for shape in (small, large, small):
        data = random_input(*shape)
        expected = OpenCVEngine(engine.net, "cpu").blobs(data, ["fc8"])["fc8"]
        np.testing.assert_array_equal(engine.blobs(data, ["fc8"])["fc8"], expected)
    assert [shape for shape, _ in engine._built] == [large, small]  # the last used is the last
    n_bytes = 4 * engine.net.parameters + engine.net.activation_bytes((1, 3, 49, 49))
    monkeypatch.setattr(opencv, "_BYTES_KEPT_ON_CUDA", 2 * n_bytes)
    engine.blobs(random_input(1, 3, 49, 49), ["fc8"])
    assert [shape for shape, _ in engine._built] == [small, (1, 3, 49, 49)]
    monkeypatch.setattr(opencv, "_BYTES_KEPT_ON_CUDA", 1)
    assert engine.blobs(random_input(*large), ["fc8"])["fc8"].shape == (1, 4, 6, 5)
    assert [shape for shape, _ in engine._built] == [large]


def test_a_net_whose_coarse_scores_are_its_input(on_cuda):
    engine = on_cuda(
        net_of(Layer("a", Interp(zoom_factor=2), ("data",), ("a",)), shape=(1, 3, 4, 5))
    )
    engine.build()
    assert scores_of(engine, random_input(1, 3, 4, 5)).shape == (1, 3, 7, 9)


def test_any_blobs(on_cuda, tiny):
    engine = on_cuda(read_net(tiny), "float16")
    data = random_input(1, 3, 33, 41)
    on_cpu = OpenCVEngine(engine.net, "cpu")
    np.testing.assert_array_equal(scores_of(engine, data), scores_of(on_cpu, data))
    for names in (["conv"], ["up", "conv"], ["conv", "fc8", "up"]):
        expected = on_cpu.blobs(data, names)
        found = engine.blobs(data, names)
        assert list(found) == names
        for name in names:
            np.testing.assert_allclose(found[name], expected[name], atol=1e-4)


def test_layers_are_fused_unless_several_blobs_are_wanted(on_cuda, monkeypatch):
    """Fused into a Concat, blobs would come out wrong on CUDA."""
    op = Convolution(2, (1, 1))
    layers = [
        Layer("a", op, ("data",), ("a",)),
        Layer("b", op, ("data",), ("b",)),
        Layer("c", Concat(), ("a", "b"), ("c",)),
    ]
    engine = on_cuda(net_of(*layers, shape=(1, 3, 4, 5)))
    fused = []

    class Net:
        setPreferableBackend = setPreferableTarget = lambda *_: None  # noqa: N815
        enableFusion = lambda _, given: fused.append(given)  # noqa: E731, N815

    monkeypatch.setattr(opencv, "_read_caffe", lambda _: Net())
    engine._cv2_net((1, 3, 4, 5), ("2",))
    engine._cv2_net((1, 3, 4, 5), ("1", "2"))
    assert fused == [True, False]


def test_layers_that_opencv_leaves_to_the_cpu(on_cuda, tiny, caplog):
    engine = on_cuda(read_net(tiny))
    engine.build()
    engine.build()
    (record,) = caplog.records  # told once
    assert record.levelname == "WARNING"
    version = cv2.__version__
    assert record.getMessage() == (
        f"net 'tiny': OpenCV {version} runs on the CPU the layers that its CUDA backend lacks: "
        "'conv', 'fc8'"  # the ReLU goes with the convolution before it
    )


def test_layers_on_cuda_are_told_from_those_on_the_cpu():
    dump = """digraph G {
\t"0" [label="0\\nConvolution\\noutput: 1 x 4 x 9 x 9\\lCUDA/CUDA\\n" fillcolor="#ff" shape=box]
\t"cluster_1" [label="{1_crop\\nPower\\n | 2\\nReLU\\lOCV/CUDA_FP16\\n }" shape=record]
\t"3" [label="3\\nReLU\\noutput: 1 x 4 x 9 x 9\\lCUDA/CUDA_FP16\\n" fillcolor="#ff" shape=box]
\t"12" [label="12\\nPooling\\noutput: 1 x 4 x 9 x 9\\lOCV/CUDA\\n" fillcolor="#ff" shape=box]

\t"0" -> "cluster_1"
}
"""
    assert layers_on_cpu(SimpleNamespace(dump=lambda: dump)) == [1, 12]


@pytest.mark.parametrize(
    ("text", "kind", "expected"),
    [
        ("out of memory", ResourceError, "ran out of GPU memory: use smaller images or --device"),
        ("CUDNN_STATUS_ALLOC_FAILED", ResourceError, "ran out of GPU memory"),
        (
            "CUDNN_STATUS_NOT_SUPPORTED_SUBLIBRARY_UNAVAILABLE",
            DeviceError,
            "parts of cuDNN are missing: pip install --force-reinstall nvidia-cudnn-cu13",
        ),
        ("no kernel image is available for execution", DeviceError, "not built for this GPU"),
        ("CUDNN_STATUS_EXECUTION_FAILED", DeviceError, "(CUDNN_STATUS_EXECUTION_FAILED): see nvid"),
    ],
)
def test_errors_of_the_gpu_become_ours(on_cuda, tiny, monkeypatch, text, kind, expected):
    error = cv2.error(text)
    error.code, error.err, error.func = cv2.Error.GPU_API_CALL_ERROR, text, "check"

    class Broken:
        setInput = enableFusion = lambda *_: None  # noqa: N815
        setPreferableBackend = setPreferableTarget = setInput  # noqa: N815
        getLayersShapes = lambda *_: ([], [], [])  # noqa: E731, N815

        def forward(self, _):
            raise error

    engine = on_cuda(read_net(tiny))
    with monkeypatch.context() as patch:
        patch.setattr(opencv, "_read_caffe", lambda _: Broken())
        with pytest.raises(kind) as caught:
            engine.build()
    assert_one_line(caught, "net 'tiny' at 1x3x33x41: OpenCV", expected, "--device cpu")
    engine.build()  # it goes on with a net built anew
