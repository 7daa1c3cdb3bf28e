"""Runs a net with OpenCV's dnn on the CPU, in parts where that is faster than as a whole."""

from collections.abc import Iterable

import numpy as np

from deeplab_repro.arrays import Shape
from deeplab_repro.engines.engine import check_request
from deeplab_repro.engines.folding import folded
from deeplab_repro.engines.opencv import BY_CAFFE, OpenCVEngine, numbered
from deeplab_repro.engines.parts import InParts
from deeplab_repro.machine.device import Device, Precision
from deeplab_repro.machine.opencv import cv2
from deeplab_repro.net.layers import Convolution
from deeplab_repro.net.net import Net

# How many choices of blobs the parts are kept for, each with its own copy of the weights.
_KEPT = 2


class OpenCVCpuEngine:
    """A net on OpenCV's dnn on the CPU. Use one engine per thread."""

    name = f"OpenCV {cv2.__version__}"
    device: Device = "cpu"
    precision: Precision = "float32"

    def __init__(self, net: Net) -> None:
        self.net = net
        self._numbered, self._numbers = numbered(net)
        self._made: dict[tuple[str, ...], InParts] = {}

    def build(self) -> None:
        """Build what gives the coarse scores, which the first run would do otherwise.

        Raises WeightsError where a layer has no weights, and NetError where OpenCV cannot read it.
        """
        self._in_parts([self.net.coarse_output[0]]).build()

    def blobs(self, data: np.ndarray, names: Iterable[str]) -> dict[str, np.ndarray]:
        """The named blobs; takes, gives and raises what `OpenCVEngine.blobs` does."""
        names = list(names)
        check_request(self.net, self._numbers, data, names)
        self.net.blob_shapes(data.shape)  # says clearly where the net does not fit
        found = self._in_parts(names).blobs(data)
        return {name: found[self._numbers[name]] for name in names}

    def memory_needed(self, shape: Shape) -> int:
        """About how many bytes it takes to run on images of up to this NxCxHxW.

        Fitted to peaks, from -3% to +12%. With OpenCV 4.14 LargeFOV took 948 and 1727 MB at 513x513
        and 1025x769, MSc-LargeFOV 1400, DeepLab 1192, DeepLab-7x7 1617; with OpenCV 5.0 LargeFOV
        528 MB, MSc-LargeFOV 1127, DeepLab 877.
        """
        weights, blobs = 4 * self.net.parameters, self.net.activation_bytes(shape)
        if not BY_CAFFE:
            return int(90e6 + weights + blobs)
        ordinary = sum(
            4 * layer.parameters
            for layer in self.net.layers
            if isinstance(layer.op, Convolution) and layer.op.kernel == (3, 3)
        )
        # OpenCV 4 keeps these transformed for Winograd's algorithm, which makes 8x8 of 3x3.
        return int(90e6 + weights + 7.8 * ordinary + 0.87 * blobs)

    def _in_parts(self, names: Iterable[str]) -> InParts:
        outputs = tuple(dict.fromkeys(self._numbers[name] for name in names))
        made = self._made.pop(outputs, None)
        if made is None:
            while len(self._made) >= _KEPT:
                del self._made[next(iter(self._made))]
            net = folded(self._numbered, outputs)
            made = InParts(net, outputs, lambda part: OpenCVEngine(part, "cpu"))
        self._made[outputs] = made  # the last used is the last to go
        return made
