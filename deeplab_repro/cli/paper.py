"""deeplab-repro paper: the paper's tables and figures with ours beside them."""

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from deeplab_repro.cli.console import print_table, progress, say, table_console
from deeplab_repro.cli.options import add_force, add_workers, workers_of
from deeplab_repro.errors import ArgumentError, FileError, one_line

if TYPE_CHECKING:
    from deeplab_repro.paper.report import Report

_TABLES = ["table1", "table2", "v2_vgg16", "v2_resnet101"]  # that fit a terminal


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command's arguments."""
    parser = commands.add_parser(
        "paper",
        help="the paper's tables and figures, ours beside theirs",
        description="Compare with the paper: the columns of table 2 that the nets' prototxt files "
        "determine and, given PASCAL VOC 2012 and the released weights, tables 1 to 3 and figures "
        "5 and 7, and DeepLab v2's scores. Writes index.html, paper.md and paper.json. Run again, "
        "it goes on where it was stopped. Or draw figure 2 for an image: its score and belief maps "
        "after every iteration of the CRF.",
    )
    parser.add_argument(
        "--voc", metavar="DIR", type=Path, help="PASCAL VOC 2012, as VOCdevkit/VOC2012"
    )
    parser.add_argument(
        "--models",
        metavar="DIR",
        type=Path,
        help="the released weights, as DIR/DeepLab-LargeFOV/train_iter_6000.caffemodel",
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        type=Path,
        default=Path("paper"),
        help="the folder for the report and the predictions (default: %(default)s)",
    )
    add_workers(parser)
    parser.add_argument(
        "--figure2", metavar="IMAGE", type=Path, help="draw figure 2 for this image instead"
    )
    parser.add_argument("--model", metavar="NAME", help="for figure 2 (default: DeepLab-LargeFOV)")
    parser.add_argument(
        "--weights", metavar="F", help="for figure 2; ToyVOC's models have their own"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_force(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the report or the figure, and print what is in it."""
    if arguments.figure2:
        return _figure2(arguments)
    for option in ("model", "weights"):
        if getattr(arguments, option):
            raise ArgumentError(f"--{option} is for --figure2 IMAGE, which is not given")
    return _tables(arguments)


def _tables(arguments: argparse.Namespace) -> int:
    from deeplab_repro.files.targets import check_targets
    from deeplab_repro.paper.report import make_report
    from deeplab_repro.paper.reproduce import paper_runs
    from deeplab_repro.paper.write import targets, write_report
    from deeplab_repro.voc.devkit import open_devkit

    if (arguments.voc is None) != (arguments.models is None):
        given, other = ("voc", "models") if arguments.voc else ("models", "voc")
        raise ArgumentError(f"--{given} is given without --{other}: running the nets needs both")
    written = {arguments.out: targets(arguments.out, with_curves=arguments.voc is not None)}
    check = partial(check_targets, written, (), arguments.force)
    check()
    if arguments.models and not arguments.models.is_dir():
        raise FileError(f"{one_line(arguments.models)}: is no folder, expected one of weights")
    devkit = arguments.voc and open_devkit(arguments.voc)
    runs = paper_runs(arguments.models)
    report = make_report(devkit, runs, arguments.out, workers_of(arguments), _told)
    check()
    write_report(arguments.out, report)
    if arguments.json:
        print(json.dumps(report.as_json()))
    else:
        _print(report, _TABLES if arguments.voc else ["table2"])
    say(f"all tables are in {arguments.out / 'paper.md'}; open {arguments.out / 'index.html'}")
    return 0


@contextmanager
def _told(doing: str, images: int) -> Iterator[Callable[[], None]]:
    """Print a line for each step, which may take hours; on a terminal show its progress too."""
    say(f"{doing}, {images} in all")
    with progress(doing, images) as advance:
        yield advance


def _figure2(arguments: argparse.Namespace) -> int:
    from deeplab_repro.files.images import read_image
    from deeplab_repro.files.targets import check_targets, make_folder
    from deeplab_repro.models.loading import files_of
    from deeplab_repro.paper.figure2 import make_figure2, write_figure2
    from deeplab_repro.segmenter import DeepLab

    if arguments.voc or arguments.models:
        raise ArgumentError("--figure2 takes neither --voc nor --models: draw it on its own")
    target = arguments.out / f"figure2_{arguments.figure2.stem}.png"
    image = read_image(arguments.figure2)
    name = arguments.model or "DeepLab-LargeFOV"
    read = [arguments.figure2, *files_of(name, arguments.weights)]
    check = partial(check_targets, {arguments.figure2: [target]}, read, arguments.force)
    check()
    model = DeepLab(name, arguments.weights)
    figure = make_figure2(model, image)
    check()
    make_folder(arguments.out)
    write_figure2(target, figure)
    labels = [maps.name for maps in figure.maps]
    if arguments.json:
        print(json.dumps({"figure2": str(target), "labels": labels, "left_out": figure.left_out}))
    else:
        print(one_line(f"{target}: {', '.join(labels)}"))
    if figure.left_out:
        left_out = ", ".join(figure.left_out)
        say(f"only the {len(labels)} labels with most pixels have maps; left out: {left_out}")
    return 0


def _print(report: "Report", names: list[str]) -> None:
    from deeplab_repro.paper.layout import lay_out

    console = table_console()
    for name in names:
        table = report.tables[name]
        texts = lay_out(table)
        # Ours and the difference stand beside the paper's, under its name.
        beside = [at for at, (_, whose) in enumerate(texts.heading) if whose in ("ours", "diff.")]
        heading = [
            whose if at in beside else f"{of} {whose}".strip()
            for at, (of, whose) in enumerate(texts.heading)
        ]
        console.print(f"{table.title}: {table.caption}")
        print_table(heading, texts.lines, beside=beside)
        for note in texts.notes:
            console.print(one_line(note))
    console.print(one_line(report.summary))
