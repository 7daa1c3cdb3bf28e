"""Writes a net in another format, and checks first that the new files give the same scores."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from deeplab_repro.arrays import dims
from deeplab_repro.caffe import load_weights, read_net, write_mean_file
from deeplab_repro.convert.caffe import write_caffe
from deeplab_repro.convert.npz import read_npz, write_npz
from deeplab_repro.convert.onnx import write_onnx
from deeplab_repro.engines.engine import check_finite
from deeplab_repro.engines.onnxruntime import load_onnxruntime, make_session
from deeplab_repro.engines.opencv import OpenCVEngine
from deeplab_repro.engines.opencv_cuda import BY_CAFFE
from deeplab_repro.errors import ConversionError, FileError, NetError, one_line
from deeplab_repro.files.whole import replace_together
from deeplab_repro.machine.memory import require_memory
from deeplab_repro.machine.opencv import cv2, told_by
from deeplab_repro.net.net import Net
from deeplab_repro.net.preprocess import VOCS, preprocess
from deeplab_repro.net.scores import softmax

Format = Literal["caffe", "onnx", "npz"]

ENDINGS: dict[Format, tuple[str, ...]] = {
    "caffe": (".prototxt", ".caffemodel"),
    "onnx": (".onnx",),
    "npz": (".npz",),
}
"""The formats, and how the names of their files end."""

# Of max(1, standard deviation). Sums in another order differ by a tenth of that.
_TOLERANCE = 1e-4
_SEED = 0


@dataclass(frozen=True)
class Difference:
    """The largest difference between an output of the converted file and the net's own."""

    output: str
    largest: float
    tolerance: float


@dataclass(frozen=True)
class Converted:
    """The files that were written; and if they were checked, what ran them and the differences."""

    files: list[Path]
    checked_with: str | None = None
    differences: Sequence[Difference] = ()


@dataclass(frozen=True)
class OnnxOptions:
    """The options of `write_onnx`."""

    labels: Sequence[str] = ()
    softmax: bool = False
    rgb_uint8: bool = False


def convert_files(
    net: Net,
    to: Format,
    out: str | os.PathLike[str],
    *,
    interp: bool = True,
    onnx: OnnxOptions = OnnxOptions(),
    verify: bool = False,
) -> Converted:
    """Write the net, with weights, in another format: to `out` with that format's endings.

    For caffe a mean for each pixel is a third file, .binaryproto, which the prototxt names.

    interp: for caffe, see `write_caffe`. onnx: see `write_onnx`. verify: run the net and the files
    on a seeded input first. No output may differ by more than 1e-4 times its standard deviation, or
    1e-4 if that is more; for probabilities it is the standard deviation of their scores.

    Raises what the format's writer raises, FileError, and NetError for a train net that would be
    ONNX or run. With verify also ConversionError, which names the output that differs, WeightsError
    for outputs that are NaN or infinite, and ResourceError where there is too little memory. Where
    it raises, it leaves no file.
    """
    if net.labels and (verify or to == "onnx"):
        raise NetError(f"net '{net.name}' takes labels, to train: convert its test net")
    paths = file_names(to, out)
    how = net.preprocessing
    mean = how.mean_image if to == "caffe" and how else None
    if how and mean:
        paths.append(paths[0].with_suffix(".binaryproto"))
        net = replace(net, preprocessing=replace(how, mean=replace(mean, file=paths[-1].name)))
    with replace_together(paths) as files:
        if to == "caffe":
            write_caffe(net, *files[:2], interp=interp)
            if mean:
                write_mean_file(mean, files[-1])
        elif to == "onnx":
            write_onnx(net, *files, **vars(onnx))
        else:
            write_npz(net, *files)
        checked_with, differences = _check(net, to, files, onnx) if verify else (None, [])
    return Converted(paths, checked_with, differences)


def file_names(to: Format, out: str | os.PathLike[str]) -> list[Path]:
    """The files of a format under the name `out`, with or without its ending.

    Raises FileError for a name that is only a folder's.
    """
    name = os.fspath(out)
    for ending in ENDINGS[to]:
        name = name.removesuffix(ending)
    if os.path.basename(name) in ("", os.curdir, os.pardir):
        raise FileError(f"'{one_line(out)}' names no file to write to: add a file's name")
    return [Path(name + ending) for ending in ENDINGS[to]]


