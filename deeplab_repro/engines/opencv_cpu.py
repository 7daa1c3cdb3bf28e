"""Runs a net with OpenCV's dnn on the CPU, in parts where that is faster than as a whole.

A net of a great many parts runs as a whole all the same, as its parts would take too much memory.
"""

import math
from collections.abc import Iterable, Mapping

import numpy as np

from deeplab_repro.arrays import Shape
from deeplab_repro.engines.engine import bytes_of_copies, check_request
from deeplab_repro.engines.folding import folded
from deeplab_repro.engines.large_maps import tiles_of
from deeplab_repro.engines.opencv import BY_CAFFE, OpenCVEngine, numbered
from deeplab_repro.engines.parts import InParts, Part, parts, stages_of
from deeplab_repro.machine.device import Device, Precision
from deeplab_repro.machine.opencv import cv2
from deeplab_repro.net.layers import Convolution, Dropout, ReLU
from deeplab_repro.net.net import Net

# Every part keeps its blobs and its packed weights: in 321 parts DeepLabv2-ResNet101 took 6.6 GB,
# and as a whole 1.7 GB and at most 1.7 times as long. The VGG nets have up to 17.
_MOST_PARTS = 40

# How many choices of blobs the parts are kept for, each with its own copy of the weights.
_KEPT = 2


def gains_in_parts(net: Net) -> bool:
    """Whether OpenCV runs a net in parts of which some are faster than its own way.

    Such nets, the VGG ones, take less time with it than with onnxruntime and OpenVINO.
    """
    found = _parts(*numbered(net), net)
    return len(found) <= _MOST_PARTS and any(part.way in ("phases", "product") for part in found)


def _parts(net: Net, numbers: Mapping[str, str], given: Net) -> list[Part]:
    """The parts of a given net, once its blobs are numbered."""
    return parts(net, [numbers.get(given.output, given.output)])


class OpenCVCpuEngine:
    """A net on OpenCV's dnn on the CPU. Use one engine per thread."""

    name = f"OpenCV {cv2.__version__}"
    device: Device = "cpu"
    precision: Precision = "float32"

    def __init__(self, net: Net) -> None:
        self.net = net
        self._numbered, self._numbers = numbered(net)
        self._made: dict[tuple[str, ...], InParts] = {}
        found = _parts(self._numbered, self._numbers, net)
        self._whole = OpenCVEngine(net, "cpu") if len(found) > _MOST_PARTS else None
        self._stages = [stage for part in found for stage in stages_of(self._numbered, part)]

    def build(self) -> None:
        """Build what gives the coarse scores, which the first run would do otherwise.

        Raises WeightsError where a layer has no weights, and NetError where OpenCV cannot read it.
        """
        if self._whole:
            self._whole.build()
        else:
            self._in_parts([self.net.coarse_output[0]]).build()

    def blobs(self, data: np.ndarray, names: Iterable[str]) -> dict[str, np.ndarray]:
        """The named blobs; takes, gives and raises what `OpenCVEngine.blobs` does."""
        names = list(names)
        if self._whole:
            return self._whole.blobs(data, names)
        check_request(self.net, self._numbers, data, names)
        self.net.blob_shapes(data.shape)  # says clearly where the net does not fit
        found = self._in_parts(names).blobs(data)
        return {name: found[self._numbers[name]] for name in names}

    def memory_needed(self, shape: Shape) -> int:
        """About how many bytes it takes to run on images of up to this NxCxHxW.

        Fitted to peaks. With OpenCV 4.14, from -4% to +21%, LargeFOV took 950 and 1070 MB (1280 in
        a program that is not ours) at 513x513 and 1025x769, MSc-LargeFOV 1400, DeepLab 1192,
        DeepLab-7x7 1617; with OpenCV 5.0, from -1% to +31%, 907, 1064, 1528, 1214 and 1509 MB; and
        DeepLabv2-VGG16 984 in place of 1700. Stages of LargeFOV, as tiles.py runs them, took 180 to
        2430 MB, from -24% to +105%.
        """
        if self._whole:
            return self._whole.memory_needed(shape)
        weights, blobs = bytes_of_copies(self.net), self.net.activation_bytes(shape)
        ordinary = sum(
            4 * layer.parameters
            for layer in self.net.layers
            if isinstance(layer.op, Convolution) and layer.op.kernel == (3, 3)
        )
        # OpenCV keeps these transformed for Winograd's algorithm, which makes 8x8 of 3x3.
        kept = 7.8 * ordinary + 0.87 * (blobs - self._never_there(shape))
        return int((90e6 if BY_CAFFE else 190e6) + weights + kept)

    def _never_there(self, shape: Shape) -> int:
        """Bytes of blobs that are not there as a whole, since they are made in tiles."""
        shapes = self._numbered.blob_shapes(shape)
        n_bytes = 0
        for stage in self._stages:
            taken = shapes[stage.input]
            if tiles := tiles_of(stage, taken):
                kept = 4 * math.prod(stage.output_shape(taken))
                kept += _bytes_made(stage, (*taken[:2], *tiles.tile))
                n_bytes += _bytes_made(stage, taken) - kept
        return n_bytes

    def _in_parts(self, names: Iterable[str]) -> InParts:
        outputs = tuple(dict.fromkeys(self._numbers[name] for name in names))
        made = self._made.pop(outputs, None)
        if made is None:
            while len(self._made) >= _KEPT:
                del self._made[next(iter(self._made))]
            net = folded(self._numbered, outputs)
            made = InParts(net, outputs, lambda part: OpenCVEngine(part, "cpu", classic=True))
        self._made[outputs] = made  # the last used is the last to go
        return made


def _bytes_made(net: Net, shape: Shape) -> int:
    """Bytes of all that the layers make, but for those that OpenCV runs with the one before."""
    return 4 * sum(
        math.prod(top)
        for layer, _, tops in net.walk(shape)
        for top in tops
        if not isinstance(layer.op, ReLU | Dropout)
    )
