import re

import numpy as np
import pytest

from deeplab_repro.crf.cuda.device import Workspace
from deeplab_repro.crf.cuda.lattice import build_lattice, packings
from deeplab_repro.crf.params import CrfParams
from deeplab_repro.errors import ArgumentError, ResourceError
from tests.crf.naive import enclosing_simplex

SIZE = 37, 50


def corner_points(params):
    """Features of the image's four corners with the extreme colours, and some between."""
    rng = np.random.default_rng(0)
    height, width = SIZE
    ends = rng.integers(0, 2, (150, 5)) * [width - 1, height - 1, 255, 255, 255]
    points = np.concatenate([ends, rng.random((100, 5)) * [width - 1, height - 1, 255, 255, 255]])
    points = points.astype(np.float32)
    sigmas = np.array([params.sigma_alpha] * 2 + [params.sigma_beta] * 3, np.float32)
    return points[:, :2] / np.float32(params.sigma_gamma), points / sigmas


@pytest.mark.parametrize("sigmas", [(50, 10, 3), (1, 2, 0.5), (3, 0.3, 40)])
def test_keys_of_vertices_and_of_their_neighbours_are_unique_and_within_bounds(sigmas):
    params = CrfParams(5, sigmas[0], sigmas[1], 3, sigmas[2])
    seen = {}
    for features, packing in zip(corner_points(params), packings(*SIZE, params), strict=True):
        d = features.shape[1]
        for point in features:
            for corner in enclosing_simplex(point)[0]:
                for axis in range(d + 1):
                    for sign in (-1, 0, 1):
                        vertex = np.array(corner) + sign
                        vertex[axis] -= sign * (d + 1)
                        remainder = int(vertex[0] % (d + 1))
                        quotients = (vertex - remainder) // (d + 1)
                        key = packing.origin + remainder + int(quotients @ packing.bases)
                        assert packing.start <= key < packing.stop
                        assert seen.setdefault(key, (d, *vertex.tolist())) == (d, *vertex.tolist())


def test_deviations_too_small_for_64_bits_are_named():
    packings(375, 500, CrfParams(4, 0.5, 0.5, 3, 0.1))
    with pytest.raises(ArgumentError) as caught:
        packings(7, 7, CrfParams(4, 1e-3, 0.03))
    assert re.search(r"sigma_alpha=0\.001 with sigma_beta=0\.03 is too small", str(caught.value))
    assert "\n" not in str(caught.value)


def test_more_pixels_than_indices_are_refused_before_memory_is_taken():
    with pytest.raises(ResourceError, match=r"20000x20000 has too many pixels .*238,609,293 fit"):
        build_lattice(None, 20_000, 20_000, CrfParams(4, 50, 10), Workspace())
