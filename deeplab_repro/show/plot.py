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
    """Write a figure as .png or .pdf, atomically; the same numbers make the same file.

    Raises FileError if it cannot be written.
    """
    encoded = io.BytesIO()
    kind = path.suffix[1:]
    # A PDF would have the time in it.
    pdf = {"Creator": MADE_BY, "CreationDate": None}
    metadata = pdf if kind == "pdf" else {"Software": MADE_BY}
    dpi = min(_DPI, _MOST_PIXELS / max(figure.get_size_inches()))
    figure.savefig(encoded, format=kind, dpi=dpi, metadata=metadata)
    with write_atomically(path) as file:
        file.write(encoded.getvalue())
