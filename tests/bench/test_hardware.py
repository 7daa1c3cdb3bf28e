"""What a bench tells of the machine that it runs on."""

import numpy as np
import pytest

from deeplab_repro.bench.hardware import peak_above, product_rate, reset_peak, this_machine


def test_machine_names_the_packages_that_are_there():
    assert f"numpy {np.__version__}" in this_machine()
    assert "cores of" in this_machine()
    assert this_machine("numpy", "no-such-package").endswith(f", numpy {np.__version__}")


def test_rate_of_products():
    assert 1e8 < product_rate() < 1e15


@pytest.mark.skipif(not reset_peak(), reason="the peak of memory is not known here")
def test_the_peak_of_memory_is_of_what_happens_after():
    big = np.ones(40_000_000, np.uint8)
    del big
    before = reset_peak()
    held = np.ones(25_000_000, np.uint8)
    peak = peak_above(before)
    assert 24e6 < peak < 30e6
    assert held.sum() == 25_000_000
