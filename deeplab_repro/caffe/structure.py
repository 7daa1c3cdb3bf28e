"""Reads a prototxt as the net that Caffe runs to test: which layers run, and in which order."""

import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from deeplab_repro.arrays import Shape, dims
from deeplab_repro.caffe import bvlc_pb2, deeplab_pb2
from deeplab_repro.caffe.learning import read_bilinear
from deeplab_repro.caffe.names import is_plain_name, shown
from deeplab_repro.caffe.parameters import do_not_run, read_parameters, runs
from deeplab_repro.caffe.preprocessing import data_shape, names_size, read_preprocessing
from deeplab_repro.caffe.prototxt import parse_prototxt
from deeplab_repro.caffe.sharing import share_weights
from deeplab_repro.errors import NetError, one_line
from deeplab_repro.net.alignment import aligning_offset
from deeplab_repro.net.layers import Concat, axis_of
from deeplab_repro.net.net import Layer, Net
from deeplab_repro.net.other_layers import DenseCrfParameter
from deeplab_repro.net.preprocess import Preprocessing
from deeplab_repro.net.shape_layers import ArgMax, Crop, Slice

_log = logging.getLogger(__name__)

_LARGEST_SIZE = 2**31 - 1
DATA_TYPES = {
    *("DATA", "IMAGE_DATA", "MEMORY_DATA", "HDF5_DATA", "WINDOW_DATA", "IMAGE_SEG_DATA"),
    *("Data", "ImageData", "MemoryData", "HDF5Data", "WindowData", "ImageSegData"),
}
# Those that are handed images by a program.
_HANDED_TYPES = {"MEMORY_DATA", "MemoryData", "Input"}
_LOSS_TYPES = {
    *("SOFTMAX_LOSS", "EUCLIDEAN_LOSS", "HINGE_LOSS", "INFOGAIN_LOSS", "CONTRASTIVE_LOSS"),
    *("SIGMOID_CROSS_ENTROPY_LOSS", "MULTINOMIAL_LOGISTIC_LOSS"),
    *("SoftmaxWithLoss", "EuclideanLoss", "HingeLoss", "InfogainLoss", "ContrastiveLoss"),
    *("SigmoidCrossEntropyLoss", "MultinomialLogisticLoss"),
}
# Layers around the net that only look at its results, or at labels.
ASIDE_TYPES = {
    *("SEG_ACCURACY", "ACCURACY", "SILENCE", "MAT_READ", "MAT_WRITE", "DENSE_CRF"),
    *("HDF5_OUTPUT", "ARGMAX", "HISTOGRAM", "RELATIVE_ERROR"),
    *("UNIQUE_LABEL", "CENSOR_LABEL", "IGNORE_OVERLAY"),
    *("SegAccuracy", "Accuracy", "Silence", "MatRead", "MatWrite", "DenseCRF"),
    *("HDF5Output", "ArgMax"),
}
_LEARNING_TYPES = {
    *("CONVOLUTION", "DECONVOLUTION", "INNER_PRODUCT"),
    *("Convolution", "Deconvolution", "InnerProduct"),
}
_AUTHORS_PARAMETERS = {
    *("seg_accuracy_param", "interp_param", "softmaxloss_param", "padding_param"),
    *("mat_write_param", "mat_read_param", "dense_crf_param", "strict_dim"),
}


def read_net(path: str | Path, variables: Mapping[str, str] | None = None) -> Net:
    """Read a prototxt of either dialect as the net that Caffe would run in its TEST phase.

    `variables` replace ${NAME} in the text, besides EXP=voc12 and NUM_LABELS=21. The net has shapes
    but no weights yet: see `load_weights`. Raises FileError, FormatError (with line and column) and
    NetError.
    """
    message = parse_prototxt(path, variables)
    try:
        return _test_net(message)
    except NetError as error:
        raise NetError(f"{one_line(path)}: {error}") from None


def layer_type(message: Any) -> str:
    """A layer's type as its dialect spells it: CONVOLUTION (V1) or Convolution."""
    if isinstance(message, deeplab_pb2.LayerParameter):
        return deeplab_pb2.LayerParameter.LayerType.Name(message.type)
    return message.type


