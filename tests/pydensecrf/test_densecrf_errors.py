"""Every mistake is told in one line: what was found, what was expected, the mend."""

import tracemalloc

import numpy as np
import pytest

from deeplab_repro.errors import ArgumentError, DeepLabError, ResourceError
from deeplab_repro.pydensecrf import densecrf as dcrf
from deeplab_repro.pydensecrf import utils
from tests.conftest import assert_one_line

W, H, L = 5, 4, 3
RNG = np.random.default_rng(0)
P = RNG.dirichlet(np.ones(L), (H, W)).astype(np.float32)  # labels last
U = -np.log(np.moveaxis(P, -1, 0)).reshape(L, -1)
IMAGE = RNG.integers(0, 256, (H, W, 3), np.uint8)
FEATURES = np.zeros((2, W * H), np.float32)
BANDS = np.zeros((500, 1000, 9), np.uint8)
LARGE = BANDS[:, :, :3]
LARGE_FEATURES = np.zeros((5, 500_000), np.float32)


def crf():
    made = dcrf.DenseCRF2D(W, H, L)
    made.setUnaryEnergy(U)
    return made


def changed(array, value):
    array = array.copy()
    array[1, 3] = value
    return array


def refused(call, *told):
    with pytest.raises(ArgumentError) as error:
        call()
    assert_one_line(error, *told)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: dcrf.DenseCRF(0, 3), ["nvar is 0", "from 1"]),
        (lambda: dcrf.DenseCRF(5, -1), ["nlabels is -1"]),
        (lambda: dcrf.DenseCRF(5.5, 3), ["nvar is 5.5", "whole number"]),
        (lambda: dcrf.DenseCRF("5", 3), ["nvar is '5'"]),
        (lambda: dcrf.DenseCRF(np.inf, 3), ["nvar is inf"]),
        (lambda: dcrf.DenseCRF(np.nan, 3), ["nvar is nan"]),
        (lambda: dcrf.DenseCRF(np.zeros((50, 50)), 3), ["nvar is a ndarray"]),
        (lambda: dcrf.DenseCRF2D(0, 4, 3), ["width is 0"]),
        (lambda: dcrf.DenseCRF2D(5, None, 3), ["height is None"]),
        (lambda: dcrf.DenseCRF2D(5, 4, 0), ["nlabels is 0"]),
    ],
)
def test_sizes(make, told):
    refused(make, *told)


@pytest.mark.parametrize(
    ("unary", "told"),
    [
        (U.tolist(), ["u is a list", "float32"]),
        (U.astype(np.float64), ["u is float64", ".astype(np.float32)"]),
        (U.astype(np.float16), ["u is float16"]),
        (U.T, ["20x3", "expected 3x20", "use u.T"]),
        (U[:2], ["2x20", "expected 3x20"]),
        (U[:, :19], ["3x19"]),
        (U.reshape(L, H, W), ["3x4x5", "u.reshape(nlabels, -1)"]),
        (U.reshape(L, W, H), ["3x5x4", "swapped", "width first"]),
        (-np.log(P), ["4x5x3", "np.moveaxis(u, -1, 0).reshape(nlabels, -1)"]),
        (U[0], ["shape 20;"]),
        (changed(U, np.nan), ["1 values", "NaN"]),
        (changed(U, -np.inf), ["1 values", "-inf"]),
        (np.where(np.arange(W * H) == 7, np.float32(np.inf), U), ["every label at point 7"]),
        (np.exp(-U), ["probabilities", "-np.log(p)", "unary_from_softmax", "add 1"]),
        (-U, ["log-probabilities", "use -u", "add 1"]),
        (-np.log(P).reshape(L, -1), ["labels last", "np.moveaxis"]),
    ],
)
def test_unaries(unary, told):
    refused(lambda: dcrf.DenseCRF2D(W, H, L).setUnaryEnergy(unary), *told)


@pytest.mark.parametrize("energies", [np.exp(-U), -U, U + 5, -np.ones_like(U), np.zeros_like(U)])
def test_energies_that_only_look_strange_pass_once_1_is_added(energies):
    """The mend that messages offer for true energies changes no marginal."""
    plain = dcrf.DenseCRF(W * H, L)
    plain.setUnaryEnergy(energies + 1)
    expected = np.exp(-energies) / np.exp(-energies).sum(axis=0)
    np.testing.assert_allclose(plain.inference(0), expected, atol=1e-6)


