"""The points that the two Gaussian kernels compare, and their scale in the lattice."""

import functools

import numpy as np

from deeplab_repro.arrays import F32, UInt8
from deeplab_repro.crf.params import CrfParams
from deeplab_repro.machine.work_space import empty

# The authors' program keeps lattice coordinates as int16. A simplex reaches 2 * (d + 1) past its
# point at most.
LARGEST_COORDINATE = 32_000.0


def kernel_features(image: UInt8, params: CrfParams) -> tuple[F32, F32]:
    """2 x N positional (x, y) and 5 x N bilateral (x, y, R, G, B) features over their deviations.

    image: HxWx3 uint8; N = H W pixels in row order. float32, divided in single precision.
    """
    height, width = image.shape[:2]
    bilateral = empty((5, height, width))
    bilateral[0] = np.arange(width)
    bilateral[1] = np.arange(height)[:, None]
    position = empty((2, height, width))
    np.divide(bilateral[:2], np.float32(params.sigma_gamma), out=position)
    bilateral[:2] /= np.float32(params.sigma_alpha)
    bilateral[2:] = image.transpose(2, 0, 1)
    bilateral[2:] /= np.float32(params.sigma_beta)
    return position.reshape(2, -1), bilateral.reshape(5, -1)


@functools.cache
def axis_scales(d: int) -> F32:
    """d float32 factors that make the blurred lattice a unit Gaussian (Adams et al. 2010).

    They are the same array each time, not to be changed.
    """
    deviation = np.float64(np.float32(np.sqrt(2.0 / 3.0) * (d + 1)))
    axis = np.arange(d, dtype=np.float64)
    return (deviation / np.sqrt((axis + 1) * (axis + 2))).astype(np.float32)


def largest_coordinate(extents: list[float]) -> float:
    """A bound on the lattice coordinates of features that lie within 0..extents, axis by axis."""
    scaled = [extent * scale for extent, scale in zip(extents, _scales(len(extents)), strict=True)]
    return max(sum(scaled), *((axis + 1) * value for axis, value in enumerate(scaled)))


@functools.cache
def _scales(d: int) -> list[float]:
    return axis_scales(d).tolist()
