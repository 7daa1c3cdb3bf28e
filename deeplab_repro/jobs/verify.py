"""Checks that the files of a converted net give the net's own outputs."""

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, NamedTuple

import numpy as np

from deeplab_repro.arrays import HW, Shape, UInt8, dims
from deeplab_repro.caffe import load_weights, read_net
from deeplab_repro.convert.converted import NET_READERS
from deeplab_repro.convert.half import rounded_to_half
from deeplab_repro.convert.onnx import PASSING_ON
from deeplab_repro.convert.onnx_graph import OPSETS
from deeplab_repro.engines.engine import check_finite
from deeplab_repro.engines.exact import exact_blobs
from deeplab_repro.engines.onnxruntime import load_onnxruntime, make_session
from deeplab_repro.engines.opencv import OpenCVEngine
from deeplab_repro.engines.opencv_cuda import BY_CAFFE
from deeplab_repro.engines.opencv_shapes import pools_by_axis, reads_as_caffe
from deeplab_repro.errors import ConversionError, NetError, one_line
from deeplab_repro.jobs.run_torch import has_torch, run_torch
from deeplab_repro.machine.memory import require_memory
from deeplab_repro.machine.opencv import cv2, told_by
from deeplab_repro.net.layers import Softmax
from deeplab_repro.net.net import Layer, Net
from deeplab_repro.net.preprocess import VOCS, Preprocessing, preprocess
from deeplab_repro.net.scores import CoarseScores, softmax

Format = Literal["caffe", "onnx", "npz", "safetensors", "torch"]

# By whose reader the weights of a format are read back, where it is another's.
_READ_AS: dict[Format, Format] = {"torch": "safetensors"}

# Of an output's standard deviation: sums in another order differ by a tenth of that. But no less
# than this share of its root mean square, which is all that float32 resolves.
TOLERANCE, _RESOLUTION = 1e-4, 1e-6
# Where OpenCV's run of the net is off by more, twice as much is allowed, as far as that may come of
# rounding: up to so many tolerances, or times what it does that every blob is rounded to float32.
_MOST_TOLERANCES, _MOST_ROUNDINGS = 10, 64
# Of probabilities the logarithms are judged, which are the scores before the softmax up to a number
# for each pixel. Below this float32 has few digits of them, and in the end none.
_LEAST_LOGARITHM = -80.0
# Of the labels of pixels that float16 weights must leave as float32 has them. Those that change lie
# between two labels: 0.02% in ToyVOC's nets, 0.03% in LargeFOV with random weights.
LEAST_AGREEMENT = 0.99
"""Of the labels of float16 weights with those of float32."""

_SEED = 0
# Pixels of a photo in which light changes smoothly, and how far pixels scatter around that.
_PATCH, _GRAIN = 32, 8.0


@dataclass(frozen=True)
class OnnxOptions:
    """The options of `write_onnx`."""

    labels: Sequence[str] = ()
    softmax: bool = False
    rgb_uint8: bool = False
    opset: int = OPSETS[0]


PLAIN = OnnxOptions()


@dataclass(frozen=True)
class Difference:
    """The largest difference between an output of the converted file and what it should be.

    in_logarithms: the output is probabilities, and the difference is that of their logarithms.
    of_engine: None where the file was compared with OpenCV's run of the net. Where these two differ
    by more than the tolerance, both were compared with a run in float64, and this is OpenCV's
    largest difference from that.
    """

    output: str
    largest: float
    tolerance: float
    in_logarithms: bool = False
    of_engine: float | None = None


class Checked(NamedTuple):
    """What ran the files, and how far their outputs differ from the net's.

    agreement: of files with float16 weights the share of pixels whose most probable label is the
    one of the net in float32; None for others, and where there are no labels.
    """

    checked_with: str
    differences: Sequence[Difference]
    agreement: float | None = None


def check_files(
    net: Net, to: Format, files: Sequence[Path], onnx: OnnxOptions, half: bool, data_name: str = ""
) -> Checked:
    """Run the files, and the net beside them.

    half: the files have float16 weights: the net with these is compared first, and then the labels
    of the net as it is. data_name: what the second file of an ONNX file will be called.
    """
    _require_memory(net, 2)  # there are copies of the input and the outputs
    how = onnx if to == "onnx" else PLAIN
    reference = _Reference(rounded_to_half(net) if half else net, how)
    if to == "onnx":
        what, found = run_onnx(files[0], reference.data, files[1:], data_name)
    elif to == "caffe" and BY_CAFFE and all(map(_runs_by_caffe, net.layers)):
        prototxt, caffemodel, *_ = files
        what, found = run_caffe(prototxt, caffemodel, reference.data)
    elif to == "torch" and has_torch():
        what, found = run_torch(files[0], files[1], reference.data)
    else:
        again = NET_READERS.get(_READ_AS.get(to, to), read_net)(files[0])
        if to == "caffe":
            load_weights(again, files[1])
        what, found = "what was read back", list(_run(again, reference.data).values())
    differences = [
        _compared(name, ours, reference)
        for name, ours in zip(reference.outputs, found, strict=True)
    ]
    return Checked(what, differences, _agreement(found[-1], _Reference(net, how)) if half else None)


