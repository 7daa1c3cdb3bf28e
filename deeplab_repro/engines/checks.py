"""What every engine checks: what it is asked for, and what its library makes of it."""

import math
from collections.abc import Collection, Iterable

import numpy as np

from deeplab_repro.arrays import Shape, dims
from deeplab_repro.errors import ArgumentError, NetError, WeightsError
from deeplab_repro.net.net import Net
from deeplab_repro.net.scores import Precision


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


# Beyond any score that float32 arithmetic comes back from.
_ENDLESS = 1e30


def check_finite(net: Net, values: np.ndarray, precision: Precision = "float32") -> None:
    """Raise an error where values that a net gave are NaN or infinite.

    That is WeightsError in float32, and ArgumentError in float16, whose range may be the reason.
    """
    # Never true with NaN. OpenCV 5 makes the largest float32 of what is NaN or infinite.
    if not -_ENDLESS < values.min(initial=0) <= values.max(initial=0) < _ENDLESS:
        if precision == "float16":
            raise ArgumentError(
                f"net '{net.name}' gives scores that are NaN or infinite in float16, whose range "
                "ends at 65504: use --precision float32"
            )
        raise WeightsError(
            f"net '{net.name}' gives scores that are NaN or infinite: its weights are broken, get "
            "them again"
        )
