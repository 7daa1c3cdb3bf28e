"""Whether OpenCV's dnn can run on CUDA, and what fails there.

OpenCV itself falls back to the CPU without a message, or stops at an assertion; so this checks
first. OpenCV forbids cuDNN to round to TF32 in float32 (it asks for FMA), and cuBLAS never does so
unasked: float32 is float32, whatever NVIDIA_TF32_OVERRIDE says.
"""

import ctypes
import re
from dataclasses import dataclass
from functools import partial

from deeplab_repro.errors import DeepLabError, DeviceError, ResourceError
from deeplab_repro.machine.device import Device, Precision, resolve_device
from deeplab_repro.machine.gpus import cuda_version, driver_problem, find_gpus
from deeplab_repro.machine.opencv import cv2, told_by

_BUILD = (
    "make a wheel of OpenCV 4 with tools/opencv_cuda/build.py of the repository, "
    "or use --device cpu"
)

BY_CAFFE = hasattr(cv2.dnn, "readNetFromCaffe")
"""Whether OpenCV has its Caffe importer, which takes our nets without a copy of the weights.

OpenCV 4 has it. OpenCV 5 does not: there nets go by way of ONNX, and run on the CPU only.
"""

# A layer in OpenCV's `Net.dump`: its number, or the first of those that are fused; OCV/ where it is
# not on the requested backend.
_ON_CPU = re.compile(r'\[label="\{?(?:onnx_node!)?(\d+).*OCV/')


def opencv_device(device: str, precision: Precision) -> Device:
    """The device that OpenCV runs nets on: `device`, or the best there is for "auto".

    Raises ArgumentError for another device, and DeviceError where `device` is unavailable or does
    not have this precision.
    """
    found = resolve_device(device, partial(cuda_problem, precision))
    if found == "cpu" and precision == "float16":
        why = "the device is 'cpu'" if device == "cpu" else cuda_problem(precision)
        raise DeviceError(f"float16 runs on CUDA only (else use --precision float32), and {why}")
    return found


def cuda_problem(precision: Precision = "float32") -> str | None:
    """What keeps OpenCV's dnn from running on CUDA here, with the mend; None where it runs."""
    built = cuda_build()
    if built is None:
        return (
            f"OpenCV {cv2.__version__} is built without CUDA, as all wheels on PyPI are: {_BUILD}"
        )
    if not BY_CAFFE:  # its new engine runs on the CPU only, and the old one reads no ONNX in memory
        return f"OpenCV {cv2.__version__} has no engine that runs these nets on CUDA: {_BUILD}"
    if built.cudnn is None:
        return f"OpenCV {cv2.__version__} is built without cuDNN, which its dnn needs: {_BUILD}"
    return (
        driver_problem()
        or _driver_too_old(built.cuda)
        or _cudnn_too_old(built.cudnn)
        or _wrong_architecture(built.architectures)
        or _no_target(precision)
    )


@dataclass(frozen=True)
class CudaBuild:
    """What OpenCV was built with: versions (major, minor), and GPUs ("sm_86, sm_90")."""

    cuda: tuple[int, int]
    cudnn: tuple[int, int] | None
    architectures: str

    def __str__(self) -> str:
        cudnn = f"cuDNN {_dotted(self.cudnn)}" if self.cudnn else "no cuDNN"
        return f"CUDA {_dotted(self.cuda)}, {cudnn}, for GPUs of {self.architectures}"


def cuda_build() -> CudaBuild | None:
    """How OpenCV was built with CUDA; None where it was not."""
    information = cv2.getBuildInformation()
    cuda = re.search(r"NVIDIA CUDA:\s+YES \(ver (\d+)\.(\d+)", information)
    if cuda is None:
        return None
    cudnn = re.search(r"cuDNN:\s+YES \(ver (\d+)\.(\d+)", information)
    lists = re.findall(r"NVIDIA (?:GPU arch|PTX archs):[^\S\n]*(.*)", information)
    numbers = dict.fromkeys(" ".join(lists).split())
    return CudaBuild(
        cuda=(int(cuda[1]), int(cuda[2])),
        cudnn=(int(cudnn[1]), int(cudnn[2])) if cudnn else None,
        architectures=", ".join(f"sm_{number}" for number in numbers),
    )


def _driver_too_old(built: tuple[int, int]) -> str | None:
    supported = cuda_version()
    if supported[0] >= built[0]:  # within a major version, older drivers run newer programs
        return None
    return (
        f"the NVIDIA driver supports CUDA up to {_dotted(supported)}, and OpenCV is built with "
        f"{_dotted(built)}: update the driver, or use --device cpu"
    )


def _cudnn_too_old(built: tuple[int, int]) -> str | None:
    """OpenCV itself would only log it, and fail later."""
    try:
        cudnn = ctypes.CDLL(f"libcudnn.so.{built[0]}")  # the one that cv2 is loaded with
    except OSError:  # it has another name on this system, or is a part of cv2
        return None
    number = cudnn.cudnnGetVersion()
    found = number // 10000, number % 10000 // 100
    if found >= built:
        return None
    return (
        f"cuDNN is {_dotted(found)}, and OpenCV is built with {_dotted(built)}: "
        "pip install --upgrade nvidia-cudnn-cu13, or use --device cpu"
    )


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


def _wrong_architecture(built: str) -> str | None:
    gpu = find_gpus()[0]  # the one that CUDA takes
    major, minor = gpu.capability
    has = cv2.cuda.TargetArchs
    if has.hasEqualOrLessPtx(major, minor) or any(has.hasBin(major, m) for m in range(minor + 1)):
        return None
    return f"OpenCV is built for GPUs of {built}, and {gpu.name} is sm_{major}{minor}: {_BUILD}"


def _no_target(precision: Precision) -> str | None:
    try:
        targets = cv2.dnn.getAvailableTargets(cv2.dnn.DNN_BACKEND_CUDA)
    except cv2.error as error:
        return f"OpenCV's CUDA fails ({told_by(error)[0]}): see nvidia-smi, or use --device cpu"
    if target(precision) in targets:
        return None
    return (
        f"OpenCV's dnn has no {precision} on this GPU: see nvidia-smi and deeplab-repro doctor, "
        "or use --device cpu"
    )


def target(precision: Precision) -> int:
    """OpenCV's dnn target of a precision."""
    return cv2.dnn.DNN_TARGET_CUDA_FP16 if precision == "float16" else cv2.dnn.DNN_TARGET_CUDA


def layers_on_cpu(net: "cv2.dnn.Net") -> list[int]:
    """The numbers of the layers that OpenCV runs on the CPU though CUDA was set; it never says so.

    Call it after the first run.
    """
    return [int(found[1]) for found in map(_ON_CPU.search, net.dump().splitlines()) if found]


def gpu_error(what: str, text: str) -> DeepLabError:
    """Our error for one of CUDA's. what: the net and its size. text: OpenCV's message."""
    if "out of memory" in text or "ALLOC_FAILED" in text:
        return ResourceError(
            f"{what} ran out of GPU memory: use smaller images or --device cpu, and see in "
            "nvidia-smi what else is on the GPU"
        )
    mend = "see nvidia-smi and deeplab-repro doctor"
    if "SUBLIBRARY" in text:
        mend = "parts of cuDNN are missing: pip install --force-reinstall nvidia-cudnn-cu13"
    elif "no kernel image" in text or "CUDA_ARCH" in text:
        mend = "OpenCV is not built for this GPU: see tools/opencv_cuda/build.py of the repository"
    return DeviceError(f"{what} fails on the GPU ({text}): {mend}, or use --device cpu")
