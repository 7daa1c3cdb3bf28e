"""Writes and reads a net without its weights as JSON: the net.json that npz.py describes."""

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import MISSING, asdict, fields, is_dataclass, replace
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np

from deeplab_repro.arrays import Shape, dims
from deeplab_repro.caffe import bvlc_pb2
from deeplab_repro.caffe.learning import read_learning, write_learning
from deeplab_repro.caffe.names import is_plain_name, shown
from deeplab_repro.caffe.parameters import read_parameters, runs, write_parameters
from deeplab_repro.caffe.sharing import share_by_name
from deeplab_repro.caffe.structure import check_learners, check_sizes
from deeplab_repro.errors import FormatError, NetError, one_line
from deeplab_repro.net import channel_layers, layers, shape_layers
from deeplab_repro.net.layers import LayerType
from deeplab_repro.net.net import (
    Blob,
    DenseCrfParameter,
    Filler,
    ImageSegData,
    Layer,
    Net,
)
from deeplab_repro.net.preprocess import MeanImage, Preprocessing

_VERSION = 1
# Caffe's numbers hold no more.
_MOST, _MOST_FLOAT = 2**31 - 1, float(np.finfo(np.float32).max)
_MAY_BE_NEGATIVE = ("pad_beg", "pad_end", "ignore_label", "axis", "num_axes", "dim")

TYPES = {
    name: kind
    for module in (layers, channel_layers, shape_layers)
    for name, kind in vars(module).items()
    if isinstance(kind, type) and issubclass(kind, LayerType) and kind is not LayerType
}

# The fields of the objects that are not exactly a dataclass of ours.
_NCHW = tuple[int, int, int, int]
_NET = {
    "version": int,
    "name": str,
    "dialect": str,
    "input": str,
    "input_shape": _NCHW,
    "labels": dict,
    "preprocessing": dict | None,
    "dense_crf": DenseCrfParameter | None,
    "data": ImageSegData | None,
    "layers": list,
}
_LAYER = {
    "name": str,
    "type": str,
    "parameters": dict,
    "bottoms": tuple[str, ...],
    "tops": tuple[str, ...],
    "strict_dim": bool,
    "blobs": dict,
}
_PREPROCESSING = {
    "mean_bgr": tuple[float, float, float] | None,
    "mean_file": str | None,
    "scale": float,
    "resized_to": tuple[int, int] | None,
}
_LEARNING = {"lr_mult": float, "decay_mult": float, "filler": Filler, "name": str}

_EXPECTED = {
    bool: "true or false",
    dict: "an object",
    float: f"a number from {-_MOST_FLOAT:.4g} to {_MOST_FLOAT:.4g}",
    list: "a list",
    str: "text that can be printed",
}


def net_to_json(net: Net) -> str:
    """The net as JSON.

    Raises NetError for what `net_from_json` would refuse: parameters that no prototxt can hold,
    names that are not plain, two layers with weights of one name.
    """
    document = {
        "version": _VERSION,
        "name": net.name,
        "dialect": net.dialect,
        "input": net.input,
        "input_shape": net.input_shape,
        "labels": net.labels,
        "preprocessing": net.preprocessing and net.preprocessing.as_json(),
        "dense_crf": net.dense_crf and asdict(net.dense_crf),
        "data": net.data and asdict(net.data),
        "layers": [_layer_to_json(layer) for layer in net.layers],
    }
    text = json.dumps(document, ensure_ascii=False, indent=1)
    # Lists of numbers on one line. No string matches: there are no line breaks in JSON's.
    text = re.sub(r'\[\n[^]"{}]*\]', lambda found: "".join(found[0].split()), text)
    try:
        net_from_json(text)
    except FormatError as error:
        raise NetError(f"net {shown(net.name)}: {error}") from None
    return text


def _layer_to_json(layer: Layer) -> dict[str, Any]:
    blobs = {
        name: {
            "shape": blob.shape,
            "lr_mult": blob.lr_mult,
            "decay_mult": blob.decay_mult,
            "filler": asdict(blob.filler),
            **({"name": blob.name} if blob.name else {}),
        }
        for name, blob in zip(layer.blob_names, layer.blobs, strict=False)
    }
    return {
        "name": layer.name,
        "type": layer.type,
        "parameters": asdict(layer.op),  # type: ignore[call-overload]
        "bottoms": layer.bottoms,
        "tops": layer.tops,
        "strict_dim": layer.strict_dim,
        "blobs": blobs,
    }


