import inspect
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplab_repro.pydensecrf import densecrf as dcrf
from deeplab_repro.pydensecrf.utils import create_pairwise_bilateral, create_pairwise_gaussian


def softmax(x):
    y = np.exp(x - x.max(axis=0))
    return y / y.sum(axis=0)


def random_energies(rng, labels, points):
    return rng.uniform(0.1, 4, (labels, points)).astype(np.float32)


def random_compat(rng, labels, kind):
    if kind == 0:
        return float(rng.uniform(-1, 3))
    return rng.uniform(-2, 1, (labels,) * kind).astype(np.float32)


def pairwise_crf(energies, features, compat, normalization=dcrf.NORMALIZE_SYMMETRIC):
    crf = dcrf.DenseCRF(energies.shape[1], energies.shape[0])
    crf.setUnaryEnergy(energies)
    crf.addPairwiseEnergy(features, compat, normalization=normalization)
    return crf


@settings(max_examples=15, deadline=None)
@given(
    size=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    labels=st.integers(1, 8),
    normalization=st.sampled_from(dcrf.NormalizationType),
    kind=st.integers(0, 2),
    seed=st.integers(0, 99),
)
def test_steps_add_up_to_inference(size, labels, normalization, kind, seed):
    rng = np.random.default_rng(seed)
    width, height = size
    crf = dcrf.DenseCRF2D(width, height, labels)
    crf.setUnaryEnergy(random_energies(rng, labels, width * height))
    image = rng.integers(0, 256, (height, width, 3), np.uint8)
    compat = random_compat(rng, labels, kind)
    crf.addPairwiseGaussian((2, 1.5), compat, normalization=normalization)
    crf.addPairwiseBilateral(9, (30, 60, 90), image, compat, normalization=normalization)
    q, tmp1, tmp2 = crf.startInference()
    for steps in range(3):
        whole = crf.inference(steps)
        assert (whole.dtype, whole.shape) == (np.float32, (labels, width * height))
        assert (whole >= 0).all()
        np.testing.assert_allclose(whole.sum(axis=0), 1, atol=1e-5)
        np.testing.assert_allclose(q, whole, atol=1e-6)
        assert crf.stepInference(q, tmp1, tmp2) is None


@settings(max_examples=12, deadline=None)
@given(
    points=st.integers(1, 20),
    labels=st.integers(1, 6),
    d=st.integers(1, 6),
    normalization=st.sampled_from(dcrf.NormalizationType),
    seed=st.integers(0, 99),
)
def test_potts_is_a_vector_and_a_matrix_too(points, labels, d, normalization, seed):
    rng = np.random.default_rng(seed)
    energies = random_energies(rng, labels, points)
    features = rng.normal(size=(d, points)).astype(np.float32)
    ones, identity = np.ones(labels, np.float32), np.eye(labels, dtype=np.float32)
    found = [
        pairwise_crf(energies, features, compat, normalization).inference(2)
        for compat in (1.5, -1.5 * ones, -1.5 * identity)
    ]
    np.testing.assert_allclose(found[1], found[0], atol=1e-5)
    np.testing.assert_allclose(found[2], found[0], atol=1e-5)


@pytest.mark.parametrize(
    "normalization", [dcrf.NORMALIZE_BEFORE, dcrf.NORMALIZE_AFTER, dcrf.NORMALIZE_SYMMETRIC]
)
@pytest.mark.parametrize("kind", [0, 1, 2])
def test_points_in_one_place_receive_the_mean(normalization, kind):
    """All kernel values are equal there, so one step is known without the lattice."""
    rng = np.random.default_rng(kind)
    energies, compat = random_energies(rng, 3, 8), random_compat(rng, 3, kind)
    q = pairwise_crf(energies, np.ones((2, 8), np.float32), compat, normalization).inference(1)
    mean = softmax(-energies).mean(axis=1, keepdims=True)
    cost = {0: lambda: -compat * mean, 1: lambda: compat[:, None] * mean}
    matrix = lambda: (compat + compat.T) / 2 @ mean  # noqa: E731
    np.testing.assert_allclose(q, softmax(-energies - cost.get(kind, matrix)()), atol=1e-5)


