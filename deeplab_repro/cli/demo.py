"""deeplab-repro demo: the shipped models segment drawn scenes, scored and shown."""

import argparse
import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from deeplab_repro.cli.console import print_table, progress, say, table_console
from deeplab_repro.cli.options import add_force, whole_number
from deeplab_repro.errors import one_line

if TYPE_CHECKING:
    from deeplab_repro.toy.demo import DemoResult

_MODELS = ("ToyVOC-LargeFOV", "ToyVOC-MSc-LargeFOV")


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command's arguments."""
    parser = commands.add_parser(
        "demo",
        help="see it work: drawn scenes, two small trained nets, the CRF; needs nothing else",
        description="Draw scenes, segment them with two small trained nets that are shipped, alone "
        "and with the CRF, and score the results. Writes index.html, to open in a browser, and "
        "contact_sheet.png.",
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        type=Path,
        default=Path("demo"),
        help="the folder for the results (default: %(default)s)",
    )
    parser.add_argument(
        "--scenes",
        metavar="N",
        type=whole_number(1, 10_000),
        default=50,
        help="how many to draw (default: %(default)s)",
    )
    parser.add_argument(
        "--seed",
        metavar="N",
        type=whole_number(0),
        default=0,
        help="another number draws other scenes (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON, with every class's IOU")
    add_force(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Draw, segment, score, write, and print the table."""
    from deeplab_repro.files.targets import check_targets, make_folder
    from deeplab_repro.segmenter import DeepLab
    from deeplab_repro.toy.demo import measure
    from deeplab_repro.toy.demo_page import write_contact_sheet, write_page

    page, sheet = arguments.out / "index.html", arguments.out / "contact_sheet.png"
    check = partial(check_targets, {arguments.out: [page, sheet]}, (), arguments.force)
    check()
    models = [(name, DeepLab(name)) for name in _MODELS]
    say("drawing and segmenting; the first run compiles the CRF, which takes about 15 seconds")
    result = measure(models, arguments.scenes, arguments.seed, progress)
    check()
    make_folder(arguments.out)
    write_contact_sheet(sheet, result)
    write_page(page, result)
    if arguments.json:
        print(json.dumps({**result.as_json(), "page": str(page), "contact_sheet": str(sheet)}))
    else:
        _print(result)
    say(f"the scenes side by side are in {sheet}; open {page} in a browser")
    return 0


def _print(result: "DemoResult") -> None:
    from deeplab_repro.toy.demo import SPLIT, notes, table

    heading, *rows = table(result)
    print(f"{len(result.scenes)} scenes of ToyVOC {SPLIT}, seed {result.seed}", flush=True)
    print_table(heading, rows)
    for note in notes(result):
        table_console().print(one_line(note))
