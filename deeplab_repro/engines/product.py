"""Runs a convolution as a product of matrices, by NumPy's BLAS."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from deeplab_repro.arrays import F32
from deeplab_repro.machine.opencv import cv2
from deeplab_repro.machine.work_space import empty
from deeplab_repro.net.layers import Convolution

# Columns of one product: enough for BLAS's full speed, in little memory.
_COLUMNS = 1024


def convolve(
    data: np.ndarray,
    op: Convolution,
    weight: np.ndarray,
    bias: np.ndarray | None = None,
    relu: bool = False,
) -> np.ndarray:
    """The convolution of NxCxHxW float32, in one group; with `relu`, a ReLU after it.

    One matrix is the weights as they lie in memory. The other has the pixels under every tap, for a
    few rows of the top at a time.
    """
    top = empty(op.top_shape([data.shape]))
    n, channels, height, width = top.shape
    (ph, pw), (sh, sw), (hh, hw) = op.pad, op.stride, op.hole
    if any(op.pad):
        data = _padded(data, ph, pw)
    windows = sliding_window_view(data, op.span, (2, 3))[:, :, ::sh, ::sw, ::hh, ::hw]
    taps = windows.transpose(0, 1, 4, 5, 2, 3)  # N x C x kernel x size of the top
    matrix = weight.reshape(channels, -1)
    rows = -(-_COLUMNS // width)

    def work(place: tuple[int, int]) -> None:
        image, row = place
        found = taps[image, ..., row : row + rows, :]
        pixels = empty(found.shape)
        pixels[...] = found
        pixels = pixels.reshape(matrix.shape[1], -1)
        values = top[image, :, row : row + rows].reshape(channels, -1)  # a view
        np.matmul(matrix, pixels, out=values)
        if bias is not None:
            values += bias[:, None]
        if relu:
            np.maximum(values, 0, out=values)

    places = [(image, row) for image in range(n) for row in range(0, height, rows)]
    with ThreadPoolExecutor(_threads()) as pool:
        list(pool.map(work, places))  # raises what they raise
    return top


def _padded(data: F32, rows: int, columns: int) -> F32:
    """NxCxHxW with so many rows of zeros above and below, and columns beside."""
    n, channels, height, width = data.shape
    padded = empty((n, channels, height + 2 * rows, width + 2 * columns))
    padded[...] = 0
    padded[:, :, rows : rows + height, columns : columns + width] = data
    return padded


def _threads() -> int:
    """As many as OpenCV's if BLAS is known to use one; else 1, as BLAS has threads of its own."""
    single = os.environ.get("OPENBLAS_NUM_THREADS") == "1"
    return max(1, cv2.getNumThreads()) if single else 1
