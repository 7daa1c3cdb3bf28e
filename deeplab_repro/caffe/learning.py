"""What only training needs of a layer, from both dialects and back.

That is, SOFTMAX_LOSS and SEG_ACCURACY; and of other layers the multipliers of rate and decay, and
the fillers.
"""

import math
from collections.abc import Iterator
from typing import Any

from deeplab_repro.caffe import deeplab_pb2
from deeplab_repro.caffe.names import shown
from deeplab_repro.errors import NetError
from deeplab_repro.net.channel_layers import BN, BatchNorm, Bias, PReLU, Scale
from deeplab_repro.net.layers import (
    Convolution,
    Deconvolution,
    InnerProduct,
    LayerType,
    SegAccuracy,
    SoftmaxLoss,
)
from deeplab_repro.net.net import Filler, Layer

# Their names in V1 and in the current format. Upstream has no SegAccuracy, but forks of it do.
SOFTMAX_LOSS = ("SOFTMAX_LOSS", "SoftmaxWithLoss")
SEG_ACCURACY = ("SEG_ACCURACY", "SegAccuracy")

_FILLERS = (
    *("constant", "gaussian", "uniform", "xavier", "msra", "bilinear"),
    "positive_unitball",
)
_NUMBERS = ("value", "mean", "std", "min", "max")  # of a filler
_DEFAULT = Filler()
# Where a layer type has the fillers of its blobs.
_WEIGHT_AND_BIAS = {"weight": "weight_filler", "bias": "bias_filler"}
_FILLED: dict[type[LayerType], tuple[str, dict[str, str]]] = {
    BN: ("bn_param", {"slope": "slope_filler", "bias": "bias_filler"}),
    Bias: ("bias_param", {"bias": "filler"}),
    Convolution: ("convolution_param", _WEIGHT_AND_BIAS),
    Deconvolution: ("convolution_param", _WEIGHT_AND_BIAS),
    InnerProduct: ("inner_product_param", _WEIGHT_AND_BIAS),
    PReLU: ("prelu_param", {"slope": "filler"}),
    Scale: ("scale_param", {"weight": "filler", "bias": "bias_filler"}),
}


def read_learning(layer: Layer, message: Any) -> None:
    """Set how the layer's blobs learn. Raises NetError, without the layer's name."""
    _read_multipliers(layer, message)
    for blob, (place, field, default) in zip(layer.blobs, _fillers(layer, message), strict=False):
        blob.filler = default
        if field and place.HasField(field):
            blob.filler = _read_filler(getattr(place, field), field)


def read_bilinear(layer: Layer, message: Any) -> None:
    """Set the fillers of a layer of bilinear kernels, which a caffemodel may lack.

    Raises NetError, without the layer's name.
    """
    if isinstance(layer.op, Convolution | Deconvolution):
        parameters = message.convolution_param
        if parameters.weight_filler.type == "bilinear":
            names = ("weight_filler", "bias_filler")
            for blob, name in zip(layer.blobs, names, strict=False):
                blob.filler = _read_filler(getattr(parameters, name), name)


def write_learning(layer: Layer, message: Any) -> None:
    """Set a layer message's multipliers and fillers where they are not Caffe's, and param names."""
    rates = [blob.lr_mult for blob in layer.blobs]
    decays = [blob.decay_mult for blob in layer.blobs]
    names = [blob.name for blob in layer.blobs]
    learns_otherwise = bool({*rates, *decays} - {1.0})
    if not _is_v1(message):
        if learns_otherwise or any(names):
            for blob in layer.blobs:
                param = message.param.add()
                if blob.name:
                    param.name = blob.name
                if learns_otherwise:
                    param.lr_mult, param.decay_mult = blob.lr_mult, blob.decay_mult
    else:
        message.param.extend(names if any(names) else [])
        message.blobs_lr.extend(rates if set(rates) - {1.0} else [])
        message.weight_decay.extend(decays if set(decays) - {1.0} else [])
    for blob, (place, field, default) in zip(layer.blobs, _fillers(layer, message), strict=False):
        if field and blob.filler != default:
            _write_filler(blob.filler, getattr(place, field))


def _is_v1(message: Any) -> bool:
    return isinstance(message, deeplab_pb2.LayerParameter)


def _fillers(layer: Layer, message: Any) -> Iterator[tuple[Any, str, Filler]]:
    """For each blob the message and the field of its filler, "" for none, and Caffe's default."""
    place, fields = _FILLED.get(type(layer.op), ("", {}))
    for name in layer.blob_names:
        default = Filler(value=layer.op.starts_at.get(name, 0.0))
        yield getattr(message, place, None), fields.get(name, ""), default


