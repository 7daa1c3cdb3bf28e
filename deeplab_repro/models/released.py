"""Fetch a model's released weights from the web, check that they fit, and remember them."""

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
from deeplab_repro.models.download import TIMEOUT, OnBytes, download
from deeplab_repro.models.fetched import Fetched, record_path, remember, remembered, user_folder
from deeplab_repro.models.registry import Model, Weights, get_model
from deeplab_repro.models.web import DownloadError, checked_url, host_of
from deeplab_repro.net.net import Net

PLACES = (
    "http://ccvl.stat.ucla.edu/ccvl",
    "http://www.cs.jhu.edu/~alanlab/ccvl",
    "http://liangchiehchen.com/projects",
)
"""Where the authors had their weights, as <place>/<model>/<file>; newest last."""

# A snapshot may hold as many gradients as weights.
_MOST_COPIES = 3
_MOST_OTHER_BYTES = 16_000_000


def fetch(
    name: str,
    url: str | None = None,
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

    name: of MODELS. url: of the caffemodel; None for the authors' hosts, `PLACES`, one after the
        other. folder: None for where the same weights were fetched to before, or else for
        `fetched.user_folder`.
    train2: the weights of trainval_aug in place of those of train_aug. If the last part of the URL
        is the file name of one of the two, that decides.
    timeout, on_bytes: see `download`. tell: is called with what the user should know.

    Raises ArgumentError for models of which nothing was released, FormatError or WeightsError for a
    file from `url` that does not fit, DownloadError if there is none, and FileError for what cannot
    be written and for another file in its place.
    """
    model = get_model(name)
    weights = _asked_for(model, url, train2)
    if url is not None:
        checked_url(url)
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
        fetched = get(url) if url is not None else _from_the_authors(model, weights, get)
    if fetched.training_set != weights.training_set:
        tell(
            f"warning: the file says that it was trained on {fetched.training_set}, but its "
            f"name stands for {weights.training_set}"
        )
    remember(fetched)
    return fetched


def _asked_for(model: Model, url: str | None, train2: bool) -> Weights:
    if model.shipped_weights:
        raise ArgumentError(f"{model.name} comes with its weights: there is nothing to fetch")
    if not (model.train_weights and model.train2_weights):
        raise ArgumentError(f"no weights of {model.name} were ever released")
    asked = model.train2_weights if train2 else model.train_weights
    try:
        last = PurePosixPath(unquote(urlsplit(url or "").path)).name
    except ValueError:  # no URL, which is said later
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


def _from_the_authors(model: Model, weights: Weights, get: Callable[[str], Fetched]) -> Fetched:
    reasons = []
    for place in PLACES:
        url = f"{place}/{model.name}/{weights.file}"
        try:
            return get(url)
        except (DownloadError, FormatError, WeightsError) as error:
            reasons.append(f"{host_of(url)} ({str(error).removeprefix(f'{url}: ')})")
    raise FileError(
        f"{weights.file} of {model.name} is at none of the authors' hosts: {', '.join(reasons)}: "
        "give a mirror's URL with --from, or do without fetch and give a caffemodel with --weights"
    )


def _download(
    model: Model, weights: Weights, target: Path, timeout: float, on_bytes: OnBytes, url: str
) -> Fetched:
    net = _net_of(model)
    # Caffe writes what layers share with each of them.
    parameters = sum(layer.parameters for layer in net.layers)
    most_bytes = _MOST_COPIES * 4 * parameters + _MOST_OTHER_BYTES
    check = partial(_examined, model, weights, target, url)
    fetched = download(url, target, most_bytes, check, timeout=timeout, on_bytes=on_bytes)
    return replace(fetched, url=url)


def _examined(model: Model, weights: Weights, target: Path, source: str, path: Path) -> Fetched:
    """What to remember of the file `path`, which will become `target`.

    Raises FormatError or WeightsError, which name the `source`, unless it fits the model's net.
    """
    net = _net_of(model)
    try:
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
        sha256=sha256_of(path),
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
