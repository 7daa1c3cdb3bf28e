"""What the parts of `bench` share: sizes, the table of time against size, and its chart."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deeplab_repro.cli.console import print_table, say
from deeplab_repro.cli.options import add_force, whole_number
from deeplab_repro.errors import one_line


def image_size(text: str) -> tuple[int, int]:
    """Read WxH as (H, W)."""
    width, _, height = text.partition("x")
    try:
        return whole_number(1)(height), whole_number(1)(width)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"'{text}' is not WxH, for example 500x375") from None


def image_sizes(text: str) -> list[tuple[int, int]]:
    """Read WxH,WxH,... as (H, W)s."""
    return [image_size(each) for each in text.split(",")]


def add_chart(parser: argparse.ArgumentParser) -> None:
    """--chart FILE and --force."""
    parser.add_argument(
        "--chart",
        metavar="FILE",
        type=_chart_file,
        help="draw the time against the image's size, a .png or .svg (needs matplotlib)",
    )
    add_force(parser)


def _chart_file(text: str) -> Path:
    if not text.lower().endswith((".png", ".svg")) or Path(text).stem.startswith("."):
        raise argparse.ArgumentTypeError(f"'{one_line(text)}' is not a file name in .png or .svg")
    return Path(text)


def check_chart(arguments: argparse.Namespace, inputs: Sequence[str | None]) -> None:
    """Before anything is measured: raise PlotError or FileError if there can be no chart."""
    from deeplab_repro.files.targets import check_targets
    from deeplab_repro.show.plot import new_figure

    if arguments.chart:
        check_targets(
            {arguments.chart: [arguments.chart]},
            [each for each in inputs if each],
            arguments.force,
        )
        new_figure(1, 1)


def draw_chart(
    arguments: argparse.Namespace,
    title: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    titles: Mapping[str, str],
    ours: Sequence[str],
    floor: str,
) -> None:
    """Write the chart that --chart asks for; see `write_time_chart`."""
    from deeplab_repro.files.targets import make_folder
    from deeplab_repro.show.time_chart import write_time_chart

    if arguments.chart:
        make_folder(arguments.chart.parent)
        write_time_chart(arguments.chart, title, rows, titles, ours, floor)
        say(f"chart: {arguments.chart}")


def machine_in_brief(report: Mapping[str, Any]) -> str:
    """The report's machine without its software."""
    return str(report["machine"]).partition(", Python ")[0]


def print_growth(
    growth: Mapping[str, Any],
    titles: Mapping[str, str],
    columns: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Print time against size beside the floor, and each program's slope.

    columns: more of them, by their headings: a text for each size.
    """
    names = list(growth["rows"][0]["median_ms"])
    more = columns or {}
    rows = [
        [
            f"{row['width']}x{row['height']}",
            *(texts[at] for texts in more.values()),
            f"{row['floor_ms']:.1f}",
            *(f"{row['median_ms'][name]:.1f} ({row['share'][name]:.0%})" for name in names),
        ]
        for at, row in enumerate(growth["rows"])
    ]
    if growth["slopes_of_time"]:
        slopes = [f"{growth['slopes_of_time'][name]:.2f}" for name in names]
        rows.append(["log time / log pixels", *("" for _ in more), "", *slopes])
    heading = ["pixels", *more, "floor, ms", *(f"{titles[name]}, ms" for name in names)]
    print_table(heading, rows)
