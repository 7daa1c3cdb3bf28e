"""A record of every fetched caffemodel, in the user's own folder."""

import json
import os
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from deeplab_repro.errors import ArgumentError, FileError, FormatError, one_line
from deeplab_repro.files.given_path import given_path
from deeplab_repro.files.safetensors import is_safetensors
from deeplab_repro.files.whole import check_readable, open_to_read, write_atomically
from deeplab_repro.models.registry import MODELS

_BRINGS_ITS_OWN = "ToyVOC-LargeFOV"


@dataclass(frozen=True)
class Fetched:
    """Where a model's released weights are, and what they were when they were fetched.

    model: of MODELS. path: of the caffemodel, absolute. size: in bytes. sha256: of its contents, in
    hex. url: where it came from; None for a file of the user's. training_set: as the file
    itself says, or else as its name does.
    """

    model: str
    path: str
    size: int
    sha256: str
    url: str | None
    training_set: str


def user_folder() -> Path:
    """Where fetched weights and their records are kept: DEEPLAB_REPRO_HOME, or the data folder.

    The latter is on Linux $XDG_DATA_HOME/deeplab-repro or ~/.local/share/deeplab-repro, on macOS
    ~/Library/Application Support/deeplab-repro, on Windows %LOCALAPPDATA%/deeplab-repro.

    Raises FileError where the user has no home.
    """
    try:
        if given := os.environ.get("DEEPLAB_REPRO_HOME"):
            return Path(given).expanduser().absolute()
        home = Path.home()
        if not home.is_absolute():
            raise RuntimeError
    except RuntimeError:
        raise FileError(
            "there is no home folder to keep weights in: set DEEPLAB_REPRO_HOME to a folder"
        ) from None
    if sys.platform == "win32":
        data = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif sys.platform == "darwin":
        data = home / "Library" / "Application Support"
    else:
        data = Path(os.environ.get("XDG_DATA_HOME", ""))
        if not data.is_absolute():  # to be ignored, by the XDG specification
            data = home / ".local" / "share"
    return data / "deeplab-repro"


def record_path(model: str, file: str) -> Path:
    """The record of a model's released `file`."""
    return user_folder() / model / f"{file}.json"


def remember(fetched: Fetched) -> None:
    """Write the record of fetched weights, in place of an older one of that model and file name.

    The model's folder in `user_folder` must be there. Raises FileError if it cannot be written.
    """
    with write_atomically(record_path(fetched.model, Path(fetched.path).name)) as file:
        file.write(json.dumps(asdict(fetched), indent=1).encode())


def remembered(model: str, file: str) -> Fetched | None:
    """The record of a model's released `file`; None if it was never fetched.

    The file itself is not looked at. Raises FileError if the record cannot be read, FormatError if
    it is broken.
    """
    path = record_path(model, file)
    if not path.exists():
        return None
    with open_to_read(path) as (stream, _):
        content = stream.read()
    with suppress(TypeError, ValueError):
        found = Fetched(**json.loads(content))
        if (found.model, Path(found.path).name) == (model, file) and isinstance(found.size, int):
            return found
    raise FormatError(
        f"{one_line(path)}: is broken: remove it, and fetch {model} again or give its caffemodel"
    )


def weights_file(weights: str | Path | None, model: str | Path | None) -> str | Path | None:
    """The file of the weights that the user asks for.

    A name of MODELS stands for the weights that ship with the model or were fetched: those of
    train_aug, which give the val scores, before those of trainval_aug. No `weights` stand for those
    of `model`, if that is such a name, or for the .safetensors that it is; None if it has none
    here. All else (a path, random:SEED) stands for itself.

    Raises ArgumentError if `weights` is no path, or a model's name and it has none here, FileError
    if a fetched file is gone or has changed, and what `remembered` raises.
    """
    if weights is not None:
        given_path("weights", weights)
        if not isinstance(weights, str) or weights not in MODELS:
            return weights
        found = _own_weights(weights)
        if found is None:
            raise ArgumentError(f"weights of {weights} are not here: {where_from(weights)}")
        return found
    if isinstance(model, str) and model in MODELS:
        return _own_weights(model)
    return model if model and is_safetensors(model) else None


def where_from(name: str) -> str:
    """What to do about weights that are not here: the end of a message. name: of the net."""
    known = MODELS.get(name)
    own = ""
    if known and known.train_weights:
        own = f"run deeplab-repro fetch {name}, or "
    elif known and not known.shipped_weights:
        own = "none were released, so "
    return (
        f"{own}give a caffemodel (--weights), or take --model {_BRINGS_ITS_OWN}, which brings "
        "its own but knows drawn scenes only, or --weights random:1 to try (the labels then mean "
        "nothing)"
    )


def _own_weights(name: str) -> Path | None:
    model = MODELS[name]
    if model.shipped_weights:
        return model.shipped_weights
    for weights in (model.train_weights, model.train2_weights):
        found = weights and remembered(name, weights.file)
        if found:
            check_unchanged(found)
            return Path(found.path)
    return None


def check_unchanged(fetched: Fetched) -> None:
    """Raise FileError if fetched weights are gone, or have another size than they had."""
    shown = one_line(fetched.path)
    mend = f"fetch {fetched.model} again, or give a caffemodel"
    if not os.path.exists(fetched.path):
        raise FileError(f"{shown}: was fetched as {fetched.model}'s weights, but is gone: {mend}")
    size = check_readable(fetched.path)
    if size != fetched.size:
        raise FileError(
            f"{shown}: has {size:,} bytes, but had {fetched.size:,} when it was fetched: remove it "
            f"and {mend}"
        )
