"""Caffe's blobs while a net is trained: values, and the loss's gradient with respect to them."""

import math
import threading
from dataclasses import dataclass

import numpy as np

from deeplab_repro.arrays import F32, in_brief


@dataclass(eq=False)
class Value:
    """A blob between layers: data and diff, both NxCxHxW float32.

    diff is the loss's gradient with respect to the data. Every layer that takes the data adds its
    part. None where no layer before needs it.
    """

    data: F32
    diff: F32 | None = None

    __repr__ = in_brief


@dataclass(eq=False)
class Parameter:
    """A layer's weights or biases: data and their gradient diff, of one shape, and its own rates.

    Where lr_mult is 0, diff stays 0.
    """

    data: F32
    diff: F32
    lr_mult: float
    decay_mult: float

    __repr__ = in_brief


class Memory(threading.local):
    """Memory that is reused for arrays of different shapes; each thread has its own.

    Fresh memory comes as empty pages, and getting these takes longer than filling the array.
    """

    def __init__(self) -> None:
        self._floats = np.empty(0, np.float32)

    def of(self, *shape: int) -> F32:
        """An uninitialised array, valid until the thread's next call."""
        size = math.prod(shape)
        if self._floats.size < size:
            self._floats = np.empty(size, np.float32)
        return self._floats[:size].reshape(shape)