def _check(
    net: Net, to: Format, files: list[Path], onnx: OnnxOptions
) -> tuple[str, list[Difference]]:
    """What ran the files, and how far their outputs differ from the net's."""
    require_memory(
        2 * net.activation_bytes(net.input_shape),  # there are copies of the input and the outputs
        f"net '{net.name}' at {dims(net.input_shape)}",
        "convert it without verifying, or from a prototxt with a smaller input",
    )
    data, expected = _expected(net, onnx if to == "onnx" else OnnxOptions())
    if to == "onnx":
        what, found = run_onnx(files[0], data)
    elif to == "caffe" and BY_CAFFE:
        prototxt, caffemodel, *_ = files
        what, found = run_caffe(prototxt, caffemodel, data)
    else:
        again = read_npz(files[0]) if to == "npz" else read_net(files[0])
        if to == "caffe":
            load_weights(again, files[1])
        what, found = "what was read back", list(_run(again, data).values())
    return what, [
        _compared(name, theirs, ours, tolerance)
        for (name, (theirs, tolerance)), ours in zip(expected.items(), found, strict=True)
    ]


def _expected(
    net: Net, onnx: OnnxOptions
) -> tuple[np.ndarray, dict[str, tuple[np.ndarray, float]]]:
    """A seeded input for the converted net, and of each output the net's own and a tolerance."""
    rng = np.random.default_rng(_SEED)
    if onnx.rgb_uint8:
        net = net.ending_in_scores()
        # If possible a size that does not fit the net: larger on one axis, smaller on the other.
        batch, _, height, width = net.input_shape
        if net.fits_any_size:
            height, width = height + 3, max(1, width - 3)
        how = net.preprocessing or VOCS
        height, width = how.image_size or (height, width)
        size = net.fitting_size((height, width))
        data = rng.integers(0, 256, (batch, height, width, 3), np.uint8)
        images = np.concatenate([preprocess(image, size, how) for image in data])
        blobs = {"scores": _run(net, images)[net.output][:, :, :height, :width]}
    else:
        data = rng.standard_normal(net.input_shape, np.float32)
        data *= 64
        blobs = _run(net, data)
    for blob in blobs.values():
        check_finite(net, blob)
    expected = {name: (blob, _tolerance(blob)) for name, blob in blobs.items()}
    if onnx.softmax and not net.ends_in_softmax:
        _, (scores, tolerance) = expected.popitem()  # the output
        # The rounding errors are those of the scores, and a softmax enlarges no difference.
        expected["probs"] = np.stack([softmax(each) for each in scores]), tolerance
    return data, expected


def _tolerance(blob: np.ndarray) -> float:
    return _TOLERANCE * max(1.0, float(blob.std(dtype=np.float64)))


def _run(net: Net, data: np.ndarray) -> dict[str, np.ndarray]:
    return OpenCVEngine(net, "cpu").blobs(data, net.outputs)


def _compared(name: str, theirs: np.ndarray, ours: np.ndarray, tolerance: float) -> Difference:
    if ours.shape != theirs.shape:
        raise ConversionError(
            f"output '{name}' of the converted net is {dims(ours.shape)}, expected "
            f"{dims(theirs.shape)}: nothing was written, please report this"
        )
    largest = float(np.abs(ours - theirs).max())
    if not largest <= tolerance:  # NaN too
        raise ConversionError(
            f"output '{name}' of the converted net differs by {largest:.3g}, expected at most "
            f"{tolerance:.3g}: nothing was written, please report this"
        )
    return Difference(name, largest, tolerance)


# --- run by others: from the bytes, since OpenCV crashes on a file name that is not UTF-8


def run_onnx(path: Path, data: np.ndarray) -> tuple[str, list[np.ndarray]]:
    """Run an ONNX file on its one input. Returns what ran it, and its outputs.

    Raises DeviceError where onnxruntime is not installed, and NetError where it cannot run the net.
    """
    what = f"onnxruntime {load_onnxruntime().__version__}"
    try:
        session = make_session(path.read_bytes(), "cpu")
        return what, session.run(None, {session.get_inputs()[0].name: data})
    except Exception as error:  # its exceptions share no other base class
        raise _cannot_run(what, one_line(error)) from error


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
    # Of an InnerProduct's four axes OpenCV has the first two.
    return what, [blob.reshape(blob.shape + (1,) * (4 - blob.ndim)) for blob in found]


def _cannot_run(what: str, text: str) -> NetError:
    return NetError(
        f"{what} cannot run the converted net: {text}; "
        "where others can, convert it without verifying"
    )
