"""Caffe's bilinear kernels."""

import numpy as np
import pytest

from deeplab_repro.errors import NetError
from deeplab_repro.net.kernels import bilinear_kernels


@pytest.mark.parametrize(
    ("side", "tent"),
    [
        (1, [1]),
        (2, [0.5, 0.5]),
        (3, [0.5, 1, 0.5]),
        (4, [0.25, 0.75, 0.75, 0.25]),
        (5, [1 / 3, 2 / 3, 1, 2 / 3, 1 / 3]),
    ],
)
def test_kernels_are_tents(side, tent):
    kernels = bilinear_kernels((2, 1, side, side))
    assert kernels.dtype == np.float32
    for kernel in kernels[:, 0]:
        np.testing.assert_allclose(kernel, np.outer(tent, tent), rtol=1e-6)


@pytest.mark.parametrize("shape", [(2, 1, 3, 4), (9,)])
def test_kernels_that_are_not_square(shape):
    with pytest.raises(NetError, match="expected square kernels"):
        bilinear_kernels(shape)
