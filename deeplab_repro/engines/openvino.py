"""Runs a net with OpenVINO, an optional package: `pip install "deeplab-repro[openvino]"`.

It runs on the CPU alone, in float32, or in bfloat16 where the CPU multiplies that.
"""

import contextlib
import sys
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from deeplab_repro.arrays import Shape
from deeplab_repro.engines.by_onnx import OnnxEngine, load_library
from deeplab_repro.engines.engine import check_precision
from deeplab_repro.errors import DeviceError, one_line
from deeplab_repro.machine.cpu import cpu_flags
from deeplab_repro.machine.device import Precision, resolve_device
from deeplab_repro.machine.opencv import cv2
from deeplab_repro.machine.packages import mend_of
from deeplab_repro.net.net import Net

if TYPE_CHECKING:
    import openvino

_TELEMETRY = "openvino_telemetry"
_TYPES: dict[Precision, str] = {"float32": "f32", "bfloat16": "bf16"}

# Of CPUs that multiply bfloat16, as Linux calls it on x86 and on Arm.
_BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}


def load_openvino() -> tuple[ModuleType, "openvino.Core"]:
    """The module openvino, and its core, which has the CPU.

    Raises DeviceError where it is not installed, does not import, or does not load its part for the
    CPU, a library of its own.
    """
    with without_telemetry():
        module = load_library("openvino", "openvino")
    try:
        core = module.Core()
        core.get_property("CPU", "FULL_DEVICE_NAME")
    except Exception as error:  # its exceptions share no other base class
        raise DeviceError(
            f"openvino has no CPU here: {one_line(error)}: {mend_of('openvino')}"
        ) from error
    return module, core


@contextlib.contextmanager
def without_telemetry() -> Iterator[None]:
    """While OpenVINO is imported, hide the package that asks the network and writes to the home."""
    there = {name: sys.modules[name] for name in (_TELEMETRY,) if name in sys.modules}
    hidden: dict[str, Any] = {_TELEMETRY: None}  # as for a package that is not installed
    sys.modules.update(hidden)
    try:
        yield
    finally:
        del sys.modules[_TELEMETRY]
        sys.modules.update(there)


def bfloat16_problem() -> str | None:
    """What keeps OpenVINO from gaining by bfloat16 here; None where it gains.

    Raises DeviceError where there is no OpenVINO.
    """
    flags = cpu_flags()
    if flags is None or flags & _BFLOAT16:
        _, core = load_openvino()
        if "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            return None
    return "this CPU has neither AVX512_BF16 nor AMX and would gain nothing"


class OpenVinoEngine(OnnxEngine):
    """A net that OpenVINO runs on the CPU. Use one engine per thread.

    precision: "float32" or "bfloat16", in which case inputs and outputs are float32 all the same.
    """

    def __init__(self, net: Net, device: str = "auto", precision: Precision = "float32") -> None:
        """Raises DeviceError where OpenVINO, the device or the precision is unavailable."""
        check_precision(precision)
        problem = bfloat16_problem() if precision == "bfloat16" else None
        if precision == "float16":
            problem = "OpenVINO runs nets in float32 and bfloat16 only"
        if problem:
            mend = "use --precision float32"
            raise DeviceError(f"{precision} was asked for, but {problem}: {mend}")
        openvino, self._core = load_openvino()
        found = resolve_device(device, lambda: "OpenVINO has none: use --device cpu")
        name = f"OpenVINO {openvino.__version__.partition('-')[0]}"
        # The scores at full size too would be made at every run, wanted or not.
        super().__init__(net, name, found, precision, [net.coarse_output[0]])

    def memory_needed(self, shape: Shape) -> int:
        """About how many bytes it takes to run on images of up to this NxCxHxW.

        Fitted to peaks with OpenVINO 2026.4, from -6% to +33%: LargeFOV took 354 and 633 MB at
        513x513 and 1025x769, MSc-LargeFOV 711, DeepLab 1051, DeepLab-7x7 2158, in bfloat16 no more.
        DeepLabv2-ResNet101, whose blobs live shortly, took 845 MB in place of 2000. Its own code
        takes some 35 MB more.
        """
        weights, blobs = 4 * self.net.parameters, self.net.activation_bytes(shape)
        return int(max(4.3 * weights, 2 * weights + 0.54 * blobs))

    def _load(self, model: bytes) -> "openvino.InferRequest":
        """A request of OpenVINO's with as many threads as OpenCV, see `onnxruntime.make_session`.

        Left to itself OpenVINO computes in bfloat16 where the CPU does, and binds its threads to
        the first cores, which several processes would then share.
        """
        settings = {
            "INFERENCE_PRECISION_HINT": _TYPES[self.precision],
            "EXECUTION_MODE_HINT": "ACCURACY" if self.precision == "float32" else "PERFORMANCE",
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            "INFERENCE_NUM_THREADS": str(cv2.getNumThreads()),
            "ENABLE_CPU_PINNING": "NO",
        }
        compiled = self._core.compile_model(self._core.read_model(model), "CPU", settings)
        return compiled.create_infer_request()

    def _run(
        self,
        session: "openvino.InferRequest",
        data: np.ndarray,
        outputs: Sequence[str],
        names: Sequence[str],
    ) -> Sequence[np.ndarray]:
        found = session.infer({0: data})
        return [found[outputs.index(name)] for name in names]
