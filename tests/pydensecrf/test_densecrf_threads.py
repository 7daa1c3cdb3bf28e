"""CRFs in several Python threads at once, as people run them over many images."""

import subprocess
import sys

import pytest

THREADS = """
from concurrent.futures import ThreadPoolExecutor
import numpy as np
from deeplab_repro.pydensecrf import densecrf

def refine(seed):
    rng = np.random.default_rng(seed)
    crf = densecrf.DenseCRF2D(20, 15, 4)
    crf.setUnaryEnergy(rng.uniform(0, 4, (4, 300)).astype(np.float32))
    crf.addPairwiseGaussian(3, 3)
    crf.addPairwiseBilateral(20, 30, rng.integers(0, 256, (15, 20, 3), np.uint8), 5)
    return crf.inference(20)

expected = [refine(seed) for seed in range(8)]
with ThreadPoolExecutor(4) as pool:
    for found, alone in zip(pool.map(refine, range(8)), expected, strict=True):
        np.testing.assert_array_equal(found, alone)
"""


@pytest.mark.parametrize("layer", ["default", "workqueue"])
def test_threads(layer, monkeypatch):
    """workqueue is what Numba falls back to; it aborts when two threads enter it."""
    monkeypatch.setenv("NUMBA_THREADING_LAYER", layer)
    subprocess.run([sys.executable, "-c", THREADS], check=True, timeout=120)
