import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplab_repro.crf.cpu import keys, lattice
from deeplab_repro.crf.cpu.keys import Points
from deeplab_repro.crf.cpu.lattice import PARTS, build_lattice, chunk_starts
from deeplab_repro.crf.cpu.simplices import embed
from deeplab_repro.crf.features import axis_scales, largest_coordinate
from tests.crf.naive import NaiveLattice, enclosing_simplex, vertices

LANES = 8


def random_points(d, n, extent, seed=0):
    return (np.random.default_rng(seed).random((d, n)) * extent).astype(np.float32)


def embedded(points, scales=None):
    """Of d x N points (N a multiple of 8): keys of the d + 1 corners of each, weights, and a
    function from a vertex's coordinates to its key."""
    d, n = points.shape
    corners = np.empty((n, d + 1), np.uint32)
    weights = np.empty((n, d + 1), np.float32)
    features, own_scales, units, origins = Points(points, n).part(0, n)
    scales = own_scales if scales is None else scales
    vertices = embed(corners, weights, 0, features, scales, units, origins, LANES, 0, n, 0)
    assert len(np.unique(vertices, axis=0)) == len(vertices)
    assert (corners % LANES == 0).all()

    def key_of(coordinates):
        remainder = coordinates[0] % (d + 1)
        quotients = [(c - remainder) // (d + 1) for c in coordinates]
        key = origins[0] + np.array([remainder, 0])
        return (key + sum(q * unit for q, unit in zip(quotients, units, strict=True))).tolist()

    return vertices[corners // LANES], weights, key_of


@pytest.mark.parametrize("d", [1, 2, 5, 8])
def test_simplices_and_weights_are_those_of_the_definition(d):
    points = random_points(d, 160, 40, d)
    points[:, 0] = 0  # every residual ties
    found, weights, key_of = embedded(points)
    for i, point in enumerate(points.T):
        expected_corners, expected_weights = enclosing_simplex(point)
        assert found[i].tolist() == [key_of(corner) for corner in expected_corners]
        # Two roundings of numbers up to 300, divided by d + 1.
        np.testing.assert_allclose(weights[i], expected_weights, atol=2e-5)


@pytest.mark.parametrize(("value", "corner0"), [(1.5, 0), (4.5, 6), (7.5, 6)])
def test_halves_round_to_even(value, corner0):
    # Elevated to (value, -value, 0), of which a third is 0.5, 1.5, 2.5.
    points = np.zeros((2, 8), np.float32)
    points[0] = value
    found, _, key_of = embedded(points, np.ones(2, np.float32))
    assert found[0, 0].tolist() == key_of((corner0, -corner0, 0))


@settings(max_examples=15, deadline=None)
@given(
    d=st.integers(1, 6),
    n=st.integers(1, 45),
    extent=st.sampled_from([0.1, 3.0, 100.0]),
    seed=st.integers(0, 99),
    chunks=st.integers(1, 5),
    limits=st.sampled_from([{}, {"KEY_LIMIT": 1}, {"LARGEST_COORDINATE": 0}]),
)
def test_vertices_chains_and_ghosts_are_those_of_the_definition(d, n, extent, seed, chunks, limits):
    """Also with the keys that wrap around, and with points that count as far away."""
    points = random_points(d, n, extent, seed)
    starts = np.unique(np.append(np.arange(chunks) * n // chunks // 8 * 8, n + (n % 4 > 0)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lattice, "chunk_starts", lambda *_: starts)
        for name, value in limits.items():
            patch.setattr(keys, name, value)
        built = build_lattice([points], LANES)
    naive = NaiveLattice(points.T)
    assert vertices(built) == [len(naive.vertices)]
    # Filter one-hot values as steps.py does, in plain NumPy.
    values = np.zeros((built.rows[-1], n))
    for first, last, row in zip(built.points, built.points[1:], built.rows, strict=False):
        for i in range(first, last):
            values[row + built.corners[i] // LANES, i] += built.weights[i]
    ghosts, owners = built.ghosts.T
    assert len(built.ghosts) == built.rows[-1] - len(naive.vertices)
    for ghost, owner in built.ghosts:
        values[owner] += values[ghost]
    for axis in built.parts:
        assert axis.shape in ((2,), (PARTS + 1,))
        assert (np.diff(axis) >= 0).all()
        assert not np.isin(built.chains[axis[0] : axis[-1]], ghosts).any()
        blurred = values.copy()
        for this, following in zip(
            built.chains[axis[0] : axis[-1]], built.chains[axis[0] + 1 : axis[-1]], strict=False
        ):
            if this >= 0:
                after = max(following, ~following)
                blurred[this] += values[after] / 2
                blurred[after] += values[this] / 2
        for cut in axis[1:]:
            assert cut == axis[0] or built.chains[cut - 1] < 0
        values = blurred
    values[ghosts] = values[owners]
    kernel = np.empty((n, n))
    for first, last, row in zip(built.points, built.points[1:], built.rows, strict=False):
        for i in range(first, last):
            kernel[i] = built.weights[i] @ values[row + built.corners[i] // LANES]
    np.testing.assert_allclose(kernel / (1 + 2.0**-d), naive.kernel, atol=2e-5)


def test_points_beyond_a_multiple_of_four_bring_the_vertices_of_zero():
    far = np.full((5, 5), 100, np.float32)
    assert vertices(build_lattice([far[:, :4]], LANES)) == [6]
    assert vertices(build_lattice([far], LANES)) == [12]


def test_several_kernels_share_the_rows():
    points = random_points(3, 64, 10)
    both = build_lattice([points[:2], points], LANES)
    alone = [build_lattice([points[:2]], LANES), build_lattice([points], LANES)]
    assert vertices(both) == [*vertices(alone[0]), *vertices(alone[1])]
    assert both.kernel_starts.tolist() == [0, 3, 7]
    first = both.kernel_rows[0]
    assert np.diff(first).tolist() == vertices(both)
    assert (both.corners[:64, :3] == alone[0].corners[:64]).all()
    assert (both.corners[:64, 3:] == alone[1].corners[:64] + first[1] * LANES).all()


@pytest.mark.parametrize("n", [1, 7, 8, 100, 20_000, 187_500, 12_000_000])
def test_chunks_are_whole_vectors_apart(n):
    starts = chunk_starts(n, 9 * 24)
    assert starts[0] == 0
    assert starts[-1] == n
    assert (np.diff(starts) > 0).all()
    assert (starts[:-1] % 8 == 0).all()


def test_offsets_fit_32_bits():
    floats_a_point = 9 * 256
    starts = chunk_starts(100_000_000, floats_a_point)
    assert np.diff(starts).max() * floats_a_point < 2**32


@pytest.mark.parametrize(("d", "extent"), [(12, 30), (40, 30), (3, 1e6)])
def test_vertices_of_many_dimensions_or_far_away_are_told_apart(d, extent):
    """As many as there are, be their keys one integer, two, or random sums."""
    points = random_points(d, 80, extent)
    points[:, 40:] = points[:, :40]
    assert vertices(build_lattice([points], LANES)) == [40 * (d + 1)]  # far from each other


@pytest.mark.parametrize("d", [1, 2, 5])
def test_far_points_are_moved_by_vectors_of_the_lattice(d):
    far = random_points(d, 50, 1e7).astype(np.float64)
    units = np.stack([10 ** np.arange(d + 1), np.ones(d + 1, np.int64)], axis=1)
    near, added = keys.move_near(far, units)
    assert (added[:, 1] == 0).all()  # coordinates of a vertex sum to 0
    # Along the first axis of the lattice the features count alike, but for their scales.
    moved = axis_scales(d).astype(np.float64) @ (far - near) / (d + 1)
    np.testing.assert_allclose(moved, np.rint(moved), atol=1e-4)
    assert np.abs(near).max() < 2 * (d + 1)


def test_closing_gaps_keeps_what_is_near_and_what_is_far():
    features = np.array([[3e20, -5, 1e9, -4.5, 3e20], np.full(5, 2.0)])
    closer = keys.close_gaps(features)
    assert np.ptp(closer[1]) == 0
    distances = np.abs(features[0, :, None] - features[0])
    closed = np.abs(closer[0, :, None] - closer[0])
    assert (closed[distances < 1] == distances[distances < 1]).all()
    assert (closed[distances > 1] > 10).all()
    assert closed.max() < 100


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
    for point in np.random.default_rng(2).integers(0, 2, (200, 5)) * np.array(extents):
        corners, _ = enclosing_simplex(point)
        assert np.abs(np.array(corners)[:, :5]).max() <= largest_coordinate(extents) + 12
