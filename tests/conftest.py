"""What several test files need: the original's outputs, a tiny net, pictures, the command line."""

import os
import re
import signal
from contextlib import contextmanager
from functools import cache
from pathlib import Path

# Before NumPy is loaded: see deeplab_repro/train/parallel.py.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# What onnxruntime would send of its use; tests load it by themselves too.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
# Weights that the user has fetched are none of the tests'; nothing is ever there.
os.environ["DEEPLAB_REPRO_HOME"] = os.path.join(os.path.dirname(__file__), "nobody")

import numpy as np
import pytest

from deeplab_repro.bench import crf as bench_crf
from deeplab_repro.cli import main
from deeplab_repro.files.pictures import write_image
from deeplab_repro.models.registry import MODELS

# A shell lets what it starts in the background ignore Ctrl-C, and so would what the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

GOLDEN = Path(__file__).resolve().parents[2] / "shared/golden"

V2 = ["DeepLabv2-VGG16", "DeepLabv2-ResNet101"]
TOYS = [name for name, model in MODELS.items() if model.shipped_weights]
PAPER = [name for name in MODELS if name not in (*V2, *TOYS)]
"""The models of the paper; the others are ToyVOC's."""

TINY = """
name: "tiny"
input: "data" input_dim: 1 input_dim: 3 input_dim: 33 input_dim: 41
layers {
  name: "conv" type: CONVOLUTION bottom: "data" top: "conv"
  convolution_param { num_output: 5 kernel_size: 3 pad: 2 hole: 2 stride: 8 }
}
layers { name: "relu" type: RELU bottom: "conv" top: "conv" }
layers { name: "fc8" type: CONVOLUTION bottom: "conv" top: "fc8"
  convolution_param { num_output: 4 kernel_size: 1 } }
layers { name: "up" type: INTERP bottom: "fc8" top: "up" interp_param { zoom_factor: 8 } }
"""


# Three of four pixels tell every orientation apart; red, green / blue, white.
CORNERS = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]], np.uint8)


def smooth_photo(height: int = 24, width: int = 32) -> np.ndarray:
    """A smooth picture: survives JPEG."""
    y, x = np.mgrid[:height, :width]
    channels = (255 * x / width, 255 * y / height, 128 + 60 * np.sin(x / 5 + y / 7))
    return np.stack(channels, axis=2).astype(np.uint8)


def assert_one_line(error: pytest.ExceptionInfo, *parts: object) -> None:
    message = str(error.value)
    assert "\n" not in message
    assert message.isprintable()
    for part in parts:
        assert str(part) in message


@contextmanager
def not_root():
    """For root no folder is locked."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def mend_of(error: object) -> str:
    """The Python that a message tells to use: what comes after its last "use"."""
    message = str(getattr(error, "value", error))
    return re.sub(
        r" with zero_unsure=.*| \(if these are energies.*", "", message.rsplit("use ")[-1]
    )


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of the original software's outputs."""
    if not GOLDEN.is_dir():
        pytest.skip(f"the original's outputs are not at {GOLDEN}")
    return GOLDEN


@pytest.fixture
def tiny(tmp_path) -> Path:
    """The prototxt of a net of stride 8, crop 33x41 and 4 labels."""
    path = tmp_path / "tiny.prototxt"
    path.write_text(TINY)
    return path


@pytest.fixture
def photo():
    """Make a seeded uint8 RGB image of a given height and width, smooth with some noise."""

    def make(height: int, width: int, seed: int = 0) -> np.ndarray:
        rng = np.random.default_rng(seed)
        y, x = np.mgrid[:height, :width]
        phase = rng.uniform(0, 6, (3, 1, 1))
        smooth = 128 + 100 * np.sin(phase + y / (7 + phase) + x / 9)
        noise = rng.integers(-20, 20, (3, height, width))
        return np.ascontiguousarray((smooth + noise).clip(0, 255).transpose(1, 2, 0), np.uint8)

    return make


@pytest.fixture
def pictures(tmp_path, photo, monkeypatch):
    """Make pictures of 20x30 pixels in the folder that is then the current one."""
    monkeypatch.chdir(tmp_path)

    def make(*names):
        for number, name in enumerate(names):
            path = Path(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_image(path, photo(20, 30, seed=number))
        return [Path(name) for name in names]

    return make


@pytest.fixture
def measured_here(monkeypatch):
    """The bench measures in this process, draws its scenes once, and compiles for few labels.

    It measures the machine's own speed with little work, so roughly.
    """
    from deeplab_repro.bench import roofline

    monkeypatch.setattr(bench_crf, "_apart", lambda _, function, *given: function(*given))
    monkeypatch.setattr(roofline, "LEVELS", {"L1": 16, "memory": 64})
    monkeypatch.setattr(roofline, "_KILOBYTES_READ", 64)
    monkeypatch.setattr(roofline, "_TURNS", 1000)
    monkeypatch.setattr(bench_crf, "draw_scene", cache(bench_crf.draw_scene))
    monkeypatch.setattr(bench_crf, "LABEL_COUNTS", (8, 24))  # compiled for by other tests


@pytest.fixture
def command(capsys):
    """Run the command line in this process: (exit status, stdout, stderr)."""

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as error:
            status = error.code
        return (status, *capsys.readouterr())

    return run


@pytest.fixture
def refused(command):
    """Run the command line on bad input: its one-line error, without any output."""

    def run(*arguments: object) -> str:
        status, out, err = command(*arguments)
        assert (status, out) == (2, "")
        assert err.startswith("deeplab-repro")
        assert ": error: " in err
        assert err.endswith("\n")
        assert err.count("\n") == 1
        assert err[:-1].isprintable()
        return err

    return run
