"""Runs a net with OpenCV's dnn module."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np

from deeplab_repro.arrays import Shape, dims
from deeplab_repro.convert.caffe import stock_net, to_caffe
from deeplab_repro.convert.onnx import to_onnx
from deeplab_repro.engines.engine import bytes_of_copies, check_request, in_shape
from deeplab_repro.engines.folding import folded
from deeplab_repro.engines.opencv_cuda import (
    BY_CAFFE,
    gpu_error,
    layers_on_cpu,
    target,
)
from deeplab_repro.engines.opencv_shapes import (
    check_poolings,
    check_shapes,
    pooled_otherwise,
    pools_by_axis,
    reads_as_caffe,
)
from deeplab_repro.engines.phases_in_net import in_phases, with_parameters
from deeplab_repro.errors import DeepLabError, NetError, ResourceError
from deeplab_repro.files.whole import reason
from deeplab_repro.machine.as_file import as_file
from deeplab_repro.machine.device import Device, Precision
from deeplab_repro.machine.opencv import cv2, told_by
from deeplab_repro.machine.shortage import shortage
from deeplab_repro.net.layers import Concat, Convolution, Split
from deeplab_repro.net.net import Net
from deeplab_repro.net.shape_layers import ArgMax, Crop, Slice

logger = logging.getLogger(__name__)

# How many built nets are kept, each with its own copy of the weights. On CUDA there is one for each
# size, and their weights and blobs together are bounded in bytes; a net holds about half of that on
# the GPU, and its blobs' share of it on the host too.
_KEPT = 2
_BYTES_KEPT_ON_CUDA = 4 << 30
_INPUT = "data"

PHASES_ON_CUDA = False
"""Whether convolutions with small holes run on the phases of their bottom on CUDA.

