"""Grids of the CRF's parameters: what is none."""

import pytest

from deeplab_repro.errors import ArgumentError
from deeplab_repro.voc.grid import SearchGrid
from tests.conftest import assert_one_line


@pytest.mark.parametrize(
    ("axes", "parts"),
    [
        (((), (1,), (1,)), ["w1 is empty"]),
        (((5, 5), (1,), (1,)), ["w1 is 5,5", "increase"]),
        (((5,), (0, 1), (1,)), ["sigma_alpha is 0,1", "above 0"]),
        (((5,), (1,), (1, 2e6)), ["sigma_beta is 1,2000000", "at most 1e6"]),
        (((5,), (1e-308, 1), (1,)), ["sigma_alpha is 1e-308,1", "from 1e-9"]),
        (((5,), (1,), (float("nan"),)), ["sigma_beta is nan"]),
        ((range(1, 102), (1,), (1,)), ["w1 has 101 values"]),
        ((range(1, 101), range(1, 101), (1, 2)), ["20,000 settings", "at most 10,000"]),
    ],
)
def test_a_grid_that_is_none(axes, parts):
    with pytest.raises(ArgumentError) as error:
        SearchGrid(*map(tuple, axes))
    assert_one_line(error, *parts)
