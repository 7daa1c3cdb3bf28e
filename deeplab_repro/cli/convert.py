"""deeplab-repro convert: write a net with its weights in another format."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from deeplab_repro.cli.options import (
    add_force,
    add_variables,
    files_read,
    variables_of,
    whole_number,
)
from deeplab_repro.errors import one_line

if TYPE_CHECKING:
    from deeplab_repro.jobs.verify import Difference
    from deeplab_repro.net.net import Net


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command's arguments."""
    parser = commands.add_parser(
        "convert",
        help="write a net with its weights as current Caffe, ONNX, PyTorch or arrays",
        description="Write a net with its weights as current Caffe (.prototxt and .caffemodel), "
        "ONNX, code for PyTorch (model.py and model.safetensors), or arrays with the net as JSON "
        "(.npz, .safetensors).",
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--model", metavar="NAME", help="a model of the paper")
    which.add_argument(
        "--prototxt", metavar="F", help="a net, in the authors' dialect or upstream's"
    )
    parser.add_argument(
        "--weights",
        metavar="F",
        help="its caffemodel; or a .npz or .safetensors, which hold the net too",
    )
    parser.add_argument(
        "--to",
        choices=("caffe", "onnx", "npz", "safetensors", "torch"),
        required=True,
        help="the format",
    )
    parser.add_argument(
        "--out",
        metavar="PATH",
        required=True,
        help="the file, the name of caffe's two files, or the folder of torch's",
    )
    parser.add_argument(
        "--verify",
        action="store_true",
        help="run both on a seeded picture first, and write nothing where they differ",
    )
    parser.add_argument(
        "--half",
        action="store_true",
        help="weights as float16, in half the bytes; for all but caffe",
    )
    add_force(parser)
    add_variables(parser)
    parser.add_argument_group("safetensors").add_argument(
        "--names",
        choices=("torchvision",),
        help="VGG-16's convolutions alone, as torchvision's vgg16 names and feeds them",
    )
    caffe = parser.add_argument_group("caffe")
    caffe.add_argument(
        "--no-interp",
        dest="interp",
        action="store_false",
        help="write Interp as Deconvolution, for BVLC's Caffe, which has no Interp",
    )
    onnx = parser.add_argument_group("onnx")
    onnx.add_argument(
        "--input",
        choices=("net", "rgb-uint8"),
        default="net",
        help="what the file takes: the net's input (default), or photos of any size as they are",
    )
    onnx.add_argument(
        "--opset",
        metavar="N",
        type=whole_number(1),
        default=13,
        help="the version of ONNX's operators, 13 (default) to the newest that onnxruntime takes",
    )
    onnx.add_argument("--softmax", action="store_true", help="end in probabilities")
    onnx.add_argument(
        "--classes", metavar="F", help="names by label, one a line (default: VOC's for 21 labels)"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the files; print their names and what the check found."""
    from deeplab_repro.errors import ArgumentError
    from deeplab_repro.files.targets import check_targets
    from deeplab_repro.jobs.convert import convert_files, file_names, files_written
    from deeplab_repro.jobs.verify import LEAST_AGREEMENT, PLAIN, OnnxOptions

    is_onnx = arguments.to == "onnx"
    options_of_onnx = arguments.input != "net" or arguments.softmax or arguments.classes
    if not is_onnx and (options_of_onnx or arguments.opset != PLAIN.opset):
        raise ArgumentError("--input, --softmax, --classes and --opset go with --to onnx")
    if arguments.to == "caffe" and arguments.half:
        raise ArgumentError("--half goes with --to onnx, npz, safetensors and torch")
    if arguments.to != "caffe" and not arguments.interp:
        raise ArgumentError("--no-interp goes with --to caffe")
    read = files_read(arguments)
    if arguments.names and arguments.to != "safetensors":
        raise ArgumentError("--names goes with --to safetensors")
    targets = file_names(arguments.to, arguments.out)
    check_targets({Path(arguments.out): targets}, read, arguments.force)
    net = _net(arguments)
    targets = files_written(net, arguments.to, arguments.out, arguments.half)
    check_targets({Path(arguments.out): targets}, read, arguments.force)
    options = OnnxOptions(
        labels=_labels(net, arguments.classes) if is_onnx else (),
        softmax=arguments.softmax,
        rgb_uint8=arguments.input == "rgb-uint8",
        opset=arguments.opset,
    )
    converted = convert_files(
        net,
        arguments.to,
        arguments.out,
        interp=arguments.interp,
        onnx=options,
        half=arguments.half,
        names=arguments.names,
        verify=arguments.verify,
    )
    if arguments.names:
        print(one_line(_told_of_names(net)))
    for difference in converted.differences:
        print(one_line(_told(difference, converted.checked_with)))
    if converted.agreement is not None:
        least = f"at least: {LEAST_AGREEMENT:.0%}"
        print(f"labels as with float32: {converted.agreement:.2%} ({least})")
    for file in converted.files:
        print(f"written: {one_line(file)} ({file.stat().st_size:,} bytes)")
    return 0


def _told_of_names(net: "Net") -> str:
    """What torchvision's names hold of the net, and what not."""
    from deeplab_repro.convert.torchvision import TRUNK, trunk_of

    names, (_, left_out) = list(TRUNK.items()), trunk_of(net)
    (first, begin), (last, end) = names[0], names[-1]
    return (
        f"{first} to {last} as {begin} to {end}, for red, green, blue as torchvision feeds them: "
        "the same numbers except where they see the border; left out: "
        f"{', '.join(layer.name for layer in left_out) or 'nothing'}"
    )


def _told(difference: "Difference", checked_with: str | None) -> str:
    """What the check found of one output."""
    from deeplab_repro.engines.opencv import OpenCVEngine

    of_engine = difference.of_engine
    return (
        f"{difference.output}{' (its logarithms)' if difference.in_logarithms else ''}: "
        f"differs by at most {difference.largest:.2g}"
        f"{'' if of_engine is None else ' from a run in float64'} "
        f"(allowed: {difference.tolerance:.2g}), run with {checked_with}"
        f"{'' if of_engine is None else f'; {OpenCVEngine.name} differs by {of_engine:.2g}'}"
    )


def _net(arguments: argparse.Namespace) -> "Net":
    """The net that was asked for, with its weights."""
    from deeplab_repro.convert.converted import may_hold_net, read_converted
    from deeplab_repro.errors import ArgumentError
    from deeplab_repro.models.loading import load_net

    weights = arguments.weights
    which = Path(arguments.prototxt) if arguments.prototxt else arguments.model
    if weights and may_hold_net(weights) and (not which or weights.endswith(".npz")):
        if which or arguments.variables:
            raise ArgumentError(
                f"{one_line(weights)}: holds its own net: leave out --prototxt, --model and --set"
            )
        return read_converted(weights)
    if not which:
        raise ArgumentError(
            "no net is given: use --prototxt or --model, or a .npz or .safetensors as --weights"
        )
    return load_net(which, weights, variables_of(arguments))


def _labels(net: "Net", classes: str | None) -> Sequence[str]:
    """The names of the net's labels, none where they are not known."""
    from deeplab_repro.errors import ArgumentError
    from deeplab_repro.models.registry import VOC_CLASSES
    from deeplab_repro.voc.devkit import read_classes

    n_labels = net.output_shape()[1]
    if classes:
        names = read_classes(classes)
        if len(names) != n_labels:
            raise ArgumentError(
                f"{one_line(classes)}: has {len(names)} names of labels, expected {n_labels}, one "
                f"for each score of net '{net.name}'"
            )
        return names
    return VOC_CLASSES if n_labels == len(VOC_CLASSES) else ()
