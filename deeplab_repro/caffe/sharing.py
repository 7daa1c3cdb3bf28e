"""Weights that layers share because their `param` has the same name."""

from collections.abc import Iterable
from typing import Any

from deeplab_repro.arrays import dims
from deeplab_repro.errors import NetError
from deeplab_repro.net.net import Blob, Layer


def param_names(message: Any) -> list[str]:
    """The names in a layer message's `param`, one for each of its blobs; "" for none."""
    # V1 has the name alone.
    return [each if isinstance(each, str) else each.name for each in message.param]


def share_weights(layers: Iterable[tuple[Layer, Any]]) -> None:
    """Let layers whose messages name a param alike have one blob, that of the first of them.

    Raises NetError for blobs of different shapes.
    """
    named = list(layers)
    for layer, message in named:
        for name, blob in zip(param_names(message), layer.blobs, strict=False):
            blob.name = name
    share_by_name(layer for layer, _ in named)


def share_by_name(layers: Iterable[Layer]) -> None:
    """Let blobs of one name be one blob, the first of them. Raises as `share_weights`."""
    owners: dict[str, tuple[str, Blob]] = {}
    for layer in layers:
        for index, blob in enumerate(layer.blobs):
            owner, shared = (layer.name, blob)
            if blob.name:
                owner, shared = owners.setdefault(blob.name, (layer.name, blob))
            if shared.shape != blob.shape:
                raise NetError(
                    f"layer '{layer.name}' shares param '{blob.name}' with layer '{owner}', but "
                    f"wants {dims(blob.shape)} where that has {dims(shared.shape)}"
                )
            layer.blobs[index] = shared


def share_rates(layers: Iterable[tuple[Layer, Any]]) -> None:
    """Give the first of the layers that share a param the multipliers that any of them names.

    Raises NetError where two of them name different ones, as Caffe does.
    """
    owners: dict[str, Blob] = {}
    named: dict[tuple[str, str], tuple[str, float]] = {}
    for layer, message in layers:
        for index, (name, blob) in enumerate(zip(param_names(message), layer.blobs, strict=False)):
            if not name:
                continue
            owner = owners.setdefault(name, blob)
            for field in _multipliers_given(message, index):
                value = getattr(blob, field)
                other, expected = named.setdefault((name, field), (layer.name, value))
                if value != expected:
                    raise NetError(
                        f"layers '{other}' and '{layer.name}' share param '{name}', but {field} is "
                        f"{expected:g} in one and {value:g} in the other: give both the same"
                    )
                setattr(owner, field, value)


def _multipliers_given(message: Any, index: int) -> list[str]:
    """Which of lr_mult and decay_mult a layer message gives for a blob."""
    if hasattr(message, "blobs_lr"):  # V1
        lists = {"lr_mult": message.blobs_lr, "decay_mult": message.weight_decay}
        return [field for field, values in lists.items() if len(values) > index]
    return [each for each in ("lr_mult", "decay_mult") if message.param[index].HasField(each)]
