"""Chart how the time of several programs grows with the image's size, beside a floor."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deeplab_repro.errors import one_line
from deeplab_repro.show.plot import COLOURS, MARKERS, new_figure, write_figure

KINDS = (".png", ".svg")
"""What a chart's file may end in."""

_WIDTH, _HEIGHT = 8, 6  # inches
_TITLE_LETTERS = 62  # of a line
_MOST_DECADES = 3.5  # with ticks at 1, 2 and 5; beyond, at 1 alone


def write_time_chart(
    path: Path,
    title: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    titles: Mapping[str, str],
    ours: Sequence[str],
    floor: str,
) -> None:
    """Write a log-log chart of time (ms) over size (megapixels) as .png or .svg, whole or not.

    title: lines; what is measured, and on what. rows: one for each size, from small to large, with
    "pixels", "floor_ms" and "median_ms", the milliseconds of each program by its name. titles: of
    all programs that there may be, by name; each has its own colour. ours: names of this package's,
    whose lines are whole; the others' are dashed. floor: what the floor is, in words.

    Raises PlotError without matplotlib, FileError if it cannot be written.
    """
    figure = new_figure(_WIDTH, _HEIGHT)
    sizes = [row["pixels"] / 1e6 for row in rows]
    times = {name: [row["median_ms"][name] for row in rows] for name in rows[0]["median_ms"]}
    axes = figure.add_subplot(xscale="log", yscale="log")
    numbers = {name: number for number, name in enumerate(titles)}
    # The legend lists them as they lie at the right edge.
    for name in sorted(times, key=lambda name: -times[name][-1]):
        colour = COLOURS[numbers[name] % len(COLOURS)]
        is_ours = name in ours
        axes.plot(
            sizes,
            times[name],
            label=_plain(titles[name]),
            color=colour,
            marker=MARKERS[numbers[name] % len(MARKERS)],
            markersize=8,
            markerfacecolor=colour if is_ours else "white",
            linestyle="-" if is_ours else "--",
            linewidth=2.4 if is_ours else 1.6,
        )
    floors = [row["floor_ms"] for row in rows]
    axes.plot(
        sizes,
        floors,
        label=floor,
        color="0.35",
        zorder=4,  # programs may come so near to it that they hide it
        marker="_" if len(rows) == 1 else "",
        markersize=20,
        linestyle=":",
        linewidth=2.4,
    )
    everything = [*floors, *(ms for each in times.values() for ms in each)]
    for axis, values in ((axes.xaxis, sizes), (axes.yaxis, everything)):
        ticks = _ticks(min(values), max(values))
        axis.set_ticks(ticks, labels=[f"{tick:,.9g}" for tick in ticks])
        axis.set_ticks([], minor=True)
    axes.set_xlim(_around(sizes))
    axes.set_ylim(_around(everything))
    lines = [line for text in title for line in textwrap.wrap(_plain(text), _TITLE_LETTERS)]
    axes.set_title("\n".join(lines), fontsize=13, parse_math=False)
    axes.set_xlabel("image size (megapixels)", fontsize=13)
    axes.set_ylabel("time of one image (ms)", fontsize=13)
    axes.tick_params(labelsize=12)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2, fontsize=12, frameon=False)
    write_figure(path, figure)


def _plain(text: str) -> str:
    """One line of letters that every font has."""
    return one_line(text, 200).encode("ascii", "replace").decode()


def _around(values: Sequence[float]) -> tuple[float, float]:
    """The ends of a logarithmic axis: the values with some room, and two ticks at least."""
    ticks = _ticks(min(values), max(values))
    low, high = min(values), max(values)
    if sum(low <= tick <= high for tick in ticks) < 2:
        low, high = min(low, ticks[0]), max(high, ticks[-1])
    return low / 1.15, high * 1.15


def _ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten, from at most `low` to at least `high`, which may be equal."""
    steps = (1, 2, 5) if math.log10(high / low) < _MOST_DECADES else (1,)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 2)
    ticks = [step * 10.0**power for power in powers for step in steps]
    first = max(at for at, tick in enumerate(ticks) if tick <= low)
    last = min(at for at, tick in enumerate(ticks) if tick >= high and at > first)
    return ticks[first : last + 1]
