"""Which library runs a net: OpenCV's dnn, or onnxruntime where it is installed."""

import importlib.util
import logging
from collections.abc import Iterable
from typing import Protocol

import numpy as np

from deeplab_repro.arrays import Shape
from deeplab_repro.engines.opencv import OpenCVEngine, cuda_problem
from deeplab_repro.engines.opencv_cpu import OpenCVCpuEngine
from deeplab_repro.errors import ArgumentError, DeviceError
from deeplab_repro.machine.device import Device
from deeplab_repro.net.net import Net
from deeplab_repro.net.scores import Precision

ENGINES = ("auto", "opencv", "onnxruntime")

logger = logging.getLogger(__name__)


class Engine(Protocol):
    """A net, and what runs it. Use one engine per thread.

    name: the library and its version. device: "cpu" or "cuda". precision: of the arithmetic.
    """

    net: Net
    name: str
    device: Device
    precision: Precision

    def build(self) -> None:
        """Do beforehand what the first run would do otherwise."""

    def forward(self, data: np.ndarray) -> np.ndarray:
        """The scores (NxCxHxW float32) of preprocessed images (Nx3xHxW float32, BGR minus mean)."""

    def blobs(self, data: np.ndarray, names: Iterable[str]) -> dict[str, np.ndarray]:
        """The named blobs (float32) of one run; of a blob that layers change in place, the last."""

    def memory_needed(self, shape: Shape) -> int:
        """About how many bytes it takes to run on images of up to this NxCxHxW."""


def make_engine(
    net: Net, device: str = "auto", precision: Precision = "float32", engine: str = "auto"
) -> Engine:
    """What runs a net on a device. Nothing is built yet.

    engine: "opencv", "onnxruntime", or "auto". On CUDA that is OpenCV, as it has both precisions,
    and onnxruntime where only that has CUDA. On the CPU it is onnxruntime where it is installed:
    of OpenCV's time in parts (4.14, 2 cores) it took 0.83 for LargeFOV, 0.84 for MSc-LargeFOV, and
    of OpenCV 5's less.

    Raises ArgumentError for another engine or precision, and DeviceError where the engine or the
    device is not to be had, or not with this precision.
    """
    if engine not in ENGINES:
        raise ArgumentError(f"engine is '{engine}', expected one of {', '.join(ENGINES)}")
    if engine == "onnxruntime" or (engine == "auto" and takes_onnxruntime(device, precision)):
        from deeplab_repro.engines.onnxruntime import OnnxRuntimeEngine

        return OnnxRuntimeEngine(net, device, precision)
    opencv = OpenCVEngine(net, device, precision)
    return OpenCVCpuEngine(net) if opencv.device == "cpu" else opencv


def takes_onnxruntime(device: str, precision: Precision) -> bool:
    """Whether "auto" is onnxruntime: see `make_engine`."""
    if precision != "float32" or importlib.util.find_spec("onnxruntime") is None:
        return False
    from deeplab_repro.engines import onnxruntime

    try:
        if device == "cpu":
            onnxruntime.load_onnxruntime()
            return True
        if cuda_problem(precision) is None:
            return False
        return onnxruntime.cuda_problem() is None or device == "auto"
    except DeviceError as error:  # it is installed, and broken
        logger.warning("%s: OpenCV is used in its place", error)
        return False
