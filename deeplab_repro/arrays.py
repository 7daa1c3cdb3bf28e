"""Shapes and array types that every room uses."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
UInt8 = npt.NDArray[np.uint8]
Shape = tuple[int, ...]
HW = tuple[int, int]


def dims(shape: Sequence[int]) -> str:
    """A shape for people: 1x3x513x513."""
    return "x".join(map(str, shape)) or "scalar"