def dialect_of(layers: Sequence[Any]) -> str:
    """Which format these layer messages are written in.

    "Caffe" is the current one, "Caffe V1" what the authors share with BVLC's of 2014, and
    "DeepLab v1" what only the authors' has: hole, INTERP, PADDING, strict_dim, ...
    """
    if isinstance(layers[0], bvlc_pb2.LayerParameter):
        return "Caffe"
    for layer in layers:
        parameters = {descriptor.name for descriptor, _ in layer.ListFields()}
        holes = {descriptor.name for descriptor, _ in layer.convolution_param.ListFields()}
        if (
            layer.IMAGE_SEG_DATA <= layer.type <= layer.ONEHOT
            or parameters & _AUTHORS_PARAMETERS
            or holes & {"hole", "hole_h", "hole_w"}
        ):
            return "DeepLab v1"
    return "Caffe V1"


def _test_net(message: Any) -> Net:
    """The TEST view of a net: from one image to its scores.

    Data layers become the input, of one image. Losses, accuracies, SILENCE and MAT_WRITE are left
    out, and so are layers that take labels only, or take labels and do not run here. DENSE_CRF is
    kept as parameters. Raises NetError.
    """
    everything = layers_of(message)
    included = included_layers(everything, message.state, bvlc_pb2.TEST)
    # A training file without a data layer for TEST takes its image as in training.
    data_layers = list(filter(_brings_data, included)) or list(filter(_brings_data, everything))
    inputs = _inputs(message, included, data_layers)
    check_sizes(inputs)
    (image, input_shape), *others = inputs.items()

    why_aside = {name: "a second input, and nets of several do not run here" for name, _ in others}
    labels = (top for layer in data_layers for top in layer.top if top != image)
    why_aside.update(dict.fromkeys(labels, "which only training has"))
    kept = _layers_that_run(included, image, why_aside)
    crfs = [layer for layer in included if layer_type(layer) in ("DENSE_CRF", "DenseCRF")]
    # Our own files have it on the image's Input layer, where Caffe does not look at it.
    named = [layer for layer in included if layer_type(layer) == "Input" and image in layer.top]
    bringing = [*named, *data_layers]
    preprocessing = preprocessing_of(bringing[0]) if bringing else None
    if data_layers and layer_type(data_layers[0]) not in DATA_TYPES:
        _log.warning(
            "layer '%s' has type '%s', a fork's, and is read as ImageData: see that this is right",
            *(data_layers[0].name, layer_type(data_layers[0])),
        )
    try:
        net = Net(
            name=message.name,
            input=image,
            input_shape=input_shape,
            layers=[layer for layer, _ in kept],
            dialect=dialect_of(everything),
            preprocessing=preprocessing,
            dense_crf=_dense_crf(crfs[-1].dense_crf_param) if crfs else None,
        )
    except NetError as error:
        if not data_layers or names_size(data_layers[0]):
            raise
        raise NetError(
            f"{error} (at {dims(input_shape[2:])}, as the file names no size: write "
            f"input: \"{image}\" and four input_dim in place of layer '{data_layers[0].name}')"
        ) from None
    check_learners(net)
    _align_crops(kept)
    for layer, bottoms, _ in net.walk():
        if isinstance(layer.op, Concat | Slice):  # V1 has no axis below 0
            layer.op = replace(layer.op, axis=axis_of(layer.op.axis, bottoms[0]))
    for layer, layer_message in kept:
        try:
            read_bilinear(layer, layer_message)
        except NetError as error:
            raise NetError(f"layer '{layer.name}' ({layer.type}): {error}") from None
    share_weights(kept)
    return net


def _brings_data(layer: Any) -> bool:
    """Whether it is a data layer: one of Caffe's, or a fork's that is described as these are."""
    kind = layer_type(layer)
    described = layer.HasField("image_data_param") or layer.HasField("transform_param")
    return kind in DATA_TYPES or (kind.endswith("Data") and described and not layer.bottom)


