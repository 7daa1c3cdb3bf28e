"""Fetch a model's released weights, check that they fit, and remember them."""

import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

import numpy as np

from deeplab_repro.caffe import load_weights, read_caffemodel, read_net
from deeplab_repro.errors import ArgumentError, FileError, FormatError, WeightsError, one_line
from deeplab_repro.files.made_of import sha256_of
from deeplab_repro.files.targets import make_folder
from deeplab_repro.files.whole import check_readable
from deeplab_repro.models.download import TIMEOUT, OnBytes, download
from deeplab_repro.models.fetched import Fetched, record_path, remember, remembered, user_folder
from deeplab_repro.models.given import copy_given
from deeplab_repro.models.registry import Model, Weights, get_model
from deeplab_repro.models.web import DownloadError, checked_url, host_of
from deeplab_repro.net.net import Net

PLACES = (
    "http://ccvl.stat.ucla.edu/ccvl",
    "http://www.cs.jhu.edu/~alanlab/ccvl",
    "http://liangchiehchen.com/projects",
)
"""Where the authors had their weights, as <place>/<model>/<file>; newest last."""

_SCHEME = "://"  # is in every URL

# A snapshot may hold as many gradients as weights.
_MOST_COPIES = 3
_MOST_OTHER_BYTES = 16_000_000


def fetch(
    name: str,
    source: str | Path | None = None,
    folder: str | Path | None = None,
    *,
    train2: bool = False,
    timeout: float = TIMEOUT,
    tell: Callable[[str], object] = lambda _: None,
    on_bytes: OnBytes = lambda _host, _done, _total: None,
) -> Fetched:
    """Fetch a model's released weights, and remember them: from then on its name finds them.

    They become <folder>/<name>/<file>, as `paper --models` expects them, once they are known to be
    finite and to fit the model's net. A file that is there already is never replaced: if it fits,
    it is remembered, without network.

    name: of MODELS. source: a URL of the caffemodel, or a file here, see `given.copy_given`; None
        for the authors' hosts, `PLACES`, one after the other.
    folder: None for where the same weights were fetched to before, or else for
        `fetched.user_folder`.
    train2: the weights of trainval_aug in place of those of train_aug. If the last part of the
        source is the file name of one of the two, that decides.
    timeout, on_bytes: see `download`. tell: is called with what the user should know.

    Raises ArgumentError for models of which nothing was released, FormatError or WeightsError for a
    file from `source` that does not fit, DownloadError if there is none, and FileError for what
    cannot be read or written and for another file in its place.
    """
    model = get_model(name)
    weights = _asked_for(model, source, train2)
    if isinstance(source, str) and _SCHEME in source:
        checked_url(source)
    elif source is not None:
        source = _file(source)
    before = _remembered(model, weights)
    if folder is None and before and os.path.exists(before.path):
        target = Path(before.path)
    else:
        target = Path(os.path.abspath(folder or user_folder())) / name / weights.file
    make_folder(record_path(name, weights.file).parent)  # before the long part
    if target.exists():
        fetched = _already_there(model, weights, target, before)
        tell(f"{one_line(target)} was there already, and is kept")
    else:
        make_folder(target.parent)
        get = partial(_download, model, weights, target, timeout, on_bytes)
        if source is None:
            fetched = _from_the_authors(model, weights, get, tell)
        elif isinstance(source, Path):
            check = partial(_examined, model, weights, target, str(source))
            most_bytes = _most_bytes(model)
            fetched = copy_given(source, weights.file, target, most_bytes, check)
        else:
            fetched = get(source)
    if fetched.training_set != weights.training_set:
        tell(
            f"warning: the file says that it was trained on {fetched.training_set}, but its "
            f"name stands for {weights.training_set}"
        )
    remember(fetched)
    return fetched


def _file(source: str | Path) -> Path:
    """The user's file, of which at least something is there."""
    try:
        check_readable(source)
    except FileError as error:
        if os.path.exists(source):
            raise
        raise FileError(f"{error}; expected a file, or an http or https address") from None
    return Path(source)


