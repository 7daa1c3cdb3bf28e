"""deeplab-repro inspect: show what a file of Caffe's or of ours holds."""

import argparse
import json

from deeplab_repro.cli.options import add_variables


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command's arguments."""
    parser = commands.add_parser(
        "inspect",
        help="show what a prototxt, a caffemodel, or another file of Caffe's or ours holds",
        description="Show the layers of a net (prototxt or converted .npz) or of a model by its "
        "name, the weights of a caffemodel, or what is in a solver, a .solverstate, a .binaryproto "
        "or an .onnx.",
    )
    parser.add_argument("file", metavar="FILE", help="the file, or a model's name")
    add_variables(parser)
    parser.add_argument("--json", action="store_true", help="print JSON, with all that there is")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the description of the file."""
    from deeplab_repro.cli.described import print_description
    from deeplab_repro.cli.descriptions import describe_file

    description = describe_file(arguments.file, dict(arguments.variables))
    if arguments.json:
        print(json.dumps(description, indent=1))
    else:
        print_description(description)
    return 0
