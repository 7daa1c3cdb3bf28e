"""The points that the two Gaussian kernels compare, and their scale in the lattice."""

import numpy as np
import numpy.typing as npt

from deeplab_repro.crf.params import CrfParams

F32 = npt.NDArray[np.float32]

# Lattice coordinates are kept as int16; a simplex reaches at most 2 * (d + 1) past its point.
LARGEST_COORDINATE = 32_000.0


def kernel_features(image: npt.NDArray[np.uint8], params: CrfParams) -> tuple[F32, F32]:
    """N x 2 positional (x, y) and N x 5 bilateral (x, y, R, G, B) features over their deviations.

    image: HxWx3 uint8; N = H W pixels in row order. float32, divided in single precision.
    """
    height, width = image.shape[:2]
    y, x = np.indices((height, width), dtype=np.float32)
    xy = np.stack([x.ravel(), y.ravel()], axis=1)
    colour = image.reshape(-1, 3).astype(np.float32) / np.float32(params.sigma_beta)
    bilateral = np.concatenate([xy / np.float32(params.sigma_alpha), colour], axis=1)
    return xy / np.float32(params.sigma_gamma), bilateral


def axis_scales(d: int) -> F32:
    """d float32 factors that make the blurred lattice a unit Gaussian (Adams et al. 2010)."""
    deviation = np.float64(np.float32(np.sqrt(2.0 / 3.0) * (d + 1)))
    axis = np.arange(d, dtype=np.float64)
    return (deviation / np.sqrt((axis + 1) * (axis + 2))).astype(np.float32)


def largest_coordinate(extents: list[float]) -> float:
    """A bound on the lattice coordinates of features that lie within 0..extents, axis by axis."""
    scaled = np.array(extents) * axis_scales(len(extents))
    return float(max(scaled.sum(), (scaled * np.arange(1, scaled.size + 1)).max()))