def _asked_for(model: Model, source: str | Path | None, train2: bool) -> Weights:
    if model.shipped_weights:
        raise ArgumentError(f"{model.name} comes with its weights: there is nothing to fetch")
    if not (model.train_weights and model.train2_weights):
        raise ArgumentError(
            f"no weights of {model.name} were ever released: give some of your own as --weights"
        )
    asked = model.train2_weights if train2 else model.train_weights
    try:
        last = PurePosixPath(unquote(urlsplit(str(source or "")).path)).name
    except ValueError:  # an odd URL, of which is told later
        return asked
    for weights in (model.train_weights, model.train2_weights):
        if last == weights.file:
            return weights
    return asked


def _remembered(model: Model, weights: Weights) -> Fetched | None:
    try:
        return remembered(model.name, weights.file)
    except (FileError, FormatError):
        return None  # a broken record is written anew


def _already_there(model: Model, weights: Weights, target: Path, before: Fetched | None) -> Fetched:
    if before and before.path == str(target):
        if sha256_of(target) != before.sha256:
            raise FileError(
                f"{one_line(target)}: has changed since it was fetched: remove it, then fetch "
                "it again"
            )
        return before
    try:
        return _examined(model, weights, target, str(target), target)
    except (FormatError, WeightsError) as error:
        raise FileError(f"{error}; it is in the way: remove it, then fetch again") from None


def _from_the_authors(
    model: Model,
    weights: Weights,
    get: Callable[[str], Fetched],
    tell: Callable[[str], object],
) -> Fetched:
    for place in PLACES:
        url = f"{place}/{model.name}/{weights.file}"
        try:
            return get(url)
        except (DownloadError, FormatError, WeightsError) as error:
            tell(str(error))
    hosts = ", ".join(host_of(place) for place in PLACES)
    raise FileError(
        f"{weights.file} of {model.name} is at none of the authors' hosts ({hosts}): give a "
        "mirror's URL or a file with --from"
    )


def _download(
    model: Model, weights: Weights, target: Path, timeout: float, on_bytes: OnBytes, url: str
) -> Fetched:
    check = partial(_examined, model, weights, target, url)
    fetched = download(url, target, _most_bytes(model), check, timeout=timeout, on_bytes=on_bytes)
    return replace(fetched, url=url)


def _most_bytes(model: Model) -> int:
    """More than a caffemodel of this model can have."""
    # Caffe writes what layers share with each of them.
    parameters = sum(layer.parameters for layer in _net_of(model).layers)
    return _MOST_COPIES * 4 * parameters + _MOST_OTHER_BYTES


def _examined(model: Model, weights: Weights, target: Path, source: str, path: Path) -> Fetched:
    """What to remember of the file `path`, which will become `target`.

    Raises FormatError or WeightsError, which name the `source`, unless it fits the model's net.
    """
    net, digest = _net_of(model), sha256_of(path)
    try:
        if weights.sha256 and digest != weights.sha256:
            raise WeightsError(f"its sha256 is {digest}, expected {weights.sha256}")
        found = read_caffemodel(path)
        load_weights(net, found)
        _check_finite(net)
    except (FormatError, WeightsError) as error:
        reason = str(error).removeprefix(f"{one_line(path)}: ")
        reason = reason.removeprefix("the caffemodel: ")
        shown = one_line(source)
        raise type(error)(f"{shown}: not the weights of {model.name}: {reason}") from None
    return Fetched(
        model=model.name,
        path=str(target),
        size=path.stat().st_size,
        sha256=digest,
        url=None,
        training_set=found.training_list or weights.training_set,
    )


def _net_of(model: Model) -> Net:
    return read_net(model.test_prototxt, {"EXP": model.exp})


def _check_finite(net: Net) -> None:
    for layer in net.layers:
        for data in layer.weights().values():
            if not np.isfinite(data).all():
                raise WeightsError(
                    f"layer '{layer.name}' has weights that are NaN or infinite, expected numbers: "
                    "the file is broken"
                )
