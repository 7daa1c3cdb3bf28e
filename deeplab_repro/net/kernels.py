"""Kernels that are known without training."""

import numpy as np

from deeplab_repro.arrays import F32, Shape, dims
from deeplab_repro.errors import NetError


def bilinear_kernels(shape: Shape) -> F32:
    """Kernels with which a Deconvolution enlarges bilinearly: Caffe's filler "bilinear".

    Each is the same tent (Long et al. 2015): at i pixels from the middle 1 - |i| / (half the
    width, rounded up), along both axes. shape: of the weights, 4 axes; float32. Raises NetError
    for kernels that are not square.
    """
    if len(shape) != 4 or shape[2] != shape[3]:
        raise NetError(f"the filler bilinear for {dims(shape)}, expected square kernels")
    side = shape[3]
    tent = 1 - np.abs(np.arange(side) - (side - 1) / 2) / ((side + 1) // 2)
    return np.broadcast_to(np.outer(tent, tent), shape).astype(np.float32)