def test_energies_that_sum_to_one_are_not_probabilities_below_zero_or_at_some_points_only():
    below = np.array([[-1], [1], [1]], np.float32).repeat(9, axis=1)
    somewhere = np.full((2, 200), 0.5, np.float32)
    somewhere[:, 150:] = 0.7
    for energies in (below, somewhere):
        plain = dcrf.DenseCRF(energies.shape[1], len(energies))
        plain.setUnaryEnergy(energies)
        expected = np.exp(-energies) / np.exp(-energies).sum(axis=0)
        np.testing.assert_allclose(plain.inference(0), expected, atol=1e-6)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("shift", [-1000, 1000])
def test_large_energies_raise_no_warnings(shift):
    plain = dcrf.DenseCRF(W * H, L)
    plain.setUnaryEnergy(U + shift)
    plain.addPairwiseEnergy(FEATURES, 0)
    np.testing.assert_allclose(plain.inference(2), np.exp(-U), atol=1e-3)


def test_single_label_and_single_point_are_never_taken_for_probabilities():
    one = dcrf.DenseCRF(6, 1)
    one.setUnaryEnergy(np.ones((1, 6), np.float32))
    np.testing.assert_array_equal(one.inference(2), 1)
    uniform = dcrf.DenseCRF(6, 3)
    uniform.setUnaryEnergy(np.full((3, 6), np.log(3), np.float32))
    np.testing.assert_allclose(uniform.inference(1), 1 / 3, rtol=1e-6)


@pytest.mark.parametrize(
    ("unary", "told"),
    [
        (lambda: U, ["ndarray", "setUnaryEnergy"]),
        (lambda: None, ["NoneType", "ConstUnary(U)"]),
        (dcrf.Unary, ["Unary", "LogisticUnary(L, f)"]),
        (lambda: dcrf.LogisticUnary(U, U), ["L and f", "3x20"]),
        (lambda: dcrf.LogisticUnary(U.T.astype(int), U), ["L is int64"]),
        (lambda: dcrf.LogisticUnary(U[:, :2], U[:2, :5]), ["3x5", "expected 3x20"]),
    ],
)
def test_unary_objects(unary, told):
    refused(lambda: crf().setUnary(unary()), *told)


@pytest.mark.parametrize(
    ("features", "told"),
    [
        (FEATURES.tolist(), ["features is a list"]),
        (FEATURES.astype(int), ["features is int64", ".astype(np.float32)"]),
        (FEATURES.T, ["20x2", "expected dx20", "features.T"]),
        (FEATURES[:, :7], ["2x7", "expected dx20"]),
        (FEATURES[:0], ["0x20"]),
        (FEATURES[0], ["shape 20;"]),
        (changed(FEATURES, np.nan), ["NaN"]),
        (changed(FEATURES, np.inf), ["infinite"]),
    ],
)
def test_features(features, told):
    refused(lambda: crf().addPairwiseEnergy(features, 3), *told)


@pytest.mark.parametrize(
    ("compat", "told"),
    [
        ([1, 2, 3], ["compat is a list", "np.array"]),
        (np.ones(L), ["compat is float64", ".astype(np.float32)"]),
        (np.ones(2, np.float32), ["shape 2;", "3 values", "3x3"]),
        (np.ones((2, 3), np.float32), ["shape 2x3"]),
        (np.ones((3, 3, 3), np.float32), ["shape 3x3x3"]),
        (np.full(L, np.nan, np.float32), ["NaN"]),
        (np.nan, ["compat is nan"]),
        (-np.inf, ["compat is -inf"]),
        (None, ["compat is a NoneType"]),
    ],
)
def test_compatibilities(compat, told):
    refused(lambda: crf().addPairwiseGaussian(3, compat), *told)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"kernel": 3}, ["kernel is 3", "CONST_KERNEL, DIAG_KERNEL, FULL_KERNEL"]),
        ({"kernel": None}, ["kernel is None"]),
        ({"normalization": 7}, ["normalization is 7", "NO_NORMALIZATION, NORMALIZE_BEFORE"]),
        ({"normalization": "after"}, ["normalization is 'after'"]),
    ],
)
def test_choices(options, told):
    refused(lambda: crf().addPairwiseGaussian(3, 3, **options), *told)


@pytest.mark.parametrize(
    ("sxy", "told"),
    [
        (0, ["sxy is 0", "above 0"]),
        ((3, -3), ["sxy is (3, -3)"]),
        (np.nan, ["sxy is nan"]),
        ("a", ["sxy is 'a'"]),
        (None, ["sxy is None"]),
        ((3, 2, 1), ["sxy has 3 values", "2: for x, y"]),
        (1e-40, ["sxy is 1e-40", "above 0 (from 1e-30)"]),
    ],
)
def test_deviations_in_position(sxy, told):
    refused(lambda: crf().addPairwiseGaussian(sxy, 3), *told)
    refused(lambda: crf().addPairwiseBilateral(sxy, 10, IMAGE, 3), *told)


