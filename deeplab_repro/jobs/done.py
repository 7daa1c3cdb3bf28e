"""Tells whether the results of a photo are there already: whole, of this photo, made in this way.

The labels say it: their PNG has a mark (`files.made_of`) of the photo and of all that makes labels
of it, and lists the digests of the other files that were made with them. It is written last.
"""

import json
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, fields
from pathlib import Path

from deeplab_repro.caffe import prototxt_text
from deeplab_repro.errors import FileError
from deeplab_repro.files.made_of import MadeOf, sha256_of, sha256_of_text, unmarked
from deeplab_repro.models.loading import RANDOM
from deeplab_repro.net.net import Net
from deeplab_repro.segmenter import DeepLab, Recipe
from deeplab_repro.version import __version__

_KEYWORD = "deeplab-repro:beside"

# What runs the net, where, and in which tiles, changes results by rounding only; the others are in
# the net's text.
_NO_SETTINGS = ("model", "variables", "device", "engine", "tile")


def net_digest(net: Net) -> str:
    """A digest of all that a net is but its weights, the mean included."""
    mean = net.preprocessing.mean_image if net.preprocessing else None
    values = mean.loaded().tobytes().hex() if mean else ""
    return sha256_of_text(prototxt_text(net, current=True) + values)


def settings_of(model: DeepLab) -> str:
    """A digest of all that a Recipe says of labels, beyond rounding."""
    settings = {
        each.name: getattr(model, each.name)
        for each in fields(Recipe)
        if each.name not in _NO_SETTINGS
    }
    weights = str(model.weights)
    settings["weights"] = weights if weights.startswith(RANDOM) else sha256_of(weights)
    settings |= {"net": net_digest(model.net), "version": __version__}
    return sha256_of_text(json.dumps(settings, default=asdict, sort_keys=True))


def texts_of(base: str, written: Mapping[str, Iterable[Path]]) -> dict[str, str]:
    """What the PNG of the labels is to say of the files that were written with it, by kind.

    base: the path that all these files have in common, up to their endings.
    """
    start = len(os.path.basename(base))
    digests = {
        kind: {path.name[start:]: sha256_of(path) for path in paths}
        for kind, paths in written.items()
    }
    return {_KEYWORD: json.dumps(digests, sort_keys=True)}


def is_done(base: str, photo: Path, settings: str, kinds: Collection[str]) -> bool:
    """Whether results of these kinds are there and whole, and were made of this photo in this way.

    base: as `texts_of` takes it. Raises FileError if the photo cannot be read.
    """
    made_of, files = _said_by_labels(base)
    if made_of is None or made_of.settings != settings or not files.keys() >= set(kinds):
        return False
    beside = [each for kind in kinds for each in files[kind].items()]
    is_whole = all(_digest(Path(base + ending)) == digest for ending, digest in beside)
    return is_whole and made_of.inputs == sha256_of(photo)


def _said_by_labels(base: str) -> tuple[MadeOf | None, dict[str, dict[str, str]]]:
    """What the labels were made of, and the digests of files beside them by kind and ending."""
    made_of, content = unmarked(f"{base}.png")
    _, chunk, rest = content.partition(f"tEXt{_KEYWORD}\0".encode())
    if made_of is None or not chunk:
        return None, {}
    try:
        files, _ = json.JSONDecoder().raw_decode(rest.decode("latin-1"))
        return made_of, {
            kind: {ending: str(digest) for ending, digest in each.items() if "/" not in ending}
            for kind, each in files.items()
        }
    except (AttributeError, RecursionError, ValueError):
        return None, {}


def _digest(path: Path) -> str | None:
    """A file's digest; None if it cannot be read."""
    try:
        return sha256_of(path)
    except FileError:
        return None
