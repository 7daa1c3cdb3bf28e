"""Writes a net in another format, and checks first that the new files give the same outputs."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from deeplab_repro.caffe import write_mean_file
from deeplab_repro.convert.caffe import write_caffe
from deeplab_repro.convert.npz import write_npz
from deeplab_repro.convert.onnx import needs_data_file, write_onnx
from deeplab_repro.convert.onnx_graph import OPSETS
from deeplab_repro.convert.safetensors import write_safetensors
from deeplab_repro.convert.torch import write_torch
from deeplab_repro.convert.torchvision import write_trunk
from deeplab_repro.engines.onnxruntime import newest_opset
from deeplab_repro.errors import ArgumentError, FileError, NetError, one_line
from deeplab_repro.files.targets import make_folder
from deeplab_repro.files.whole import replace_together
from deeplab_repro.jobs.verify import PLAIN, Checked, Difference, Format, OnnxOptions, check_files
from deeplab_repro.jobs.verify_trunk import check_trunk
from deeplab_repro.net.net import Net

ENDINGS: dict[Format, tuple[str, ...]] = {
    "caffe": (".prototxt", ".caffemodel"),
    "onnx": (".onnx",),
    "npz": (".npz",),
    "safetensors": (".safetensors",),
    "torch": ("model.safetensors", "model.py"),
}
"""The formats, and how the names of their files end; of torch these are whole, in a folder."""


@dataclass(frozen=True)
class Converted:
    """The files that were written; and if they were checked, what that found: see `Checked`."""

    files: list[Path]
    checked_with: str | None = None
    differences: Sequence[Difference] = ()
    agreement: float | None = None


def convert_files(
    net: Net,
    to: Format,
    out: str | os.PathLike[str],
    *,
    interp: bool = True,
    onnx: OnnxOptions = PLAIN,
    half: bool = False,
    names: Literal["torchvision"] | None = None,
    verify: bool = False,
) -> Converted:
    """Write the net, with weights, in another format: to `out` with that format's endings.

    For torch `out` is a folder, which is made if need be.
    For caffe a mean for each pixel is a third file, .binaryproto, which the prototxt names. An ONNX
    file of more than 2 GB has its weights in a second one, .onnx.data.

    interp: for caffe, see `write_caffe`. onnx: see `write_onnx`. half: weights and biases as
    float16, for all but caffe. names: for safetensors, VGG-16's convolutions alone, as torchvision
    names and feeds them: see `write_trunk`.

    verify: run the net and the files on a seeded picture first. No output may differ by more than
    1e-4 times its standard deviation; of probabilities these are the logarithms. Where one does, a
    run in float64 tells which is off, and a second what comes of rounding. With half they are
    compared with the net with these weights, and then 99% of the labels must be those of the net as
    it is. With names conv1_1 is run, and the other weights are compared.

    Raises what the format's writer raises, FileError, NetError for a train net that would be ONNX
    or run, and ArgumentError for half with caffe, and for an opset that onnxruntime, where it is
    installed, does not take. With verify also ConversionError, which names the output that differs,
    WeightsError for outputs that are NaN or infinite, and ResourceError where there is too little
    memory. Where it raises, it leaves no file.
    """
    if net.labels and (verify or to in ("onnx", "torch")):
        raise NetError(f"net '{net.name}' takes labels, to train: convert its test net")
    if names and to != "safetensors":
        raise ArgumentError(f"names are {names}'s, which go with safetensors alone")
    if half and to == "caffe":
        raise ArgumentError("caffemodels have no float16: use half with onnx, npz or safetensors")
    if to == "onnx":
        _check_opset(onnx.opset)
    paths = files_written(net, to, out, half)
    how = net.preprocessing
    mean = how.mean_image if to == "caffe" and how else None
    if how and mean:
        net = replace(net, preprocessing=replace(how, mean=replace(mean, file=paths[-1].name)))
    with _folder_for(to, paths[0].parent), replace_together(paths) as files:
        checked: Checked | tuple[()] = ()
        if names:
            write_trunk(net, *files, half=half)
            if verify:
                checked = check_trunk(net, files[0], half)
        else:
            data = (files[1], paths[1].name) if to == "onnx" and files[1:] else None
            _write(net, to, files, interp, onnx, half, data)
            if verify:
                checked = check_files(net, to, files, onnx, half, paths[-1].name)
    return Converted(paths, *checked)


def _write(
    net: Net,
    to: Format,
    files: Sequence[Path],
    interp: bool,
    onnx: OnnxOptions,
    half: bool,
    data: tuple[Path, str] | None,
) -> None:
    if to == "caffe":
        write_caffe(net, *files[:2], interp=interp)
        if files[2:] and net.preprocessing and net.preprocessing.mean_image:
            write_mean_file(net.preprocessing.mean_image, files[2])
    elif to == "onnx":
        write_onnx(net, files[0], **vars(onnx), half=half, data=data)
    elif to == "npz":
        write_npz(net, *files, half=half)
    elif to == "torch":
        write_torch(net, *files, half=half)
    else:
        write_safetensors(net, *files, half=half)


@contextlib.contextmanager
def _folder_for(to: Format, folder: Path) -> Iterator[None]:
    """Make the folder of torch's files, and take it away again where they cannot be written."""
    if to != "torch" or folder.is_dir():
        yield
        return
    new = [each for each in (folder, *folder.parents) if not each.exists()]
    make_folder(folder)
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):  # the first error is the one to tell
            for each in new:
                each.rmdir()
        raise


def _check_opset(opset: int) -> None:
    """Raise ArgumentError for an opset that the installed onnxruntime does not take."""
    # Those that no file can have write_onnx refuses.
    if opset == PLAIN.opset or opset not in OPSETS or find_spec("onnxruntime") is None:
        return
    newest = newest_opset()
    if opset > newest:
        raise ArgumentError(
            f"opset is {opset}, expected at most {newest}, the newest that the installed "
            "onnxruntime takes: give a lower one, or update onnxruntime"
        )


def files_written(net: Net, to: Format, out: str | os.PathLike[str], half: bool) -> list[Path]:
    """All files that converting the net writes, with those that few nets need."""
    paths = file_names(to, out)
    if to == "caffe" and net.preprocessing and net.preprocessing.mean_image:
        paths.append(paths[0].with_suffix(".binaryproto"))
    if to == "onnx" and needs_data_file(net, half):
        paths.append(paths[0].with_name(f"{paths[0].name}.data"))
    return paths


def file_names(to: Format, out: str | os.PathLike[str]) -> list[Path]:
    """The files of a format under the name `out`, with or without its ending; torch's in a folder.

    Raises FileError for a name that is only a folder's, but for torch.
    """
    name = os.fspath(out)
    if to == "torch" and name:
        return [Path(name, file) for file in ENDINGS[to]]
    for ending in ENDINGS[to]:
        name = name.removesuffix(ending)
    if os.path.basename(name) in ("", os.curdir, os.pardir):
        raise FileError(f"'{one_line(out)}' names no file to write to: add a file's name")
    return [Path(name + ending) for ending in ENDINGS[to]]
