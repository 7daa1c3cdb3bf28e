"""Load a net and its weights, each by a model's name or by its file."""

import os
import shlex
from collections.abc import Mapping
from pathlib import Path

from deeplab_repro.caffe import load_mean, load_weights, read_net
from deeplab_repro.convert.converted import may_hold_net
from deeplab_repro.convert.safetensors import read_safetensors
from deeplab_repro.errors import ArgumentError, ArgumentTypeError, one_line
from deeplab_repro.files.given_path import given_path, kind_of
from deeplab_repro.files.safetensors import is_safetensors
from deeplab_repro.models.fetched import weights_file, where_from
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
    files = [weights_file(weights, model), None if model is None else prototxt_of(model)]
    return [Path(file) for file in files if file and not str(file).startswith(RANDOM)]


def prototxt_of(model: str | Path) -> Path:
    """The file of a net, or of a model of MODELS. Raises ArgumentError for a name of none."""
    return Path(model) if _is_path(model) else get_model(str(model)).test_prototxt


def read_model(model: str | Path, variables: Mapping[str, str] | None = None) -> Net:
    """The net of a model of MODELS, of a prototxt with its mean_file, or of a .safetensors.

    It is without weights. Raises ArgumentError for a name that is none of them, for variables of a
    .safetensors and for a .npz, and what `read_net`, `load_mean` and `read_safetensors` raise.
    """
    if not isinstance(variables, Mapping | None):
        kind = kind_of(variables)
        raise ArgumentTypeError(f"variables is {kind}, expected a dict, as {{'NUM_LABELS': '21'}}")
    if _is_path(model):
        if may_hold_net(model):
            if not is_safetensors(model):
                raise ArgumentError(
                    f"{one_line(model)}: is read by convert and inspect alone: make a .safetensors "
                    f"of it: deeplab-repro convert --weights {shlex.quote(one_line(model))} --to "
                    "safetensors --out net"
                )
            if variables:
                raise ArgumentError(f"{one_line(model)}: holds its own net: leave out --set")
            return read_safetensors(model, weights=False)
        net = read_net(model, variables)
        load_mean(net, model)
        return net
    known = get_model(str(model))
    return read_net(known.test_prototxt, {"EXP": known.exp, **(variables or {})})


def _is_path(model: str | Path) -> bool:
    if isinstance(model, str) and model in MODELS:
        return False
    name = given_path("model", model)
    looks_so = name.endswith(".prototxt") or may_hold_net(name) or os.sep in name
    return isinstance(model, os.PathLike) or looks_so or os.path.exists(name)


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
        raise ArgumentError(f"net '{net.name}' needs weights: {where_from(net.name)}")
    return weights
