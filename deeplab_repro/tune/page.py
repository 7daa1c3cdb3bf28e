"""The page as the server gives it: its text with what belongs to the photo, and its pictures."""

import base64
import hashlib
import html
import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from deeplab_repro.arrays import dims
from deeplab_repro.errors import one_line
from deeplab_repro.files.pictures import palette
from deeplab_repro.models.registry import MODELS
from deeplab_repro.show import webpage, wipe
from deeplab_repro.tune.judged import VERDICTS
from deeplab_repro.tune.session import Session
from deeplab_repro.tune.setting import Setting

_FOLDER = Path(__file__).parent
_WIPE = "photo"
_SCRIPT = re.compile(rb"<script>(.*?)</script>", re.DOTALL)

# Name, least, most, step of the slider, and what it does, in one line.
_BILATERAL = (
    ("w1", 0, 20, 0.5, "its weight: how strongly such pixels take each other's label; 0: not"),
    ("sigma_alpha", 1, 200, 1, "how near, in pixels: farther than twice this has little say"),
    (
        *("sigma_beta", 0.5, 50, 0.5),
        "how alike, in grey levels (0 to 255): low keeps to faint edges, high runs over them",
    ),
)
_POSITIONAL = (
    ("w2", 0, 20, 0.5, "its weight: high takes away specks and fine detail; 0: not"),
    ("sigma_gamma", 0.5, 20, 0.5, "how near, in pixels"),
)
_ITERATIONS = (("iterations", 0, 20, 1, "how often all pixels are compared; 0 is the net alone"),)


class Page:
    """What does not change while the server runs. files: by name the type and the content."""

    def __init__(self, session: Session) -> None:
        self.files = {
            "": ("text/html", _page(session)),
            "photo.jpg": ("image/jpeg", webpage.photo_jpeg(session.image)),
            "net.png": ("image/png", webpage.labels_png(session.net_labels)),
        }
        if session.truth is not None:
            self.files["truth.png"] = ("image/png", webpage.labels_png(session.truth))


def policy(page: bytes) -> str:
    """A Content-Security-Policy under which the scripts of this page run, and no others."""
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}'"
        for script in _SCRIPT.findall(page)
    )
    scripts = hashes or "'none'"
    return (
        f"default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; "
        "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )


def _page(session: Session) -> bytes:
    name = one_line(session.source.photo.name)
    choices = ["photo", "net", "CRF", "belief"]
    sources = {"photo": "photo.jpg", "net": "net.png", "CRF": "net.png", "belief": "net.png"}
    if session.truth is not None:
        choices += ["errors", "truth"]
        sources |= {"errors": "truth.png", "truth": "truth.png"}
    body = Template((_FOLDER / "page.html").read_text("utf-8")).substitute(
        name=html.escape(name),
        size=dims(session.size[::-1]),
        wipe=wipe.wipe(_WIPE, choices, left=1, right=2),
        shown_in=wipe.shown_in(_WIPE, name),
        images="\n".join(webpage.image(each, sources[each], session.size) for each in choices),
        presets="\n".join(f"<option>{html.escape(each['name'])}</option>" for each in _presets()),
        labels=_label_options(session),
        bilateral=_sliders(_BILATERAL),
        positional=_sliders(_POSITIONAL),
        iterations=_sliders(_ITERATIONS),
        verdicts=_verdicts(),
        no_truth="hidden" if session.truth is None else "",
        about=json.dumps(_about(session)).replace("<", "\\u003c"),
        wipe_script=wipe.SCRIPT,
        script=(_FOLDER / "page.js").read_text("utf-8"),
    )
    style = wipe.STYLE + (_FOLDER / "page.css").read_text("utf-8")
    return webpage.page(f"The dense CRF of {name}", body, style)


def _about(session: Session) -> dict[str, Any]:
    """What the script is told."""
    colours = palette().tolist()
    return {
        "start": _values(session.start),
        "presets": _presets(),
        "classes": [
            {"name": name, "colour": colours[label]} for label, name in enumerate(session.names)
        ],
        "net": np.flatnonzero(np.bincount(session.net_labels.ravel())).tolist(),
        "hasTruth": session.truth is not None,
    }


def _values(setting: Setting) -> dict[str, float]:
    return {**asdict(setting.params), "iterations": setting.iterations}


def _presets() -> list[dict[str, Any]]:
    """The published settings, those of models with the same one together."""
    by_setting: dict[Setting, list[str]] = {}
    for model in MODELS.values():
        if model.crf:
            by_setting.setdefault(Setting(model.crf), []).append(model.name)
    return [{"name": ", ".join(names), **_values(each)} for each, names in by_setting.items()]


def _label_options(session: Session) -> str:
    """The classes that occur, the largest first; one that is not the background is chosen."""
    counts = np.bincount(session.net_labels.ravel(), minlength=256)
    if session.truth is not None:
        there = np.bincount(session.truth.ravel(), minlength=256) > 0
        counts = counts + (there & (counts == 0))
    labels = [each for each in np.argsort(-counts, kind="stable").tolist() if counts[each]]
    labels = [each for each in labels if each < len(session.names)]
    chosen = next((each for each in labels if each), 0)
    return "\n".join(
        f'<option value="{each}"{" selected" if each == chosen else ""}>'
        f"{html.escape(session.names[each])}</option>"
        for each in labels
    )


def _sliders(rows: Sequence[tuple[str, float, float, float, str]]) -> str:
    return "\n".join(
        f"""<div class="slider">
<label for="{name}">{name}</label>
<input type="range" id="{name}" min="{least:g}" max="{most:g}" step="{step:g}" autocomplete="off"
 aria-describedby="{name}-does">
<input type="number" id="{name}-number" min="0" step="any" autocomplete="off"
 aria-label="{name} as a number">
<small id="{name}-does">{html.escape(does)}</small>
</div>"""
        for name, least, most, step, does in rows
    )


def _verdicts() -> str:
    items = [f"<li>{webpage.swatch(colour)}{name}</li>" for name, colour in VERDICTS.items()]
    return "\n".join(items)
