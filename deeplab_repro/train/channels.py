"""BatchNorm, Scale and PReLU, forward and backward; all may work in place.

Of their blobs only what has a learning rate gets a gradient.
"""

import math

import numpy as np

from deeplab_repro.arrays import F32, Shape
from deeplab_repro.errors import NetError
from deeplab_repro.net.channel_layers import BatchNorm, PReLU, Scale
from deeplab_repro.net.layers import axis_of
from deeplab_repro.net.net import Layer
from deeplab_repro.train.values import Parameter, Value


class BatchNormStep:
    """One BatchNorm layer whose statistics stay as they are, as of a net that is trained further.

    Raises NetError for one that takes them from the batch.
    """

    def __init__(
        self, layer: Layer, bottoms: list[Value], tops: list[Value], parameters: list[Parameter]
    ) -> None:
        assert isinstance(layer.op, BatchNorm)
        if not layer.op.use_global_stats:
            raise NetError(
                f"layer '{layer.name}' (BatchNorm): takes its statistics from the batch, which "
                "does not train here, expected use_global_stats: true"
            )
        (self.bottom,), (self.top,) = bottoms, tops
        self.op, self.layer = layer.op, layer
        for parameter in parameters:
            parameter.lr_mult = 0.0

    def forward(self) -> None:
        """top = (bottom - mean) / sqrt(variance + eps)."""
        # Of the layer, which may have its own once weights are loaded: see Solver.load.
        mean, variance, (factor,) = (np.asarray(blob.data, np.float64) for blob in self.layer.blobs)
        part = 1 / factor if factor else 0.0
        scale = 1 / np.sqrt(variance * part + self.op.eps)
        self.scale = scale.astype(np.float32)[None, :, None]
        shift = (-mean * part * scale).astype(np.float32)[None, :, None]
        top = _around(self.top.data, 1, len(mean))
        np.multiply(_around(self.bottom.data, 1, len(mean)), self.scale, out=top)
        top += shift

    def backward(self) -> None:
        """Add to the bottom's gradient; in place, change it."""
        _multiplied_back(self.bottom, self.top, self.scale, 1)


class ScaleStep:
    """One Scale layer: the bottom times a weight, or times a second bottom, plus a bias."""

    def __init__(
        self, layer: Layer, bottoms: list[Value], tops: list[Value], parameters: list[Parameter]
    ) -> None:
        assert isinstance(layer.op, Scale)
        self.bottom, *second = bottoms
        (self.top,) = tops
        self.parameters = parameters
        self.factor: Value | Parameter = second[0] if second else parameters[0]
        self.bias = parameters if second else parameters[1:]
        shape = self.bottom.data.shape
        self.axis = axis_of(layer.op.axis, shape) if self.factor.data.ndim else 0
        self.learns = _learns(self.factor)
        # In place the layer writes over what the weight's gradient needs.
        in_place = self.bottom is self.top and self.learns
        self.taken = np.empty_like(self.bottom.data) if in_place else self.bottom.data

    def forward(self) -> None:
        """top = bottom * weight + bias."""
        if self.taken is not self.bottom.data:
            self.taken[...] = self.bottom.data
        factor = self._flat(self.factor.data)
        top = self._around(self.top.data)
        np.multiply(self._around(self.bottom.data), factor, out=top)
        for bias in self.bias:
            top += self._flat(bias.data)

    def backward(self) -> None:
        """Add to the gradients of weight, bias and bottom; in place, change the bottom's."""
        assert self.top.diff is not None
        diff = self._around(self.top.diff)
        for bias in self.bias:
            if _learns(bias):
                bias.diff += _sum(diff).reshape(bias.data.shape)
        if self.learns:
            assert self.factor.diff is not None
            product = diff * self._around(self.taken)
            self.factor.diff += _sum(product).reshape(self.factor.data.shape)
        _multiplied_back(self.bottom, self.top, self._flat(self.factor.data), self.axis)

    def _around(self, blob: F32) -> F32:
        return _around(blob, self.axis, self.factor.data.size)

    @staticmethod
    def _flat(factor: F32) -> F32:
        return factor.reshape(1, -1, 1)


class PReLUStep:
    """One PReLU layer: a slope for what is below 0, for each channel or one for all."""

    def __init__(
        self, layer: Layer, bottoms: list[Value], tops: list[Value], parameters: list[Parameter]
    ) -> None:
        assert isinstance(layer.op, PReLU)
        (self.bottom,), (self.top,), (self.slope,) = bottoms, tops, parameters
        self.parameters = parameters
        in_place = self.bottom is self.top
        self.taken = np.empty_like(self.bottom.data) if in_place else self.bottom.data

    def forward(self) -> None:
        """top = max(bottom, 0) + slope * min(bottom, 0)."""
        if self.taken is not self.bottom.data:
            self.taken[...] = self.bottom.data
        bottom, top = self._around(self.taken), self._around(self.top.data)
        np.multiply(bottom, self._slopes(), out=top)
        np.copyto(top, bottom, where=bottom > 0)

    def backward(self) -> None:
        """Add to the gradients of the slope and of the bottom; in place, change the bottom's."""
        assert self.top.diff is not None
        bottom, diff = self._around(self.taken), self._around(self.top.diff)
        if self.slope.lr_mult:
            of_channel = _sum(diff * np.minimum(bottom, 0))
            if self.slope.data.size == 1:
                of_channel = of_channel.sum()
            self.slope.diff += of_channel.reshape(self.slope.data.shape)
        slopes = np.where(bottom > 0, np.float32(1), self._slopes())
        _multiplied_back(self.bottom, self.top, slopes, 1)

    def _slopes(self) -> F32:
        return self.slope.data.reshape(1, -1, 1)

    def _around(self, blob: F32) -> F32:
        return _around(blob, 1, blob.shape[1])


def _around(blob: F32, axis: int, size: int) -> F32:
    """The blob as before x size x behind: in the middle so many values, from an axis on."""
    outer = math.prod(blob.shape[:axis])
    shape: Shape = (outer, size, blob.size // (outer * size))
    return blob.reshape(shape)


def _sum(values: F32) -> np.ndarray:
    """The sum over what is before and behind."""
    return values.sum(axis=(0, 2), dtype=np.float64)


def _learns(blob: Value | Parameter) -> bool:
    return bool(blob.lr_mult) if isinstance(blob, Parameter) else blob.diff is not None


def _multiplied_back(bottom: Value, top: Value, factor: np.ndarray, axis: int) -> None:
    """Add the top's gradient times a factor to the bottom's; in place, multiply it."""
    assert top.diff is not None
    if bottom.diff is None:
        return
    diff = _around(top.diff, axis, factor.shape[1])
    if bottom is top:
        diff *= factor
    else:
        part = _around(bottom.diff, axis, factor.shape[1])
        part += diff * factor
