"""The authors' files, and upstream's: prototxt (text) and caffemodel (binary), to Net and back."""

from collections.abc import Mapping
from pathlib import Path

from deeplab_repro.caffe.caffemodel import (
    Caffemodel,
    ModelLayer,
    caffemodel_chunks,
    read_caffemodel,
    write_caffemodel,
)
from deeplab_repro.caffe.messages import net_to_message
from deeplab_repro.caffe.prototxt import parse_prototxt, parse_solver
from deeplab_repro.caffe.solver import read_solver
from deeplab_repro.caffe.solverstate import read_solverstate, write_solverstate
from deeplab_repro.caffe.structure import net_from_message
from deeplab_repro.caffe.training import read_train_net
from deeplab_repro.caffe.weights import load_weights
from deeplab_repro.errors import NetError, one_line
from deeplab_repro.files.whole import write_atomically
from deeplab_repro.net.net import Net

__all__ = [
    "Caffemodel",
    "ModelLayer",
    "caffemodel_chunks",
    "load_weights",
    "parse_solver",
    "prototxt_text",
    "read_caffemodel",
    "read_net",
    "read_solver",
    "read_solverstate",
    "read_train_net",
    "write_caffemodel",
    "write_prototxt",
    "write_solverstate",
]


def read_net(path: str | Path, variables: Mapping[str, str] | None = None) -> Net:
    """Read a prototxt of either dialect as the net that Caffe would run in its TEST phase.

    `variables` replace ${NAME} in the text, besides EXP=voc12 and NUM_LABELS=21. The net has shapes
    but no weights yet: see `load_weights`. Raises FileError, FormatError (with line and column) and
    NetError.
    """
    message = parse_prototxt(path, variables)
    try:
        return net_from_message(message)
    except NetError as error:
        raise NetError(f"{one_line(path)}: {error}") from None


def prototxt_text(net: Net, current: bool = False) -> str:
    """The net's prototxt: V1 in the authors' dialect, or the current format.

    Raises NetError for a layer that V1 lacks.
    """
    from google.protobuf import text_format  # slow to load, and seldom needed

    return text_format.MessageToString(net_to_message(net, current))


def write_prototxt(net: Net, path: str | Path, current: bool = False) -> None:
    """Write the net's prototxt, atomically. Raises what `prototxt_text` raises, and FileError."""
    with write_atomically(path) as file:
        file.write(prototxt_text(net, current).encode())