@pytest.mark.parametrize(
    ("srgb", "told"),
    [
        (0, ["srgb is 0"]),
        ((13, 13), ["srgb has 2 values", "3: for red, green, blue"]),
        ((13, -1, 13), ["srgb is (13, -1, 13)"]),
        (1e-40, ["srgb is 1e-40", "above 0 (from 1e-30)"]),
    ],
)
def test_deviations_in_colour(srgb, told):
    refused(lambda: crf().addPairwiseBilateral(80, srgb, IMAGE, 3), *told)


@pytest.mark.parametrize(
    ("image", "told"),
    [
        (IMAGE.tolist(), ["rgbim is a list", "uint8"]),
        (IMAGE / 255, ["rgbim is float64", ".astype(np.uint8)"]),
        (IMAGE.transpose(1, 0, 2), ["5x4x3", "expected 4x5x3", "swapped", "width first"]),
        (IMAGE.transpose(2, 0, 1), ["3x4x5", "np.transpose(rgbim, (1, 2, 0))"]),
        (IMAGE[:, :, 0], ["4x5;", "create_pairwise_bilateral"]),
        (np.zeros((H, W, 4), np.uint8), ["4x5x4", "addPairwiseEnergy"]),
        (np.zeros((2 * H, W, 3), np.uint8), ["8x5x3"]),
    ],
)
def test_images(image, told):
    refused(lambda: crf().addPairwiseBilateral(80, 13, image, 10), *told)


@pytest.mark.parametrize("iterations", [-1, 1.5, "5", None, np.nan, np.inf])
def test_iterations(iterations):
    refused(lambda: crf().inference(iterations), "iterations", repr(iterations))


@pytest.mark.parametrize(
    "call",
    [
        lambda c: c.inference(3),
        lambda c: c.startInference(),
        lambda c: c.stepInference(np.ones((L, W * H), np.float32) / L, None, None),
        lambda c: c.klDivergence(np.ones((L, W * H), np.float32) / L),
    ],
)
def test_a_unary_comes_first(call):
    without = dcrf.DenseCRF2D(W, H, L)
    without.addPairwiseGaussian(3, 3)
    refused(lambda: call(without), "no unary", "setUnaryEnergy")


@pytest.mark.parametrize(
    ("q", "told"),
    [
        (np.ones((L, 7), np.float32), ["Q has shape 3x7", "3x20", "startInference"]),
        (np.ones((L, W * H)), ["Q is float64", ".astype(np.float32)"]),
        (None, ["Q is a NoneType"]),
        (np.full((L, W * H), np.nan, np.float32), ["NaN"]),
    ],
)
def test_marginals(q, told):
    refused(lambda: crf().stepInference(q, None, None), *told)
    refused(lambda: crf().klDivergence(q), *told)


def test_a_refused_kernel_leaves_the_crf_as_it_was():
    made = crf()
    refused(lambda: made.addPairwiseGaussian(3, np.ones(7, np.float32)), "compat")
    refused(lambda: made.setUnaryEnergy(U[:1]), "shape")
    np.testing.assert_array_equal(made.inference(2), crf().inference(2))


@pytest.mark.parametrize(
    ("free", "call"),
    [
        (20, lambda: dcrf.DenseCRF2D(1000, 500, L)),
        (40, lambda: dcrf.DenseCRF2D(1000, 500, L).addPairwiseGaussian(3, 3)),
        (50, lambda: dcrf.DenseCRF2D(1000, 500, L).addPairwiseBilateral(9, 9, LARGE, 3)),
        (50, lambda: dcrf.DenseCRF(500_000, L).addPairwiseEnergy(LARGE_FEATURES, 3)),
        (40, lambda: utils.unary_from_labels(LARGE[..., 0], 21, 0.7)),
        (80, lambda: utils.unary_from_softmax(np.broadcast_to(np.float32(0.1), (10, 900_000)))),
        (15, lambda: utils.create_pairwise_gaussian((3, 3, 3), (1000, 500, 5))),
        (15, lambda: utils.create_pairwise_bilateral((3, 3), 9, BANDS, 2)),
    ],
)
def test_too_little_memory_is_told_before_any_is_taken(monkeypatch, free, call):
    monkeypatch.setattr("deeplab_repro.machine.memory.available_memory", lambda: free * 10**6)
    tracemalloc.start()
    try:
        with pytest.raises(ResourceError) as error:
            call()
        assert tracemalloc.get_traced_memory()[1] < 10**6
    finally:
        tracemalloc.stop()
    assert_one_line(error, "000", "smaller image")
    monkeypatch.undo()
    call()


