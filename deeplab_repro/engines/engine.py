"""What an engine is, and the checks that every engine makes of its input and its output."""

import math
from collections.abc import Collection, Iterable
from typing import Protocol

import numpy as np

from deeplab_repro.arrays import Shape, dims
from deeplab_repro.errors import ArgumentError, NetError, WeightsError
from deeplab_repro.machine.device import PRECISIONS, Device, Precision
from deeplab_repro.net.net import Net


class Engine(Protocol):
    """A net, and the library that runs it. Use one engine per thread.

    name: the library and its version. device: "cpu" or "cuda". precision: of the arithmetic.
    """

    net: Net
    name: str
    device: Device
    precision: Precision

    def build(self) -> None:
        """Do now what the first run would do otherwise."""

    def blobs(self, data: np.ndarray, names: Iterable[str]) -> dict[str, np.ndarray]:
        """Run the net on NxCxHxW float32 (BGR minus mean); the named blobs, float32.

        Of a blob that layers change in place, the last.
        """

    def memory_needed(self, shape: Shape) -> int:
        """About how many bytes it takes to run on images of up to this NxCxHxW."""


def check_precision(precision: str) -> None:
    """Raise ArgumentError unless `precision` is one of Precision."""
    if precision not in PRECISIONS:
        raise ArgumentError(f"precision is '{precision}', expected {' or '.join(PRECISIONS)}")


def check_request(net: Net, made: Collection[str], data: np.ndarray, names: Iterable[str]) -> None:
    """Raise ArgumentError unless `data` is float32 NxCxHxW and all `names` are among `made`."""
    if data.dtype != np.float32 or data.ndim != 4:
        raise ArgumentError(
            f"the input is {data.dtype} of shape {dims(data.shape)}, expected float32 NxCxHxW"
        )
    for name in names:
        if name not in made:
            raise ArgumentError(f"net '{net.name}' makes no blob '{name}'")


def bytes_of_copies(net: Net) -> int:
    """Bytes of the weights where each layer has its own, also of what layers share."""
    return 4 * sum(layer.parameters for layer in net.layers)


def in_shape(blob: np.ndarray, shape: Shape, what: str) -> np.ndarray:
    """A blob in the shape that Caffe gives it: some libraries give it fewer axes.

    what: what made it, for the message. Raises NetError where the number of values differs.
    """
    if blob.size != math.prod(shape):
        raise NetError(f"{what} {dims(blob.shape)}, Caffe {dims(shape)}")
    return blob.reshape(shape)


# Far above any score, so that what exceeds it came of an overflow.
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