def net_from_json(text: str) -> Net:
    """The net that `net_to_json` wrote, without weights and the values of a mean_file.

    Raises FormatError, naming layer and field, for anything else, and NetError for a net that does
    not hold together, or that no prototxt can hold.
    """
    try:
        document = _value(dict, json.loads(text), "net.json")
    except (ValueError, RecursionError) as error:
        raise FormatError(f"net.json is no JSON: {one_line(error)}") from None
    if document.get("version") != _VERSION:
        raise FormatError(
            f"version is {_found(document.get('version'))}, expected {_VERSION}: read it with the "
            "deeplab-repro that wrote it"
        )
    given = _fields(_NET, document, "")
    del given["version"]
    given["labels"] = {
        name: _value(_NCHW, shape, f"labels.{shown(name)}")
        for name, shape in given["labels"].items()
    }
    if given["preprocessing"] is not None:
        given["preprocessing"] = _preprocessing(given["preprocessing"])
    layers = [_layer(value, f"layers[{i}]") for i, value in enumerate(given["layers"])]
    _check_names([given["name"], given["input"], *given["labels"]])
    check_sizes({given["input"]: given["input_shape"], **given["labels"]})
    # A net without blobs gives them the shapes that they must have.
    net = Net(**{**given, "layers": [replace(layer, blobs=[]) for layer in layers]})
    for layer, as_given in zip(net.layers, layers, strict=True):
        found, expected = ([blob.shape for blob in x.blobs] for x in (as_given, layer))
        if found != expected:
            shapes = [", ".join(map(dims, shapes)) or "none" for shapes in (found, expected)]
            raise FormatError(f"layer '{layer.name}': blobs are {shapes[0]}, expected {shapes[1]}")
        layer.blobs = as_given.blobs
    check_learners(net)
    share_by_name(net.layers)
    return net


def _preprocessing(value: Any) -> Preprocessing:
    given = _fields(_PREPROCESSING, value, "preprocessing.", optional=_PREPROCESSING)
    mean, file = given.pop("mean_bgr", None), given.pop("mean_file", None)
    if (mean is None) == (file is None):
        raise FormatError("preprocessing has mean_bgr and mean_file, or neither, expected one")
    if file is not None and not (file and is_plain_name(file)):
        raise FormatError(f"preprocessing.mean_file is {shown(file)}, expected a short name")
    return Preprocessing(mean or MeanImage(str(file)), **given)


def _layer(value: Any, path: str) -> Layer:
    name = _value(dict, value, path).get("name")
    if isinstance(name, str):
        path = f"layer {shown(name)}"
    given = _fields(_LAYER, value, f"{path}: ")
    _check_names([given["name"], *given["bottoms"], *given["tops"]])
    kind = TYPES.get(given["type"])
    if kind is None:
        raise FormatError(
            f"{path}: type is {shown(given['type'])}, expected one of {', '.join(TYPES)}"
        )
    blobs = given["blobs"]
    layer = Layer(
        given["name"],
        _value(kind, given["parameters"], f"{path}: parameters"),
        given["bottoms"],
        given["tops"],
        strict_dim=given["strict_dim"],
    )
    if tuple(blobs) != layer.blob_names[: len(blobs)]:
        named = shown(", ".join(blobs))
        raise FormatError(f"{path}: blobs are {named}, expected {', '.join(layer.blob_names)}")
    layer.blobs = [_blob(each, f"{path}: blobs.{what}.") for what, each in blobs.items()]
    if len(layer.tops) != 1 and not (layer.op.several_tops and layer.tops):
        raise NetError(f"{path} ({layer.type}) has {len(layer.tops)} tops, expected 1")
    _check_parameters(layer)
    return layer


def _blob(value: Any, path: str) -> Blob:
    blob = Blob(**_fields({"shape": Shape, **_LEARNING}, value, path, optional=_LEARNING))
    _check_names([blob.name])
    return blob