def test_a_matrix_says_which_labels_go_together():
    """Label 1 is cheap beside label 0 and dear beside label 2."""
    energies = np.array([[0, 9, 9, 1], [9, 9, 9, 1], [9, 0, 0, 1]], np.float32)
    costs = np.array([[0, -9, 0], [-9, 0, 9], [0, 9, 0]], np.float32)
    places = np.array([[0, 50, 100, 0.1]], np.float32)  # the last beside the first, of label 0
    q = pairwise_crf(energies, places, costs).inference(5)
    assert q.argmax(axis=0).tolist() == [0, 2, 2, 1]


def test_positions_and_colours_are_those_of_utils():
    rng = np.random.default_rng(0)
    width, height = 7, 5
    image = rng.integers(0, 256, (height, width, 3), np.uint8)
    energies = random_energies(rng, 4, width * height)
    flat = dcrf.DenseCRF(width * height, 4)
    flat.setUnaryEnergy(energies)
    flat.addPairwiseEnergy(create_pairwise_gaussian((2, 3), (height, width))[[1, 0]], 3)
    bilateral = create_pairwise_bilateral((8, 9), (20, 30, 40), image, chdim=2)
    flat.addPairwiseEnergy(bilateral[[1, 0, 2, 3, 4]], 5)
    crf = dcrf.DenseCRF2D(width, height, 4)
    crf.setUnaryEnergy(energies)
    crf.addPairwiseGaussian(sxy=(3, 2), compat=3)
    crf.addPairwiseBilateral(sxy=(9, 8), srgb=(20, 30, 40), rgbim=image, compat=5)
    np.testing.assert_array_equal(crf.inference(4), flat.inference(4))


def test_without_a_kernel_the_marginals_are_the_softmax():
    energies = random_energies(np.random.default_rng(0), 5, 11)
    crf = dcrf.DenseCRF(11, 5)
    crf.setUnaryEnergy(energies)
    for iterations in (0, 3):
        np.testing.assert_allclose(crf.inference(iterations), softmax(-energies), atol=1e-6)


def test_divergence_without_a_kernel_is_known():
    """Q is the distribution itself then; what is missing is the constant, minus log Z."""
    energies = random_energies(np.random.default_rng(0), 5, 11)
    crf = dcrf.DenseCRF(11, 5)
    crf.setUnaryEnergy(energies)
    q, *_ = crf.startInference()
    least = crf.klDivergence(q)
    assert isinstance(least, float)
    assert least == pytest.approx(-np.log(np.exp(-energies).sum(axis=0)).sum(), abs=1e-4)
    uniform = np.full_like(q, 0.2)
    kl = (0.2 * np.log(0.2 / softmax(-energies))).sum()
    assert crf.klDivergence(uniform) - least == pytest.approx(kl, abs=1e-4)


def test_divergence_of_one_step_of_gradient_is_known():
    """KL of a Potts model on points in one place: their mean meets itself."""
    rng = np.random.default_rng(0)
    energies = random_energies(rng, 3, 8)
    crf = pairwise_crf(energies, np.zeros((2, 8), np.float32), 2.5)
    q = rng.dirichlet(np.ones(3), 8).T.astype(np.float32)
    pairs = 2.5 * 8 * (q.mean(axis=1) ** 2).sum()
    expected = (q * (np.log(q) + energies)).sum() - pairs
    assert crf.klDivergence(q) == pytest.approx(expected, abs=1e-4)


def test_divergence_falls_as_weakly_coupled_points_settle():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(2, 60)).astype(np.float32)
    crf = pairwise_crf(random_energies(rng, 3, 60), features, 1.0)
    q, tmp1, tmp2 = crf.startInference()
    divergences = [crf.klDivergence(q)]
    for _ in range(5):
        crf.stepInference(q, tmp1, tmp2)
        divergences.append(crf.klDivergence(q))
    assert (np.diff(divergences) < 1e-4).all()
    assert divergences[-1] < divergences[0] - 0.1


def test_impossible_labels_stay_impossible_and_count_nothing():
    energies = random_energies(np.random.default_rng(0), 3, 8)
    energies[1, ::2] = np.inf
    crf = pairwise_crf(energies, np.zeros((2, 8), np.float32), 3)
    q = crf.inference(3)
    assert (q[1, ::2] == 0).all()
    assert (q[1, 1::2] > 0).all()
    assert np.isfinite(crf.klDivergence(q))


