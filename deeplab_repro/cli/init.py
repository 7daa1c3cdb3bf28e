"""deeplab-repro init: make the first weights of a net from a classification net's."""

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from deeplab_repro.cli.console import print_table
from deeplab_repro.cli.options import add_force, add_variables
from deeplab_repro.errors import one_line

if TYPE_CHECKING:
    from deeplab_repro.net.net import Net
    from deeplab_repro.train.initialise import Initialised


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command's arguments."""
    parser = commands.add_parser(
        "init",
        help="make the weights that training begins with, from VGG-16's",
        description="Make the weights that training begins with from those of a classification "
        "net: layers are matched by name, and decimated where the net's are smaller. Layers that "
        "the file lacks are left out; training fills them by their fillers.",
    )
    parser.add_argument("--net", metavar="F", required=True, help="the train or test prototxt")
    parser.add_argument(
        "--weights",
        metavar="F",
        required=True,
        help="the classification net's caffemodel, or its .safetensors: torchvision's vgg16, too",
    )
    parser.add_argument("--out", metavar="F", required=True, help="the caffemodel to write")
    add_variables(parser)
    add_force(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the weights, and print how each layer was initialised."""
    from deeplab_repro.caffe import read_net
    from deeplab_repro.files.targets import check_targets
    from deeplab_repro.train.initialise import initialise, write_initialised

    check = partial(
        check_targets,
        {Path(arguments.out): [Path(arguments.out)]},
        (arguments.net, arguments.weights),
        arguments.force,
    )
    check()
    net = read_net(arguments.net, dict(arguments.variables))
    initialised = initialise(net, arguments.weights)
    check()
    write_initialised(net, arguments.out)
    _print_table(net, initialised)
    if initialised.unused:
        print(one_line(f"not in the net, left out: {', '.join(initialised.unused)}"))
    print(f"written: {one_line(arguments.out)}")
    return 0


def _print_table(net: "Net", initialised: "Initialised") -> None:
    from deeplab_repro.arrays import dims

    shapes = {layer.name: layer.blobs[0].shape for layer in net.layers if layer.blobs}
    rows = [(name, dims(shapes[name]), told) for name, told in initialised.layers.items()]
    print_table(["layer", "weight", "initialised"], rows, left=3)
