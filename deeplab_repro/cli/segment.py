"""deeplab-repro segment: photos in, label pictures out."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from deeplab_repro.cli.console import (
    crf_text,
    print_photo,
    print_photos,
    say,
    say_clashes,
    say_tiles,
)
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
from deeplab_repro.errors import did_you_mean

if TYPE_CHECKING:
    from deeplab_repro.segmenter import DeepLab

# As jobs.segment.OUTPUTS, which takes too long to load for --help; a test compares them.
OUTPUTS = ("labels", "overlay", "scores", "probs", "marginals", "bin", "mat", "cutout")


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command's arguments."""
    parser = commands.add_parser(
        "segment",
        help="segment photos: one label picture each",
        description="Segment photos. The labels of photo.jpg go to photo.png in the folder of "
        "--out, a PNG with VOC's palette.",
    )
    add_photos(parser)
    add_net(parser, default="DeepLab-LargeFOV")
    add_iterations(parser)
    add_device(parser, "net", "the best there is")
    add_engine(parser)
    add_tile(parser)
    add_max_side(parser)
    parser.add_argument(
        "--out",
        metavar="DIR",
        type=Path,
        default=Path("out"),
        help="the folder for the results (default: %(default)s)",
    )
    parser.add_argument(
        "--save",
        metavar="WHAT",
        type=_outputs,
        default=(),
        help=f"besides the labels, a comma-separated list of {', '.join(OUTPUTS[1:])}",
    )
    parser.add_argument(
        "--skip-existing",
        action="store_true",
        help="leave out photos whose results are there, if neither photo nor options changed since",
    )
    parser.add_argument(
        "--html", action="store_true", help="also write index.html, to compare photos and labels"
    )
    parser.add_argument(
        "--json", action="store_true", help="print a line of JSON for each photo, and the counts"
    )
    add_force(parser)
    parser.set_defaults(run=run)


def _outputs(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    unknown = [name for name in names if name not in OUTPUTS]
    if unknown:
        raise argparse.ArgumentTypeError(
            f"'{unknown[0]}' is none of {', '.join(OUTPUTS)}{did_you_mean(unknown[0], OUTPUTS)}"
        )
    return names


def run(arguments: argparse.Namespace) -> int:
    """Segment every photo; exit status 2 if one of them could not be."""
    from deeplab_repro.cli.json_lines import print_counts, print_json
    from deeplab_repro.jobs.finding import find_photos
    from deeplab_repro.jobs.names import result_names
    from deeplab_repro.jobs.segment import check_outputs, segment_files
    from deeplab_repro.jobs.segment_page import on_a_page
    from deeplab_repro.models.loading import RANDOM
    from deeplab_repro.show.photo_page import PAGE, check_page

    found = find_photos(arguments.images, arguments.recursive)
    out, save, force = arguments.out, arguments.save, arguments.force
    names, read = result_names(found.folders, out), files_read(arguments)
    check_outputs(names, out, save, read, force)
    if arguments.html:
        check_page(out, [*names, *read], force)
    model = recipe_of(arguments).build()
    say_clashes(names)
    photos = segment_files(
        model, names, out, save, force, names, arguments.skip_existing, say_tiles
    )
    if arguments.html:
        photos = on_a_page(photos, out, model, ran_on(model), force)
    tell = print_json if arguments.json else print_photo
    told = print_photos("segmenting", found, photos, tell)
    if told.last:
        say(ran_on(model))
        if str(arguments.weights).startswith(RANDOM):
            say("the weights are random, so the labels mean nothing")
        say(f"results are in {out}")
    if arguments.html:
        say(f"open {out / PAGE} in a browser")
    told.say()
    if arguments.json:
        print_counts(told)
    return 2 if told.failed else 0


def ran_on(model: "DeepLab") -> str:
    """What ran where."""
    net = f"net '{model.net.name}' ran on {model.device} with {model.engine.name}"
    if model.device != "cpu" or model.precision != "float32":
        net += f" in {model.precision}"
    return f"{net}, {crf_text(model.crf)}" + (f" on {model.crf_device}" if model.crf else "")
