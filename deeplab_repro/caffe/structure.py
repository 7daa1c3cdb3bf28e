"""Between the messages of both dialects and the Net: which layers run, and in which order."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from deeplab_repro.caffe import bvlc_pb2, deeplab_pb2
from deeplab_repro.caffe.names import is_plain_name, shown
from deeplab_repro.caffe.parameters import V1_TYPES, read_parameters, runs, write_parameters
from deeplab_repro.errors import NetError
from deeplab_repro.layers import Shape, Split, dims
from deeplab_repro.net import DenseCrfParameter, Layer, Net

# What a net that names no size gets: the crop of the released nets.
_CROP = 513
_DATA_TYPES = {
    *("DATA", "IMAGE_DATA", "MEMORY_DATA", "HDF5_DATA", "WINDOW_DATA", "IMAGE_SEG_DATA"),
    *("Data", "ImageData", "MemoryData", "HDF5Data", "WindowData", "ImageSegData"),
}
# What training and testing add around the net, and what only looks at its results.
_ASIDE_TYPES = {
    *("SOFTMAX_LOSS", "SEG_ACCURACY", "ACCURACY", "SILENCE", "MAT_READ", "MAT_WRITE", "DENSE_CRF"),
    *("EUCLIDEAN_LOSS", "HINGE_LOSS", "INFOGAIN_LOSS", "SIGMOID_CROSS_ENTROPY_LOSS"),
    *("MULTINOMIAL_LOGISTIC_LOSS", "CONTRASTIVE_LOSS", "HDF5_OUTPUT", "ARGMAX"),
    *("HISTOGRAM", "RELATIVE_ERROR", "UNIQUE_LABEL", "CENSOR_LABEL", "IGNORE_OVERLAY"),
    *("SoftmaxWithLoss", "SegAccuracy", "Accuracy", "Silence", "MatRead", "MatWrite", "DenseCRF"),
    *("EuclideanLoss", "HingeLoss", "InfogainLoss", "SigmoidCrossEntropyLoss"),
    *("MultinomialLogisticLoss", "ContrastiveLoss", "HDF5Output", "ArgMax"),
}
_LEARNING_TYPES = {"CONVOLUTION", "Convolution", "INNER_PRODUCT", "InnerProduct"}
_AUTHORS_PARAMETERS = {
    *("seg_accuracy_param", "interp_param", "softmaxloss_param", "padding_param"),
    *("mat_write_param", "mat_read_param", "dense_crf_param", "strict_dim"),
}


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
            layer.type >= deeplab_pb2.LayerParameter.IMAGE_SEG_DATA
            or parameters & _AUTHORS_PARAMETERS
            or holes & {"hole", "hole_h", "hole_w"}
        ):
            return "DeepLab v1"
    return "Caffe V1"


def net_from_message(message: Any) -> Net:
    """The TEST view of a net: from one image to its scores.

    Data layers become the input, of one image; losses, accuracies, SILENCE and MAT_WRITE fall away,
    and so does what takes labels only, or takes labels and does not run here. DENSE_CRF is kept as
    parameters. Raises NetError.
    """
    current = isinstance(message, bvlc_pb2.NetParameter)
    everything = list(message.layer if current else message.layers)
    _check_names(message, everything)
    included = [layer for layer in everything if _is_included(layer, message.state)]
    data_layers = [layer for layer in included if layer_type(layer) in _DATA_TYPES]
    # A training file tested without a data layer of its own takes its image as in training.
    data_layers = data_layers or [x for x in everything if layer_type(x) in _DATA_TYPES]
    inputs = _inputs(message, included, data_layers)
    (image, input_shape), *others = inputs.items()

    aside = {name for name, _ in others}
    aside.update(top for layer in data_layers for top in layer.top if top != image)
    made = {image}
    dense_crf = None
    layers = []
    for layer in included:
        kind = layer_type(layer)
        if kind in _DATA_TYPES or kind == "Input":
            continue
        if kind == "DENSE_CRF":
            dense_crf = _dense_crf(layer.dense_crf_param)
        takes = [bottom for bottom in layer.bottom if bottom in aside]
        only_labels = takes and len(takes) == len(layer.bottom) and kind not in _LEARNING_TYPES
        if kind in _ASIDE_TYPES or only_labels or (takes and not runs(kind)):
            aside.update(top for top in layer.top if top not in made)
            continue
        if takes:
            raise NetError(
                f"layer '{layer.name}' ({kind}) takes '{takes[0]}', which is there in training only"
            )
        op = read_parameters(layer, kind)
        if len(layer.top) != 1 and not (isinstance(op, Split) and layer.top):
            raise NetError(f"layer '{layer.name}' ({kind}) has {len(layer.top)} tops, expected 1")
        made.update(layer.top)
        layers.append(
            Layer(layer.name, op, tuple(layer.bottom), tuple(layer.top), [], layer.strict_dim)
        )
    means = [list(layer.transform_param.mean_value) for layer in data_layers]
    mean = means[0] if means and len(means[0]) == 3 else None
    net = Net(
        name=message.name,
        input=image,
        input_shape=input_shape,
        layers=layers,
        dialect=dialect_of(everything),
        mean_bgr=(mean[0], mean[1], mean[2]) if mean else None,
        dense_crf=dense_crf,
    )
    for name, count in Counter(layer.name for layer in net.layers if layer.blobs).items():
        if count > 1:
            raise NetError(f"two layers with weights are named '{name}', expected different names")
    return net


def _check_names(message: Any, layers: list[Any]) -> None:
    """Refuse names that messages cannot show, and names in which a ${VARIABLE} was left."""
    kinds = [layer_type(layer) for layer in layers]
    tops = [name for layer in layers for name in (layer.name, *layer.bottom, *layer.top)]
    for name in (message.name, *kinds, *message.input, *tops):
        if not is_plain_name(name):
            raise NetError(f"a name is {shown(name)}, expected a short one that can be printed")
    for name in (*message.input, *tops):
        variable = re.search(r"\$\{([^}]*)\}?", name)
        if variable:
            raise NetError(
                f"the name '{name}' holds the variable {variable[0]} without a value: "
                f"give one with --set {variable[1]}=VALUE"
            )


def _is_included(layer: Any, state: Any) -> bool:
    """Whether Caffe would build the layer in the TEST phase, by its include and exclude rules."""

    def met(rule: Any) -> bool:
        return (
            (not rule.HasField("phase") or rule.phase == deeplab_pb2.TEST)
            and (not rule.HasField("min_level") or state.level >= rule.min_level)
            and (not rule.HasField("max_level") or state.level <= rule.max_level)
            and set(rule.stage) <= set(state.stage)
            and not set(rule.not_stage) & set(state.stage)
        )

    if layer.include:
        return any(map(met, layer.include))
    return not any(map(met, layer.exclude))


def _inputs(message: Any, layers: list[Any], data_layers: list[Any]) -> dict[str, Shape]:
    """The net's inputs and their shapes, the image first."""
    names = list(message.input)
    shapes: list[Shape] = []
    if isinstance(message, bvlc_pb2.NetParameter):
        shapes = [tuple(shape.dim) for shape in message.input_shape]
        for layer in layers:
            if layer.type == "Input":
                names += layer.top
                shapes += [tuple(shape.dim) for shape in layer.input_param.shape]
    flat = list(message.input_dim)
    if not shapes:
        shapes = [tuple(flat[i : i + 4]) for i in range(0, len(flat), 4)]
    if names:
        if len(shapes) == 1:
            shapes *= len(names)
        if len(shapes) != len(names) or any(len(shape) != 4 for shape in shapes):
            found = ", ".join(map(dims, shapes)) or "no dims"
            raise NetError(
                f"input '{names[0]}' has {found}, expected 4 input_dim (NxCxHxW) for each of "
                f"{len(names)} inputs"
            )
        return dict(zip(names, shapes, strict=True))
    if not data_layers or not data_layers[0].top:
        raise NetError("the net has no input, expected 'input' with 4 'input_dim' or a data layer")
    image, *labels = data_layers[0].top
    # The shapes of the labels do not matter: nothing that takes them is run.
    return {image: _data_shape(data_layers[0]), **dict.fromkeys(labels, ())}