def _agreement(ours: np.ndarray, reference: "_Reference") -> float | None:
    """The share of labels of the last output that are those of the net."""
    *_, (name, theirs) = reference.outputs.items()
    if ours.ndim < 2 or ours.shape[1] < 2:
        return None
    share = float((ours.argmax(axis=1) == theirs.argmax(axis=1)).mean())
    if share < LEAST_AGREEMENT:
        raise ConversionError(
            f"output '{name}' with float16 weights gives the label of float32 to {share:.2%} of "
            f"the pixels, expected at least {LEAST_AGREEMENT:.0%}: nothing was written, convert "
            "it without --half"
        )
    return share


def _runs_by_caffe(layer: Layer) -> bool:
    """Whether OpenCV 4 makes of the layer in Caffe's files what Caffe does, at all sizes."""
    return reads_as_caffe(layer.op) and not pools_by_axis(layer.op)


def _require_memory(net: Net, blobs: int) -> None:
    """Raise ResourceError where there is too little for so many times the net's blobs."""
    require_memory(
        blobs * net.activation_bytes(net.input_shape),
        f"net '{net.name}' at {dims(net.input_shape)}",
        "convert it without verifying, or from a prototxt with a smaller input",
    )


class _Reference:
    """An input for the converted net, and what the net itself makes of it.

    data: what the file takes. outputs: by their names in the file, as OpenCV makes them.
    probabilities: the names of those that are.
    """

    def __init__(self, net: Net, onnx: OnnxOptions) -> None:
        self._size: HW | None = None  # of a photo
        batch, channels, height, width = net.input_shape
        rng = np.random.default_rng(_SEED)
        how = net.preprocessing or VOCS
        if onnx.rgb_uint8:
            net = net.ending_in_scores()
            # If possible a size that does not fit the net: larger on one axis, smaller on another.
            if net.fits_any_size:
                height, width = height + 3, max(1, width - 3)
            self._size = height, width = how.image_size or (height, width)
            size = net.fitting_size((height, width))
            self.data = photos(rng, (batch, height, width, channels))
            self._inputs = np.concatenate([preprocess(each, size, how) for each in self.data])
        else:
            pictures = photos(rng, (batch, height, width, channels))
            if how.image_size not in (None, (height, width)):  # the input is a crop of the photo
                how = Preprocessing(scale=how.scale)
            if channels == 3:
                images = [preprocess(each, (height, width), how) for each in pictures]
                self.data = np.concatenate(images)
            else:
                self.data = (pictures.transpose(0, 3, 1, 2) - np.float32(128)) * how.scale
            self._inputs = self.data
        self._net, self._softmax = net, onnx.softmax and not net.ends_in_softmax
        self.outputs = self._as_in_file(_run(net, self._inputs))
        for values in self.outputs.values():
            check_finite(net, values)
        made = {name for name in net.outputs if _are_probabilities(net, name)}
        self.probabilities = made | {"probs"} if self._softmax else made

    @cached_property
    def exact(self) -> dict[str, np.ndarray]:
        """The outputs in float64."""
        return self._in_float64(rounded=False)

    @cached_property
    def rounded(self) -> dict[str, np.ndarray]:
        """The same with every blob rounded to float32."""
        return self._in_float64(rounded=True)

    def _in_float64(self, rounded: bool) -> dict[str, np.ndarray]:
        _require_memory(self._net, 4)  # float64, with copies
        blobs = exact_blobs(self._net, self._inputs, self._net.outputs, rounded)
        return self._as_in_file(blobs)

    def _as_in_file(self, blobs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        if self._size:
            height, width = self._size
            blobs = {"scores": blobs[self._net.output][:, :, :height, :width]}
        if self._softmax:
            *others, (_, scores) = blobs.items()
            blobs = dict(others) | {"probs": np.stack([softmax(each) for each in scores])}
        return blobs


def photos(rng: np.random.Generator, shape: Shape) -> UInt8:
    """NxHxWxC: light that changes smoothly, with some grain, as in photos."""
    n, height, width, channels = shape
    cells = [-(-side // _PATCH) + 1 for side in (height, width)]
    light = rng.uniform(0, 256, (n * channels, *cells)).astype(np.float32)
    smooth = CoarseScores(light, _PATCH).enlarged((height, width))
    grainy = smooth + _GRAIN * rng.standard_normal(smooth.shape, np.float32)
    pixels = np.clip(grainy, 0, 255).astype(np.uint8)
    return np.ascontiguousarray(pixels.reshape(n, channels, height, width).transpose(0, 2, 3, 1))


def _are_probabilities(net: Net, blob: str) -> bool:
    """Whether a Softmax makes the blob."""
    for layer in reversed(net.layers):
        if blob in layer.tops:
            if not isinstance(layer.op, PASSING_ON):
                return isinstance(layer.op, Softmax)
            blob = layer.bottoms[0]
    return False


def _run(net: Net, data: np.ndarray) -> dict[str, np.ndarray]:
    return OpenCVEngine(net, "cpu").blobs(data, net.outputs)


def _compared(name: str, ours: np.ndarray, reference: _Reference) -> Difference:
    """How far an output of the converted net is from what it should be."""
    theirs = reference.outputs[name]
    if ours.shape != theirs.shape:
        raise ConversionError(
            f"output '{name}' of the converted net is {dims(ours.shape)}, expected "
            f"{dims(theirs.shape)}: nothing was written, please report this"
        )
    in_logarithms = name in reference.probabilities

    def difference(one: np.ndarray, other: np.ndarray) -> float:
        if in_logarithms:
            one, other = _logarithms(one), _logarithms(other)
        return float(np.abs(one - other.astype(np.float64)).max())

    tolerance = _tolerance(_logarithms(theirs) if in_logarithms else theirs)
    largest, of_engine = difference(ours, theirs), None
    if not largest <= tolerance:  # NaN too
        exact = reference.exact[name]
        largest, of_engine = difference(ours, exact), difference(theirs, exact)
        rounding = difference(reference.rounded[name], exact)
        most = max(_MOST_TOLERANCES * tolerance, _MOST_ROUNDINGS * rounding)
        tolerance = max(tolerance, min(2 * of_engine, most))
    if not largest <= tolerance:
        raise ConversionError(
            f"output '{name}' of the converted net differs by {largest:.3g} from a run in float64"
            f"{' (in logarithms)' if in_logarithms else ''}, expected at most {tolerance:.3g} "
            f"({OpenCVEngine.name} differs by {of_engine:.3g}): nothing was written, please report "
            "this"
        )
    return Difference(name, largest, tolerance, in_logarithms, of_engine)


def _logarithms(probabilities: np.ndarray) -> np.ndarray:
    least = np.exp(_LEAST_LOGARITHM)
    return np.log(np.maximum(probabilities.astype(np.float64), least))


def _tolerance(values: np.ndarray) -> float:
    deviation = values.std(dtype=np.float64)
    size = math.sqrt(np.square(values, dtype=np.float64).mean())
    return max(TOLERANCE * float(deviation), _RESOLUTION * size)


# --- run by others: from the bytes, since OpenCV crashes on a file name that is not UTF-8


def run_onnx(
    path: Path, data: np.ndarray, data_files: Sequence[Path] = (), data_name: str = ""
) -> tuple[str, list[np.ndarray]]:
    """Run an ONNX file on its one input. Returns what ran it, and its outputs.

    data_files: the file of its weights, if there is one, which it calls `data_name`.

    Raises DeviceError where onnxruntime is not installed, and NetError where it cannot run the net.
    """
    what = f"onnxruntime {load_onnxruntime().__version__}"
    try:
        with _named(path, data_files, data_name) as model:
            session = make_session(model, "cpu")
        return what, session.run(None, {session.get_inputs()[0].name: data})
    except Exception as error:  # its exceptions share no other base class
        raise _cannot_run(what, one_line(error)) from error


@contextmanager
def _named(path: Path, data_files: Sequence[Path], data_name: str) -> Iterator[bytes | str]:
    """An ONNX file to load: its bytes, or the path of one whose weights lie beside it."""
    if not data_files:
        yield path.read_bytes()
        return
    # Not symbolic links, which onnxruntime does not follow out of the folder.
    with TemporaryDirectory(dir=path.parent, prefix=".deeplab-") as folder:
        model = Path(folder) / "model.onnx"
        os.link(path, model)
        os.link(data_files[0], model.with_name(data_name))
        yield str(model)


def run_caffe(prototxt: Path, caffemodel: Path, data: np.ndarray) -> tuple[str, list[np.ndarray]]:
    """Run a net in the current format with OpenCV 4. Returns what ran it, and its outputs.

    Raises NetError where OpenCV cannot run it, and what `read_net` raises.
    """
    what = f"OpenCV {cv2.__version__}"
    net = read_net(prototxt)
    try:
        files = (np.fromfile(path, np.uint8) for path in (prototxt, caffemodel))
        loaded = cv2.dnn.readNetFromCaffe(*files)
        # OpenCV names a convolution after its blob, and adds a number to a name that is taken.
        names = zip(net.layers, loaded.getLayerNames(), strict=True)
        maker = {top: name for layer, name in names for top in layer.tops}
        loaded.setInput(data)
        found = loaded.forward([maker[output] for output in net.outputs])
    except cv2.error as error:
        raise _cannot_run(what, told_by(error)[0]) from error
    return what, list(found)


def _cannot_run(what: str, text: str) -> NetError:
    return NetError(
        f"{what} cannot run the converted net: {text}; "
        "where others can, convert it without verifying"
    )
