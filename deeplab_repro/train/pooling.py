"""Pooling, forward and backward (docs/original.md, section 1.2)."""

import numpy as np

from deeplab_repro.arrays import F32
from deeplab_repro.machine.jit import jit
from deeplab_repro.net.layers import Pooling
from deeplab_repro.net.net import Layer
from deeplab_repro.train.parallel import in_parts
from deeplab_repro.train.values import Value


class PoolingStep:
    """One POOLING layer, MAX or AVE."""

    def __init__(self, layer: Layer, bottoms: list[Value], tops: list[Value]) -> None:
        assert isinstance(layer.op, Pooling)
        (self.bottom,), (self.top,) = bottoms, tops
        op, size = layer.op, self.bottom.data.shape[2:]
        kernel = size if op.kernel == (0, 0) else op.kernel
        self.geometry = (*kernel, *op.pad, *op.stride)
        # For MAX: the position in the plane from which each output was taken.
        self.taken = np.zeros(self.top.data.shape, np.int32) if op.method == "MAX" else None

    def forward(self) -> None:
        """Fill the top."""
        bottom, top = _planes(self.bottom.data), _planes(self.top.data)
        if self.taken is None:
            in_parts(_average, len(top), bottom, top, *self.geometry)
        else:
            taken = self.taken.reshape(top.shape)
            in_parts(_largest, len(top), bottom, top, taken, *self.geometry)

    def backward(self) -> None:
        """Add to the bottom's gradient."""
        assert self.top.diff is not None
        if self.bottom.diff is None:
            return
        bottom, top = _planes(self.bottom.diff), _planes(self.top.diff)
        if self.taken is None:
            in_parts(_average_back, len(top), bottom, top, *self.geometry)
        else:
            in_parts(_largest_back, len(top), bottom, top, self.taken.reshape(top.shape))


def _planes(blob: F32) -> F32:
    return blob.reshape(-1, *blob.shape[2:])


@jit
def _largest(  # type: ignore[no-untyped-def]
    begin, end, bottom, top, taken, kernel_h, kernel_w, pad_h, pad_w, stride_h, stride_w
):
    """The largest value under each window, and where it first occurs; windows end at the image."""
    height, width = bottom.shape[1:]
    for plane in range(begin, end):
        for row in range(top.shape[1]):
            out, index = top[plane, row], taken[plane, row]
            out[:] = -np.inf
            index[:] = 0
            first = row * stride_h - pad_h
            for y in range(max(first, 0), min(first + kernel_h, height)):
                for j in range(kernel_w):
                    left = j - pad_w
                    # The outputs for which this tap lies inside the image.
                    inside = max(0, (-left + stride_w - 1) // stride_w)
                    outside = max(inside, min(len(out), (width - 1 - left) // stride_w + 1))
                    at = left + inside * stride_w
                    best, where = out[inside:outside], index[inside:outside]
                    source, here = bottom[plane, y, at:], np.int32(y * width + at)
                    if stride_w == 1:  # on its own, so that the compiler vectorises it
                        for x in range(len(best)):
                            larger = source[x] > best[x]
                            best[x] = source[x] if larger else best[x]
                            where[x] = here + np.int32(x) if larger else where[x]
                    else:
                        for x in range(len(best)):
                            value = source[x * stride_w]
                            larger = value > best[x]
                            best[x] = value if larger else best[x]
                            where[x] = here + np.int32(x * stride_w) if larger else where[x]


@jit
def _largest_back(begin, end, bottom, top, taken):  # type: ignore[no-untyped-def]
    width = bottom.shape[2]
    for plane in range(begin, end):
        for row in range(top.shape[1]):
            for x in range(top.shape[2]):
                index = taken[plane, row, x]
                bottom[plane, index // width, index % width] += top[plane, row, x]


@jit
def _window(at, kernel, pad, stride, size):  # type: ignore[no-untyped-def]
    """First and last + 1 of a window in the image, and its length with padding, for the average."""
    first = at * stride - pad
    last = min(first + kernel, size + pad)
    return max(first, 0), min(last, size), last - first


@jit
def _average(  # type: ignore[no-untyped-def]
    begin, end, bottom, top, kernel_h, kernel_w, pad_h, pad_w, stride_h, stride_w
):
    height, width = bottom.shape[1:]
    for plane in range(begin, end):
        for row in range(top.shape[1]):
            y0, y1, length_h = _window(row, kernel_h, pad_h, stride_h, height)
            for column in range(top.shape[2]):
                x0, x1, length_w = _window(column, kernel_w, pad_w, stride_w, width)
                total = np.float32(0)
                for y in range(y0, y1):
                    for x in range(x0, x1):
                        total += bottom[plane, y, x]
                top[plane, row, column] = total / np.float32(length_h * length_w)


@jit
def _average_back(  # type: ignore[no-untyped-def]
    begin, end, bottom, top, kernel_h, kernel_w, pad_h, pad_w, stride_h, stride_w
):
    height, width = bottom.shape[1:]
    for plane in range(begin, end):
        for row in range(top.shape[1]):
            y0, y1, length_h = _window(row, kernel_h, pad_h, stride_h, height)
            for column in range(top.shape[2]):
                x0, x1, length_w = _window(column, kernel_w, pad_w, stride_w, width)
                part = top[plane, row, column] / np.float32(length_h * length_w)
                for y in range(y0, y1):
                    for x in range(x0, x1):
                        bottom[plane, y, x] += part
