"""Runs a net with OpenCV's dnn module."""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

import cv2
import numpy as np

from deeplab_repro.convert.caffe import stock_net, to_caffe
from deeplab_repro.convert.onnx import to_onnx
from deeplab_repro.device import resolve_device
from deeplab_repro.errors import (
    ArgumentError,
    DeepLabError,
    NetError,
    ResourceError,
    WeightsError,
)
from deeplab_repro.layers import Concat, Convolution, Shape, Split, dims
from deeplab_repro.net import Net

# Built nets that are kept, each with weights of its own.
_KEPT = 2
_INPUT = "data"

# Beyond any score that float32 arithmetic comes back from.
_ENDLESS = 1e30

BY_CAFFE = hasattr(cv2.dnn, "readNetFromCaffe")
"""Whether OpenCV takes our nets by way of Caffe, as OpenCV 4: without a copy of the weights.

OpenCV 5 has no Caffe importer any more; there they go by way of ONNX.
"""


def cuda_problem() -> str | None:
    """What keeps OpenCV's dnn from running on CUDA here, with the mend; None where it runs.

    Bare OpenCV falls back to the CPU without a word, or dies on an assertion; so this looks first.
    """
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
    return re.search(r"NVIDIA CUDA:\s+YES", cv2.getBuildInformation()) is not None


def told_by(error: cv2.error) -> tuple[str, int | None, str]:
    """What OpenCV says of an error, on one line; its code, and the function that found it."""
    text, code, where = (getattr(error, name, None) for name in ("err", "code", "func"))
    # These are kept on the class: of an exception without them they are those of the last one.
    if not text or text not in str(error):
        text, code, where = str(error), None, None
    return " ".join(text.split()), code, where or "dnn"


def check_finite(net: Net, values: np.ndarray) -> None:
    """Raise WeightsError where values that a net gave are NaN or infinite."""
    # Never true with NaN. OpenCV 5 makes the largest float32 of what is NaN or infinite.
    if not -_ENDLESS < values.min(initial=0) <= values.max(initial=0) < _ENDLESS:
        raise WeightsError(
            f"net '{net.name}' gives scores that are NaN or infinite: its weights are broken, get "
            "them again"
        )


def _numbered(net: Net) -> tuple[Net, dict[str, str]]:
    """The net with numbers for names, and every blob's number; of one changed in place, the last.

    OpenCV takes a blob for the layer that makes it, and a convolution's name from its blob: given
    names would clash.
    """
    numbers = {net.input: _INPUT}
    layers = []
    for index, layer in enumerate(net.layers):
        bottoms = tuple(numbers[bottom] for bottom in layer.bottoms)
        alone = isinstance(layer.op, Concat) and len(bottoms) == 1
        op = Split() if alone else layer.op  # which OpenCV 4.14 leaves as its memory was
        layers.append(replace(layer, name=str(index), op=op, bottoms=bottoms, tops=(str(index),)))
        numbers.update(dict.fromkeys(layer.tops, str(index)))
    if numbers[net.input] == _INPUT:  # else a layer changes the input in place
        del numbers[net.input]
    return replace(net, input=_INPUT, layers=layers), numbers


def _read_onnx(net: Net, shape: Shape, outputs: Iterable[str], device: str) -> "cv2.dnn.Net":
    """OpenCV 5's net, which gives these outputs and no other blobs."""
    # Its new engine knows no device but the CPU.
    engine = cv2.dnn.ENGINE_CLASSIC if device == "cuda" else cv2.dnn.ENGINE_AUTO
    return cv2.dnn.readNetFromONNX(np.frombuffer(to_onnx(net, shape, outputs), np.uint8), engine)


def _read_caffe(stock: Net) -> "cv2.dnn.Net":
    """OpenCV 4's net, which shares the arrays of the convolutions.

    By way of the caffemodel's bytes, OpenCV would copy the weights four times: that took longer
    than all else before the first forward together.
    """
    prototxt, caffemodel = to_caffe(stock, hollow=True)
    net = cv2.dnn.readNetFromCaffe(
        np.frombuffer(prototxt, np.uint8), np.frombuffer(caffemodel, np.uint8)
    )
    for layer in stock.layers:
        if isinstance(layer.op, Convolution):
            for index, blob in enumerate(layer.blobs):
                data = np.ascontiguousarray(blob.data, np.float32)
                net.setParam(net.getLayerId(layer.name), index, np.atleast_2d(data))
    return net


