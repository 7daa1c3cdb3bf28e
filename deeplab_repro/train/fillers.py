"""Caffe's fillers: the values of a blob before training."""

import math

import numpy as np

from deeplab_repro.errors import NetError
from deeplab_repro.net.kernels import bilinear_kernels
from deeplab_repro.net.net import Blob


def filled(blob: Blob, random: np.random.Generator) -> np.ndarray:
    """Values for a blob as its filler says: float32 of its shape.

    xavier is uniform with variance 1/fan-in (Glorot and Bengio 2010, as Caffe has it), msra is
    gaussian with variance 2/fan-in (He et al. 2015), bilinear makes a Deconvolution enlarge (Long
    et al. 2015). Raises NetError for other types, and for a bilinear kernel that is not square.
    """
    filler, fan_in = blob.filler, math.prod(blob.shape[1:])
    if filler.type == "constant":
        return np.full(blob.shape, filler.value, np.float32)
    if filler.type in ("uniform", "xavier"):
        bound = math.sqrt(3 / fan_in)
        low, high = (filler.min, filler.max) if filler.type == "uniform" else (-bound, bound)
        return random.uniform(low, high, blob.shape).astype(np.float32)
    if filler.type in ("gaussian", "msra"):
        mean, std = filler.mean, filler.std
        if filler.type == "msra":
            mean, std = 0.0, math.sqrt(2 / fan_in)
        return random.normal(mean, std, blob.shape).astype(np.float32)
    if filler.type == "bilinear":
        return bilinear_kernels(blob.shape)
    raise NetError(
        f"filler '{filler.type}', expected constant, uniform, xavier, gaussian, msra or bilinear"
    )
