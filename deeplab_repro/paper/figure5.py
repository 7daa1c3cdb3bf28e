"""Figure 5: how labels fare near borders, ours beside the authors' own curves."""

import csv
import io
from collections.abc import Callable, Mapping
from math import isnan
from pathlib import Path

from deeplab_repro.files.whole import write_atomically
from deeplab_repro.models.published import published
from deeplab_repro.voc.metrics import Scores

CURVES: dict[str, tuple[str, Callable[[Scores], float]]] = {
    "mean_iou": ("mean IOU", lambda scores: scores.mean_iou),
    "pixel_accuracy": ("pixel accuracy", lambda scores: scores.pixel_accuracy),
    "class_accuracy": ("mean class accuracy", lambda scores: scores.mean_class_accuracy),
}
"""The figure's panels by their keys in `published()["figure5"]`: title, and which score it is."""

# Of so many points a line says too little.
_FEW_POINTS = 10

_Points = dict[int, tuple[float, ...]]


def write_figure5(stem: Path, curves: Mapping[str, Mapping[int, Scores]]) -> list[Path]:
    """Write curves and the authors' four as <stem>.csv, .png and .pdf, atomically; their paths.

    curves: for each name the scores by the trimap's width in pixels, as `trimap_scores` gives them.
    A name of the authors' four, as DeepLab-CRF, is drawn in the same colour. Without matplotlib
    (pip install "deeplab-repro[plot]") there is the CSV alone: curve, whose it is, width, then the
    scores of the three panels in percent, nothing where one is not defined.

    Raises FileError if a file cannot be written.
    """
    ours = {name: _points(scores) for name, scores in curves.items()}
    written = []
    for kind, content in {"csv": _csv(ours), **_pictures(ours)}.items():
        written.append(stem.with_name(f"{stem.name}.{kind}"))
        with write_atomically(written[-1]) as file:
            file.write(content)
    return written


def _points(scores: Mapping[int, Scores]) -> _Points:
    return {
        width: tuple(pick(scores[width]) for _, pick in CURVES.values()) for width in sorted(scores)
    }


def _authors() -> dict[str, _Points]:
    figure = published()["figure5"]
    widths = figure["trimap_width_pixels"]
    return {
        method: dict(
            zip(widths, zip(*(figure[key][method] for key in CURVES), strict=True), strict=True)
        )
        for method in figure["mean_iou"]
    }


def _csv(ours: Mapping[str, _Points]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("curve", "of", "width", *CURVES))
    for of, curves in (("ours", ours), ("paper", _authors())):
        for name, points in curves.items():
            for width, values in points.items():
                shown = ("" if isnan(value) else repr(value) for value in values)
                writer.writerow((name, of, width, *shown))
    return text.getvalue().encode()


def _pictures(ours: Mapping[str, _Points]) -> dict[str, bytes]:
    """The figure by its formats; none without matplotlib."""
    try:
        from matplotlib.figure import Figure  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        return {}
    authors = _authors()
    colours = {name: f"C{number}" for number, name in enumerate({**authors, **ours})}
    figure = Figure(figsize=(13, 4.8), layout="constrained")
    panels = figure.subplots(1, len(CURVES))
    for index, (axes, (title, _)) in enumerate(zip(panels, CURVES.values(), strict=True)):
        for of, curves, style in (("paper", authors, "--"), ("ours", ours, "-")):
            for name, points in curves.items():
                axes.plot(
                    list(points),
                    [values[index] for values in points.values()],
                    style,
                    color=colours[name],
                    lw=1.2 if of == "paper" else 2.2,
                    marker="o" if len(points) < _FEW_POINTS else None,
                    label=f"{name} ({of})" if name in authors else name,
                )
        axes.set(title=title, xlabel="trimap width (pixels)", ylabel="percent")
        axes.grid(alpha=0.3)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    contents = {}
    # Without a date, so that the same figures make the same file.
    for kind, metadata in (("png", None), ("pdf", {"CreationDate": None})):
        picture = io.BytesIO()
        figure.savefig(picture, format=kind, dpi=120, metadata=metadata)
        contents[kind] = picture.getvalue()
    return contents
