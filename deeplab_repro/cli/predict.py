"""deeplab-repro predict: a split of a data set in, label pictures out."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from deeplab_repro.cli.console import crf_text, progress, say
from deeplab_repro.cli.options import (
    add_device,
    add_devkit,
    add_engine,
    add_force,
    add_iterations,
    add_net,
    add_tile,
    add_workers,
    devkit_of,
    files_read,
    recipe_of,
    workers_of,
)
from deeplab_repro.errors import ArgumentError, one_line
from deeplab_repro.machine.device import SCORES_TYPES

if TYPE_CHECKING:
    from deeplab_repro.voc.predict import Predicted


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command's arguments."""
    parser = commands.add_parser(
        "predict",
        help="segment a split of a data set, as the VOC test server wants it; resumable",
        description="Segment a split. Writes OUT/results/VOC2012/Segmentation/comp6_SPLIT_cls/"
        "ID.png. Stopped at any moment, it goes on where it was when it is run again.",
    )
    add_devkit(parser)
    add_net(parser, default=None)
    add_iterations(parser)
    add_device(parser, "net", "the best there is")
    add_engine(parser)
    add_tile(parser)
    parser.add_argument("--out", metavar="DIR", type=Path, required=True)
    parser.add_argument(
        "--scores",
        metavar="DIR",
        type=Path,
        help="keep the net's coarse scores there, and take those that are there already, also "
        "those of any program, in place of a net",
    )
    parser.add_argument(
        "--scores-type",
        choices=SCORES_TYPES,
        help="of kept scores (default: float16, or that of those that are there)",
    )
    parser.add_argument(
        "--tar", metavar="F.tgz", type=Path, help="pack the results for the test server"
    )
    add_force(
        parser,
        "segment val with weights that were trained on it (the results are marked), and ",
    )
    add_workers(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Segment what has no labels yet; exit status 2 if some images could not be."""
    from deeplab_repro.files.targets import check_targets
    from deeplab_repro.voc.predict import pack, predict

    devkit = devkit_of(arguments)
    if arguments.tar:
        check_targets({arguments.out: [arguments.tar]}, files_read(arguments), arguments.force)
        if not arguments.tar.name.endswith((".tgz", ".tar.gz")):
            raise ArgumentError(
                f"{one_line(arguments.tar)}: expected the name of a .tgz or .tar.gz file (--tar)"
            )
    predicted = predict(
        devkit,
        arguments.split,
        arguments.out,
        recipe_of(arguments),
        scores=arguments.scores,
        precision=arguments.scores_type,
        workers=workers_of(arguments),
        force=arguments.force,
        progress=progress,
    )
    if predicted.there == len(predicted.names):
        say("nothing was left to do: an earlier run has segmented all images")
    elif predicted.there:
        say(f"{predicted.there} of {len(predicted.names)} images were segmented by an earlier run")
    for failed in predicted.failed:
        say(f"error: {failed.error}")
    if arguments.tar and not predicted.failed:
        pack(predicted, arguments.tar)
    print(_summary(predicted))
    return 2 if predicted.failed else 0


def _summary(predicted: "Predicted") -> str:
    record = predicted.record
    done = len(predicted.names) - len(predicted.failed)
    return (
        f"{done} of {len(predicted.names)} images of {record.split} are in {predicted.folder}: "
        f"net '{record.model}', {record.weights}, {crf_text(record.crf)}"
    )
