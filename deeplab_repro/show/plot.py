"""Plots: the one place that asks for matplotlib, an optional package."""

import io
from pathlib import Path
from typing import TYPE_CHECKING

from deeplab_repro.errors import DeepLabError
from deeplab_repro.files.marks import MADE_BY
from deeplab_repro.files.whole import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure  # type: ignore[import-not-found,unused-ignore]

NO_MATPLOTLIB = 'matplotlib is not installed: pip install "deeplab-repro[plot]"'

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#000000", "#CC79A7")
"""Of lines: the colour-blind tell them apart."""

MARKERS = "os^DXPv"
"""Of lines: all tell them apart, in grey print too."""

_DPI = 120
_MOST_PIXELS = 20_000  # a side
# Of each kind of file, which says who made it; a PDF and an SVG would have the time in it.
_METADATA = {
    "png": {"Software": MADE_BY},
    "pdf": {"Creator": MADE_BY, "CreationDate": None},
    "svg": {"Creator": MADE_BY, "Date": None},
}


class PlotError(DeepLabError):
    """Nothing can be drawn: matplotlib is not installed."""


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure of so many inches, which needs no display. Raises PlotError."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise PlotError(NO_MATPLOTLIB) from None
    return Figure(figsize=(width, height), layout="constrained")


def write_figure(path: Path, figure: "Figure") -> None:
    """Write a figure as .png, .pdf or .svg, atomically; the same numbers make the same file.

    Raises FileError if it cannot be written.
    """
    from matplotlib import rc_context

    encoded = io.BytesIO()
    kind = path.suffix[1:].lower()
    dpi = min(_DPI, _MOST_PIXELS / max(figure.get_size_inches()))
    with rc_context({"svg.hashsalt": "deeplab-repro"}):  # else an SVG has random ids
        figure.savefig(encoded, format=kind, dpi=dpi, metadata=_METADATA[kind])
    with write_atomically(path) as file:
        file.write(encoded.getvalue())
