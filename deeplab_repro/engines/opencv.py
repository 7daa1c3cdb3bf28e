"""Runs a net with OpenCV's dnn module."""

import logging
from collections.abc import Iterable

import cv2
import numpy as np

from deeplab_repro.convert.caffe import fits_any_size, to_caffe
from deeplab_repro.errors import ArgumentError, DeviceError, ResourceError
from deeplab_repro.layers import Shape, dims
from deeplab_repro.net import Net

log = logging.getLogger(__name__)

DEVICES = ("auto", "cpu", "cuda")
# Built nets that are kept, each with weights of its own.
_KEPT = 2


def resolve_device(device: str) -> str:
    """`device` ("cpu", "cuda" or "auto") as what will be used, "cpu" or "cuda".

    Bare OpenCV falls back to the CPU without a word, or dies on an assertion; so this looks first.
    Raises DeviceError where CUDA is asked for and absent, saying which piece is missing.
    """
    if device not in DEVICES:
        raise ArgumentError(f"device is '{device}', expected one of {', '.join(DEVICES)}")
    if device == "cpu":
        return "cpu"
    problem = cuda_problem()
    if problem is None:
        return "cuda"
    if device == "auto":
        return "cpu"
    raise DeviceError(f"CUDA was asked for, but {problem}")


def cuda_problem() -> str | None:
    """What keeps OpenCV's dnn from running on CUDA here, with the mend; None where it runs."""
    if not hasattr(cv2.dnn, "DNN_BACKEND_CUDA") or not _built_with_cuda():
        return (
            f"OpenCV {cv2.__version__} is built without CUDA (no wheel on PyPI has it): "
            "install a build with the CUDA dnn backend, or use --device cpu"
        )
    count = cv2.cuda.getCudaEnabledDeviceCount()
    if count < 1:
        why = "finds no usable driver" if count < 0 else "finds no GPU"
        return f"OpenCV's CUDA {why} on this machine: see nvidia-smi, or use --device cpu"
    if cv2.dnn.DNN_TARGET_CUDA not in cv2.dnn.getAvailableTargets(cv2.dnn.DNN_BACKEND_CUDA):
        return (
            "this OpenCV's dnn has no CUDA target for the GPU: "
            "build OpenCV for its architecture, or use --device cpu"
        )
    return None


def _built_with_cuda() -> bool:
    return any(
        line.split()[1:2] == ["CUDA:"] or "NVIDIA CUDA:" in line
        for line in cv2.getBuildInformation().splitlines()
        if "YES" in line
    )


class OpenCVEngine:
    """A net on OpenCV's dnn. Use one engine per thread; engines share nothing that changes.

    `device` is what runs: "cpu" or "cuda".
    """

    def __init__(self, net: Net, device: str = "auto") -> None:
        """Raises DeviceError where `device` is "cuda" and not to be had."""
        self.net = net
        self.device = resolve_device(device)
        self._built: dict[Shape, cv2.dnn.Net] = {}

    def forward(self, data: np.ndarray) -> np.ndarray:
        """The scores (NxCxHxW float32) of preprocessed images (Nx3xHxW float32, BGR minus mean).

        The first call builds OpenCV's net; later calls reuse it, at other sizes too unless the net
        fixes a size. Raises ArgumentError for other arrays, NetError where the net does not fit the
        size, and ResourceError where OpenCV runs out of memory.
        """
        return self.blobs(data, [self.net.output])[self.net.output]

    def blobs(self, data: np.ndarray, names: Iterable[str]) -> dict[str, np.ndarray]:
        """The named blobs (float32) of one run; of a blob that layers change in place, the last."""
        if data.dtype != np.float32 or data.ndim != 4:
            raise ArgumentError(
                f"the input is {data.dtype} of shape {dims(data.shape)}, expected float32 NxCxHxW"
            )
        # OpenCV names blobs by the layers that make them.
        makers = {top: layer.name for layer in self.net.layers for top in layer.tops}
        names = list(names)
        unknown = [name for name in names if name not in makers]
        if unknown:
            raise ArgumentError(f"net '{self.net.name}' makes no blob '{unknown[0]}'")
        for _ in self.net.walk(data.shape):
            pass  # raises where the shape does not fit, which OpenCV would say less clearly
        net = self._cv2_net(data.shape)
        try:
            net.setInput(data, self.net.input)
            found = net.forward([makers[name] for name in names])
        except cv2.error as error:
            if error.code == cv2.Error.STS_NO_MEM:
                raise ResourceError(
                    f"net '{self.net.name}' at {dims(data.shape)}: OpenCV ran out of memory; "
                    "use a smaller image"
                ) from None
            raise
        return dict(zip(names, found, strict=True))

    def _cv2_net(self, shape: Shape) -> "cv2.dnn.Net":
        # OpenCV takes other sizes into a built net, at a fraction of the cost of building one.
        shape = self.net.input_shape if fits_any_size(self.net) else shape
        net = self._built.pop(shape, None)
        if net is None:
            while len(self._built) >= _KEPT:
                del self._built[next(iter(self._built))]
            prototxt, caffemodel = to_caffe(self.net, shape)
            net = cv2.dnn.readNetFromCaffe(
                np.frombuffer(prototxt, np.uint8), np.frombuffer(caffemodel, np.uint8)
            )
            if self.device == "cuda":
                net.setPreferableBackend(cv2.dnn.DNN_BACKEND_CUDA)
                net.setPreferableTarget(cv2.dnn.DNN_TARGET_CUDA)
            else:
                net.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
                net.setPreferableTarget(cv2.dnn.DNN_TARGET_CPU)
        self._built[shape] = net  # the last used is the last to go
        return net
