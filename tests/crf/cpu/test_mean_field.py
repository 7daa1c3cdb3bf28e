import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplab_repro.crf.arguments import memory_needed
from deeplab_repro.crf.cpu import lattice, mean_field
from deeplab_repro.crf.cpu.mean_field import NORMALIZATIONS, Kernel, MeanField
from tests.crf.naive import NaiveLattice, softmax

# Float32 against float64, after a few iterations that each add some rounding to the last.
TOLERANCE = 5e-6


def naive_message(kernel, q):
    """What a kernel adds to log q: L x N float64."""
    matrix = NaiveLattice(kernel.features.T).kernel
    response = matrix.sum(axis=1) + 1e-20
    before = after = np.ones(len(response))
    if kernel.normalization == "before":
        before = 1 / response
    elif kernel.normalization == "after":
        after = 1 / response
    elif kernel.normalization == "symmetric":
        before = after = 1 / np.sqrt(response)
    filtered = (q * before) @ matrix.T * after
    compatibility = np.asarray(kernel.compatibility)
    if compatibility.ndim == 2:
        return compatibility @ filtered
    return np.reshape(compatibility, (-1, 1)) * filtered


def naive_run(energies, kernels, iterations):
    q = softmax(-energies)
    for _ in range(iterations):
        q = softmax(-energies + sum((naive_message(kernel, q) for kernel in kernels), 0))
    return q


def random_kernel(rng, n, labels, d=2, compatibility="scalar", normalization="after"):
    features = (rng.random((d, n)) * 4).astype(np.float32)
    values = {
        "scalar": 2.5,
        "vector": rng.normal(0, 2, labels).astype(np.float32),
        "matrix": rng.normal(0, 1, (labels, labels)).astype(np.float32),
    }
    return Kernel(features, values[compatibility], normalization)


def random_energies(rng, labels, n):
    return rng.normal(0, 2, (labels, n)).astype(np.float32)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("compatibility", ["scalar", "vector", "matrix"])
def test_every_normalisation_and_compatibility(normalization, compatibility):
    rng = np.random.default_rng(3)
    n, labels = 53, 5
    energies = random_energies(rng, labels, n)
    kernels = [
        random_kernel(rng, n, labels, 2, compatibility, normalization),
        random_kernel(rng, n, labels, 3),
    ]
    if normalization == "none":  # or everything saturates at 0 and 1
        kernels[0] = Kernel(kernels[0].features, kernels[0].compatibility * 0.1, normalization)
    field = MeanField(energies, kernels, energies=True)
    marginals = field.run(3)
    expected = naive_run(energies, kernels, 3)
    np.testing.assert_allclose(marginals, expected, atol=TOLERANCE)

    # Step by step it is the same, also on the first call.
    field = MeanField(energies, kernels, energies=True)
    q = field.step(softmax(-energies))
    np.testing.assert_allclose(q, naive_run(energies, kernels, 1), atol=TOLERANCE)
    np.testing.assert_allclose(field.step(field.step(q)), marginals, atol=TOLERANCE)
    np.testing.assert_allclose(field.run(3), marginals, atol=0)

    message = sum(naive_message(kernel, 3 * expected) for kernel in kernels)
    scaled = field.message((3 * expected).astype(np.float32))  # need not sum to 1
    np.testing.assert_allclose(scaled, message, atol=1e-5 * np.abs(message).max())


