"""Reads a photo, what is known of its labels, and the truth, and makes a session of them."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from deeplab_repro.arrays import F32, UInt8, dims
from deeplab_repro.crf.params import CrfParams
from deeplab_repro.errors import ArgumentError, ImageError, ResourceError, one_line
from deeplab_repro.files.images import VOID, read_image, read_labels
from deeplab_repro.files.made_of import check_made_of
from deeplab_repro.files.probs import read_probs
from deeplab_repro.models.usable import published_crf
from deeplab_repro.segmenter import Recipe
from deeplab_repro.tune.session import Session, Source
from deeplab_repro.tune.setting import Setting

_LARGEFOV = CrfParams(w1=4, sigma_alpha=121, sigma_beta=5)  # as `crf` has it by default


def open_session(
    source: Source,
    crf: CrfParams | None = None,
    positional: tuple[float, float] | None = None,
    iterations: int = 10,
    truth: Path | None = None,
) -> Session:
    """A session with a photo; the net runs once if there is one.

    crf, positional (w2 and sigma_gamma), iterations: to begin with; None for what is published with
    the net, or else DeepLab-LargeFOV's. truth: a PNG of true labels, 255 void.

    Raises what reading the files raises, or the net; ArgumentError where they do not fit each
    other.
    """
    image = read_image(source.photo)
    probs, published = _probs_of(source, image)
    labels_true = None if truth is None else _read_truth(truth, image, len(probs))
    params = crf or published
    if positional:
        params = replace(params, w2=positional[0], sigma_gamma=positional[1])
    try:
        return Session(source, image, probs, Setting(params, iterations), labels_true)
    except (ArgumentError, ResourceError) as error:
        maps = one_line(source.probs or source.model)
        raise type(error)(f"{one_line(source.photo)} with {maps}: {error}") from error


def _probs_of(source: Source, image: UInt8) -> tuple[F32, CrfParams]:
    """The probabilities, and the parameters that are published for them."""
    if source.probs is not None:
        check_made_of(source.probs, source.photo)
        return read_probs(source.probs, (image.shape[0], image.shape[1])), _LARGEFOV
    model = Recipe(source.model, source.weights, crf=None).build()
    model.warn_of_photo(image, source.photo.name)
    try:
        published = published_crf(model.net.name, model.net.dense_crf)
    except ArgumentError:
        published = _LARGEFOV
    return model.run_net(image).probs, published


def _read_truth(path: Path, image: UInt8, n_labels: int) -> UInt8:
    labels = read_labels(path)
    if labels.shape != image.shape[:2]:
        raise ImageError(
            f"{one_line(path)}: is {dims(labels.shape)} (height x width), expected the photo's "
            f"{dims(image.shape[:2])}: are they another photo's true labels?"
        )
    wrong = np.unique(labels[(labels >= n_labels) & (labels != VOID)])
    if wrong.size:
        raise ImageError(
            f"{one_line(path)}: has label {wrong[-1]}, expected 0 to {n_labels - 1}, as the "
            f"probabilities have {n_labels} labels, and {VOID} for void: save the labels' numbers, "
            "as a palette PNG has them"
        )
    return labels
