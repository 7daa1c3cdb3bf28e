"""onnxruntime runs our nets as OpenCV and the original do, and refuses with our errors."""

import importlib
import os
import sys

import cv2
import numpy as np
import pytest

from deeplab_repro.caffe import read_net
from deeplab_repro.engines import by_onnx
from deeplab_repro.engines import onnxruntime as engines_onnxruntime
from deeplab_repro.engines.onnxruntime import OnnxRuntimeEngine, cuda_problem, load_onnxruntime
from deeplab_repro.engines.opencv import OpenCVEngine
from deeplab_repro.errors import (
    ArgumentError,
    DeviceError,
    NetError,
    ResourceError,
    WeightsError,
)
from deeplab_repro.net.layers import (
    Concat,
    Convolution,
    Dropout,
    Eltwise,
    InnerProduct,
    Interp,
    Padding,
    Pooling,
    ReLU,
    Softmax,
    Split,
)
from deeplab_repro.net.net import Layer
from tests.conftest import assert_one_line
from tests.engines.golden_nets import NETS, check_every_blob, check_layers
from tests.slow_layers import net_of, random_input, scores_of

onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture
def net(tiny):
    found = read_net(tiny)
    found.fill_random(0)
    return found


@pytest.fixture
def data():
    return random_input(1, 3, 33, 41)


# --- what it gives


@pytest.mark.golden
@pytest.mark.parametrize("name", NETS)
def test_every_blob_is_the_originals(golden, name):
    check_every_blob(OnnxRuntimeEngine, golden / "nets" / name)


@pytest.mark.golden
def test_the_authors_layers_alone(golden):
    check_layers(OnnxRuntimeEngine, golden, atol=1e-5)  # a zoom's positions are rounded


def test_every_blob_is_opencvs(data):
    """Blobs changed in place, the input among them; several names of one; names that clash."""
    net = net_of(
        Layer("data", ReLU(0.5), ("data",), ("data",)),
        Layer("", Convolution(4, (3, 3), (2, 2), (2, 2), (2, 2)), ("data",), ("a",)),
        Layer("same", ReLU(), ("a",), ("a",)),
        Layer("same", Dropout(), ("a",), ("a",)),
        Layer("max", Pooling("MAX", (3, 3), (1, 1), (2, 2)), ("a",), ("",)),
        Layer("ave", Pooling("AVE", (3, 3), (1, 1), (1, 1)), ("",), ("ave",)),
        Layer("two", Split(), ("ave",), ("ave1", "ave2")),
        Layer("sum", Eltwise("SUM", (1.0, -0.5)), ("ave1", ""), ("sum",)),
        Layer("both", Concat(), ("sum", "ave2"), ("both",)),
        Layer("pad", Padding(1, 2), ("both",), ("pad",)),
        Layer("zoomed", Interp(zoom_factor=2, pad_beg=-1), ("pad",), ("zoomed",)),
        Layer("small", Interp(height=3, width=2), ("both",), ("small",)),
        Layer("fc", InnerProduct(5), ("small",), ("fc",)),
        Layer("probs", Softmax(), ("pad",), ("probs",)),
        shape=data.shape,
    )
    names = list(dict.fromkeys(top for layer in reversed(net.layers) for top in layer.tops))
    found = OnnxRuntimeEngine(net, "cpu").blobs(data, names)
    assert list(found) == names
    for name, theirs in OpenCVEngine(net, "cpu").blobs(data, names).items():
        assert found[name].shape == theirs.shape
        atol = 1e-4 * max(1, theirs.std())  # the bar of all engines
        np.testing.assert_allclose(found[name], theirs, rtol=0, atol=atol, err_msg=name)


def test_batches_and_any_layout_of_the_array(net):
    engine = OnnxRuntimeEngine(net, "cpu")
    images = random_input(3, 3, 33, 41)
    together = scores_of(engine, images)
    for image, scores in zip(images, together, strict=True):
        # A batch may be summed in another order: values up to 1000 in float32.
        np.testing.assert_allclose(scores_of(engine, image[None])[0], scores, atol=1e-3)
    mirrored = images[:, ::-1, :, ::-1]
    np.testing.assert_array_equal(scores_of(engine, mirrored), scores_of(engine, mirrored.copy()))


# --- sessions


def test_one_session_for_all_sizes_the_scores_and_the_coarse_ones(net):
    engine = OnnxRuntimeEngine(net, "cpu")
    engine.build()
    (session,) = engine._sessions.values()
    for seed, size in enumerate([(33, 41), (9, 9), (65, 17)]):
        given = random_input(1, 3, *size, seed=seed)
        fresh = OnnxRuntimeEngine(net, "cpu").blobs(given, ["fc8", "up"])
        np.testing.assert_array_equal(scores_of(engine, given), fresh["up"])
        np.testing.assert_array_equal(engine.blobs(given, ["fc8"])["fc8"], fresh["fc8"])
    assert list(engine._sessions.values()) == [session]