@settings(max_examples=20, deadline=None)
@given(
    labels=st.sampled_from([1, 2, 7, 8, 9, 23, 24, 31, 32, 33, 64, 100]),
    n=st.integers(1, 45),
    dimensions=st.lists(st.integers(1, 5), max_size=3),
    chunks=st.integers(1, 4),
    seed=st.integers(0, 99),
    energies=st.booleans(),
)
def test_any_sizes(labels, n, dimensions, chunks, seed, energies):
    rng = np.random.default_rng(seed)
    unary = random_energies(rng, labels, n)
    kernels = [random_kernel(rng, n, labels, d) for d in dimensions]
    starts = np.unique(np.append(np.arange(chunks) * n // chunks // 8 * 8, n + (n % 4 > 0)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lattice, "chunk_starts", lambda *_: starts.copy())
        given = unary if energies else softmax(-unary).astype(np.float32)
        field = MeanField(given, kernels, energies=energies)
        marginals = field.run(2)
    np.testing.assert_allclose(marginals, naive_run(unary, kernels, 2), atol=TOLERANCE)


def test_weights_too_large_for_the_short_way():
    """Messages of hundreds: exp of them would overflow without the maximum subtracted."""
    rng = np.random.default_rng(5)
    energies = 100 * random_energies(rng, 4, 40)
    kernel = random_kernel(rng, 40, 4)
    kernels = [Kernel(kernel.features, 300.0)]
    expected = naive_run(energies, kernels, 2)
    # Energies in the hundreds leave 3e-5 of absolute precision.
    for field in (
        MeanField(energies, kernels, energies=True),
        MeanField(softmax(-energies / 100).astype(np.float32), kernels),
    ):
        marginals = field.run(2)
        assert np.isfinite(marginals).all()
        np.testing.assert_allclose(marginals.sum(axis=0), 1, atol=1e-5)
    np.testing.assert_allclose(
        MeanField(energies, kernels, energies=True).run(2), expected, atol=2e-3
    )


def test_infinite_energies_are_impossible_labels():
    rng = np.random.default_rng(6)
    energies = random_energies(rng, 3, 20)
    energies[1, :7] = np.inf
    field = MeanField(energies, [random_kernel(rng, 20, 3)], energies=True)
    marginals = field.run(4)
    assert (marginals[1, :7] == 0).all()
    assert (marginals[1, 7:] > 0).all()


def test_every_iteration_can_be_seen():
    rng = np.random.default_rng(7)
    energies = random_energies(rng, 3, 20)
    field = MeanField(energies, [random_kernel(rng, 20, 3)], energies=True)
    seen = []
    last = field.run(4, lambda i, q: seen.append((i, q.copy())))
    assert [i for i, _ in seen] == [1, 2, 3, 4]
    for i, q in seen:
        np.testing.assert_array_equal(q, field.run(i))
    np.testing.assert_array_equal(last, seen[-1][1])


@pytest.mark.parametrize("labels", [1, 2, 9, 40, 256])
@pytest.mark.parametrize("n", [1, 7, 150])
@pytest.mark.parametrize("energies", [False, True])
def test_labels_are_of_the_largest_marginals(labels, n, energies):
    rng = np.random.default_rng(8)
    unary = rng.integers(1, 4, (labels, n)).astype(np.float32)  # has ties
    if not energies:
        unary /= unary.sum(axis=0)
    field = MeanField(unary, [random_kernel(rng, n, labels)], energies=energies)
    for iterations in (0, 2):
        marginals = field.run(iterations)
        found, kept = field.infer(iterations)
        np.testing.assert_array_equal(kept, marginals)
        np.testing.assert_array_equal(found, marginals.argmax(axis=0))
        alone, nothing = field.infer(iterations, marginals=False)
        np.testing.assert_array_equal(alone, found)
        assert nothing.shape == (0, n)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_factors_of_large_photos_give_the_bits_of_products(normalization, monkeypatch):
    rng = np.random.default_rng(9)
    unary = softmax(random_energies(rng, 21, 50)).astype(np.float32)
    kernels = [random_kernel(rng, 50, 21, d, normalization=normalization) for d in (2, 5)]
    expected = MeanField(unary, kernels)
    monkeypatch.setattr(mean_field, "MOST_WITH_PRODUCTS", 49)
    found = MeanField(unary, kernels)
    np.testing.assert_array_equal(found.run(3), expected.run(3))
    np.testing.assert_array_equal(found.message(unary), expected.message(unary))
    assert found._factors.shape == (50, 2)


@pytest.mark.parametrize("labels", range(1, 256, 7))
def test_memory_is_asked_for_rows_as_wide_as_they_are(labels):
    row = memory_needed(labels, 10**6, marginals=False) - memory_needed(1, 10**6, marginals=False)
    lanes = MeanField(np.full((labels, 8), 1 / labels, np.float32), [])._lanes
    assert row == pytest.approx(4 * (lanes - 8) * (10**6 + 2 * (130_000 + 300 * 10**3)), abs=2)
