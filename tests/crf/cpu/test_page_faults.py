"""The CRF uses the memory of the call before again, also in a program that is not ours."""

import os
import subprocess
import sys

import pytest

SCRIPT = """
import resource
import numpy as np
from deeplab_repro.crf.dense_crf import dense_crf
from deeplab_repro.crf.params import CrfParams
rng = np.random.default_rng(0)
image = np.repeat(np.repeat(rng.integers(0, 255, (12, 16, 3), np.uint8), 16, 0), 16, 1)
probs = np.full((21, *image.shape[:2]), 1 / 21, np.float32)
for call in range(6):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    dense_crf(image, probs, CrfParams(4, 121, 5), 2)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Linux only")
def test_calls_after_the_first_fault_little_in():
    """Its arrays have 4,900 pages of 4096 bytes; Numba's own, which vary, have some hundred."""
    command = [sys.executable, "-c", SCRIPT]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 1000
