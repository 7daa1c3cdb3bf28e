"""The phases of an image under a convolution with holes, where it is an ordinary convolution.

Of hole h these are h x h: every h-th row and column, beginning at another one each.
"""

import numpy as np

from deeplab_repro.arrays import HW, Shape


def phases_shape(shape: Shape, hole: HW) -> Shape:
    """The shape of the phases of NxCxHxW: N * holes x C x H / hole x W / hole, rounded up."""
    (n, c, height, width), (hy, hx) = shape, hole
    return n * hy * hx, c, -(-height // hy), -(-width // hx)


def to_phases(data: np.ndarray, hole: HW) -> np.ndarray:
    """The phases of NxCxHxW as one batch; the smaller ones have zeros at the bottom right."""
    (hy, hx), shape = hole, phases_shape(data.shape, hole)
    phases = np.zeros(shape, data.dtype)
    by_phase = phases.reshape(len(data), hy, hx, *shape[1:])
    for y in range(hy):
        for x in range(hx):
            phase = data[:, :, y::hy, x::hx]
            by_phase[:, y, x, :, : phase.shape[2], : phase.shape[3]] = phase
    return phases


def from_phases(phases: np.ndarray, hole: HW, shape: Shape) -> np.ndarray:
    """The NxCxHxW array of this shape that these are the phases of."""
    hy, hx = hole
    data = np.empty(shape, phases.dtype)
    by_phase = phases.reshape(len(data), hy, hx, *phases.shape[1:])
    for y in range(hy):
        for x in range(hx):
            phase = data[:, :, y::hy, x::hx]
            phase[:] = by_phase[:, y, x, :, : phase.shape[2], : phase.shape[3]]
    return data


def clear_beyond(phases: np.ndarray, hole: HW, size: HW) -> None:
    """Set to zero again what lies beyond an image of HxW: the next convolution would read it."""
    (hy, hx), (height, width) = hole, size
    by_phase = phases.reshape(-1, hy, hx, *phases.shape[1:])
    if height % hy:
        by_phase[:, height % hy :, :, :, -1] = 0
    if width % hx:
        by_phase[:, :, width % hx :, ..., -1] = 0