def test_sessions_that_are_made_anew(net, data):
    """For other blobs, and for another size where the net fixes it; the two last are kept."""
    engine = OnnxRuntimeEngine(net, "cpu")
    first = scores_of(engine, data)
    kept = first.copy()
    conv = engine.blobs(data, ["conv", "up"])["conv"]
    assert conv.min() == 0  # after the ReLU
    np.testing.assert_array_equal(scores_of(engine, data), kept)
    scores_of(engine, data + 1)
    np.testing.assert_array_equal(first, kept)  # it was the caller's own
    fixed = OnnxRuntimeEngine(
        net_of(Layer("a", Interp(shrink_factor=2), ("data",), ("a",)), shape=(1, 3, 9, 9)), "cpu"
    )
    for size in (9, 11, 13, 9):
        given = random_input(1, 3, size, size)
        np.testing.assert_array_equal(scores_of(fixed, given), given[:, :, ::2, ::2])
    assert len(engine._sessions) == len(fixed._sessions) == 2


def test_onnxruntime_is_told_to_send_nothing(monkeypatch):
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    load_onnxruntime()
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"


def test_a_session_is_made_once(net, data, monkeypatch):
    engine = OnnxRuntimeEngine(net, "cpu")
    first = scores_of(engine, data)
    monkeypatch.setattr(engines_onnxruntime, "make_session", None)
    np.testing.assert_array_equal(scores_of(engine, data), first)


def test_as_many_threads_as_opencv_and_none_that_spin(net):
    before = cv2.getNumThreads()
    try:
        for threads in (1, 3):
            cv2.setNumThreads(threads)
            engine = OnnxRuntimeEngine(net, "cpu")
            engine.build()
            (session,) = engine._sessions.values()
            options = session.get_session_options()
            assert options.intra_op_num_threads == threads
            assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    finally:
        cv2.setNumThreads(before)


# --- errors


def test_requests_that_are_refused(net, data):
    engine = OnnxRuntimeEngine(net, "cpu")
    for given in (data.astype(np.float64), data[0], data.astype(np.uint8)):
        with pytest.raises(ArgumentError, match="expected float32 NxCxHxW"):
            scores_of(engine, given)
    for name in ("nothing", "data"):
        with pytest.raises(ArgumentError, match=f"makes no blob '{name}'"):
            engine.blobs(data, [name])
    with pytest.raises(NetError, match="'conv'"):
        scores_of(engine, random_input(1, 4, 33, 41))
    with pytest.raises(NetError, match="1x3x0x41"):
        scores_of(engine, random_input(1, 3, 0, 41))


@pytest.mark.parametrize("version", ["1.19.0", "1.20.1"])
def test_versions_that_compute_wrong_scores(net, monkeypatch, version):
    monkeypatch.setattr(onnxruntime, "__version__", version)
    with pytest.raises(DeviceError, match="wrong scores") as error:
        OnnxRuntimeEngine(net, "cpu")
    assert_one_line(error)


def test_a_net_without_weights(tiny):
    with pytest.raises(WeightsError, match="'conv'"):
        OnnxRuntimeEngine(read_net(tiny), "cpu").build()


def test_devices_and_precisions_that_are_refused(net):
    with pytest.raises(ArgumentError, match="'gpu'"):
        OnnxRuntimeEngine(net, "gpu")
    with pytest.raises(ArgumentError, match="'int8'"):
        OnnxRuntimeEngine(net, "cpu", "int8")
    for device in ("cpu", "cuda"):
        with pytest.raises(DeviceError) as caught:
            OnnxRuntimeEngine(net, device, "float16")
        assert_one_line(caught, "float32 only", "--precision float32", "--engine opencv")
        with pytest.raises(DeviceError) as caught:
            OnnxRuntimeEngine(net, device, "bfloat16")
        assert_one_line(caught, "float32 only", "--precision float32", "--engine openvino")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError("std::bad_alloc"), ResourceError),
        (RuntimeError("Failed to allocate memory\nfor requested buffer"), ResourceError),
        (RuntimeError(300 * "its frames " + "Failed to allocate memory"), ResourceError),
        (RuntimeError("PosixThread pthread_create failed, error code: 11"), ResourceError),
        (RuntimeError("all is\nlost"), NetError),
    ],
)
@pytest.mark.parametrize("method", ["__init__", "run"])
def test_onnxruntimes_errors_become_ours(net, data, monkeypatch, method, error, kind):
    def fail(*_, **__):
        raise error

    engine = OnnxRuntimeEngine(net, "cpu")
    with monkeypatch.context() as patch:
        patch.setattr(onnxruntime.InferenceSession, method, fail)
        with pytest.raises(kind) as caught:
            scores_of(engine, data)
    assert_one_line(caught, f"'tiny' at 1x3x33x41: onnxruntime {onnxruntime.__version__} ")
    # The engine goes on with a session made anew.
    assert scores_of(engine, data).shape == (1, 4, 33, 41)


