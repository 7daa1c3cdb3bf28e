"""Reads a prototxt as the net that Caffe trains: from a batch of images and labels to the loss."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from deeplab_repro.arrays import Shape
from deeplab_repro.caffe import bvlc_pb2
from deeplab_repro.caffe.learning import (
    SEG_ACCURACY,
    SOFTMAX_LOSS,
    read_learning,
    read_seg_accuracy,
    read_softmax_loss,
)
from deeplab_repro.caffe.parameters import V1_TYPES, do_not_run, read_parameters, runs
from deeplab_repro.caffe.preprocessing import data_field
from deeplab_repro.caffe.prototxt import parse_prototxt
from deeplab_repro.caffe.sharing import share_rates, share_weights
from deeplab_repro.caffe.structure import (
    ASIDE_TYPES,
    DATA_TYPES,
    check_learners,
    check_sizes,
    declared_inputs,
    dialect_of,
    included_layers,
    layer_type,
    layers_of,
    preprocessing_of,
)
from deeplab_repro.errors import NetError, one_line
from deeplab_repro.net.layers import LayerType, SoftmaxLoss
from deeplab_repro.net.net import Layer, Net
from deeplab_repro.net.other_layers import ImageSegData
from deeplab_repro.net.preprocess import Preprocessing

log = logging.getLogger(__name__)

# The types that train, besides losses and accuracies, as train/network.py has them.
TRAINED = (
    *("BatchNorm", "Convolution", "Dropout", "Eltwise", "Interp", "Padding", "Pooling", "PReLU"),
    *("ReLU", "Scale"),
)
_SEG_DATA = ("IMAGE_SEG_DATA", "ImageSegData")
# Fields of the authors' layer, or of stock Caffe's, that would change what is trained on.
_NOT_SUPPORTED = ("rand_skip", "new_height", "new_width")


class _Source(NamedTuple):
    """Where a train net's blobs come from."""

    inputs: dict[str, Shape]  # the image first
    data: ImageSegData | None = None
    preprocessing: Preprocessing | None = None
    # Other tops of the data layer, by the name of the layer that makes them.
    aside: Mapping[str, str] = MappingProxyType({})


def read_train_net(path: str | Path, variables: Mapping[str, str] | None = None) -> Net:
    """Read a prototxt of either dialect as the net that Caffe would train.

    The net goes from a batch (`input`, Nx3xHxW, and `labels`, Nx1xHxW) to one SoftmaxLoss or more;
    `data` holds the parameters of its IMAGE_SEG_DATA layer, None where the file names inputs in
    place of one. Blobs have multipliers and fillers, but no data yet. `variables` as in `read_net`.
    Raises FileError, FormatError (with line and column) and NetError, also for what Caffe would
    train differently.
    """
    message = parse_prototxt(path, variables)
    file = one_line(path)
    try:
        return _train_net(message, file)
    except NetError as error:
        raise NetError(f"{file}: {error}") from None


def _train_net(message: Any, file: str) -> Net:
    everything = layers_of(message)
    included = included_layers(everything, message.state, bvlc_pb2.TRAIN)
    source = _source(message, included, file)
    check_sizes(source.inputs)
    (image, input_shape), *labels = source.inputs.items()
    kept, layers = [], []
    aside = dict(source.aside)
    lacking: dict[str, str] = {}  # types that do not train here, and their first layer
    for layer in included:
        kind = layer_type(layer)
        if kind in DATA_TYPES or kind == "Input":
            continue
        try:
            if kind in ASIDE_TYPES and kind not in SEG_ACCURACY:
                _check_aside(layer)
                aside.update(dict.fromkeys(layer.top, layer.name))
                continue
            if not _trains(kind):
                lacking.setdefault(kind, layer.name)
            if not (_trains(kind) or runs(kind)):
                continue
            layers.append(_layer(layer, kind, aside))
            kept.append(layer)
        except NetError as error:
            raise _named(layer, error) from None
    if not all(map(runs, lacking)):  # those that run may be in a net that is not to be trained
        raise NetError(
            do_not_run(lacking, "train here", (*TRAINED, SOFTMAX_LOSS[1], SEG_ACCURACY[1]))
        )
    _check_losses(layers)
    net = Net(
        name=message.name,
        input=image,
        input_shape=input_shape,
        layers=layers,
        dialect=dialect_of(everything),
        preprocessing=source.preprocessing,
        labels=dict(labels),
        data=source.data,
    )
    check_learners(net)
    for built, layer in zip(net.layers, kept, strict=True):
        try:
            read_learning(built, layer)
        except NetError as error:
            raise _named(layer, error) from None
    pairs = list(zip(net.layers, kept, strict=True))
    share_rates(pairs)
    share_weights(pairs)
    return net


def _trains(kind: str) -> bool:
    return kind in (*SOFTMAX_LOSS, *SEG_ACCURACY) or V1_TYPES.get(kind, kind) in TRAINED


def _named(layer: Any, error: NetError) -> NetError:
    """The error with the layer's name, unless it has it."""
    if str(error).startswith(f"layer '{layer.name}'"):
        return error
    return NetError(f"layer '{layer.name}' ({layer_type(layer)}): {error}")


