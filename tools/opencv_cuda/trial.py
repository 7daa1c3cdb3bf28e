"""Try the installed OpenCV: its build, a small net on the CPU and on CUDA, and pip's view of it.

    python trial.py SETUP.CFG

Runs in an environment that has only the wheel, NumPy and pip. SETUP.CFG belongs to the package that
the wheel is made for.
"""

import json
import re
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import cv2
import numpy as np

_NET = """
[net]
width=40
height=24
channels=3
[convolutional]
filters=8
size=3
stride=1
pad=1
activation=relu
[maxpool]
size=2
stride=2
[convolutional]
filters=5
size=1
stride=1
pad=0
activation=linear
"""


def main() -> None:
    """Print what is found; end with 1 and one line where the wheel does not work."""
    information = cv2.getBuildInformation()
    for name in ("NVIDIA CUDA", "NVIDIA GPU arch", "cuDNN"):
        found = re.search(rf"^ +{name}: +(.*)$", information, re.MULTILINE)
        print(f"{name}: {found[1] if found else 'not there'}")
        if not found or found[1].startswith("NO"):
            sys.exit(f"cv2 of {cv2.__file__} was built without {name}")
    image, weights, expected = make_case()
    compare(
        "CPU", run(image, weights, cv2.dnn.DNN_BACKEND_OPENCV, cv2.dnn.DNN_TARGET_CPU), expected
    )
    try_cuda(image, weights, expected)
    check_pip(Path(sys.argv[1]))


def make_case() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An input, a net's weights in Darknet's order, and the output by NumPy."""
    rng = np.random.default_rng(0)
    image = rng.standard_normal((3, 24, 40), np.float32)
    bias1, kernel1 = (
        rng.standard_normal(8, np.float32),
        rng.standard_normal((8, 3, 3, 3), np.float32),
    )
    bias2, kernel2 = rng.standard_normal(5, np.float32), rng.standard_normal((5, 8), np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(
        np.pad(image, ((0, 0), (1, 1), (1, 1))), (3, 3), axis=(1, 2)
    )
    hidden = np.einsum("oikl,ihwkl->ohw", kernel1, windows) + bias1[:, None, None]
    pooled = np.maximum(hidden, 0).reshape(8, 12, 2, 20, 2).max((2, 4))
    output = np.einsum("oi,ihw->ohw", kernel2, pooled) + bias2[:, None, None]
    weights = np.concatenate([bias1, kernel1.ravel(), bias2, kernel2.ravel()])
    return image, weights, output


def run(image: np.ndarray, weights: np.ndarray, backend: int, target: int) -> np.ndarray:
    """The net's output by cv2.dnn."""
    header = np.array([0, 2, 0, 0, 0], np.int32).tobytes()
    files = [np.frombuffer(each, np.uint8) for each in (_NET.encode(), header + weights.tobytes())]
    net = cv2.dnn.readNetFromDarknet(*files)
    net.setPreferableBackend(backend)
    net.setPreferableTarget(target)
    net.setInput(image[None])
    return net.forward()[0]


def compare(name: str, found: np.ndarray, expected: np.ndarray, tolerance: float = 1e-4) -> None:
    error = float(np.abs(found - expected).max() / np.abs(expected).max())
    print(f"a small net on {name}: {error:.1e} from NumPy's")
    if not error <= tolerance:
        sys.exit(f"a small net on {name} is {error:.1e} from NumPy's; expected {tolerance:.0e}")


def try_cuda(image: np.ndarray, weights: np.ndarray, expected: np.ndarray) -> None:
    """The same on CUDA's targets, where there is a GPU that the wheel has code for."""
    count = cv2.cuda.getCudaEnabledDeviceCount()
    if count < 1:
        print(f"no GPU and driver for CUDA 13 here ({count}): CUDA is not tried")
        return
    if not cv2.cuda.DeviceInfo(0).isCompatible():
        print("the wheel has no code for the GPU here: CUDA is not tried")
        return
    backend = cv2.dnn.DNN_BACKEND_CUDA
    for name, target, tolerance in (
        ("CUDA, float32", cv2.dnn.DNN_TARGET_CUDA, 5e-3),  # TF32 has ten bits
        ("CUDA, float16", cv2.dnn.DNN_TARGET_CUDA_FP16, 2e-2),
    ):
        compare(name, run(image, weights, backend, target), expected, tolerance)


def check_pip(setup: Path) -> None:
    """Check that pip keeps this OpenCV when it installs what the package requires."""
    config = ConfigParser()
    config.read(setup, "utf-8")
    requirements = config["options"]["install_requires"].split()
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--report", "-"]
    done = subprocess.run([*command, *requirements], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"pip: {done.stderr.strip()}")
    planned = [each["metadata"]["name"] for each in json.loads(done.stdout)["install"]]
    others = [name for name in planned if name.lower().startswith("opencv")]
    if others:
        sys.exit(f"pip would put {', '.join(others)} over this OpenCV")
    print(
        f"pip keeps this OpenCV for {setup.parent.name}, and adds {', '.join(planned) or 'nothing'}"
    )


if __name__ == "__main__":
    main()
