"""Divides a blob into phases, on which a convolution with holes is an ordinary convolution.

For hole h there are h x h phases: each has every h-th row and column, from its own first ones.
"""

import numpy as np

from deeplab_repro.arrays import HW, Shape
from deeplab_repro.machine.work_space import empty


def phases_shape(shape: Shape, hole: HW) -> Shape:
    """The shape of the phases of NxCxHxW: N * holes x C x H / hole x W / hole, rounded up."""
    (n, c, height, width), (hy, hx) = shape, hole
    return n * hy * hx, c, -(-height // hy), -(-width // hx)


def to_phases(data: np.ndarray, hole: HW) -> np.ndarray:
    """The phases of NxCxHxW as one batch; smaller ones are filled up with zeros, bottom right."""
    (hy, hx), shape = hole, phases_shape(data.shape, hole)
    phases = empty(shape, data.dtype)
    phases[...] = 0
    by_phase = phases.reshape(len(data), hy, hx, *shape[1:])
    for y in range(hy):
        for x in range(hx):
            phase = data[:, :, y::hy, x::hx]
            by_phase[:, y, x, :, : phase.shape[2], : phase.shape[3]] = phase
    return phases


def from_phases(phases: np.ndarray, hole: HW, shape: Shape) -> np.ndarray:
    """The NxCxHxW array of this shape that has these phases."""
    hy, hx = hole
    data = empty(shape, phases.dtype)
    by_phase = phases.reshape(len(data), hy, hx, *phases.shape[1:])
    for y in range(hy):
        for x in range(hx):
            phase = data[:, :, y::hy, x::hx]
            phase[:] = by_phase[:, y, x, :, : phase.shape[2], : phase.shape[3]]
    return data


def clear_beyond(phases: np.ndarray, hole: HW, size: HW) -> None:
    """Set what lies beyond an image of HxW to zero again, as the next convolution reads it."""
    (hy, hx), (height, width) = hole, size
    by_phase = phases.reshape(-1, hy, hx, *phases.shape[1:])
    if height % hy:
        by_phase[:, height % hy :, :, :, -1] = 0
    if width % hx:
        by_phase[:, :, width % hx :, ..., -1] = 0
