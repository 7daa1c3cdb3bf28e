"""Reads converted files that hold a net beside its weights."""

import os
from collections.abc import Callable

from deeplab_repro.convert.npz import read_npz
from deeplab_repro.convert.safetensors import read_safetensors
from deeplab_repro.net.net import Net

NET_READERS: dict[str, Callable[[str | os.PathLike[str]], Net]] = {
    "npz": read_npz,
    "safetensors": read_safetensors,
}
"""By format; the names of the files end so."""


def may_hold_net(path: str | os.PathLike[str]) -> bool:
    """Whether a file is, by its name, one that holds a net beside its weights."""
    return _ending(path) in NET_READERS


def read_converted(path: str | os.PathLike[str]) -> Net:
    """Read the net and its weights from such a file. Raises what its reader raises."""
    return NET_READERS[_ending(path)](path)


def _ending(path: str | os.PathLike[str]) -> str:
    return os.path.splitext(path)[1].removeprefix(".")
