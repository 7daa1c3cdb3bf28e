import numpy as np
import pytest
from naive import NaiveLattice, enclosing_simplex

from deeplab_repro.crf.features import axis_scales, largest_coordinate
from deeplab_repro.crf.jit import jit
from deeplab_repro.crf.lattice import build_lattice, embed


def lattice_keys(keys, corners, i):
    """All d + 1 coordinates of point i's corners; the lattice keeps d, they sum to 0."""
    return [(*map(int, keys[c]), -int(keys[c].sum())) for c in corners[i]]


@pytest.mark.parametrize("d", [1, 2, 5])
def test_simplices_and_weights_are_those_of_the_definition(d):
    points = (np.random.default_rng(d).random((600, d)) * 40).astype(np.float32)
    points[0] = 0  # every residual ties
    corners, weights, keys, _ = embed(points, axis_scales(d))
    for i, point in enumerate(points):
        expected_keys, expected_weights = enclosing_simplex(point)
        assert lattice_keys(keys, corners, i) == expected_keys
        np.testing.assert_allclose(weights[i], expected_weights, atol=2e-6)
    assert len({tuple(key) for key in keys}) == len(keys)


@pytest.mark.parametrize(("value", "corner0"), [(1.5, 0), (4.5, 6), (7.5, 6)])
def test_halves_round_to_even(value, corner0):
    # Elevated to (value, -value, 0), of which a third is 0.5, 1.5, 2.5.
    points = np.array([[value, 0]], np.float32)
    corners, _, keys, _ = embed(points, np.ones(2, np.float32))
    assert lattice_keys(keys, corners, 0)[0] == (corner0, -corner0, 0)


def test_points_beyond_a_multiple_of_four_bring_the_vertices_of_zero():
    far = np.full((5, 5), 100, np.float32)
    assert build_lattice(far[:4]).vertices == 6
    assert build_lattice(far).vertices == 12


def test_neighbours_are_mutual_and_one_step_away():
    points = (np.random.default_rng(0).random((300, 2)) * 20).astype(np.float32)
    _, _, keys, _ = embed(points, axis_scales(2))
    full = np.column_stack([keys, -keys.sum(axis=1)])
    neighbours = build_lattice(points).neighbours
    m = len(keys)
    where = {tuple(key): vertex for vertex, key in enumerate(full)}
    for axis in range(3):
        step = np.ones(3, int)
        step[axis] -= 3
        for side, sign in ((0, -1), (1, 1)):
            expected = [where.get(tuple(key + sign * step), m) for key in full]
            assert neighbours[axis, :, side].tolist() == expected


def test_naive_lattice_is_nearly_a_gaussian():
    """The oracle itself: against exp(-|x|^2 / 2), which the lattice only approximates."""
    y, x = np.indices((12, 12))
    points = (np.column_stack([x.ravel(), y.ravel()]) / 3).astype(np.float32)
    kernel = NaiveLattice(points).kernel
    exact = np.exp(-((points[:, None] - points[None]) ** 2).sum(axis=2) / 2)
    values = np.random.default_rng(0).random((len(points), 3))
    smooth = [k @ values / k.sum(axis=1, keepdims=True) for k in (kernel, exact)]
    np.testing.assert_allclose(smooth[0], smooth[1], atol=0.03)


def test_coordinates_stay_within_the_bound():
    extents = [30.0, 20.0, 51.0, 51.0, 51.0]
    rng = np.random.default_rng(2)
    corner_points = rng.integers(0, 2, (200, 5)) * np.array(extents)
    _, _, keys, _ = embed(corner_points.astype(np.float32), axis_scales(5))
    assert np.abs(keys).max() <= largest_coordinate(extents) + 12


def test_a_function_that_cannot_be_cached_still_runs():
    namespace = {}
    exec(compile("def twice(x):\n    return 2 * x", "<no such file>", "exec"), namespace)
    assert jit()(namespace["twice"])(21) == 42
