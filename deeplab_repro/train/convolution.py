"""Convolution with holes by im2col and GEMM, forward and backward (docs/original.md, 1.1).

The columns hold, for each pixel of some rows of an image, the values under each tap of the kernel.
They are made for one tile of rows at a time, so that they are still in the caches when the GEMM
reads them.
"""

import itertools

import numpy as np

from deeplab_repro.arrays import F32, HW
from deeplab_repro.errors import NetError
from deeplab_repro.machine.jit import jit
from deeplab_repro.net.layers import Convolution, ReLU
from deeplab_repro.net.net import Layer
from deeplab_repro.train.parallel import in_parts, in_turn
from deeplab_repro.train.values import Memory, Parameter, Value

# Floats in the columns of a tile: few enough for L2, but pixels enough for a fast GEMM.
_TILE, _LEAST_PIXELS = 1 << 18, 1024
# Of a plane's values that are summed side by side: enough for the widest vectors.
_LANES = 512
# Of all layers, so that what is written next is still in the caches.
_columns_memory, _product_memory = Memory(), Memory()

Tile = tuple[int, int, int]
"""An index into the batch, the first row and the last row + 1."""


class ConvolutionStep:
    """One CONVOLUTION layer, and a RELU in place on its top.

    slope: the RELU's for values below 0, which a FusedReLUStep sets; 1 without a RELU.
    is_first_to_add: nothing was added to the bottom's gradient before, so it is overwritten.
    """

    def __init__(
        self, layer: Layer, bottoms: list[Value], tops: list[Value], parameters: list[Parameter]
    ) -> None:
        assert isinstance(layer.op, Convolution)
        if layer.op.group != 1:
            raise NetError(
                f"layer '{layer.name}' (Convolution): group {layer.op.group} cannot be trained "
                "here, expected 1"
            )
        self.op = layer.op
        (self.bottom,), (self.top,) = bottoms, tops
        self.parameters = parameters
        self.slope = np.float32(1)
        self.is_first_to_add = False

    def forward(self) -> None:
        """top = weights * columns of the bottom + bias, and through the RELU."""
        weights, *biases = (parameter.data for parameter in self.parameters)
        matrix = weights.reshape(self.op.num_output, -1)
        bias = biases[0] if biases else _zeros(self.op.num_output)

        def work(tile: Tile) -> None:
            top = _pixels(self.top.data, tile)
            np.matmul(matrix, self._bottom_columns(tile), out=top)
            if biases or self.slope != 1:
                _add_bias_and_relu(top, bias, self.slope)

        in_turn(_tiles(self.top.data, matrix.shape[1]), work)

    def backward(self) -> None:
        """Add to the gradients of the parameters and of the bottom; the RELU changes the top's."""
        assert self.top.diff is not None
        weights, *biases = self.parameters
        images, outputs = self.top.data.shape[:2]
        sums = _zeros(images * outputs)
        planes = (blob.reshape(len(sums), -1) for blob in (self.top.data, self.top.diff))
        in_parts(_relu_back_and_sum, len(sums), *planes, sums, self.slope)
        for bias in biases:
            if bias.lr_mult:
                bias.diff += sums.reshape(images, outputs).sum(axis=0)
        if self.bottom.diff is not None:
            self._backward_to_bottom(self.top.diff, self.bottom.diff)
        elif weights.lr_mult:
            self._backward_to_weights(self.top.diff)

    def _backward_to_weights(self, top_diff: F32) -> None:
        gradient = self.parameters[0].diff.reshape(self.op.num_output, -1)

        def work(tile: Tile) -> None:
            columns = self._bottom_columns(tile)
            product = _product_memory.of(*gradient.shape)
            np.matmul(_pixels(top_diff, tile), columns.T, out=product)

        def after() -> None:
            np.add(gradient, _product_memory.of(*gradient.shape), out=gradient)

        in_turn(_tiles(top_diff, gradient.shape[1]), work, after)

    def _backward_to_bottom(self, top_diff: F32, bottom_diff: F32) -> None:
        """Both gradients, from one set of columns: those of the top's gradient.

        A pixel of the bottom takes part in as many pixels of the top as the kernel has taps, so the
        bottom's gradient is a convolution of the top's, with the kernel turned round.
        """
        weights = self.parameters[0]
        outputs, channels, *taps = weights.data.shape
        matrix = np.ascontiguousarray(weights.data.swapaxes(0, 1)).reshape(channels, -1)
        gradient = np.zeros_like(matrix)
        spread = _spread(top_diff, self.op.stride)
        width = bottom_diff.shape[3]

        def work(tile: Tile) -> None:
            image, target = spread[tile[0]], _pixels(bottom_diff, tile)
            columns = self._columns(image, tile, width, self.op.pad, _minus(self.op.hole))
            if self.is_first_to_add:
                np.matmul(matrix, columns, out=target)
            else:
                part = _product_memory.of(*target.shape)
                np.add(target, np.matmul(matrix, columns, out=part), out=target)
            if weights.lr_mult:
                product = _product_memory.of(*gradient.shape)
                np.matmul(_pixels(self.bottom.data, tile), columns.T, out=product)

        def after() -> None:
            np.add(gradient, _product_memory.of(*gradient.shape), out=gradient)

        tiles = _tiles(bottom_diff, matrix.shape[1])
        if weights.lr_mult:
            in_turn(tiles, work, after)
            weights.diff += gradient.reshape(channels, outputs, *taps).swapaxes(0, 1)
        else:
            in_turn(tiles, work)

    def _bottom_columns(self, tile: Tile) -> F32:
        """The columns of the bottom, for each pixel of the top's tile."""
        bottom, width, op = self.bottom.data[tile[0]], self.top.data.shape[3], self.op
        return self._columns(bottom, tile, width, _minus(op.pad), op.hole, op.stride)

    def _columns(
        self, image: F32, tile: Tile, width: int, at: HW, hole: HW, stride: HW = (1, 1)
    ) -> F32:
        """An image's values at pixel * stride + at + tap * hole: channels and taps x pixels.

        Outside of the image they are 0. Valid until the thread's next call.
        """
        _, first, last = tile
        taps = self.op.kernel[0] * self.op.kernel[1]
        columns = _columns_memory.of(len(image) * taps, (last - first) * width)
        geometry = (*self.op.kernel, *at, *hole, *stride)
        _fill_columns(image, columns, first, last, width, *geometry)
        return columns


