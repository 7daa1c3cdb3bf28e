"""INTERP and PADDING, forward and backward (docs/original.md, sections 1.3 and 1.4)."""

import numpy as np

from deeplab_repro.arrays import F32
from deeplab_repro.machine.jit import jit
from deeplab_repro.net.layers import Interp, Padding
from deeplab_repro.net.net import Layer
from deeplab_repro.net.scores import interp_positions
from deeplab_repro.train.parallel import in_parts
from deeplab_repro.train.values import Value


class InterpStep:
    """One INTERP layer: a crop, then bilinear resizing with aligned corners, in float32."""

    def __init__(self, layer: Layer, bottoms: list[Value], tops: list[Value]) -> None:
        assert isinstance(layer.op, Interp)
        (self.bottom,), (self.top,) = bottoms, tops
        self.op = layer.op
        crop = self._cropped(self.bottom.data)
        self.steps = [
            interp_positions(n_in, n_out)
            for n_in, n_out in zip(crop.shape[2:], self.top.data.shape[2:], strict=True)
        ]

    def _cropped(self, blob: F32) -> F32:
        beg, end = -self.op.pad_beg, self.op.pad_end
        return blob[:, :, beg : blob.shape[2] + end, beg : blob.shape[3] + end]

    def forward(self) -> None:
        """Fill the top."""
        for bottom, top in zip(self._cropped(self.bottom.data), self.top.data, strict=True):
            in_parts(_interp, len(top), bottom, top, *self.steps[0], *self.steps[1])

    def backward(self) -> None:
        """Add to the bottom's gradient."""
        assert self.top.diff is not None
        if self.bottom.diff is None:
            return
        for bottom, top in zip(self._cropped(self.bottom.diff), self.top.diff, strict=True):
            in_parts(_interp_back, len(top), bottom, top, *self.steps[0], *self.steps[1])


class PaddingStep:
    """One PADDING layer: zeros around the image, or a crop."""

    def __init__(self, layer: Layer, bottoms: list[Value], tops: list[Value]) -> None:
        assert isinstance(layer.op, Padding)
        (self.bottom,), (self.top,) = bottoms, tops
        beg, end = layer.op.pad_beg, layer.op.pad_end
        outer = [slice(max(beg, 0), n - max(end, 0)) for n in self.top.data.shape[2:]]
        inner = [slice(max(-beg, 0), n - max(-end, 0)) for n in self.bottom.data.shape[2:]]
        self.outer = (slice(None), slice(None), *outer)
        self.inner = (slice(None), slice(None), *inner)

    def forward(self) -> None:
        """Fill the top."""
        self.top.data[...] = 0
        self.top.data[self.outer] = self.bottom.data[self.inner]

    def backward(self) -> None:
        """Add to the bottom's gradient."""
        assert self.top.diff is not None
        if self.bottom.diff is not None:
            self.bottom.diff[self.inner] += self.top.diff[self.outer]


@jit
def _interp(begin, end, bottom, top, y0, y1, ly, x0, x1, lx):  # type: ignore[no-untyped-def]
    one = np.float32(1)
    for plane in range(begin, end):
        for y in range(len(y0)):
            above, below = bottom[plane, y0[y]], bottom[plane, y1[y]]
            for x in range(len(x0)):
                a = (one - lx[x]) * above[x0[x]] + lx[x] * above[x1[x]]
                b = (one - lx[x]) * below[x0[x]] + lx[x] * below[x1[x]]
                top[plane, y, x] = (one - ly[y]) * a + ly[y] * b


@jit
def _interp_back(begin, end, bottom, top, y0, y1, ly, x0, x1, lx):  # type: ignore[no-untyped-def]
    one = np.float32(1)
    for plane in range(begin, end):
        for y in range(len(y0)):
            above, below = bottom[plane, y0[y]], bottom[plane, y1[y]]
            for x in range(len(x0)):
                value = top[plane, y, x]
                above[x0[x]] += (one - ly[y]) * (one - lx[x]) * value
                above[x1[x]] += (one - ly[y]) * lx[x] * value
                below[x0[x]] += ly[y] * (one - lx[x]) * value
                below[x1[x]] += ly[y] * lx[x] * value