def _data_shape(layer: Any) -> Shape:
    if layer.HasField("memory_data_param"):
        memory = layer.memory_data_param
        return (1, memory.channels, memory.height, memory.width)
    crop = layer.transform_param.crop_size
    for parameters in (layer.image_data_param, layer.data_param):
        crop = crop or parameters.crop_size
    size = layer.image_data_param
    if not crop and size.new_height and size.new_width:
        return (1, 3, size.new_height, size.new_width)
    return (1, 3, crop or _CROP, crop or _CROP)


def _dense_crf(parameters: Any) -> DenseCrfParameter:
    return DenseCrfParameter(
        parameters.max_iter,
        *(
            tuple(getattr(parameters, name))
            for name in ("pos_xy_std", "pos_w", "bi_xy_std", "bi_rgb_std", "bi_w")
        ),
    )


def net_to_message(net: Net, current: bool) -> Any:
    """The net as a message, without weights: current format, or V1 in the authors' dialect."""
    if current:
        message: Any = bvlc_pb2.NetParameter(name=net.name)
        layer = message.layer.add(name=net.input, type="Input", top=[net.input])
        layer.input_param.shape.add(dim=net.input_shape)
    else:
        message = deeplab_pb2.NetParameter(
            name=net.name, input=[net.input], input_dim=net.input_shape
        )
    for layer in net.layers:
        out = (message.layer if current else message.layers).add(
            name=layer.name, bottom=layer.bottoms, top=layer.tops
        )
        out.type = layer.type if current else _TYPES_IN_V1[layer.type]
        write_parameters(layer, out)
        if not layer.strict_dim:
            out.strict_dim = False
    return message


_TYPES_IN_V1 = {
    current: getattr(deeplab_pb2.LayerParameter, v1) for v1, current in V1_TYPES.items()
}
