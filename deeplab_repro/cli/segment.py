"""deeplab-repro segment: photos in, label pictures out."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from deeplab_repro.cli.console import crf_text, print_photos, say, say_tiles
from deeplab_repro.cli.options import (
    add_device,
    add_engine,
    add_force,
    add_iterations,
    add_max_side,
    add_net,
    add_photos,
    add_tile,
    files_read,
    recipe_of,
)

if TYPE_CHECKING:
    from deeplab_repro.segmenter import DeepLab

# As jobs.segment.OUTPUTS, which takes too long to load for --help; a test compares them.
_OUTPUTS = ("labels", "overlay", "scores", "probs", "marginals", "bin", "mat")


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command's arguments."""
    parser = commands.add_parser(
        "segment",
        help="segment photos: one label picture each",
        description="Segment photos. Writes <stem>.png, an indexed PNG with the VOC palette, each.",
    )
    add_photos(parser)
    add_net(parser, default="DeepLab-LargeFOV")
    add_iterations(parser)
    add_device(parser, "net", "the best there is")
    add_engine(parser)
    add_tile(parser)
    add_max_side(parser)
    parser.add_argument(
        "--out", metavar="DIR", type=Path, default=Path("out"), help="default: %(default)s"
    )
    parser.add_argument(
        "--save",
        metavar="WHAT",
        type=_outputs,
        default=(),
        help=f"besides the labels, a comma-separated list of {', '.join(_OUTPUTS[1:])}",
    )
    add_force(parser)
    parser.set_defaults(run=run)


def _outputs(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    unknown = [name for name in names if name not in _OUTPUTS]
    if unknown:
        raise argparse.ArgumentTypeError(f"'{unknown[0]}' is none of {', '.join(_OUTPUTS)}")
    return names


def run(arguments: argparse.Namespace) -> int:
    """Segment every photo; exit status 2 if one of them could not be."""
    from deeplab_repro.jobs.photos import find_photos
    from deeplab_repro.jobs.segment import check_outputs, segment_files
    from deeplab_repro.models.loading import RANDOM

    paths = find_photos(arguments.images)
    read = files_read(arguments)
    check_outputs(paths, arguments.out, arguments.save, read, arguments.force)
    model = recipe_of(arguments).build()
    photos = segment_files(
        model, paths, arguments.out, arguments.save, arguments.force, on_tiles=say_tiles
    )
    last, failures = print_photos("segmenting", len(paths), photos)
    if last:
        say(ran_on(model))
        if str(arguments.weights).startswith(RANDOM):
            say("the weights are random, so the labels mean nothing")
        say(f"results are in {arguments.out}")
    return 2 if failures else 0


def ran_on(model: "DeepLab") -> str:
    """What ran where."""
    net = f"net '{model.net.name}' ran on {model.device} with {model.engine.name}"
    if model.device != "cpu":
        net += f" in {model.precision}"
    return f"{net}, {crf_text(model.crf)}" + (f" on {model.crf_device}" if model.crf else "")
