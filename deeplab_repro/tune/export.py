"""A page without a server: the labels of a grid of settings side by side, with their scores."""

import html
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from string import Template

import numpy as np

from deeplab_repro.arrays import UInt8, dims
from deeplab_repro.crf.params import CrfParams
from deeplab_repro.crf.sweep import sweep
from deeplab_repro.errors import one_line
from deeplab_repro.files.labels import class_name
from deeplab_repro.files.pictures import palette
from deeplab_repro.files.targets import check_targets, make_folder
from deeplab_repro.files.whole import write_atomically
from deeplab_repro.show import webpage, wipe
from deeplab_repro.tune.copies import command_line
from deeplab_repro.tune.judged import scores
from deeplab_repro.tune.session import Session
from deeplab_repro.work.progress import Progress, unwatched

PAGE = "index.html"
"""The file that is written."""

TRIMAP = 3
"""The trimap's width, in pixels."""

_FACTORS = (0.5, 1, 2)
_WIPE = "settings"

_BODY = Template("""<h1>The dense CRF of $name</h1>
<p>$size pixels. Each of the pictures below has the labels of one setting: w1 weighs the bilateral
kernel, sigma_alpha is its reach in pixels, sigma_beta in grey levels. The positional kernel has w2
$w2 and sigma_gamma $sigma_gamma throughout; $iterations iterations.</p>
$scored
$wipe
<ul class="legend">
$legend
</ul>
<div $shown_in>
$tables
</div>
<h2>$chosen once more</h2>
<pre class="wide" tabindex="0">$command</pre>
$script""")

_STYLE = """.wipe { max-width: 46rem; }
.pictures { margin-top: 1rem; min-width: 36rem; max-width: 60rem; }
.pictures thead td, .pictures tbody th { width: 5.6rem; vertical-align: middle; }
pre { padding: .5rem 0; }
"""


def export(
    session: Session, out: Path, progress: Progress = unwatched, force: bool = False
) -> Path:
    """Write a page with the settings around the session's own to a folder; returns its path.

    It is one file, written whole or not at all. force: replace a
    file that this package did not make. Raises FileError.
    """
    path = out / PAGE
    settings = around(session.start.params)
    found = {}
    with progress("refining", len(settings)) as advance:
        for params, labels in sweep(
            session.image, session.probs, settings, session.start.iterations
        ):
            found[params] = labels
            advance()
    check_targets({path: [path]}, (), force)
    make_folder(out)
    with write_atomically(path) as file:
        file.write(_page(session, found))
    return path


def around(params: CrfParams) -> list[CrfParams]:
    """Half, once and twice each of w1, sigma_alpha and sigma_beta: up to 27 settings."""
    axes = [
        [factor * getattr(params, name) for factor in _FACTORS]
        for name in ("w1", "sigma_alpha", "sigma_beta")
    ]
    grid = [
        replace(params, w1=w1, sigma_alpha=alpha, sigma_beta=beta)
        for w1, alpha, beta in product(*axes)
    ]
    return list(dict.fromkeys(grid))  # a w1 of 0 has no half


def _page(session: Session, found: Mapping[CrfParams, UInt8]) -> bytes:
    start, name = session.start, one_line(session.source.photo.name)
    pictures = {"photo": webpage.data_uri("jpeg", webpage.photo_jpeg(session.image))}
    labelled = {"net": session.net_labels}
    if session.truth is not None:
        labelled["truth"] = session.truth
    labelled |= {_name(params): labels for params, labels in found.items()}
    pictures |= {
        what: webpage.data_uri("png", webpage.labels_png(labels))
        for what, labels in labelled.items()
    }
    told = {what: _told(session, labels) for what, labels in labelled.items()}
    cells = {
        what: webpage.picture(what, source, session.size, names=told.get(what, ""))
        for what, source in pictures.items()
    }
    choices, chosen = list(pictures), _name(start.params)
    body = _BODY.substitute(
        name=html.escape(name),
        size=dims(session.size[::-1]),
        w2=f"{start.params.w2:g}",
        sigma_gamma=f"{start.params.sigma_gamma:g}",
        iterations=start.iterations,
        scored=_scored(session, found),
        wipe=wipe.wipe(_WIPE, choices, left=1, right=choices.index(chosen)),
        shown_in=wipe.shown_in(_WIPE, name),
        legend=_legend(session, labelled.values()),
        tables="\n".join([_given(session, cells), *_grids(list(found), cells)]),
        chosen=chosen,
        command=html.escape(command_line(session.source, start)),
        script=wipe.SCRIPT,
    )
    return webpage.page(f"The dense CRF of {name}", body, wipe.STYLE + _STYLE)


def _name(params: CrfParams) -> str:
    return f"w1 {params.w1:g}, sigma_alpha {params.sigma_alpha:g}, sigma_beta {params.sigma_beta:g}"


def _legend(session: Session, shown: Iterable[UInt8]) -> str:
    """The colours of the classes that are in one of some label maps, with their names."""
    there = sorted({int(label) for labels in shown for label in np.unique(labels)})
    return "\n".join(
        f"<li>{webpage.swatch(palette()[label].tolist())}"
        f"{html.escape(class_name(label, session.names))}</li>"
        for label in there
    )


def _told(session: Session, labels: UInt8) -> str:
    """What is written below labels: their scores where the truth is known, or else the classes."""
    if session.truth is None or labels is session.truth:
        return webpage.classes_in(labels, session.names)
    found = scores(session.truth, labels, len(session.names), TRIMAP)
    near = found["trimap_pixel_accuracy"]
    return f"IOU {_percent(found['mean_iou'])}, near borders {_percent(near)}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _scored(session: Session, found: Mapping[CrfParams, UInt8]) -> str:
    """Which setting scores best, where the truth is known."""
    truth = session.truth
    if truth is None:
        return ""

    def iou(labels: UInt8) -> float:
        return scores(truth, labels, len(session.names), TRIMAP)["mean_iou"] or 0.0

    best = max(found, key=lambda params: iou(found[params]))
    text = (
        f"The highest mean IOU of the classes present is {iou(found[best]):.1f}, with "
        f"{_name(best)}; the net alone has {iou(session.net_labels):.1f}. Below each picture stand "
        f"its mean IOU, and the pixel accuracy within {TRIMAP} pixels of void, which runs along "
        "the objects' borders. One photo says little about others: crossval measures many."
    )
    return f"<p>{html.escape(text)}</p>"


def _given(session: Session, cells: Mapping[str, str]) -> str:
    """A table of what the CRF is given, and of the truth."""
    columns = ["photo", "net", *(["truth"] if session.truth is not None else [])]
    row = f"<tr>{''.join(cells[each] for each in columns)}</tr>"
    return webpage.picture_table("What the CRF is given", columns, [row])


def _grids(settings: Sequence[CrfParams], cells: Mapping[str, str]) -> Iterator[str]:
    """A table for each w1: sigma_alpha down, sigma_beta across."""
    for w1 in dict.fromkeys(each.w1 for each in settings):
        rows: dict[str, list[CrfParams]] = {}
        for each in settings:
            if each.w1 == w1:
                rows.setdefault(f"sigma_alpha {each.sigma_alpha:g}", []).append(each)
        across = [f"sigma_beta {each.sigma_beta:g}" for each in next(iter(rows.values()))]
        lines = [
            f'<tr><th scope="row">{down}</th>{"".join(cells[_name(each)] for each in row)}</tr>'
            for down, row in rows.items()
        ]
        yield webpage.picture_table(f"Labels with w1 {w1:g}", ["", *across], lines)
