"""Runs a net with onnxruntime, an optional package: `pip install "deeplab-repro[onnx]"`.

Where a device fails, onnxruntime takes another with a warning at most. So this checks the device
first, and forbids another.
"""

import contextlib
import io
import os
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from deeplab_repro.arrays import Shape
from deeplab_repro.convert.onnx_graph import OPSETS, Graph
from deeplab_repro.engines.by_onnx import OnnxEngine, load_library
from deeplab_repro.engines.engine import check_precision
from deeplab_repro.errors import DeviceError, one_line
from deeplab_repro.machine.device import Device, Precision, resolve_device
from deeplab_repro.machine.gpus import driver_problem
from deeplab_repro.machine.opencv import cv2
from deeplab_repro.net.net import Net
from deeplab_repro.net.stages import peak_bytes

if TYPE_CHECKING:
    import onnxruntime

NO_TELEMETRY = "ORT_DISABLE_TELEMETRY"  # else it sends what it counts of its use
_CUDA = "CUDAExecutionProvider"

# With these the scores of ToyVOC-LargeFOV are off by up to 2.2; with 1.17, 1.18 and 1.21 on, 1e-5.
_WRONG = ("1.19.", "1.20.")


def load_onnxruntime() -> ModuleType:
    """The module onnxruntime.

    Raises DeviceError where it is not installed, does not import, or computes wrong numbers.
    """
    os.environ.setdefault(NO_TELEMETRY, "1")
    found = load_library("onnxruntime", "onnx", "InferenceSession", "get_available_providers")
    if found.__version__.startswith(_WRONG):
        raise DeviceError(
            f"onnxruntime {found.__version__} computes wrong scores, as all of 1.19 and 1.20 do: "
            'pip install "onnxruntime>=1.21", or use --engine opencv'
        )
    return found


def cuda_problem() -> str | None:
    """What keeps onnxruntime from running on CUDA here, with the mend; None where it runs.

    Raises DeviceError where there is no onnxruntime.
    """
    onnxruntime = load_onnxruntime()
    if _CUDA not in onnxruntime.get_available_providers():
        return (
            f"onnxruntime {onnxruntime.__version__} is built without CUDA: uninstall it and "
            'pip install "onnxruntime-gpu[cuda,cudnn]", or use --device cpu'
        )
    return driver_problem() or _provider_problem(onnxruntime)


def _provider_problem(onnxruntime: ModuleType) -> str | None:
    """What keeps onnxruntime's CUDA provider, a library of its own, from being loaded."""
    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        if hasattr(onnxruntime, "preload_dlls"):
            onnxruntime.preload_dlls()  # CUDA and cuDNN from NVIDIA's packages
    onnxruntime.set_default_logger_severity(4)  # what it would print comes as an exception too
    try:
        make_session(_probe(), "cuda")
    except Exception as error:  # its exceptions share no other base class
        why = (told.getvalue().splitlines() or [one_line(error)])[0]
        return (
            f"onnxruntime {onnxruntime.__version__} does not load its CUDA provider ({why}): "
            'pip install "onnxruntime-gpu[cuda,cudnn]", or use --device cpu'
        )
    finally:
        onnxruntime.set_default_logger_severity(2)  # its default
    return None


def _probe(opset: int = OPSETS[0]) -> bytes:
    """The smallest of ONNX files."""
    graph = Graph("probe", opset)
    graph.output(graph.node("Relu", [graph.input("x", "float32", (1,))], "y"), "float32", (1,))
    return b"".join(graph.chunks({}))


def make_session(model: bytes | str, device: Device) -> "onnxruntime.InferenceSession":
    """onnxruntime's session of an ONNX file's bytes, or of the file at a path.

    It has as many threads as OpenCV: one setting, OPENCV_FOR_THREADS_NUM or cv2.setNumThreads,
    holds for whatever runs the net. Raises onnxruntime's exceptions.
    """
    onnxruntime = load_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # as above
    options.intra_op_num_threads = cv2.getNumThreads()
    # Else the threads wait for more work on cores that the CRF can use.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Else a size seen before takes the memory of all blobs once more, in one piece.
    options.enable_mem_pattern = False
    providers: list = ["CPUExecutionProvider"]
    if device == "cuda":
        providers = [(_CUDA, {"use_tf32": "0"})]
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    session = onnxruntime.InferenceSession(model, options, providers=providers, enable_fallback=0)
    session.disable_fallback()  # when it runs
    return session


def newest_opset() -> int:
    """The newest of OPSETS that onnxruntime runs. It does not tell, so they are tried.

    Raises DeviceError where there is no onnxruntime, and what keeps it from running anything.
    """
    for opset in reversed(OPSETS):
        try:
            make_session(_probe(opset), "cpu")
        except Exception:  # its exceptions share no other base class
            if opset == OPSETS[0]:
                raise
        else:
            break
    return opset


class OnnxRuntimeEngine(OnnxEngine):
    """A net that onnxruntime runs in float32. Use one engine per thread."""

    def __init__(self, net: Net, device: str = "auto", precision: Precision = "float32") -> None:
        """Raises DeviceError where onnxruntime, the device or the precision is unavailable."""
        check_precision(precision)
        if precision != "float32":
            other = "opencv" if precision == "float16" else "openvino"
            raise DeviceError(
                f"{precision} was asked for, but with onnxruntime nets run in float32 only: "
                f"use --precision float32, or --engine {other}"
            )
        onnxruntime = load_onnxruntime()
        name = f"onnxruntime {onnxruntime.__version__}"
        usual = net.output, net.coarse_output[0]
        super().__init__(net, name, resolve_device(device, cuda_problem), precision, usual)
        self._run_options = onnxruntime.RunOptions()
        self._run_options.only_execute_path_to_fetches = True  # not to all of a session's outputs

    def build(self) -> None:
        """Make a session for the net's own size, which the first run would do otherwise.

        On CUDA it also runs once, to the coarse scores of one image: what is wrong with the machine
        comes with the first run. Raises what `blobs` raises.
        """
        if self.device == "cuda":
            self.blobs(np.zeros((1, *self.net.input_shape[1:]), np.float32), self._usual[-1:])
        else:
            super().build()

    def memory_needed(self, shape: Shape) -> int:
        """About how many bytes it takes to run on images of up to this NxCxHxW.

        Fitted to peaks with onnxruntime 1.32 on a CPU, from -3% to +35%: LargeFOV took 595 and 835
        MB at 513x513 and 1025x769, MSc-LargeFOV 796, DeepLab 1300, DeepLab-7x7 3300,
        DeepLabv2-ResNet101 970; and stages of LargeFOV, as tiles.py runs them, 270 to 990 MB.
        """
        weights, blobs = 4 * self.net.parameters, peak_bytes(self.net, shape)
        # While it is built there are several copies of the weights, and afterwards fewer; beside
        # the largest layer's blobs there is a copy of some in another order.
        return int(max(6 * weights + blobs, 5 * weights + 1.5 * blobs))

    def _load(self, model: bytes) -> "onnxruntime.InferenceSession":
        return make_session(model, self.device)

    def _run(
        self,
        session: "onnxruntime.InferenceSession",
        data: np.ndarray,
        outputs: Sequence[str],
        names: Sequence[str],
    ) -> Sequence[np.ndarray]:
        values = dict(zip(outputs, (value.name for value in session.get_outputs()), strict=True))
        inputs = {session.get_inputs()[0].name: data}
        return session.run([values[name] for name in names], inputs, self._run_options)
