"""Chooses the library that runs a net: OpenCV's dnn, or onnxruntime where it is installed."""

import importlib.util
import logging

from deeplab_repro.engines import ENGINES
from deeplab_repro.engines.engine import Engine, check_precision
from deeplab_repro.engines.opencv import OpenCVEngine
from deeplab_repro.engines.opencv_cpu import OpenCVCpuEngine
from deeplab_repro.engines.opencv_cuda import cuda_problem, opencv_device
from deeplab_repro.errors import ArgumentError, DeviceError
from deeplab_repro.machine.device import Precision
from deeplab_repro.net.net import Net

logger = logging.getLogger(__name__)


def make_engine(
    net: Net, device: str = "auto", precision: Precision = "float32", engine: str = "auto"
) -> Engine:
    """The engine that runs a net on a device. Nothing is built yet.

    device: "cpu", "cuda", or "auto" for the best there is. engine: "opencv", "onnxruntime", or
    "auto". On CUDA that is OpenCV, as it has both precisions, and onnxruntime where only that has
    CUDA. On the CPU it is onnxruntime where it is installed: of OpenCV's time in parts (4.14, 2
    cores) it took 0.83 for LargeFOV, 0.84 for MSc-LargeFOV, and of OpenCV 5's less.

    Raises ArgumentError for another device, engine or precision, and DeviceError where the engine
    or the device is unavailable, or does not have this precision.
    """
    if engine not in ENGINES:
        raise ArgumentError(f"engine is '{engine}', expected one of {', '.join(ENGINES)}")
    check_precision(precision)
    if engine == "onnxruntime" or (engine == "auto" and takes_onnxruntime(device, precision)):
        from deeplab_repro.engines.onnxruntime import OnnxRuntimeEngine

        return OnnxRuntimeEngine(net, device, precision)
    chosen = opencv_device(device, precision)
    return OpenCVCpuEngine(net) if chosen == "cpu" else OpenCVEngine(net, chosen, precision)


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
