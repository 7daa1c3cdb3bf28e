"""OpenVINO runs our nets as OpenCV and the original do, and refuses with our errors."""

import importlib
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest

from deeplab_repro import DeepLab
from deeplab_repro.caffe import read_net
from deeplab_repro.engines import by_onnx
from deeplab_repro.engines import openvino as engines_openvino
from deeplab_repro.engines.openvino import OpenVinoEngine, bfloat16_problem
from deeplab_repro.errors import (
    ArgumentError,
    DeviceError,
    NetError,
    ResourceError,
    WeightsError,
)
from deeplab_repro.net.layers import Interp
from deeplab_repro.net.net import Layer
from deeplab_repro.toy.scenes import make_scene
from tests.conftest import TOYS, assert_one_line
from tests.engines.golden_nets import NETS, check_every_blob, check_layers
from tests.slow_layers import net_of, random_input, scores_of

openvino = engines_openvino.load_openvino()[0] if importlib.util.find_spec("openvino") else None
needs_openvino = pytest.mark.skipif(openvino is None, reason="OpenVINO is not installed")


@pytest.fixture
def net(tiny):
    found = read_net(tiny)
    found.fill_random(0)
    return found


@pytest.fixture
def data():
    return random_input(1, 3, 33, 41)


@pytest.fixture
def bfloat16():
    if openvino is None or bfloat16_problem():
        pytest.skip("OpenVINO is not installed, or this CPU has no bfloat16")


# --- what it gives


@needs_openvino
@pytest.mark.golden
@pytest.mark.parametrize("name", NETS)
def test_every_blob_is_the_originals(golden, name):
    check_every_blob(OpenVinoEngine, golden / "nets" / name)


@needs_openvino
@pytest.mark.golden
def test_the_authors_layers_alone(golden):
    check_layers(OpenVinoEngine, golden, atol=1e-5)  # a zoom's positions are rounded


@needs_openvino
def test_batches_sizes_and_any_layout_of_the_array(net):
    engine = OpenVinoEngine(net, "cpu")
    engine.build()
    (session,) = engine._sessions.values()
    for seed, shape in enumerate([(3, 3, 33, 41), (1, 3, 9, 9), (1, 3, 65, 17)]):
        images = random_input(*shape, seed=seed)
        fresh = OpenVinoEngine(net, "cpu").blobs(images, ["up", "fc8"])
        np.testing.assert_array_equal(engine.blobs(images, ["fc8"])["fc8"], fresh["fc8"])
        mirrored = images[:, ::-1, :, ::-1]
        one, other = (scores_of(engine, each) for each in (mirrored, mirrored.copy()))
        np.testing.assert_array_equal(one, other)
    # One for all sizes that ends in the coarse scores, and one for the others.
    assert session in engine._sessions.values()
    assert len(engine._sessions) == 2


@needs_openvino
def test_a_result_is_the_callers_own(net, data):
    engine = OpenVinoEngine(net, "cpu")
    first = scores_of(engine, data)
    kept = first.copy()
    scores_of(engine, data + 1)
    np.testing.assert_array_equal(first, kept)


@needs_openvino
def test_a_net_of_one_size():
    fixed = OpenVinoEngine(
        net_of(Layer("a", Interp(shrink_factor=2), ("data",), ("a",)), shape=(1, 3, 9, 9)), "cpu"
    )
    for size in (9, 11, 13, 9):
        given = random_input(1, 3, size, size)
        np.testing.assert_array_equal(scores_of(fixed, given), given[:, :, ::2, ::2])
    assert len(fixed._sessions) == 2


@needs_openvino
def test_what_openvino_is_told(net):
    """Threads as OpenCV has, not bound to cores; and float32 is float32."""
    before = cv2.getNumThreads()
    try:
        for threads in (1, 2):
            cv2.setNumThreads(threads)
            engine = OpenVinoEngine(net, "cpu")
            engine.build()
            (session,) = engine._sessions.values()
            told = session.get_compiled_model().get_property
            assert told("INFERENCE_NUM_THREADS") == threads
            assert told("NUM_STREAMS") == 1
            assert not told("ENABLE_CPU_PINNING")
            assert told("INFERENCE_PRECISION_HINT") == openvino.Type.f32
    finally:
        cv2.setNumThreads(before)


# --- bfloat16


@pytest.mark.parametrize("name", TOYS)
@pytest.mark.usefixtures("bfloat16")
def test_labels_in_bfloat16_are_those_of_float32(name):
    """99.8% of them on ToyVOC's scenes: scores lose 16 of 24 digits of their products' factors."""
    one, other = (
        DeepLab(name, crf=None, engine="openvino", precision=precision, device="cpu")
        for precision in ("float32", "bfloat16")
    )
    assert other.precision == "bfloat16"
    scenes = [make_scene(4242, number, "val").image for number in range(4)]
    same = [(one(scene).labels == other(scene).labels).ravel() for scene in scenes]
    assert np.concatenate(same).mean() >= 0.998  # of a hundred scenes it was 99.9%
    scores, expected = (model.run_net(scenes[0]).coarse.values for model in (other, one))
    assert scores.dtype == np.float32
    assert 1e-4 < np.abs(scores - expected).max() / expected.std() < 0.2


