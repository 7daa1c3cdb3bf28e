"""Chooses the library that runs a net: OpenCV's dnn, or onnxruntime or OpenVINO if installed."""

import importlib.util
import logging
from collections.abc import Callable
from functools import partial

from deeplab_repro.engines import ENGINES
from deeplab_repro.engines.engine import Engine, check_precision
from deeplab_repro.engines.fastest import FastestEngine
from deeplab_repro.engines.opencv import OpenCVEngine
from deeplab_repro.engines.opencv_cpu import OpenCVCpuEngine, gains_in_parts
from deeplab_repro.engines.opencv_cuda import cuda_problem, opencv_device
from deeplab_repro.errors import ArgumentError, DeviceError
from deeplab_repro.machine.device import Precision
from deeplab_repro.net.net import Net

logger = logging.getLogger(__name__)


def make_engine(
    net: Net,
    device: str = "auto",
    precision: Precision = "float32",
    engine: str = "auto",
    measures: bool = True,
) -> Engine:
    """The engine that runs a net on a device. Nothing is built yet.

    device: "cpu", "cuda", or "auto" for the best there is. engine: "opencv", "onnxruntime",
    "openvino", or "auto". On CUDA that is OpenCV, as it has both precisions, and onnxruntime where
    only that has CUDA. On the CPU it is the fastest of those that are installed, see
    `FastestEngine`, and until that is measured OpenCV for VGG nets and OpenVINO for others; in
    bfloat16 it is OpenVINO, which alone has it. measures: whether it may be measured which is the
    fastest.

    Raises ArgumentError for another device, engine or precision, and DeviceError where the engine
    or the device is unavailable, or does not have this precision.
    """
    if engine not in ENGINES:
        raise ArgumentError(f"engine is '{engine}', expected one of {', '.join(ENGINES)}")
    check_precision(precision)
    names = engines_for(device, precision) if engine == "auto" else [engine]
    if len(names) > 1 and gains_in_parts(net):
        names.sort(key=lambda name: name != "opencv")
    makers = [partial(_MAKERS[name], net, device, precision) for name in names]
    return FastestEngine(net, makers) if measures and len(makers) > 1 else makers[0]()


def engines_for(device: str, precision: Precision) -> list[str]:
    """The engines that "auto" stands for: the fastest of several, the first if none is measured."""
    if precision == "bfloat16":
        return ["openvino"]
    if precision == "float16":
        return ["opencv"]
    if device != "cpu":
        if cuda_problem(precision) is None:
            return ["opencv"]
        if _usable("onnxruntime") and _onnxruntime_has_cuda():
            return ["onnxruntime"]
        if device != "auto":  # OpenCV says what is wrong
            return ["opencv"]
    return [name for name in ("openvino", "onnxruntime", "opencv") if _usable(name)]


def _usable(engine: str) -> bool:
    """Whether its library is installed, and not broken."""
    if engine == "opencv":
        return True
    if importlib.util.find_spec(engine) is None:
        return False
    try:
        _LOADERS[engine]()
    except DeviceError as error:  # it is installed, and broken
        logger.warning("%s: others are used in its place", error)
        return False
    return True


def _load_onnxruntime() -> None:
    from deeplab_repro.engines import onnxruntime

    onnxruntime.load_onnxruntime()


def _load_openvino() -> None:
    from deeplab_repro.engines import openvino

    openvino.load_openvino()


def _onnxruntime_has_cuda() -> bool:
    from deeplab_repro.engines import onnxruntime

    return onnxruntime.cuda_problem() is None


def _on_opencv(net: Net, device: str, precision: Precision) -> Engine:
    if precision == "bfloat16":
        raise DeviceError(
            "bfloat16 was asked for, but OpenCV has none: use --precision float32, or "
            "--engine openvino"
        )
    chosen = opencv_device(device, precision)
    return OpenCVCpuEngine(net) if chosen == "cpu" else OpenCVEngine(net, chosen, precision)


def _on_onnxruntime(net: Net, device: str, precision: Precision) -> Engine:
    from deeplab_repro.engines import onnxruntime

    return onnxruntime.OnnxRuntimeEngine(net, device, precision)


def _on_openvino(net: Net, device: str, precision: Precision) -> Engine:
    from deeplab_repro.engines import openvino

    return openvino.OpenVinoEngine(net, device, precision)


_LOADERS = {"onnxruntime": _load_onnxruntime, "openvino": _load_openvino}
_MAKERS: dict[str, Callable[[Net, str, Precision], Engine]] = {
    "opencv": _on_opencv,
    "onnxruntime": _on_onnxruntime,
    "openvino": _on_openvino,
}