def _align_crops(kept: Sequence[tuple[Layer, Any]]) -> None:
    """Find the offsets of V1's crops, which name none, and tell of current ones that lack one."""
    for number, (layer, message) in enumerate(kept):
        if not isinstance(layer.op, Crop) or layer.op.offset:
            continue
        is_v1 = isinstance(message, deeplab_pb2.LayerParameter)
        try:
            offset = aligning_offset([each for each, _ in kept[:number]], layer)
        except NetError as error:
            if is_v1:
                raise NetError(f"layer '{layer.name}' (CROP): {error}") from None
            continue
        if is_v1:
            layer.op = replace(layer.op, offset=offset)
        elif layer.op.axis == 2 and any(offset):
            _log.warning(
                "layer '%s' (Crop) names no offset, so it begins at 0, as in current Caffe; in "
                "forks of 2015 it began at %s: if the net is of these, write crop_param { offset: "
                "%d }",
                *(layer.name, dims(offset), offset[0]),
            )


def _layers_that_run(
    included: Sequence[Any], image: str, why_aside: dict[str, str]
) -> list[tuple[Layer, Any]]:
    """The layers that lead from the image to its scores, each with its message.

    why_aside: what is known of blobs that do not come from the image alone; it is added to. Raises
    NetError.
    """
    made, kept = {image}, []
    lacking: dict[str, str] = {}  # types that do not run here, and their first layer
    for layer in included:
        kind = layer_type(layer)
        if _brings_data(layer) or kind == "Input":
            continue
        takes = [bottom for bottom in layer.bottom if bottom in why_aside]
        is_aside = kind in ASIDE_TYPES | _LOSS_TYPES and kind not in ("ARGMAX", "ArgMax")
        only_labels = takes and len(takes) == len(layer.bottom) and kind not in _LEARNING_TYPES
        if is_aside or only_labels or (takes and not runs(kind)):
            why = f"of layer '{layer.name}' ({kind}), which is left out here"
            why = why_aside[takes[0]] if only_labels and not is_aside else why
            why_aside.update((top, why) for top in layer.top if top not in made)
            continue
        if takes:
            raise NetError(
                f"layer '{layer.name}' ({kind}) takes '{takes[0]}', {why_aside[takes[0]]}"
            )
        made.update(layer.top)
        if not runs(kind):
            lacking.setdefault(kind, layer.name)
            continue
        op = read_parameters(layer, kind)
        if len(layer.top) != 1 and not (op.several_tops and layer.top):
            raise NetError(f"layer '{layer.name}' ({kind}) has {len(layer.top)} tops, expected 1")
        names = tuple(layer.bottom), tuple(layer.top)
        kept.append((Layer(layer.name, op, *names, [], layer.strict_dim), layer))
    if lacking:
        raise NetError(do_not_run(lacking))
    # The scores are the output, not the labels that an ArgMax makes of them for no other layer.
    taken = {bottom for layer, _ in kept for bottom in layer.bottoms}
    return [
        (layer, message)
        for layer, message in kept
        if not isinstance(layer.op, ArgMax) or taken.intersection(layer.tops)
    ]


def layers_of(message: Any) -> list[Any]:
    """The layer messages of a net of either dialect, their names checked."""
    current = isinstance(message, bvlc_pb2.NetParameter)
    layers = list(message.layer if current else message.layers)
    _check_names(message, layers)
    return layers


def check_sizes(inputs: Mapping[str, Shape]) -> None:
    """Refuse sizes that Caffe's own arithmetic, and V1's input_dim, cannot hold."""
    for name, shape in inputs.items():
        if any(size > _LARGEST_SIZE for size in shape):
            raise NetError(
                f"input '{name}' has shape {dims(shape)}, expected sizes up to {_LARGEST_SIZE}"
            )


def check_learners(net: Net) -> None:
    """Refuse two layers with weights of one name: weights are matched by it."""
    for name, count in Counter(layer.name for layer in net.layers if layer.blobs).items():
        if count > 1:
            raise NetError(f"two layers with weights are named '{name}', expected different names")


