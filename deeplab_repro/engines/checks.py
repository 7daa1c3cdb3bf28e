"""What every engine checks: what it is asked for, and what its library makes of it."""

import math
from collections.abc import Collection, Iterable

import numpy as np

from deeplab_repro.errors import ArgumentError, NetError
from deeplab_repro.layers import Shape, dims
from deeplab_repro.net import Net


def check_request(net: Net, made: Collection[str], data: np.ndarray, names: Iterable[str]) -> None:
    """Raise ArgumentError unless `data` is float32 NxCxHxW and all `names` are among `made`."""
    if data.dtype != np.float32 or data.ndim != 4:
        raise ArgumentError(
            f"the input is {data.dtype} of shape {dims(data.shape)}, expected float32 NxCxHxW"
        )
    for name in names:
        if name not in made:
            raise ArgumentError(f"net '{net.name}' makes no blob '{name}'")


def in_shape(blob: np.ndarray, shape: Shape, what: str) -> np.ndarray:
    """A blob in the shape that Caffe gives it; `what` made it, for the message.

    Raises NetError where it has another number of values. Some libraries give it fewer axes.
    """
    if blob.size != math.prod(shape):
        raise NetError(f"{what} {dims(blob.shape)}, Caffe {dims(shape)}")
    return blob.reshape(shape)