LABEL_MAP = np.array([[0, 1, 2], [3, 0, 2]])
SOFTMAX = np.moveaxis(P, -1, 0)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: utils.unary_from_labels(LABEL_MAP, 2, 0.7), ["0 to 3", "1 to 2, or 0 for"]),
        (lambda: utils.unary_from_labels(LABEL_MAP, 3, 0.7, False), ["0 to 3", "0 to 2"]),
        (lambda: utils.unary_from_labels(LABEL_MAP - 1, 3, 0.7), ["-1 to 2"]),
        (
            lambda: utils.unary_from_labels(LABEL_MAP * 85, 21, 0.7, False),
            ["0 to 255", "np.unique(labels"],
        ),
        (lambda: utils.unary_from_labels(LABEL_MAP * 1.0, 3, 0.7), ["float64", "int32"]),
        (lambda: utils.unary_from_labels([0, 1], 3, 0.7), ["labels is a list"]),
        (lambda: utils.unary_from_labels(LABEL_MAP, 1, 0.7), ["n_labels is 1", "from 2"]),
        (lambda: utils.unary_from_labels(LABEL_MAP, 3, 0), ["gt_prob is 0"]),
        (lambda: utils.unary_from_labels(LABEL_MAP, 3, 1), ["gt_prob is 1"]),
        (lambda: utils.unary_from_labels(LABEL_MAP, 3, np.nan), ["gt_prob is nan"]),
        (lambda: utils.unary_from_labels(LABEL_MAP, 3, 70), ["gt_prob is 70", "below 1"]),
        (lambda: utils.unary_from_softmax(5 * SOFTMAX), ["expected probabilities", "softmax"]),
        (lambda: utils.unary_from_softmax(-SOFTMAX), ["sm goes from -"]),
        (lambda: utils.unary_from_softmax(SOFTMAX * np.nan), ["nan"]),
        (lambda: utils.unary_from_softmax(P), ["4x5x3", "np.moveaxis(sm, -1, 0)"]),
        (lambda: utils.unary_from_softmax(SOFTMAX.tolist()), ["sm is a list"]),
        (lambda: utils.unary_from_softmax(SOFTMAX[:, :0]), ["3x0x5"]),
        (lambda: utils.unary_from_softmax(SOFTMAX, scale=0), ["scale is 0"]),
        (lambda: utils.unary_from_softmax(SOFTMAX, scale=2), ["scale is 2", "at most 1"]),
        (lambda: utils.unary_from_softmax(SOFTMAX, clip=-1), ["clip is -1"]),
        (lambda: utils.unary_from_softmax(SOFTMAX, clip=1), ["clip is 1"]),
        (lambda: utils.create_pairwise_gaussian((3,), (H, W)), ["sdims has 1 values", "axis 1"]),
        (lambda: utils.create_pairwise_gaussian((3, 0), (H, W)), ["sdims is (3, 0)"]),
        (lambda: utils.create_pairwise_gaussian((3, 3), (H, 0)), ["shape is 0"]),
        (lambda: utils.create_pairwise_bilateral((3, 3), 9, IMAGE), ["chdim=-1", "use chdim=2"]),
        (lambda: utils.create_pairwise_bilateral((3, 3), 9, IMAGE, 3), ["chdim is 3", "0 to 2"]),
        (lambda: utils.create_pairwise_bilateral((3, 3), 9, IMAGE, -4), ["chdim is -4"]),
        (lambda: utils.create_pairwise_bilateral((3, 3), [9] * 4, IMAGE, 2), ["4 values", "3"]),
        (lambda: utils.create_pairwise_bilateral((3, 3), 0, IMAGE, 2), ["schan is 0"]),
        (lambda: utils.create_pairwise_bilateral((3, 3), 9, [[1]]), ["img is a list"]),
        (lambda: utils.create_pairwise_bilateral((3, 3), 9, P * np.inf, 2), ["img", "infinite"]),
    ],
)
def test_utils(call, told):
    refused(call, *told)


def test_scripts_that_catch_value_errors_catch_ours():
    assert issubclass(ArgumentError, ValueError)
    assert issubclass(ArgumentError, DeepLabError)