def test_onnxruntime_says_nothing_itself(net, data, monkeypatch, capfd):
    engine = OnnxRuntimeEngine(net, "cpu")
    monkeypatch.setattr(by_onnx, "to_onnx", lambda *_: b"\x08\x07 no model\n")
    with pytest.raises(NetError) as caught:
        scores_of(engine, data)
    assert_one_line(caught, "cannot run it on cpu")
    monkeypatch.undo()
    engine.build()
    shapes = engine.net.blob_shapes()
    monkeypatch.setattr(engine.net, "blob_shapes", lambda _: shapes)
    with pytest.raises(NetError) as caught:
        scores_of(engine, data[:, :2])
    assert_one_line(caught, "cannot run it on cpu")
    with pytest.raises(NetError, match=r"makes 'up' 1x4x41x65, Caffe 1x4x33x41"):
        scores_of(engine, random_input(1, 3, 41, 65))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda"])
def test_no_onnxruntime(net, monkeypatch, device):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(DeviceError) as caught:
        OnnxRuntimeEngine(net, device)
    assert_one_line(caught, "not installed", 'pip install "deeplab-repro[onnx]"')


def test_an_onnxruntime_that_does_not_import(net, monkeypatch, tmp_path):
    (tmp_path / "onnxruntime.py").write_text("raise ImportError('libfoo.so:\\nno such file')")
    monkeypatch.delitem(sys.modules, "onnxruntime")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    with pytest.raises(DeviceError) as caught:
        OnnxRuntimeEngine(net, "cpu")
    assert_one_line(caught, "does not import: libfoo.so: no such file", "--force-reinstall onnx")
    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    (tmp_path / "onnxruntime.py").write_text("__version__ = '1.2'")
    with pytest.raises(DeviceError) as caught:
        OnnxRuntimeEngine(net, "cpu")
    assert_one_line(caught, "onnxruntime is not whole", tmp_path, "has no 'InferenceSession'")


# --- CUDA, of which onnxruntime-gpu is pretended


@pytest.fixture
def gpu_build(monkeypatch):
    """An onnxruntime that says that it was built with CUDA, on a machine with a GPU."""
    providers = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: providers)
    monkeypatch.setattr(engines_onnxruntime, "driver_problem", lambda: None)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None, raising=False)


def refusal(net):
    assert OnnxRuntimeEngine(net, "auto").device == "cpu"
    with pytest.raises(DeviceError) as caught:
        OnnxRuntimeEngine(net, "cuda")
    assert_one_line(caught, "CUDA was asked for, but ", "--device cpu")
    return str(caught.value)


def test_a_build_without_cuda(net):
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime is built with CUDA")
    assert "is built without CUDA" in refusal(net)
    assert "onnxruntime-gpu" in refusal(net)


@pytest.mark.usefixtures("gpu_build")
def test_a_build_with_cuda_without_a_gpu(net, monkeypatch):
    monkeypatch.setattr(
        engines_onnxruntime, "driver_problem", lambda: "no driver: or use --device cpu"
    )
    assert "no driver" in refusal(net)


@pytest.mark.usefixtures("gpu_build")
@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_provider_that_falls_back_to_the_cpu(net, monkeypatch, capfd):
    """As a real onnxruntime does that lacks a library, here one that lacks the provider."""
    assert "has been explicitly disabled" in refusal(net)
    missing = "Failed to load libcublas.so.13: no such file"
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: print(missing), raising=False)
    assert missing in refusal(net)
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("gpu_build")
def test_cuda_where_it_is(net, monkeypatch):
    made, run = [], []

    class Session(onnxruntime.InferenceSession):
        def __init__(self, model, options, **how):
            made.append((options, how))
            super().__init__(model, providers=["CPUExecutionProvider"])

        def run(self, names, *rest):
            run.append(names)
            return super().run(names, *rest)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    assert cuda_problem() is None
    for device in ("cuda", "auto"):
        assert OnnxRuntimeEngine(net, device).device == "cuda"
    engine = OnnxRuntimeEngine(net, "cuda")
    engine.build()
    assert run == [["fc8"]]  # the coarse scores, once
    (session,) = engine._sessions.values()
    assert not session._enable_fallback
    options, how = made[-1]
    assert how["providers"] == [("CUDAExecutionProvider", {"use_tf32": "0"})]
    assert how["enable_fallback"] == 0
    assert options.get_session_config_entry("session.disable_cpu_ep_fallback") == "1"
