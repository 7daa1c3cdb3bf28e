"""pydensecrf's `eigen`: arrays for DenseCRF.stepInference, made of one's own.

In pydensecrf they are matrices of Eigen's. Here they are NumPy arrays, and whatever takes one takes
an array too.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from deeplab_repro.arrays import F32, dims
from deeplab_repro.errors import ArgumentError
from deeplab_repro.pydensecrf.arguments import float32_array

MatrixXf = VectorXf = np.ndarray
"""The type of what is made here, and of all that `densecrf` returns."""


def matrixXf(arr: npt.ArrayLike) -> F32:
    """A copy of a float32 array with two axes. Raises ArgumentError for anything else.

    >>> matrixXf(np.zeros((2, 5), np.float32)).shape
    (2, 5)
    """
    return _copy(arr, 2)


def vectorXf(arr: npt.ArrayLike) -> F32:
    """A copy of a float32 array with one axis. Raises ArgumentError for anything else.

    >>> vectorXf(np.zeros(5, np.float32)).shape
    (5,)
    """
    return _copy(arr, 1)


def _copy(arr: Any, axes: int) -> F32:
    array = float32_array("arr", arr)
    if array.ndim != axes:
        raise ArgumentError(f"arr has shape {dims(array.shape)}; expected {axes} axes")
    return np.array(array, order="C")
