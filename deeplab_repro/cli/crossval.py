"""deeplab-repro crossval: find the best CRF parameters for kept scores."""

import argparse
import json
import math
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from deeplab_repro.cli.console import print_table, progress, say, table_console
from deeplab_repro.cli.options import (
    add_devkit,
    add_force,
    add_iterations,
    add_workers,
    devkit_of,
    read_numbers,
    whole_number,
    workers_of,
)

if TYPE_CHECKING:
    from deeplab_repro.crf.params import CrfParams
    from deeplab_repro.voc.crossval import Found

_N_SHOWN = 10
_MOST_VALUES = 1000


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command's arguments."""
    parser = commands.add_parser(
        "crossval",
        help="find the best CRF parameters for kept scores, coarse to fine; resumable",
        description="Try a grid of CRF parameters on a sample of a split, as the authors did, then "
        "the neighbours of the best in ever smaller steps. Writes crossval.csv, crossval.json and "
        "heatmap.png. It can be stopped at any moment; run again, it goes on where it was.",
        epilog="VALUES are increasing numbers with commas between them, or first:step:last.",
    )
    add_devkit(parser)
    parser.add_argument(
        "--scores",
        metavar="DIR",
        type=Path,
        required=True,
        help="scores of the images, as `predict --scores` or `segment --save probs` keep them, or "
        "those of any program",
    )
    parser.add_argument("--out", metavar="DIR", type=Path, required=True)
    for option, default in (
        ("--w1", "5,10"),
        ("--sigma-alpha", "40:10:100"),
        ("--sigma-beta", "3:1:10"),
    ):
        parser.add_argument(
            option,
            metavar="VALUES",
            type=_values,
            default=default,
            help="default: %(default)s, the authors' values",
        )
    add_iterations(parser)
    parser.add_argument(
        "--images",
        metavar="N",
        type=whole_number(1),
        default=100,
        help="how many images of the split to draw at random (default: %(default)s)",
    )
    parser.add_argument(
        "--seed",
        metavar="N",
        type=whole_number(0),
        default=10,
        help="another number draws other images (default: %(default)s)",
    )
    parser.add_argument(
        "--model",
        dest="models",
        metavar="NAME",
        action="append",
        default=[],
        help="also try the parameters released with this model; may be given several times "
        "(default: the model that made the scores)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON, with every setting")
    add_force(parser)
    add_workers(parser)
    parser.set_defaults(run=run)


def _values(text: str) -> tuple[float, ...]:
    """Numbers from text: 5,10 or, as in MATLAB, 40:10:100 with the last included."""
    parts = text.split(":")
    try:
        numbers = read_numbers(parts if len(parts) > 1 else text.split(","))
    except ValueError:
        numbers = []
    if not numbers or len(parts) not in (1, 3) or not all(map(math.isfinite, numbers)):
        raise argparse.ArgumentTypeError(f"'{text}' is neither numbers as 5,10 nor first:step:last")
    if len(parts) == 1:
        return tuple(numbers)
    first, step, last = numbers
    steps = (last - first) / step if step > 0 else -1
    if not 0 <= steps < _MOST_VALUES:
        raise argparse.ArgumentTypeError(
            f"'{text}' is not first:step:last of 1 to {_MOST_VALUES} increasing numbers"
        )
    return tuple(round(first + i * step, 9) for i in range(math.floor(steps + 1e-9) + 1))


def run(arguments: argparse.Namespace) -> int:
    """Search, write what was found, and print it."""
    from deeplab_repro.files.targets import check_targets
    from deeplab_repro.show.plot import PlotError
    from deeplab_repro.voc.crossval import released_crfs, search
    from deeplab_repro.voc.crossval_files import OUTPUTS, write_found, write_heat_map
    from deeplab_repro.voc.grid import SearchGrid

    devkit = devkit_of(arguments)
    targets = [arguments.out / name for name in OUTPUTS]
    read = [*filter(None, (arguments.classes,))]
    check = partial(check_targets, {arguments.out: targets}, read, arguments.force)
    check()
    found = search(
        devkit,
        arguments.split,
        arguments.scores,
        arguments.out,
        SearchGrid(arguments.w1, arguments.sigma_alpha, arguments.sigma_beta),
        released=released_crfs(arguments.models, arguments.scores),
        iterations=arguments.iterations,
        images=arguments.images,
        seed=arguments.seed,
        workers=workers_of(arguments),
        progress=progress,
    )
    if not found.counted:
        say(f"nothing was left to do: an earlier run in {arguments.out} has counted all settings")
    check()
    write_found(arguments.out, found)
    try:
        write_heat_map(arguments.out / "heatmap.png", found)
    except PlotError as error:
        say(f"heatmap.png is not drawn: {error}")
    if arguments.json:
        print(json.dumps(found.as_json()))
    else:
        _print(found)
    say(f"all settings are in {arguments.out}")
    return 0


def _print(found: "Found") -> None:
    from deeplab_repro.voc.crossval import first_best
    from deeplab_repro.voc.grid import bilateral, numbers_text
    from deeplab_repro.voc.metrics import percent_text

    console = table_console()
    scores = found.scores
    console.print(f"mean IOU on {len(found.names)} images of {found.split}, seed {found.seed}")

    def score(params: "CrfParams | None") -> list[str]:
        there = found.of_present[params] if found.lacks_classes else None
        mean_iou = found.net if params is None else scores[params]
        of_these = [str(there.present), percent_text(there.mean_iou)] if there else []
        return [f"{mean_iou:.2f}", *of_these]

    means = ["mean IOU", *(["classes there", "their mean IOU"] if found.lacks_classes else [])]
    summary = [["net alone", "", "", *score(None)]]
    for name, params in found.released.items():
        text = numbers_text(bilateral(params))
        summary.append([f"released: {name}", "", text, *score(params)])
    for name, tried in found.rounds.items():
        best = first_best(tried)
        text = numbers_text(bilateral(best))
        summary.append([f"round {name}", str(len(tried)), text, *score(best)])
    print_table(["", "settings", "best", *means], summary)

    ranked = sorted(
        scores, key=lambda params: -scores[params]
    )  # equals stay in the order they were tried
    top = [
        [str(rank), *(f"{number:.9g}" for number in bilateral(params)), *score(params)]
        for rank, params in enumerate(ranked[:_N_SHOWN], start=1)
    ]
    print_table(["", "w1", "sigma_alpha", "sigma_beta", *means], top)
    if found.lacks_classes:
        console.print(
            "Settings are ranked by the mean IOU as the authors take it: a class that is not there "
            "counts as 0."
        )
    if len(set(scores.values())) == 1 < len(scores):
        console.print("All settings score alike: these images say nothing about the CRF.")
    console.print(f"best: --crf {numbers_text(bilateral(found.best))}")
