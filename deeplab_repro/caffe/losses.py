"""The layers that only training has: SOFTMAX_LOSS and SEG_ACCURACY, from both dialects and back."""

import math
from typing import Any

from deeplab_repro.errors import NetError
from deeplab_repro.net.layers import SegAccuracy, SoftmaxLoss

# Their names in V1 and in the current format. Upstream has no SegAccuracy, but forks of it do.
SOFTMAX_LOSS = ("SOFTMAX_LOSS", "SoftmaxWithLoss")
SEG_ACCURACY = ("SEG_ACCURACY", "SegAccuracy")


def read_softmax_loss(message: Any) -> SoftmaxLoss:
    """A loss over the valid pixels; NetError for weights of classes and other normalisations."""
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
    # Upstream ignores one label only; more of them take the authors' own parameter.
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