# --- errors


@needs_openvino
def test_requests_that_are_refused(net, data, tiny):
    engine = OpenVinoEngine(net, "cpu")
    with pytest.raises(ArgumentError, match="expected float32 NxCxHxW"):
        scores_of(engine, data[0])
    with pytest.raises(ArgumentError, match="makes no blob 'nothing'"):
        engine.blobs(data, ["nothing"])
    with pytest.raises(NetError, match="'conv'"):
        scores_of(engine, random_input(1, 4, 33, 41))
    with pytest.raises(WeightsError, match="'conv'"):
        OpenVinoEngine(read_net(tiny), "cpu").build()


@needs_openvino
def test_devices_and_precisions_that_are_refused(net, monkeypatch):
    with pytest.raises(ArgumentError, match="'gpu'"):
        OpenVinoEngine(net, "gpu")
    with pytest.raises(ArgumentError, match="'int8'"):
        OpenVinoEngine(net, "cpu", "int8")
    with pytest.raises(DeviceError) as caught:
        OpenVinoEngine(net, "cuda")
    assert_one_line(caught, "CUDA was asked for, but OpenVINO has none", "--device cpu")
    assert OpenVinoEngine(net, "auto").device == "cpu"
    with pytest.raises(DeviceError) as caught:
        OpenVinoEngine(net, "cpu", "float16")
    assert_one_line(caught, "float16 was asked for", "--precision float32")
    monkeypatch.setattr(engines_openvino, "cpu_flags", lambda: {"avx2", "avx512f"})
    with pytest.raises(DeviceError) as caught:
        OpenVinoEngine(net, "cpu", "bfloat16")
    assert_one_line(caught, "neither AVX512_BF16 nor AMX", "--precision float32")


@needs_openvino
@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError("std::bad_alloc"), ResourceError),
        (RuntimeError("Could not allocate\n9 GB"), ResourceError),
        (RuntimeError("all is\nlost"), NetError),
    ],
)
@pytest.mark.parametrize("method", ["_load", "_run"])
def test_openvinos_errors_become_ours(net, data, monkeypatch, method, error, kind):
    def fail(*_):
        raise error

    engine = OpenVinoEngine(net, "cpu")
    with monkeypatch.context() as patch:
        patch.setattr(OpenVinoEngine, method, fail)
        with pytest.raises(kind) as caught:
            scores_of(engine, data)
    assert_one_line(caught, f"'tiny' at 1x3x33x41: {engine.name} ")
    assert engine.name.split()[1].count(".") == 2
    assert scores_of(engine, data).shape == (1, 4, 33, 41)


@needs_openvino
def test_openvino_says_nothing_itself(net, data, monkeypatch, capfd):
    monkeypatch.setattr(by_onnx, "to_onnx", lambda *_: b"\x08\x07 no model\n")
    with pytest.raises(NetError) as caught:
        scores_of(OpenVinoEngine(net, "cpu"), data)
    assert_one_line(caught, "cannot run it on cpu")
    assert capfd.readouterr() == ("", "")


def test_no_openvino(net, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(DeviceError) as caught:
        OpenVinoEngine(net, "cpu")
    assert_one_line(caught, "not installed", 'pip install "deeplab-repro[openvino]"')


@pytest.mark.parametrize(
    ("file", "code", "why"),
    [
        ("openvino.py", "raise ImportError('libfoo.so:\\nno such file')", "libfoo.so: no such"),
        ("openvino/left.txt", "", "has no '__version__'"),  # by a package that was removed
        (
            "openvino.py",
            "__version__ = '2026.4'\ndef Core(): raise OSError('no plugins.xml')",
            "no CPU",
        ),
        ("openvino.py", "import a_package_that_is_not_there", "a_package_that_is_not_there"),
    ],
)
def test_an_openvino_that_does_not_import(net, monkeypatch, tmp_path, file, code, why):
    path = tmp_path / "site" / file
    path.parent.mkdir(parents=True)
    path.write_text(code)
    for name in [name for name in sys.modules if name.partition(".")[0] == "openvino"]:
        monkeypatch.delitem(sys.modules, name)
    elsewhere = [each for each in sys.path if not os.path.isdir(os.path.join(each, "openvino"))]
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site"), *elsewhere])
    importlib.invalidate_caches()
    with pytest.raises(DeviceError) as caught:
        OpenVinoEngine(net, "cpu")
    assert_one_line(caught, "openvino ", why, "pip install --force-reinstall openvino")
    sys.modules.pop("openvino", None)


@needs_openvino
def test_no_telemetry(tmp_path):
    """OpenVINO's own asks the network and writes to the home folder when it is imported."""
    code = """
import socket, sys
def refuse(*_): sys.exit("a socket")
socket.socket = socket.getaddrinfo = refuse
from deeplab_repro.engines.openvino import load_openvino
load_openvino()
assert not [name for name in sys.modules if name.startswith("openvino_telemetry")]
assert "openvino_telemetry" not in sys.modules  # others may import it
"""
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | home)
    assert list(tmp_path.iterdir()) == []
