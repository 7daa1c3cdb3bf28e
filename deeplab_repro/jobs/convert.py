"""Writes a net in another format, and checks first that the new files give the same outputs."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from deeplab_repro.caffe import write_mean_file
from deeplab_repro.convert.caffe import write_caffe
from deeplab_repro.convert.npz import write_npz
from deeplab_repro.convert.onnx import write_onnx
from deeplab_repro.convert.safetensors import write_safetensors
from deeplab_repro.errors import FileError, NetError, one_line
from deeplab_repro.files.whole import replace_together
from deeplab_repro.jobs.verify import PLAIN, Difference, Format, OnnxOptions, check_files
from deeplab_repro.net.net import Net

ENDINGS: dict[Format, tuple[str, ...]] = {
    "caffe": (".prototxt", ".caffemodel"),
    "onnx": (".onnx",),
    "npz": (".npz",),
    "safetensors": (".safetensors",),
}
"""The formats, and how the names of their files end."""


@dataclass(frozen=True)
class Converted:
    """The files that were written; and if they were checked, what ran them and the differences."""

    files: list[Path]
    checked_with: str | None = None
    differences: Sequence[Difference] = ()


def convert_files(
    net: Net,
    to: Format,
    out: str | os.PathLike[str],
    *,
    interp: bool = True,
    onnx: OnnxOptions = PLAIN,
    verify: bool = False,
) -> Converted:
    """Write the net, with weights, in another format: to `out` with that format's endings.

    For caffe a mean for each pixel is a third file, .binaryproto, which the prototxt names.

    interp: for caffe, see `write_caffe`. onnx: see `write_onnx`. verify: run the net and the files
    on a seeded picture first. No output may differ by more than 1e-4 times its standard deviation;
    of probabilities these are the logarithms. Where one does, a run in float64 tells which is off,
    and a second what comes of rounding.

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
        elif to == "npz":
            write_npz(net, *files)
        else:
            write_safetensors(net, *files)
        checked_with, differences = check_files(net, to, files, onnx) if verify else (None, [])
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