def _check_names(message: Any, layers: list[Any]) -> None:
    """Refuse names that messages cannot show or that tops share, and ${VARIABLES} left in them."""
    kinds = [layer_type(layer) for layer in layers]
    tops = [name for layer in layers for name in (layer.name, *layer.bottom, *layer.top)]
    for name in (message.name, *kinds, *message.input, *tops):
        if not is_plain_name(name):
            raise NetError(f"a name is {shown(name)}, expected a short one that can be printed")
    for layer in layers:
        if len(set(layer.top)) < len(layer.top):
            raise NetError(
                f"layer '{layer.name}' has two tops of one name, expected different ones"
            )
    for name in (*message.input, *tops):
        variable = re.search(r"\$\{([^}]*)\}?", name)
        if variable:
            raise NetError(
                f"the name '{name}' holds the variable {variable[0]} without a value: "
                f"give one with --set {variable[1]}=VALUE"
            )


def included_layers(layers: Sequence[Any], state: Any, phase: int) -> list[Any]:
    """The layers that Caffe would build in the phase, by their include and exclude rules.

    The phases, TRAIN and TEST, have the same numbers in both dialects.
    """
    stages = set(state.stage)

    def met(rule: Any) -> bool:
        return (
            (not rule.HasField("phase") or rule.phase == phase)
            and (not rule.HasField("min_level") or state.level >= rule.min_level)
            and (not rule.HasField("max_level") or state.level <= rule.max_level)
            and stages.issuperset(rule.stage)
            and stages.isdisjoint(rule.not_stage)
        )

    def is_included(layer: Any) -> bool:
        if layer.include:
            return any(map(met, layer.include))
        return not any(map(met, layer.exclude))

    return list(filter(is_included, layers))


def _inputs(message: Any, layers: list[Any], data_layers: list[Any]) -> dict[str, Shape]:
    """The net's inputs and their shapes, the image first."""
    inputs = declared_inputs(message, layers)
    if inputs:
        return inputs
    if not data_layers or not data_layers[0].top:
        raise NetError(_no_input(layers))
    image, *labels = data_layers[0].top
    # The shapes of the labels do not matter: nothing that takes them is run.
    return {image: data_shape(data_layers[0]), **dict.fromkeys(labels, ())}


def _no_input(layers: list[Any]) -> str:
    bringing = [layer for layer in layers if layer.top and not layer.bottom]
    if not bringing:
        return "the net has no input, expected 'input' with 4 'input_dim' or a data layer"
    layer = bringing[0]
    image = layer.top[0]
    return (
        f"layer '{layer.name}' ({layer_type(layer)}) brings the net's input, and does not run here:"
        f' write input: "{image}" and four input_dim in its place'
    )


def declared_inputs(message: Any, layers: list[Any]) -> dict[str, Shape]:
    """The inputs that the net names with their shapes, in order; none where a layer brings them."""
    names = list(message.input)
    shapes: list[Shape] = [tuple(shape.dim) for shape in message.input_shape]
    if isinstance(message, bvlc_pb2.NetParameter):
        for layer in layers:
            if layer.type == "Input":
                names += layer.top
                shapes += [tuple(shape.dim) for shape in layer.input_param.shape]
    flat = list(message.input_dim)
    if not shapes:
        shapes = [tuple(flat[i : i + 4]) for i in range(0, len(flat), 4)]
    if not names:
        return {}
    if len(set(names)) < len(names):
        raise NetError("two inputs have one name, expected different ones")
    if len(shapes) == 1:
        shapes *= len(names)
    if len(shapes) != len(names) or any(len(shape) != 4 for shape in shapes):
        found = ", ".join(map(dims, shapes[:5])) or "no dims"
        raise NetError(
            f"input '{names[0]}' has {found}, expected 4 input_dim (NxCxHxW) for each of "
            f"{len(names)} inputs"
        )
    return dict(zip(names, shapes, strict=True))


def preprocessing_of(layer: Any) -> Preprocessing | None:
    """What a layer that brings images makes of them; None where it does not say."""
    kind = layer_type(layer)
    try:
        return read_preprocessing(layer, reads_files=kind not in _HANDED_TYPES)
    except NetError as error:
        raise NetError(f"layer '{layer.name}' ({kind}): {error}") from None


def _dense_crf(parameters: Any) -> DenseCrfParameter:
    return DenseCrfParameter(
        parameters.max_iter,
        *(
            tuple(getattr(parameters, name))
            for name in ("pos_xy_std", "pos_w", "bi_xy_std", "bi_rgb_std", "bi_w")
        ),
    )