def _read_multipliers(layer: Layer, message: Any) -> None:
    count = len(layer.blobs)
    if _is_v1(message):
        given = {"blobs_lr": list(message.blobs_lr), "weight_decay": list(message.weight_decay)}
        for name, values in given.items():
            if len(values) not in (0, count):
                raise NetError(f"{len(values)} {name} for {count} blobs, expected as many or none")
        rates, decays = given.values()
    else:
        if len(message.param) > count:
            raise NetError(
                f"{len(message.param)} param for {count} blobs, expected at most {count}"
            )
        if isinstance(layer.op, BatchNorm):
            _check_statistics(message)
        rates = [parameter.lr_mult for parameter in message.param]
        decays = [parameter.decay_mult for parameter in message.param]
        given = {"lr_mult": rates, "decay_mult": decays}
    for name, values in given.items():
        for value in values:
            if not 0 <= value < math.inf:
                raise NetError(f"{name} is {value:g}, expected a number from 0")
    if isinstance(layer.op, BatchNorm):
        rates = [0.0] * count
    for blob, rate in zip(layer.blobs, rates, strict=False):
        blob.lr_mult = rate
    for blob, decay in zip(layer.blobs, decays, strict=False):
        blob.decay_mult = decay


def _check_statistics(message: Any) -> None:
    """Refuse to learn statistics, as Caffe does."""
    rates = [each.lr_mult for each in message.param if each.HasField("lr_mult")]
    if any(rates):
        raise NetError(f"lr_mult is {max(rates):g}, expected 0: its blobs are statistics")


def _read_filler(message: Any, name: str) -> Filler:
    if message.type not in _FILLERS:
        raise NetError(
            f"{name} has type {shown(message.type)}, expected one of {', '.join(_FILLERS)}"
        )
    numbers = {field: getattr(message, field) for field in _NUMBERS}
    for field, value in numbers.items():
        if not math.isfinite(value):
            raise NetError(f"{name} has {field} {value}, expected a finite number")
    if message.type == "gaussian" and message.std <= 0:
        raise NetError(f"{name} has std {message.std:g}, expected one above 0")
    if message.type == "uniform" and message.min > message.max:
        raise NetError(
            f"{name} has min {message.min:g} and max {message.max:g}, expected min <= max"
        )
    if message.sparse >= 0:
        raise NetError(f"{name} has sparse {message.sparse}, which is not supported; take it out")
    if getattr(message, "variance_norm", 0):
        raise NetError(f"{name} has a variance_norm that is not supported; expected FAN_IN")
    return Filler(message.type, **numbers)


def _write_filler(filler: Filler, message: Any) -> None:
    message.type = filler.type
    for name in _NUMBERS:
        value = getattr(filler, name)
        if value != getattr(_DEFAULT, name):
            setattr(message, name, value)


# --- the loss and the accuracy


def read_softmax_loss(message: Any) -> SoftmaxLoss:
    """A loss over the valid pixels; NetError for class weights and other normalisations."""
    p, upstream = message.softmaxloss_param, message.loss_param
    if p.weight_source:
        raise NetError(
            "it has a weight_source, which is not supported; take it out to weigh all classes alike"
        )
    if upstream.HasField("normalize") and not upstream.normalize:
        raise NetError("normalize is false, which is not supported; expected true")
    if upstream.normalization != upstream.VALID:
        mode = upstream.NormalizationMode.Name(upstream.normalization)
        raise NetError(f"normalization is {mode}, which is not supported; expected VALID")
    if getattr(message.softmax_param, "axis", 1) != 1:
        raise NetError(f"axis is {message.softmax_param.axis}, expected 1 (the channels)")
    ignored = [*p.ignore_label]
    if upstream.HasField("ignore_label"):
        ignored.append(upstream.ignore_label)
    weight = message.loss_weight[0] if message.loss_weight else 1.0
    if not math.isfinite(weight):
        raise NetError(f"loss_weight is {weight}, expected a finite number")
    return SoftmaxLoss(tuple(dict.fromkeys(ignored)), weight)


def read_seg_accuracy(message: Any) -> SegAccuracy:
    """The accuracies of the scores, over the pixels that are not ignored."""
    return SegAccuracy(tuple(message.seg_accuracy_param.ignore_label))


def write_softmax_loss(op: SoftmaxLoss, message: Any) -> None:
    """Set the parameters of a loss's message."""
    # Upstream's parameter holds one label; for more there is the authors' own.
    current = "propagate_down" in message.DESCRIPTOR.fields_by_name
    if current and len(op.ignore_label) == 1:
        message.loss_param.ignore_label = op.ignore_label[0]
    elif op.ignore_label:
        message.softmaxloss_param.ignore_label.extend(op.ignore_label)
    if op.loss_weight != 1:
        message.loss_weight.append(op.loss_weight)


def write_seg_accuracy(op: SegAccuracy, message: Any) -> None:
    """Set the parameters of an accuracy's message."""
    message.seg_accuracy_param.ignore_label.extend(op.ignore_label)
