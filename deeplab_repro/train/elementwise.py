"""RELU, DROPOUT and ELTWISE, forward and backward; RELU and DROPOUT may work in place."""

from collections.abc import Callable

import numpy as np

from deeplab_repro.errors import NetError
from deeplab_repro.machine.jit import jit
from deeplab_repro.net.layers import Dropout, Eltwise, ReLU
from deeplab_repro.net.net import Layer
from deeplab_repro.train.parallel import in_parts
from deeplab_repro.train.values import Value


class ReLUStep:
    """One RELU layer."""

    def __init__(self, layer: Layer, bottoms: list[Value], tops: list[Value]) -> None:
        assert isinstance(layer.op, ReLU)
        (self.bottom,), (self.top,) = bottoms, tops
        self.slope = np.float32(layer.op.negative_slope)

    def forward(self) -> None:
        """top = max(bottom, 0) + slope * min(bottom, 0)."""
        bottom, top = self.bottom.data.reshape(-1), self.top.data.reshape(-1)
        in_parts(_relu, len(top), bottom, top, self.slope)

    def backward(self) -> None:
        """Add to the bottom's gradient; in place, change it."""
        assert self.top.diff is not None
        if self.bottom.diff is None:
            return
        data, top = self.bottom.data.reshape(-1), self.top.diff.reshape(-1)
        bottom = self.bottom.diff.reshape(-1)
        function = _relu_back_in_place if self.bottom is self.top else _relu_back
        in_parts(function, len(top), data, top, bottom, self.slope)


class DropoutStep:
    """One DROPOUT layer: each value is kept with probability 1 - ratio, and scaled by its inverse.

    `random` returns the generator of this iteration, so that a resumed run drops the same values as
    an uninterrupted one.
    """

    def __init__(
        self,
        layer: Layer,
        bottoms: list[Value],
        tops: list[Value],
        random: Callable[[], np.random.Generator],
    ) -> None:
        assert isinstance(layer.op, Dropout)
        (self.bottom,), (self.top,) = bottoms, tops
        self.ratio, self.random = np.float32(layer.op.ratio), random
        self.mask = np.empty(self.top.data.shape, np.float32)

    def forward(self) -> None:
        """top = bottom * mask."""
        self.random().random(dtype=np.float32, out=self.mask)
        np.greater_equal(self.mask, self.ratio, out=self.mask)
        self.mask *= np.float32(1 / (1 - self.ratio))
        np.multiply(self.bottom.data, self.mask, out=self.top.data)

    def backward(self) -> None:
        """Add to the bottom's gradient; in place, change it."""
        assert self.top.diff is not None
        if self.bottom is self.top:
            self.top.diff *= self.mask
        elif self.bottom.diff is not None:
            self.bottom.diff += self.top.diff * self.mask


class EltwiseStep:
    """One ELTWISE layer that sums, with coefficients or without, or takes the largest."""

    def __init__(self, layer: Layer, bottoms: list[Value], tops: list[Value]) -> None:
        assert isinstance(layer.op, Eltwise)
        if layer.op.operation not in ("SUM", "MAX"):
            raise NetError(
                f"layer '{layer.name}' (Eltwise): operation {layer.op.operation} cannot be "
                "trained here, expected SUM or MAX"
            )
        self.bottoms, (self.top,) = bottoms, tops
        self.coeff = [np.float32(c) for c in layer.op.coeff or (1,) * len(bottoms)]
        # For MAX: the bottom from which each value was taken, the first of equal ones.
        self.taken = (
            np.zeros(self.top.data.shape, np.uint16) if layer.op.operation == "MAX" else None
        )

    def forward(self) -> None:
        """top = the sum or the largest of the bottoms."""
        if self.taken is not None:
            self.top.data[...] = self.bottoms[0].data
            self.taken[...] = 0
            for number, bottom in enumerate(self.bottoms[1:], 1):
                self.taken[bottom.data > self.top.data] = number
                np.maximum(self.top.data, bottom.data, out=self.top.data)
            return
        self.top.data[...] = 0
        for bottom, coeff in zip(self.bottoms, self.coeff, strict=True):
            self.top.data += bottom.data if coeff == 1 else coeff * bottom.data

    def backward(self) -> None:
        """Add to the bottoms' gradients."""
        assert self.top.diff is not None
        for number, (bottom, coeff) in enumerate(zip(self.bottoms, self.coeff, strict=True)):
            if bottom.diff is None:
                continue
            if self.taken is not None:
                bottom.diff += self.top.diff * (self.taken == number)
            else:
                bottom.diff += self.top.diff if coeff == 1 else coeff * self.top.diff


@jit
def _relu(begin, end, bottom, top, slope):  # type: ignore[no-untyped-def]
    for i in range(begin, end):
        value = bottom[i]
        top[i] = value if value > 0 else slope * value


@jit
def _relu_back(begin, end, data, top, bottom, slope):  # type: ignore[no-untyped-def]
    for i in range(begin, end):
        bottom[i] += top[i] if data[i] > 0 else slope * top[i]


@jit
def _relu_back_in_place(begin, end, data, top, bottom, slope):  # type: ignore[no-untyped-def]
    for i in range(begin, end):
        bottom[i] = top[i] if data[i] > 0 else slope * top[i]
