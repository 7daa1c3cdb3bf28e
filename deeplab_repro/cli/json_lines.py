"""What became of photos, for programs that read it: a line of JSON each."""

import json

from deeplab_repro.cli.console import Told
from deeplab_repro.jobs.photos import Outcome, Photo, Skipped
from deeplab_repro.work.outcomes import Failed


def print_json(outcome: Outcome, _name: str) -> None:
    """Print what became of a photo."""
    if isinstance(outcome, Failed):
        more: dict[str, object] = {"error": str(outcome.error)}
    elif isinstance(outcome, Skipped):
        more = {"skipped": "done before"}
    else:
        more = _described(outcome)
    _print({"photo": str(outcome.path), **more})


def print_counts(told: Told) -> None:
    """Print what became of all photos: the last line."""
    counts = {"done": told.done, "failed": told.failed, "skipped": told.skipped.total()}
    _print({**counts, "why_skipped": dict(told.skipped)})


def _described(photo: Photo) -> dict[str, object]:
    made = photo.segmentation
    assert made
    assert made.coarse
    height, width = made.size
    seconds = {"net": round(made.net_seconds, 4)}
    if made.refined:
        seconds["crf"] = round(made.crf_seconds, 4)
    return {
        "width": width,
        "height": height,
        "written": {
            kind: list(map(str, paths)) if kind == "cutout" else str(paths[0])
            for kind, paths in photo.written.items()
        },
        "labels": made.shares(),
        "seconds": seconds,
        **({"tiles": made.tiles} if made.tiles else {}),
        **({"seen_at": made.scaled[::-1]} if made.scaled else {}),
    }


def _print(content: dict[str, object]) -> None:
    print(json.dumps(content), flush=True)
