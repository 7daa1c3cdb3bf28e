"""What the page is answered: the pictures, scores and texts of a setting, as plain data."""

import time
from base64 import b64encode
from collections.abc import Callable
from typing import Any

import numpy as np

from deeplab_repro.arrays import F32, UInt8
from deeplab_repro.show.belief import belief_png
from deeplab_repro.show.webpage import classes_in, labels_png
from deeplab_repro.tune.copies import copies
from deeplab_repro.tune.judged import errors_png, scores
from deeplab_repro.tune.session import Session
from deeplab_repro.tune.setting import Asked, Setting


def result(session: Session, asked: Asked, check: Callable[[], None]) -> dict[str, Any]:
    """The labels and the belief map after the step that is asked for; with a truth the errors.

    Of the small copy no more than the two pictures. check: called after each iteration; what it
    raises ends the work.
    """
    start = time.perf_counter()
    setting = Setting(asked.setting.params, asked.step)
    refined = session.refine(setting, asked.small, lambda *_: check())
    answer = {
        "labels": _text(labels_png(refined.labels)),
        "belief": _text(belief_png(refined.marginals[asked.label])),
        "seconds": time.perf_counter() - start,
        "classes": np.flatnonzero(np.bincount(refined.labels.ravel())).tolist(),
        "told": classes_in(refined.labels, session.names),
    }
    if asked.small:
        return answer
    answer["copies"] = copies(session.source, setting)
    if session.truth is not None:
        errors = errors_png(session.truth, session.net_labels, refined.labels)
        answer["errors"] = _text(errors)
        both = {"net": session.net_labels, "crf": refined.labels}
        answer["scores"] = {
            name: scores(session.truth, labels, len(session.names), asked.width)
            for name, labels in both.items()
        }
    return answer


def steps(session: Session, asked: Asked, check: Callable[[], None]) -> dict[str, Any]:
    """Labels and belief map of the small copy before and after every iteration."""
    found: list[dict[str, str]] = []

    def keep(labels: UInt8, marginals: F32) -> None:
        belief = belief_png(marginals[asked.label])
        found.append({"labels": _text(labels_png(labels)), "belief": _text(belief)})

    def on_iteration(_: int, marginals: F32) -> None:
        check()
        keep(marginals.argmax(axis=0).astype(np.uint8), marginals)

    before = session.refine(Setting(asked.setting.params, 0), small=True)
    keep(before.labels, before.marginals)
    session.refine(asked.setting, True, on_iteration)
    return {"steps": found}


def _text(encoded: bytes) -> str:
    return b64encode(encoded).decode()
