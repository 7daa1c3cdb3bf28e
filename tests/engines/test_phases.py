"""An image's phases, and convolutions as products of matrices: each the same as the obvious way."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplab_repro.engines import product
from deeplab_repro.engines.phases import clear_beyond, from_phases, phases_shape, to_phases
from deeplab_repro.net.layers import Convolution
from tests.slow_layers import convolve, one_layer, random_input, weights

shapes = st.tuples(*[st.integers(1, 2)] * 2, *[st.integers(1, 13)] * 2)
holes = st.tuples(st.integers(1, 15), st.integers(1, 5))
pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


@settings(max_examples=25, deadline=None)
@given(shapes, holes)
def test_phases_are_every_so_many_th_row_and_column(shape, hole):
    data = random_input(*shape)
    phases = to_phases(data, hole)
    assert phases.shape == phases_shape(shape, hole)
    padded = np.zeros((*shape[:2], phases.shape[2] * hole[0], phases.shape[3] * hole[1]))
    padded[:, :, : shape[2], : shape[3]] = data
    expected = [
        image[:, y :: hole[0], x :: hole[1]]
        for image in padded
        for y in range(hole[0])
        for x in range(hole[1])
    ]
    np.testing.assert_array_equal(phases, expected)
    np.testing.assert_array_equal(from_phases(phases, hole, shape), data)


@settings(max_examples=25, deadline=None)
@given(shapes, holes)
def test_what_lies_beyond_the_image_is_cleared_and_nothing_else(shape, hole):
    phases = np.ones(phases_shape(shape, hole), np.float32)
    clear_beyond(phases, hole, shape[2:])
    np.testing.assert_array_equal(phases, to_phases(np.ones(shape, np.float32), hole))


@pytest.mark.parametrize("blas_threads", ["1", "2"])
@settings(max_examples=15, deadline=None)
@given(
    st.tuples(st.integers(1, 2), st.just(3), st.integers(5, 12), st.integers(5, 12)),
    *[pairs] * 4,
    st.booleans(),
    st.booleans(),
)
def test_products(blas_threads, shape, kernel, pad, stride, hole, bias, relu):
    op = Convolution(4, kernel, pad, stride, hole, bias=bias)
    arrays = weights(one_layer(op, shape))
    data = random_input(*shape)
    expected = convolve(data, op, *arrays)
    if relu:
        expected = expected.clip(min=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENBLAS_NUM_THREADS", blas_threads)
        patch.setattr(product, "_COLUMNS", 15)
        found = product.convolve(data, op, *arrays, relu=relu)
    assert found.dtype == np.float32
    # Sums of at most 27 products of values up to about 200: float32 errs by 1e-4 and less.
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)