def test_very_improbable_labels_keep_a_logarithm():
    """Scripts take log(Q) of the result; the original CRF's exp would be 0 below exp(-20)."""
    energies = np.array([[0, 0], [50, 40], [65, 60]], np.float32)
    crf = pairwise_crf(energies, np.zeros((2, 2), np.float32), 0)
    np.testing.assert_allclose(np.log(crf.inference(2)), -energies, atol=1e-2)


def test_arguments_are_copied_and_marginals_are_the_callers():
    rng = np.random.default_rng(0)
    energies = random_energies(rng, 3, 8)
    features = rng.normal(size=(2, 8)).astype(np.float32)
    crf = pairwise_crf(energies, features, 2)
    expected = pairwise_crf(energies.copy(), features.copy(), 2).inference(2)
    energies[:] = 1
    features[:] = 0
    found = crf.inference(2)
    np.testing.assert_array_equal(found, expected)
    found[:] = 0
    np.testing.assert_array_equal(crf.inference(2), expected)


def test_arrays_need_not_be_contiguous():
    rng = np.random.default_rng(0)
    width, height, labels = 6, 4, 3
    energies = random_energies(rng, labels, width * height)
    image = rng.integers(0, 256, (height, width, 3), np.uint8)
    compat = rng.normal(size=(labels, labels)).astype(np.float32)
    found = []
    for layout in (
        np.ascontiguousarray,
        np.asfortranarray,
        lambda x: np.repeat(x, 2, -1)[..., ::2],
    ):
        crf = dcrf.DenseCRF2D(width, height, labels)
        crf.setUnaryEnergy(layout(energies))
        crf.addPairwiseEnergy(layout(energies[:2]), layout(compat))
        crf.addPairwiseBilateral(8, 20, layout(image), layout(compat[0]))
        q, *rest = crf.startInference()
        q = layout(q)
        crf.stepInference(q, *rest)
        found.append(q)
    np.testing.assert_array_equal(found[1], found[0])
    np.testing.assert_array_equal(found[2], found[0])


def test_several_python_threads_at_once():
    """As people run them over many images."""

    def refine(seed):
        rng = np.random.default_rng(seed)
        crf = dcrf.DenseCRF2D(20, 15, 4)
        crf.setUnaryEnergy(random_energies(rng, 4, 300))
        crf.addPairwiseGaussian(3, 3)
        crf.addPairwiseBilateral(20, 30, rng.integers(0, 256, (15, 20, 3), np.uint8), 5)
        return crf.inference(20)

    alone = [refine(seed) for seed in range(8)]
    with ThreadPoolExecutor(4) as pool:
        for found, expected in zip(pool.map(refine, range(8)), alone, strict=True):
            np.testing.assert_array_equal(found, expected)


def test_names_and_defaults_are_pydensecrfs():
    assert [int(kernel) for kernel in (dcrf.CONST_KERNEL, dcrf.DIAG_KERNEL, dcrf.FULL_KERNEL)] == [
        0,
        1,
        2,
    ]
    assert [member.name for member in dcrf.NormalizationType] == [
        "NO_NORMALIZATION",
        "NORMALIZE_BEFORE",
        "NORMALIZE_AFTER",
        "NORMALIZE_SYMMETRIC",
    ]
    assert all(getattr(dcrf, member.name) is member for member in dcrf.NormalizationType)
    first = {
        "addPairwiseEnergy": ["features"],
        "addPairwiseGaussian": ["sxy"],
        "addPairwiseBilateral": ["sxy", "srgb", "rgbim"],
    }
    for method, names in first.items():
        parameters = inspect.signature(getattr(dcrf.DenseCRF2D, method)).parameters
        assert list(parameters) == ["self", *names, "compat", "kernel", "normalization"]
        assert parameters["kernel"].default == dcrf.DIAG_KERNEL
        assert parameters["normalization"].default == dcrf.NORMALIZE_SYMMETRIC
    step = inspect.signature(dcrf.DenseCRF.stepInference).parameters
    assert list(step) == ["self", "Q", "tmp1", "tmp2"]


def test_whole_floats_count_points_and_iterations():
    crf = dcrf.DenseCRF2D(8 / 2, np.int64(2), 3.0)
    crf.setUnaryEnergy(random_energies(np.random.default_rng(0), 3, 8))
    crf.addPairwiseGaussian(np.float32(3), np.int64(3), 1, 2)
    assert crf.inference(10.0).shape == (3, 8)