def _layer(layer: Any, kind: str, aside: Mapping[str, str]) -> Layer:
    for bottom in layer.bottom:
        if bottom in aside:
            raise NetError(
                f"it takes '{bottom}' of layer '{aside[bottom]}', which is left out of training "
                "here; take both out"
            )
    op = _operation(layer, kind)
    tops = tuple(layer.top)
    if isinstance(op, SoftmaxLoss) and not tops:
        tops = (layer.name,)  # Caffe makes one up
    if len(tops) != 1 and not (op.several_tops and tops):
        raise NetError(f"it has {len(tops)} tops, expected 1")
    return Layer(layer.name, op, tuple(layer.bottom), tops, [], layer.strict_dim)


def _operation(layer: Any, kind: str) -> LayerType:
    blocked = list(getattr(layer, "propagate_down", ()))
    if kind in SOFTMAX_LOSS:
        _check_propagation(blocked[:1])  # no gradient goes to labels anyway
        return read_softmax_loss(layer)
    _check_no_loss(layer)
    _check_propagation(blocked)
    return read_seg_accuracy(layer) if kind in SEG_ACCURACY else read_parameters(layer, kind)


def _check_propagation(propagate_down: Sequence[bool]) -> None:
    if not all(propagate_down):
        raise NetError(
            "propagate_down is false, which is not supported; "
            "expected lr_mult 0 on the layers that must not learn"
        )


def _check_no_loss(layer: Any) -> None:
    if any(layer.loss_weight):
        raise NetError("it has a loss_weight, expected one on SOFTMAX_LOSS only")


def _check_aside(layer: Any) -> None:
    """Refuse to leave out a layer that would change what is trained."""
    _check_no_loss(layer)
    if set(layer.top) & set(layer.bottom):
        raise NetError("it works in place, but does not run in training here; take it out")


def _check_losses(layers: Sequence[Layer]) -> None:
    if not any(isinstance(layer.op, SoftmaxLoss) for layer in layers):
        raise NetError(
            "the net has no loss in its TRAIN phase, expected SOFTMAX_LOSS: give the train "
            "net's prototxt"
        )


# --- data


def _source(message: Any, layers: Sequence[Any], file: str) -> _Source:
    data_layers = [layer for layer in layers if layer_type(layer) in DATA_TYPES]
    inputs = declared_inputs(message, list(layers))
    if len(data_layers) + bool(inputs) != 1:
        raise NetError(_not_one_source(inputs, data_layers, layers))
    if inputs:
        return _Source(inputs)
    (layer,) = data_layers
    try:
        return _data_source(layer, file)
    except NetError as error:
        raise _named(layer, error) from None


def _not_one_source(
    inputs: Mapping[str, Shape], data_layers: Sequence[Any], layers: Sequence[Any]
) -> str:
    """What is wrong where the images come from nowhere, or from two places."""
    expected = "expected one IMAGE_SEG_DATA layer that brings images and labels"
    bringing = data_layers or [layer for layer in layers if layer.top and not layer.bottom]
    named = [f"input '{name}'" for name in inputs]
    named += [f"layer '{layer.name}' ({layer_type(layer)})" for layer in bringing]
    if not named:
        return f"the net has no input in its TRAIN phase, {expected}, or inputs"
    does = "bring" if len(named) > 1 else "brings"
    more = [f"{len(named) - 5} more"] if len(named) > 5 else []
    return f"{' and '.join(named[:5] + more)} {does} what the net is trained on, {expected}"


def _data_source(layer: Any, file: str) -> _Source:
    if layer_type(layer) not in _SEG_DATA:
        raise NetError("it does not train here, expected IMAGE_SEG_DATA")
    if not layer.top:
        raise NetError("it has no tops, expected the image and its labels")
    data = _read_data(layer, file)
    image, *others = layer.top
    n, crop = data.batch_size, data.crop_size
    inputs: dict[str, Shape] = {image: (n, 3, crop, crop)}
    inputs.update((label, (n, 1, crop, crop)) for label in others[:1])
    aside = dict.fromkeys(others[1:], layer.name)
    return _Source(inputs, data, preprocessing_of(layer), aside)


def _read_data(layer: Any, file: str) -> ImageSegData:
    p, crop_size = layer.image_data_param, data_field(layer, "crop_size")
    if not p.HasField("label_type"):
        log.warning(
            "%s: layer '%s' has no label_type, taken as PIXEL (one label map an image); "
            "write label_type: PIXEL",
            file,
            layer.name,
        )
    elif p.label_type != p.PIXEL:
        kind = p.LabelType.Name(p.label_type)
        raise NetError(f"label_type is {kind}, which does not train here; expected PIXEL")
    unsupported = [name for name in _NOT_SUPPORTED if getattr(p, name)]
    unsupported += ["is_color"] * (not p.is_color)
    unsupported += ["force_gray"] * getattr(layer.transform_param, "force_gray", False)
    if unsupported:
        raise NetError(f"it sets {unsupported[0]}, which is not supported; take it out")
    if p.batch_size < 1:
        raise NetError(f"batch_size is {p.batch_size}, expected at least 1")
    if not crop_size:
        raise NetError("crop_size is 0, expected one: the images of a batch must have one size")
    if not p.source:
        raise NetError("it has no source, expected the list of images and label maps")
    return ImageSegData(
        source=p.source,
        root_folder=p.root_folder,
        batch_size=p.batch_size,
        crop_size=crop_size,
        shuffle=p.shuffle,
        mirror=data_field(layer, "mirror"),
        ignore_label=p.ignore_label,
    )