tools/gpu_check measures it beside the plain net (its step "net speed"): where it gains on GPUs in
both precisions, this is the place to make it the default.
"""

_COPIES_OF_WEIGHTS = 2.8  # OpenCV packs them again for its convolutions
_COPIES_WHILE_BUILT = 2.8 if BY_CAFFE else 5.5  # OpenCV 5 makes several while it reads ONNX


# What OpenCV 5's classic engine lacks, in part: ArgMax, and Crop to a size that it does not know.
_NOT_CLASSIC = (ArgMax, Crop)


def numbered(net: Net) -> tuple[Net, dict[str, str]]:
    """The net with numbers for its blobs, and the number of every blob by its given name.

    A blob that layers change in place has the last one's. Layers keep their names, for messages.
    """
    numbers = {net.input: _INPUT}
    layers = []
    count = 0
    for layer in net.layers:
        bottoms = tuple(numbers[bottom] for bottom in layer.bottoms)
        alone = isinstance(layer.op, Concat) and len(bottoms) == 1
        op = Split() if alone else layer.op  # OpenCV 4.14 does not write what one blob alone joins
        # The tops of a Split are one blob.
        several = len(layer.tops) if isinstance(op, Slice) else 1
        tops = tuple(map(str, range(count, count + several)))
        count += several
        layers.append(replace(layer, op=op, bottoms=bottoms, tops=tops))
        numbers.update(zip(layer.tops, tops * (len(layer.tops) // several), strict=True))
    if numbers[net.input] == _INPUT:  # else a layer changes the input in place
        del numbers[net.input]
    return replace(net, input=_INPUT, layers=layers), numbers


def _named_by_blob(net: Net) -> Net:
    """The net, each layer with the name of its blob.

    OpenCV 4 knows a blob by the layer that makes it, and names a convolution after its blob.
    """
    return replace(net, layers=[replace(layer, name=layer.tops[0]) for layer in net.layers])


def _read_onnx(
    net: Net, shape: Shape, outputs: Iterable[str], any_size: bool, classic: bool
) -> "cv2.dnn.Net":
    """A net of OpenCV from our ONNX, which gives these outputs and no other blobs."""
    model = to_onnx(net, shape, outputs, any_size)
    if classic and not BY_CAFFE:
        try:
            with as_file(model) as path:  # from memory OpenCV 5 takes its new engine, unasked
                return cv2.dnn.readNetFromONNX(path, cv2.dnn.ENGINE_CLASSIC)
        except OSError as error:
            raise ResourceError(
                f"net '{net.name}': a temporary file of {len(model):,} bytes for OpenCV cannot be "
                f"written: {reason(error)}: set TMPDIR to a folder with room"
            ) from error
    return cv2.dnn.readNetFromONNX(np.frombuffer(model, np.uint8))


def _read_caffe(stock: Net) -> "cv2.dnn.Net":
    """A net of OpenCV 4 from Caffe's files, which shares the arrays of the convolutions.

    From the caffemodel's bytes OpenCV would copy the weights four times, which took longer than
    everything else before the first run.
    """
    prototxt, caffemodel = to_caffe(stock, hollow=True)
    net = cv2.dnn.readNetFromCaffe(
        np.frombuffer(with_parameters(prototxt, stock), np.uint8),
        np.frombuffer(caffemodel, np.uint8),
    )
    for layer in stock.layers:
        if isinstance(layer.op, Convolution):
            for index, blob in enumerate(layer.blobs):
                data = np.ascontiguousarray(blob.data, np.float32)
                net.setParam(net.getLayerId(layer.name), index, np.atleast_2d(data))
    return net


class OpenCVEngine:
    """A net that OpenCV's dnn runs as a whole. Use one engine per thread.

    device: "cpu", or "cuda" where `opencv_device` has found it. precision: "float32", or on CUDA
    "float16", in which case inputs and outputs are float32 all the same. phases: on CUDA run the
    convolutions with small holes on the phases of their bottom (see phases_in_net.py). classic: run
    OpenCV 5's classic engine, which is OpenCV 4's: faster at 3x3 convolutions of many channels,
    slower at the rest. Engines of one net share nothing that changes.
    """

    name = f"OpenCV {cv2.__version__}"

    def __init__(
        self,
        net: Net,
        device: Device,
        precision: Precision = "float32",
        phases: bool = PHASES_ON_CUDA,
        classic: bool = False,
    ) -> None:
        self.net = net
        self.device: Device = device
        self.precision: Precision = precision
        self._phases = phases
        self._classic = classic and not any(isinstance(x.op, _NOT_CLASSIC) for x in net.layers)
        self._checked: set[Shape] = set()
        self._built: dict[tuple[Shape, tuple[str, ...]], cv2.dnn.Net] = {}
        self._numbered, self._numbers = numbered(net)
        usual = net.output, net.coarse_output[0]
        self._usual = [name for name in usual if name in self._numbers]
        self._warned = False

    @cached_property
    def _folded(self) -> Net:
        """The numbered net as it is built."""
        return folded(self._numbered, set(self._numbers.values()))

    @cached_property
    def _by_caffe(self) -> bool:
        """Whether OpenCV 4 is to read it from Caffe's files, else it reads it from ONNX.

        From ONNX, where pads say the sizes, it pools as Caffe in all nets.
        """
        return BY_CAFFE and not any(
            not reads_as_caffe(layer.op) or (self.device == "cpu" and pools_by_axis(layer.op))
            for layer in self._folded.layers
        )

    @property
    def _any_size(self) -> bool:
        """Whether a net that was built takes other sizes.

        From ONNX OpenCV 4 crops only to a size that it knows when it reads the net.
        """
        crops = any(isinstance(layer.op, Crop) for layer in self.net.layers)
        return self.net.fits_any_size and (self._by_caffe or not (BY_CAFFE and crops))

    def build(self) -> None:
        """Build OpenCV's net for the net's own size, which the first run would do otherwise.

        On CUDA it also runs once, to the coarse scores of one image: most of what is slow at first,
        and what is wrong with the machine, comes with the first run. Raises what `blobs` raises.
        """
        if self.device == "cuda":
            self.blobs(np.zeros((1, *self.net.input_shape[1:]), np.float32), self._usual[-1:])
            return
        try:
            self._cv2_net(self.net.input_shape, self._outputs(self._usual))
        except cv2.error as error:
            raise self._explained(error, self.net.input_shape) from error

    def blobs(self, data: np.ndarray, names: Iterable[str]) -> dict[str, np.ndarray]:
        """Run the net on NxCxHxW float32 (BGR minus mean); the named blobs, float32.

        The first run builds OpenCV's net; later runs reuse it, at other sizes too unless the net
        fixes a size. On CUDA each size has a net of its own, and so has each choice of blobs: the
        sizes used last are kept.

        Raises ArgumentError for other arrays and for a blob that the net does not make,
        WeightsError where a layer has no weights, NetError where the net does not fit the size or
        OpenCV cannot run it, ResourceError where OpenCV or the GPU runs out of memory, and
        DeviceError where the GPU fails.
        """
        names = list(names)
        check_request(self.net, self._numbers, data, names)
        shapes = self.net.blob_shapes(data.shape)  # says clearly where the net does not fit
        outputs = self._outputs(names)
        try:
            net = self._cv2_net(data.shape, outputs)
            self._check_shapes(net, data.shape)
            net.setInput(data, _INPUT)
            found = dict(zip(outputs, net.forward(outputs), strict=True))
        except cv2.error as error:
            raise self._explained(error, data.shape) from error
        if self.device == "cuda" and not self._warned:
            self._warn_of_layers_on_cpu(net)
        what = f"net '{self.net.name}' at {dims(data.shape)}: {self.name} makes"
        return {
            name: in_shape(found[self._numbers[name]], shapes[name], f"{what} '{name}'")
            for name in names
        }

    def memory_needed(self, shape: Shape) -> int:
        """About how many bytes it takes to run on images of up to this NxCxHxW.

        Fitted to peaks on a CPU, from -11% to +14%. With OpenCV 4.14 LargeFOV took 578, 1002 and
        2096 MB at 513x513, 1025x769 and 1601x1201, DeepLab 1093, MSc-LargeFOV 971; with OpenCV 5.0
        LargeFOV 480 MB, DeepLab 1464, DeepLab-7x7 3086. Of DeepLabv2-ResNet101, whose blobs live
        shortly, it took 1680 MB in place of 3000.
        """
        weights = bytes_of_copies(self.net)
        running = _COPIES_OF_WEIGHTS * weights + 0.5 * self.net.activation_bytes(shape)
        return int(90e6 + max(running, _COPIES_WHILE_BUILT * weights))

    def _outputs(self, names: Sequence[str]) -> tuple[str, ...]:
        """The numbers of the blobs to ask OpenCV for; of OpenCV 5, the usual ones if it can be."""
        if not BY_CAFFE and set(names) <= set(self._usual):
            names = self._usual
        return tuple(dict.fromkeys(self._numbers[name] for name in names))

    def _explained(self, error: cv2.error, shape: Shape) -> DeepLabError:
        self._built.clear()  # OpenCV does not say in which state it leaves a net that failed
        what = f"net '{self.net.name}' at {dims(shape)}: OpenCV {cv2.__version__}"
        text, code, where = told_by(error)
        if code in (cv2.Error.GPU_API_CALL_ERROR, cv2.Error.GPU_NOT_SUPPORTED):
            return gpu_error(what, text)
        if problem := shortage(MemoryError() if code == cv2.Error.STS_NO_MEM else Exception(text)):
            return ResourceError(f"{what} {problem}")
        return NetError(f"{what} cannot run it on {self.device}: {text} (in {where})")

    def _cv2_net(self, shape: Shape, outputs: tuple[str, ...]) -> "cv2.dnn.Net":
        if self.device == "cpu":
            # A built net takes other sizes, at a fraction of the cost of building one.
            shape = self.net.input_shape if self._any_size else shape
            outputs = () if self._by_caffe else outputs
        net = self._built.pop((shape, outputs), None)
        if net is None:
            self._make_room(shape)
            build = self._built_on_cuda if self.device == "cuda" else self._built_on_cpu
            net = build(shape, outputs)
        self._built[shape, outputs] = net  # the last used is the last to go
        return net

    def _check_shapes(self, net: "cv2.dnn.Net", shape: Shape) -> None:
        """Check at the first run on each size that OpenCV makes Caffe's shapes inside the net too.

        Of a net from ONNX OpenCV does not tell them. There the pads say which size a pooling makes.
        """
        if self._by_caffe and shape not in self._checked:
            check_poolings(self.net, shape)
            check_shapes(net, self._folded, shape)
            self._checked.add(shape)

    def _make_room(self, shape: Shape) -> None:
        """Drop built nets, the longest unused first, until one more may be kept."""
        while self._built and not self._has_room(shape):
            del self._built[next(iter(self._built))]

    def _has_room(self, shape: Shape) -> bool:
        if self.device == "cpu":
            return len(self._built) < _KEPT
        shapes = [shape, *(kept for kept, _ in self._built)]
        n_bytes = sum(4 * self.net.parameters + self.net.activation_bytes(each) for each in shapes)
        return n_bytes <= _BYTES_KEPT_ON_CUDA

    def _built_on_cpu(self, shape: Shape, outputs: tuple[str, ...]) -> "cv2.dnn.Net":
        if not self._by_caffe:  # OpenCV 5's engine has no other device, and warns where one is set
            return _read_onnx(self._folded, shape, outputs, self._any_size, self._classic)
        net = _read_caffe(stock_net(_named_by_blob(self._folded), shape))
        net.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
        net.setPreferableTarget(cv2.dnn.DNN_TARGET_CPU)
        return net

    def _built_on_cuda(self, shape: Shape, outputs: tuple[str, ...]) -> "cv2.dnn.Net":
        """OpenCV's net for one size, as far as the wanted blobs: the rest would take memory."""
        check_poolings(self.net, shape)
        if name := pooled_otherwise(self.net, shape):
            raise NetError(
                f"net '{self.net.name}' at {dims(shape)}: OpenCV's CUDA pools differently from "
                f"Caffe in layer '{name}', whose last windows leave the image: use --device cpu, "
                "or another size"
            )
        last = max(map(int, outputs))
        wanted = _named_by_blob(self._folded)
        layers = [layer for layer in wanted.layers if int(layer.tops[0]) <= last]
        wanted = replace(wanted, layers=layers)
        if not self._by_caffe:
            net = _read_onnx(wanted, shape, outputs, any_size=False, classic=False)
        else:
            if self._phases:
                wanted = in_phases(wanted, shape, outputs)
            net = _read_caffe(stock_net(wanted, shape))
        # With fusion OpenCV makes the bottoms of a Concat in one piece of memory, and gives each of
        # them from its beginning: the wrong part.
        net.enableFusion(len(outputs) == 1)
        net.setPreferableBackend(cv2.dnn.DNN_BACKEND_CUDA)
        net.setPreferableTarget(target(self.precision))
        return net

    def _warn_of_layers_on_cpu(self, net: "cv2.dnn.Net") -> None:
        self._warned = True
        if left := layers_on_cpu(net):
            makers = {top: layer.name for layer in self._numbered.layers for top in layer.tops}
            names = ", ".join(f"'{makers.get(str(n), n)}'" for n in dict.fromkeys(left))
            logger.warning(
                "net '%s': OpenCV %s runs on the CPU the layers that its CUDA backend lacks: %s",
                self.net.name,
                cv2.__version__,
                names,
            )
