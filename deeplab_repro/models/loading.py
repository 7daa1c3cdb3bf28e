"""Load a net and its weights, each by a model's name or by its file."""

import os
from collections.abc import Mapping
from pathlib import Path

from deeplab_repro.caffe import load_mean, load_weights, read_net
from deeplab_repro.convert.safetensors import read_safetensors
from deeplab_repro.errors import ArgumentError, one_line
from deeplab_repro.files.safetensors import is_safetensors
from deeplab_repro.models.fetched import weights_file
from deeplab_repro.models.registry import MODELS, get_model
from deeplab_repro.net.net import Net

RANDOM = "random:"
"""Followed by a seed, asks for random weights in place of a caffemodel."""


def load_net(
    model: str | Path,
    weights: str | Path | None = None,
    variables: Mapping[str, str] | None = None,
) -> Net:
    """A net with its weights; arguments and errors as for `DeepLab`."""
    net = read_model(model, variables)
    fill(net, weights_file(weights, model))
    return net


def files_of(model: str | Path | None, weights: str | Path | None) -> list[Path]:
    """The prototxt and the caffemodel that `load_net` reads, as far as they are files.

    Raises ArgumentError for names that there are not, and what `weights_file` raises.
    """
    files: list[str | Path | None] = [weights_file(weights, model)]
    if model is not None:
        files.append(model if _is_path(model) else get_model(str(model)).test_prototxt)
    return [Path(file) for file in files if file and not str(file).startswith(RANDOM)]


def read_model(model: str | Path, variables: Mapping[str, str] | None = None) -> Net:
    """The net of a model of MODELS, of a prototxt with its mean_file, or of a .safetensors.

    It is without weights. Raises ArgumentError for a name that is none of them and for variables
    of a .safetensors, and what `read_net`, `load_mean` and `read_safetensors` raise.
    """
    if _is_path(model):
        if is_safetensors(model):
            if variables:
                raise ArgumentError(f"{one_line(model)}: holds its own net: leave out --set")
            return read_safetensors(model, weights=False)
        net = read_net(model, variables)
        load_mean(net, model)
        return net
    known = get_model(str(model))
    return read_net(known.test_prototxt, {"EXP": known.exp, **(variables or {})})


def _is_path(model: str | Path) -> bool:
    if isinstance(model, Path):
        return True
    looks_so = (
        model.endswith((".prototxt", ".safetensors")) or os.sep in model or os.path.exists(model)
    )
    return looks_so and model not in MODELS


def fill(net: Net, weights: str | Path | None) -> None:
    """Put a file's weights into the net, or random ones ("random:SEED").

    Raises ArgumentError for no weights, or another seed, and what `load_weights` raises.
    """
    name = str(require_weights(net, weights))
    if name.startswith(RANDOM):
        seed = name.removeprefix(RANDOM)
        if not (seed.isdecimal() and seed.isascii() and len(seed) < 10):
            raise ArgumentError(f"weights are '{name}', expected {RANDOM} and a whole number")
        net.fill_random(int(seed))
    else:
        load_weights(net, name)


def require_weights(net: Net, weights: str | Path | None) -> str | Path:
    """Return the weights that a net was given. Raises ArgumentError for none."""
    if weights is None:
        known = MODELS.get(net.name)
        released = known is not None and known.train_weights is not None
        raise ArgumentError(
            f"net '{net.name}' needs weights: give a caffemodel, or {RANDOM}0 for seeded random "
            "ones (the labels then mean nothing)"
            + (f"; deeplab-repro fetch {net.name} gets the released ones" if released else "")
        )
    return weights