class OpenCVEngine:
    """A net on OpenCV's dnn. Use one engine per thread; engines share nothing that changes.

    `device` is what runs: "cpu" or "cuda".
    """

    def __init__(self, net: Net, device: str = "auto") -> None:
        """Raises DeviceError where `device` is not to be had."""
        self.net = net
        self.device = resolve_device(device, cuda_problem)
        self._built: dict[tuple[Shape, tuple[str, ...]], cv2.dnn.Net] = {}
        self._numbered, self._numbers = _numbered(net)
        usual = net.output, net.coarse_output[0]
        self._usual = [name for name in usual if name in self._numbers]

    def build(self) -> None:
        """Build OpenCV's net for the net's own size, which the first call would do otherwise.

        Raises WeightsError where a layer has no weights, and NetError where OpenCV cannot read it.
        """
        try:
            self._cv2_net(self.net.input_shape, self._outputs(self._usual))
        except cv2.error as error:
            raise self._explained(error, self.net.input_shape) from error

    def forward(self, data: np.ndarray) -> np.ndarray:
        """The scores (NxCxHxW float32) of preprocessed images (Nx3xHxW float32, BGR minus mean).

        The first call builds OpenCV's net; later calls reuse it, at other sizes too unless the net
        fixes a size. Raises ArgumentError for other arrays, NetError where the net does not fit the
        size or OpenCV cannot run it, and ResourceError where OpenCV runs out of memory.
        """
        return self.blobs(data, [self.net.output])[self.net.output]

    def blobs(self, data: np.ndarray, names: Iterable[str]) -> dict[str, np.ndarray]:
        """The named blobs (float32) of one run; of a blob that layers change in place, the last."""
        if data.dtype != np.float32 or data.ndim != 4:
            raise ArgumentError(
                f"the input is {data.dtype} of shape {dims(data.shape)}, expected float32 NxCxHxW"
            )
        shapes = self.net.blob_shapes(data.shape)  # where it does not fit, this says so clearly
        names = list(names)
        unknown = [name for name in names if name not in self._numbers]
        if unknown:
            raise ArgumentError(f"net '{self.net.name}' makes no blob '{unknown[0]}'")
        outputs = self._outputs(names)
        try:
            net = self._cv2_net(data.shape, outputs)
            net.setInput(data, _INPUT)
            found = dict(zip(outputs, net.forward(outputs), strict=True))
        except cv2.error as error:
            raise self._explained(error, data.shape) from error
        blobs = {}
        for name in names:
            blob = found[self._numbers[name]]
            if blob.size != math.prod(shapes[name]):
                raise NetError(
                    f"net '{self.net.name}' at {dims(data.shape)}: OpenCV {cv2.__version__} makes "
                    f"'{name}' {dims(blob.shape)}, Caffe {dims(shapes[name])}"
                )
            blobs[name] = blob.reshape(shapes[name])  # an InnerProduct's has two axes in OpenCV
        return blobs

    def _outputs(self, names: Sequence[str]) -> tuple[str, ...]:
        """The blobs, by number, to ask OpenCV for: more than these where it is built for more."""
        if not BY_CAFFE and set(names) <= set(self._usual):
            names = self._usual
        return tuple(dict.fromkeys(self._numbers[name] for name in names))

    def _explained(self, error: cv2.error, shape: Shape) -> DeepLabError:
        self._built.clear()  # OpenCV does not say in which state it leaves a net that failed
        what = f"net '{self.net.name}' at {dims(shape)}: OpenCV {cv2.__version__}"
        text, code, where = told_by(error)
        if code == cv2.Error.STS_NO_MEM or "bad_alloc" in text:
            return ResourceError(f"{what} ran out of memory: use a smaller image")
        return NetError(f"{what} cannot run it on {self.device}: {text} (in {where})")

    def _cv2_net(self, shape: Shape, outputs: tuple[str, ...]) -> "cv2.dnn.Net":
        # OpenCV takes other sizes into a built net, at a fraction of the cost of building one.
        shape = self.net.input_shape if self.net.fits_any_size else shape
        key = shape, () if BY_CAFFE else outputs
        net = self._built.pop(key, None)
        if net is None:
            while len(self._built) >= _KEPT:
                del self._built[next(iter(self._built))]
            if BY_CAFFE:
                net = _read_caffe(stock_net(self._numbered, shape))
            else:
                net = _read_onnx(self._numbered, shape, outputs, self.device)
            if self.device == "cuda":
                net.setPreferableBackend(cv2.dnn.DNN_BACKEND_CUDA)
                net.setPreferableTarget(cv2.dnn.DNN_TARGET_CUDA)
            elif BY_CAFFE:  # OpenCV 5's engine has but this one, and warns of being told
                net.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
                net.setPreferableTarget(cv2.dnn.DNN_TARGET_CPU)
        self._built[key] = net  # the last used is the last to go
        return net
