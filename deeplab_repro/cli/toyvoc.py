"""deeplab-repro toyvoc: draw the synthetic data set."""

import argparse
from pathlib import Path

from deeplab_repro.cli.console import progress, say
from deeplab_repro.cli.options import add_force, whole_number


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command's arguments."""
    parser = commands.add_parser(
        "toyvoc",
        help="draw ToyVOC, a small data set laid out as VOC 2012",
        description="Draw ToyVOC: small scenes with VOC's 20 classes and their labels, laid out "
        "as VOC 2012, with the authors' lists. The same arguments give the same files, "
        "and take the place of an earlier set.",
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        type=Path,
        required=True,
        help="the folder to write to; made if missing",
    )
    for split, count in (("train", 800), ("val", 100)):
        parser.add_argument(
            f"--{split}",
            metavar="N",
            type=whole_number(0, 999_999),
            default=count,
            help=f"scenes to draw for {split} (default: %(default)s)",
        )
    parser.add_argument(
        "--seed",
        metavar="N",
        type=whole_number(0),
        default=0,
        help="another number draws other scenes (default: %(default)s)",
    )
    add_force(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Draw and write the scenes."""
    from deeplab_repro.toy.dataset import write_dataset

    write_dataset(
        arguments.out,
        arguments.train,
        arguments.val,
        arguments.seed,
        progress,
        force=arguments.force,
    )
    say(f"{arguments.train} scenes for train and {arguments.val} for val are in {arguments.out}")
    return 0
