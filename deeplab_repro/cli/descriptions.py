"""What files hold, as plain data: what `deeplab-repro inspect` prints."""

import math
import os
import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from deeplab_repro.errors import ArgumentError, one_line

if TYPE_CHECKING:
    from deeplab_repro.caffe import Caffemodel
    from deeplab_repro.net.net import Layer, Net

# In the first bytes of a binary file of Caffe's there are tags and lengths of fields.
_HEAD, _CONTROL = 4096, re.compile(rb"[\x00-\x08\x0e-\x1f]")


def describe_file(file: str, variables: Mapping[str, str]) -> dict[str, Any]:
    """A file, or the test net of a model by its name, as plain data; `kind` says what it is.

    variables: for a prototxt. Raises what reading the file raises, and ArgumentError for what is
    neither a file nor a model's name.
    """
    from deeplab_repro.caffe import read_caffemodel
    from deeplab_repro.files.whole import open_to_read
    from deeplab_repro.models.registry import get_model

    if not (os.path.exists(file) or os.sep in file or os.path.splitext(file)[1]):
        try:
            model = get_model(file)
        except ArgumentError as error:
            raise ArgumentError(f"{one_line(file)}: no such file, and {error}") from None
        return _describe_text(str(model.test_prototxt), {"EXP": model.exp, **variables})
    readers = {
        ".npz": _describe_converted,
        ".safetensors": _describe_safetensors,
        ".onnx": describe_onnx,
        ".solverstate": describe_solverstate,
        ".binaryproto": describe_mean,
    }
    reader = readers.get(os.path.splitext(file)[1])
    if reader:
        return reader(file)
    with open_to_read(file) as (opened, _):
        is_binary = _CONTROL.search(opened.read(_HEAD)) is not None
    return (
        describe_caffemodel(read_caffemodel(file)) if is_binary else _describe_text(file, variables)
    )


def _describe_text(file: str, variables: Mapping[str, str]) -> dict[str, Any]:
    from deeplab_repro.caffe import read_net
    from deeplab_repro.caffe.prototxt import is_solver

    if is_solver(file, variables):
        return describe_solver(file, variables)
    return describe_net(read_net(file, variables))


def _describe_converted(file: str) -> dict[str, Any]:
    from deeplab_repro.convert.converted import read_converted

    return describe_net(read_converted(file))


def _describe_safetensors(file: str) -> dict[str, Any]:
    from deeplab_repro.caffe import read_weights
    from deeplab_repro.convert.safetensors import has_net

    if has_net(file):
        return _describe_converted(file)
    return describe_caffemodel(read_weights(file)) | {"kind": "weights"}


def describe_net(net: "Net") -> dict[str, Any]:
    """A net: its layers with their parameters and shapes, and what it makes of an image."""
    owners: dict[int, str] = {}
    layers = []
    for layer, _, tops in net.walk():
        owner = next((owners[id(blob)] for blob in layer.blobs if id(blob) in owners), None)
        for blob in layer.blobs:
            owners.setdefault(id(blob), layer.name)
        layers.append(
            {
                "name": layer.name,
                "type": layer.type,
                "bottoms": list(layer.bottoms),
                "tops": {name: list(top) for name, top in zip(layer.tops, tops, strict=True)},
                "output_shape": list(tops[0]),
                **_geometry(layer),
                "settings": asdict(layer.op),  # type: ignore[call-overload]
                "blob_shapes": [list(blob.shape) for blob in layer.blobs],
                "parameters": layer.parameters,
                "shares_weights_of": owner,
            }
        )
    return {
        "kind": "net",
        "name": net.name,
        "dialect": net.dialect,
        "input": net.input,
        "input_shape": list(net.input_shape),
        "preprocessing": describe_preprocessing(net),
        "output": net.output,
        "output_shape": list(net.output_shape()),
        "output_stride": net.output_stride,
        "field_of_view": net.field_of_view,
        "parameters": net.parameters,
        "layers": layers,
    }


def _geometry(layer: "Layer") -> dict[str, list[int] | None]:
    """Kernel, stride, hole and pad, each (height, width); None where the type has no such thing."""
    names = ("kernel", "stride", "hole", "pad")
    pairs = {name: getattr(layer.op, name, None) for name in names}
    return {name: pair and list(pair) for name, pair in pairs.items()}


def describe_preprocessing(net: "Net") -> dict[str, Any]:
    """What the net is fed of an image; `from_file` where its file says so."""
    from deeplab_repro.net.preprocess import VOCS

    how = net.preprocessing or VOCS
    return {"from_file": net.preprocessing is not None, **how.as_json()}


def describe_caffemodel(model: "Caffemodel") -> dict[str, Any]:
    """A caffemodel: every layer with the shapes of its blobs."""
    layers = [
        {
            "name": layer.name,
            "type": layer.type,
            "blob_shapes": [list(blob.shape) for blob in layer.blobs],
            "parameters": sum(blob.size for blob in layer.blobs),
        }
        for layer in model.layers
    ]
    return {
        "kind": "caffemodel",
        "name": model.name,
        "dialect": model.dialect,
        "parameters": sum(layer["parameters"] for layer in layers),
        "layers": layers,
    }


def describe_solver(file: str, variables: Mapping[str, str]) -> dict[str, Any]:
    """A solver: its settings as the file gives them, and why `train` would refuse it, if so."""
    from deeplab_repro.caffe.solver import read_settings

    settings, problems = read_settings(file, variables)
    return {"kind": "solver", "settings": settings, "does_not_train": problems}


def describe_solverstate(file: str) -> dict[str, Any]:
    """A solverstate: how far the training was, its caffemodel, and the shapes of the momentum."""
    from deeplab_repro.caffe import read_solverstate

    state = read_solverstate(file)
    return {
        "kind": "solverstate",
        "iteration": state.iteration,
        "current_step": state.current_step,
        "learned_net": state.learned_net,
        "learned_sha256": state.learned_sha256 or None,
        "training_sha256": state.training_sha256 or None,
        "parameters": sum(blob.size for blob in state.history),
        "history_shapes": [list(blob.shape) for blob in state.history],
    }


def describe_mean(file: str) -> dict[str, Any]:
    """A mean file, or another .binaryproto: its shape, its range, and the mean of each channel."""
    import numpy as np

    from deeplab_repro.caffe.preprocessing import read_binaryproto

    blob = read_binaryproto(file)
    shape = blob.shape[1:] if len(blob.shape) == 4 and blob.shape[0] == 1 else blob.shape
    channels = blob.reshape(shape[0], -1) if len(shape) == 3 and blob.size else None
    with np.errstate(all="ignore"):
        means = [] if channels is None else channels.mean(axis=1, dtype=np.float64)
    return {
        "kind": "blob",
        "shape": list(blob.shape),
        "least": _finite(blob.min(initial=math.inf)),
        "largest": _finite(blob.max(initial=-math.inf)),
        "channel_means": [_finite(mean) for mean in means],
    }


def _finite(number: Any) -> float | None:
    """JSON has no NaN and no infinity."""
    return float(number) if math.isfinite(number) else None


def describe_onnx(file: str) -> dict[str, Any]:
    """An ONNX file: its inputs and outputs with their axes, its nodes, and its metadata."""
    from deeplab_repro.convert.onnx_summary import read_onnx_summary

    return {"kind": "onnx", **asdict(read_onnx_summary(file))}
