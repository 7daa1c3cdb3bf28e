"""A net to files of another format, which take their names once they give what the net gives."""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from deeplab_repro.caffe import load_weights, read_net
from deeplab_repro.convert.caffe import fits_any_size, write_caffe
from deeplab_repro.convert.npz import read_npz, write_npz
from deeplab_repro.convert.onnx import write_onnx
from deeplab_repro.engines.converted import run_caffe, run_onnx
from deeplab_repro.engines.opencv import BY_CAFFE, OpenCVEngine
from deeplab_repro.errors import ConversionError, FileError
from deeplab_repro.files import display_name, writable_target
from deeplab_repro.image import MEAN_BGR, preprocess
from deeplab_repro.layers import dims
from deeplab_repro.maps import softmax
from deeplab_repro.net import Net

Format = Literal["caffe", "onnx", "npz"]

ENDINGS: dict[Format, tuple[str, ...]] = {
    "caffe": (".prototxt", ".caffemodel"),
    "onnx": (".onnx",),
    "npz": (".npz",),
}
"""The formats, and how the names of their files end."""

# Times max(1, standard deviation): sums in another order come to a tenth of that.
_TOLERANCE = 1e-4
_SEED = 0


@dataclass(frozen=True)
class Difference:
    """How far an output of the converted file lies from the net's, at most; and how far it may."""

    output: str
    largest: float
    tolerance: float


@dataclass(frozen=True)
class Converted:
    """What was written; and what a check of it found, by what the files were run with."""

    files: list[Path]
    checked_with: str | None = None
    differences: Sequence[Difference] = ()


@dataclass(frozen=True)
class OnnxOptions:
    """What `write_onnx` takes beside the net."""

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

    interp: for caffe, see `write_caffe`. onnx: see `write_onnx`. verify: run net and files on a
    seeded input first; where an output differs by more than 1e-4 times its standard deviation (or
    1, if that is less), ConversionError names it, and no file is left.

    Raises also what the format's writer raises, and FileError.
    """
    targets = [writable_target(path) for path in file_names(to, out)]
    where = display_name(targets[0].parent)
    try:
        # In the same folder, so that the files can be moved to their names.
        with tempfile.TemporaryDirectory(prefix=".deeplab-", dir=targets[0].parent) as folder:
            files = [Path(folder) / target.name for target in targets]
            if to == "caffe":
                write_caffe(net, *files, interp=interp)
            elif to == "onnx":
                write_onnx(net, *files, **vars(onnx))
            else:
                write_npz(net, *files)
            checked_with, differences = _check(net, to, files, onnx) if verify else (None, [])
            for file, target in zip(files, targets, strict=True):
                os.replace(file, target)
    except OSError as error:
        raise FileError(f"{where}: cannot be written to: {error.strerror}") from error
    return Converted(targets, checked_with, differences)


def file_names(to: Format, out: str | os.PathLike[str]) -> list[Path]:
    """The files of a format under the name `out`, with or without its ending."""
    name = os.fspath(out)
    for ending in ENDINGS[to]:
        name = name.removesuffix(ending)
    return [Path(name + ending) for ending in ENDINGS[to]]


def _check(
    net: Net, to: Format, files: list[Path], onnx: OnnxOptions
) -> tuple[str, list[Difference]]:
    """What ran the files, and how far their outputs lie from the net's."""
    data, expected = _expected(net, onnx)
    if to == "onnx":
        what, found = run_onnx(files[0], data)
    elif to == "caffe" and BY_CAFFE:
        what, found = run_caffe(net, files[0], files[1], data)
    else:
        again = read_npz(files[0]) if to == "npz" else read_net(files[0])
        if to == "caffe":
            load_weights(again, files[1])
        what, found = "what was read back", list(_run(again, data).values())
    return what, [
        _compared(name, theirs, ours)
        for (name, theirs), ours in zip(expected.items(), found, strict=True)
    ]


def _expected(net: Net, onnx: OnnxOptions) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """A seeded input for the converted net, and what the net makes of it."""
    rng = np.random.default_rng(_SEED)
    if onnx.rgb_uint8:
        net = net.ending_in_scores()
        # Of no size that the net fits, where it may be: larger one way and smaller the other.
        height, width = net.input_shape[2:]
        if fits_any_size(net):
            height, width = height + 3, max(1, width - 3)
        image = rng.integers(0, 256, (height, width, 3), np.uint8)
        size = net.fitting_size((height, width))
        scores = _run(net, preprocess(image, size, net.mean_bgr or MEAN_BGR))[net.output]
        data, blobs = image[None], {"scores": scores[:, :, :height, :width]}
    else:
        data = rng.normal(0, 64, net.input_shape).astype(np.float32)
        blobs = _run(net, data)
    if onnx.softmax and not net.ends_in_softmax:
        _, scores = blobs.popitem()  # the output
        blobs["probs"] = np.stack([softmax(each) for each in scores])
    return data, blobs


def _run(net: Net, data: np.ndarray) -> dict[str, np.ndarray]:
    return OpenCVEngine(net, "cpu").blobs(data, net.outputs)


def _compared(name: str, theirs: np.ndarray, ours: np.ndarray) -> Difference:
    if ours.shape != theirs.shape:
        raise ConversionError(
            f"output '{name}' of the converted net is {dims(ours.shape)}, expected "
            f"{dims(theirs.shape)}: nothing was written, please report this"
        )
    difference = Difference(
        name, float(np.abs(ours - theirs).max()), _TOLERANCE * max(1.0, float(theirs.std()))
    )
    if not difference.largest <= difference.tolerance:  # NaN too
        raise ConversionError(
            f"output '{name}' of the converted net differs by {difference.largest:.3g}, expected "
            f"at most {difference.tolerance:.3g}: nothing was written; are the weights in order?"
        )
    return difference