class FusedReLUStep:
    """A RELU in place on a convolution's top: that does it while the values are in the caches."""

    def __init__(self, layer: Layer, convolution: ConvolutionStep) -> None:
        assert isinstance(layer.op, ReLU)
        convolution.slope = np.float32(layer.op.negative_slope)

    def forward(self) -> None:
        """Do nothing: the convolution did it."""

    def backward(self) -> None:
        """Do nothing: the convolution will do it."""


def _zeros(*shape: int) -> F32:
    return np.zeros(shape, np.float32)


def _minus(pair: HW) -> HW:
    return -pair[0], -pair[1]


def _tiles(blob: F32, taps: int) -> list[Tile]:
    """All rows of a blob, in tiles of the same height, or almost: no thread waits for another."""
    images, _, height, width = blob.shape
    rows = max(1, max(_TILE // taps, _LEAST_PIXELS) // width)
    parts = -(-height // rows)
    bounds = [height * part // parts for part in range(parts + 1)]
    return [(image, *pair) for image in range(images) for pair in itertools.pairwise(bounds)]


def _pixels(blob: F32, tile: Tile) -> F32:
    """A tile of a blob: channels x pixels."""
    image, first, last = tile
    width = blob.shape[3]
    return blob[image].reshape(blob.shape[1], -1)[:, first * width : last * width]


def _spread(blob: F32, stride: HW) -> F32:
    """The blob with its pixels `stride` apart, and zeros between them."""
    if stride == (1, 1):
        return blob
    *outer, height, width = blob.shape
    spread = _zeros(*outer, (height - 1) * stride[0] + 1, (width - 1) * stride[1] + 1)
    spread[:, :, :: stride[0], :: stride[1]] = blob
    return spread


@jit
def _fill_columns(  # type: ignore[no-untyped-def]
    image, columns, first, last, width,
    kernel_h, kernel_w, at_h, at_w, hole_h, hole_w, stride_h, stride_w,
):  # fmt: skip
    """Fill the columns for the rows first..last of pixels."""
    for channel in range(len(image)):
        for i in range(kernel_h):
            for j in range(kernel_w):
                out = columns[(channel * kernel_h + i) * kernel_w + j]
                left = at_w + j * hole_w
                # The pixels for which this tap lies inside the image.
                inside = min(max(0, (-left + stride_w - 1) // stride_w), width)
                outside = min((image.shape[2] - left + stride_w - 1) // stride_w, width)
                outside = max(outside, inside)
                # Numba checks whether an index is negative, unless it is unsigned.
                n, at = np.uint64(outside - inside), np.uint64(max(0, left + inside * stride_w))
                for row in range(first, last):
                    y = row * stride_h + at_h + i * hole_h
                    start = np.uint64((row - first) * width)
                    if y < 0 or y >= image.shape[1]:
                        for x in range(np.uint64(width)):
                            out[start + x] = 0
                        continue
                    for x in range(np.uint64(inside)):
                        out[start + x] = 0
                    for x in range(np.uint64(outside), np.uint64(width)):
                        out[start + x] = 0
                    start += np.uint64(inside)
                    source = image[channel, y]
                    if stride_w == 1:  # on its own, so that the compiler vectorises it
                        for x in range(n):
                            out[start + x] = source[at + x]
                    else:
                        for x in range(n):
                            out[start + x] = source[at + x * np.uint64(stride_w)]


@jit
def _add_bias_and_relu(top, bias, slope):  # type: ignore[no-untyped-def]
    for channel in range(len(top)):
        row, shift = top[channel], bias[channel]
        for x in range(len(row)):
            value = row[x] + shift
            row[x] = value if value > 0 else slope * value


@jit
def _relu_back_and_sum(begin, end, data, diff, sums, slope):  # type: ignore[no-untyped-def]
    """Take the gradient of each plane back through the RELU, in place, and sum it."""
    lanes = np.empty(_LANES, np.float32)
    for plane in range(begin, end):
        lanes[:] = 0
        for first in range(0, data.shape[1], _LANES):
            values, part = data[plane, first : first + _LANES], diff[plane, first : first + _LANES]
            for x in range(len(part)):
                value = part[x] if values[x] > 0 else slope * part[x]
                part[x] = value
                lanes[x] += value
        sums[plane] = lanes.sum()
