"""Caffe's blobs while a net is trained: values, and the gradient of the loss by them."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]


@dataclass
class Value:
    """What flows between layers: data and diff, both NxCxHxW float32.

    diff is the loss's gradient by the data, into which every layer that takes the data adds its
    part; None where nothing before needs it.
    """

    data: F32
    diff: F32 | None = None


@dataclass
class Parameter:
    """A learnable blob of a layer: data and diff, of one shape, and its own rates.

    Where lr_mult is 0, diff stays 0.
    """

    data: F32
    diff: F32
    lr_mult: float
    decay_mult: float


class Memory:
    """Memory that is used again and again, for arrays of different shapes.

    Taken anew each time it would come as empty pages, and to have these filled takes longer than to
    fill the array.
    """

    def __init__(self) -> None:
        self._floats = np.empty(0, np.float32)

    def of(self, *shape: int) -> F32:
        """An array with whatever values, there until the next is asked for."""
        size = math.prod(shape)
        if self._floats.size < size:
            self._floats = np.empty(size, np.float32)
        return self._floats[:size].reshape(shape)
