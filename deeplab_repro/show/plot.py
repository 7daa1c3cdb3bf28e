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

_DPI = 120
_MOST_PIXELS = 20_000  # a side


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
    """Write a figure as .png, .svg or .pdf, atomically; the same numbers make the same file.

    Raises FileError if it cannot be written.
    """
    from matplotlib import rc_context

    encoded = io.BytesIO()
    kind = path.suffix[1:]
    # A PDF and an SVG would have the time in them, and an SVG random names.
    metadata = {
        "png": {"Software": MADE_BY},
        "svg": {"Creator": MADE_BY, "Date": None},
        "pdf": {"Creator": MADE_BY, "CreationDate": None},
    }
    dpi = min(_DPI, _MOST_PIXELS / max(figure.get_size_inches()))
    with rc_context({"svg.hashsalt": MADE_BY}):
        figure.savefig(encoded, format=kind, dpi=dpi, metadata=metadata[kind])
    with write_atomically(path) as file:
        file.write(encoded.getvalue())