def _check_names(names: list[str]) -> None:
    for name in names:
        if not is_plain_name(name):
            raise FormatError(f"a name is {shown(name)}, expected a short one that can be printed")


def _check_parameters(layer: Layer) -> None:
    """Refuse what reading a prototxt would: Caffe's message must give the layer back."""
    message: Any = bvlc_pb2.LayerParameter(name=layer.name, type=layer.type)
    found = layer.op
    try:
        write_parameters(layer, message)
        write_learning(layer, message)
        if runs(layer.type):
            found = read_parameters(message, layer.type)
        read_learning(replace(layer, blobs=[Blob(blob.shape) for blob in layer.blobs]), message)
    except (NetError, ValueError) as error:  # ValueError: no room for it in the message
        named = str(error).startswith(f"layer '{layer.name}'")
        where = "" if named else f"layer '{layer.name}' ({layer.type}): "
        raise NetError(f"{where}{one_line(error)}") from None
    ours, theirs = asdict(layer.op), asdict(found)  # type: ignore[call-overload]
    for name in ours:
        if _single(ours[name]) != _single(theirs[name]):
            raise NetError(
                f"layer '{layer.name}' ({layer.type}): {name} is {ours[name]}, which Caffe "
                f"would take as {theirs[name]}"
            )


def _single(value: Any) -> Any:
    """A parameter with its floats in single precision, as in Caffe."""
    if isinstance(value, tuple):
        return tuple(map(_single, value))
    return np.float32(value) if isinstance(value, float) else value


def _fields(
    kinds: Mapping[str, Any], value: Any, path: str, optional: Collection[str] = ()
) -> dict[str, Any]:
    """The fields of an object, each as its kind; their paths begin with `path`."""
    where = path.rstrip(":. ") or "net.json"
    for name in _value(dict, value, where):
        if name not in kinds:
            expected = ", ".join(kinds) or "none"
            raise FormatError(f"{where} has a field {shown(name)}, expected {expected}")
    for name in kinds:
        if name not in value and name not in optional:
            raise FormatError(f"{where} has no field '{name}', expected one")
    return {name: _value(kinds[name], each, f"{path}{name}") for name, each in value.items()}


def _filled(kind: Any, value: Any, path: str) -> Any:
    """A dataclass from an object of its fields; those with a default may be left out."""
    hints = get_type_hints(kind)
    kinds = {field.name: hints[field.name] for field in fields(kind)}
    optional = [field.name for field in fields(kind) if field.default is not MISSING]
    return kind(**_fields(kinds, value, f"{path}.", optional))


def _value(kind: Any, value: Any, path: str) -> Any:
    """A value of JSON as what the type hint `kind` asks for, else FormatError."""
    expected = _EXPECTED.get(kind)
    if get_origin(kind) is UnionType:  # X | None
        return None if value is None else _value(get_args(kind)[0], value, path)
    if is_dataclass(kind):
        return _filled(kind, value, path)
    if get_origin(kind) is tuple:
        first, *rest = get_args(kind)
        count = None if rest == [...] else 1 + len(rest)
        if isinstance(value, list) and count in (None, len(value)):
            return tuple(_value(first, each, f"{path}[{i}]") for i, each in enumerate(value))
        expected = "a list" if count is None else f"a list of {count}"
    elif kind is int:
        least = -_MOST if path.rstrip("[0123456789]").endswith(_MAY_BE_NEGATIVE) else 0
        if type(value) is int and least <= value <= _MOST:
            return value
        expected = f"a whole number from {least} to {_MOST}"
    elif kind is float:
        if type(value) in (int, float) and abs(value) <= _MOST_FLOAT:  # which NaN is not
            return float(value)
    elif type(value) is kind and (kind is not str or value.isprintable()):
        return value
    raise FormatError(f"{path} is {_found(value)}, expected {expected}")


def _found(value: Any) -> str:
    if isinstance(value, list | dict):
        return f"a list of {len(value)}" if isinstance(value, list) else "an object"
    return shown(value) if isinstance(value, str) else json.dumps(value)[:60]
