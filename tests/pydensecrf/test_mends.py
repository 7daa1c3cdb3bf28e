"""Messages of the drop-in, each followed: what is told to use gives what was wanted."""

import re

import numpy as np
import pytest

from deeplab_repro.errors import ArgumentError
from deeplab_repro.pydensecrf import densecrf as dcrf
from deeplab_repro.pydensecrf import utils
from deeplab_repro.pydensecrf.arguments import warn_once
from tests.conftest import assert_one_line, mend_of

H, W = 40, 56


def realistic(labels, seed=0):
    """A net's softmax, HxWxL: nearly sure within smooth areas, unsure between them."""
    rng = np.random.default_rng(seed)
    y, x = np.indices((H, W))
    centres = rng.uniform(0, [H, W], (labels, 2))
    scores = -np.stack([np.hypot(y - cy, x - cx) for cy, cx in centres], axis=-1)
    return np.exp(scores - scores.max(-1, keepdims=True)) / np.exp(
        scores - scores.max(-1, keepdims=True)
    ).sum(-1, keepdims=True)


@pytest.fixture
def warnings(caplog):
    warn_once.cache_clear()
    return caplog


# --- labels


@pytest.mark.parametrize("kind", [np.uint8, np.int64])
@pytest.mark.parametrize("unsure", [True, False])
@pytest.mark.parametrize(
    ("labels", "n", "wanted"),
    [
        ([0, 1, 2, 255], 3, {False: [0, 1, 2, None], True: [0, 1, 2, None]}),
        ([1, 2, 3, 255], 3, {False: [0, 1, 2, None], True: [0, 1, 2, None]}),
        ([0, 255, 255, 0], 2, {False: [0, 1, 1, 0], True: [0, 1, 1, 0]}),
        ([3, 249, 130, 0], 2, {False: [0, 1, 1, 0], True: [0, 1, 1, 0]}),
        ([0, 1, 255, 1], 2, {False: [0, 1, None, 1], True: [0, 1, None, 1]}),
        ([50, 100, 150, 100], 3, {False: [0, 1, 2, 1], True: [0, 1, 2, 1]}),
        ([0, 100, 150, 100], 3, {False: [0, 1, 2, 1], True: [None, 0, 1, 0]}),
    ],
)
def test_labels(labels, n, wanted, unsure, kind):
    names = {"np": np, "labels": np.array(labels, kind)}
    with pytest.raises(ArgumentError) as error:
        utils.unary_from_labels(names["labels"], n, 0.7, unsure)
    assert_one_line(error, "labels go from")
    told = str(error.value)
    mend = mend_of(error) if "use " in told else told.split("numbered by ")[1]
    if " where 0 is a label, and " in told:  # two are told, by what 0 means
        mend = re.search(r"use (.*) where 0 is a label", told)[1]
    # Where there is nothing else to be done about it, zero_unsure stays as it was.
    unsure_then = {"True": True, "False": False}.get(told.rsplit("zero_unsure=")[-1], unsure)
    found = utils.unary_from_labels(eval(mend, names), n, 0.7, unsure_then)
    is_known = np.ptp(found, axis=0) > 0
    np.testing.assert_array_equal(
        [
            None if not known else label
            for known, label in zip(is_known, found.argmin(0), strict=True)
        ],
        wanted[unsure],
    )


@pytest.mark.parametrize("void", [-1, 255])
def test_void_labels_and_two_meanings_of_0(void):
    labels = np.array([0, 1, void])
    with pytest.raises(ArgumentError) as error:
        utils.unary_from_labels(labels, 3, 0.7)
    told = str(error.value)
    assert f"np.where(labels == {void}, 0, labels + 1) where 0 is a label" in told
    assert f"np.where(labels == {void}, 0, labels) where it is unknown too" in told


@pytest.mark.parametrize(
    ("labels", "wanted"),
    [([0.0, 1, 2], [0, 1, 2]), ([0.0, np.nan, 2], [0, 255, 2])],
)
def test_labels_of_floats(labels, wanted):
    names = {"np": np, "labels": np.array(labels)}
    with pytest.raises(ArgumentError) as error:
        utils.unary_from_labels(names["labels"], 3, 0.7)
    np.testing.assert_array_equal(eval(mend_of(error), names), wanted)


def test_probabilities_for_labels():
    p = np.linspace(0.1, 0.9, 6)
    with pytest.raises(ArgumentError) as error:
        utils.unary_from_labels(p, 2, 0.7)
    unary = eval(mend_of(error), {"np": np, "utils": utils, "p": p})
    np.testing.assert_allclose(np.exp(-unary[1]), p, rtol=1e-6)


def test_labels_of_a_picture():
    picture = np.zeros((H, W, 3), np.uint8)
    crf = dcrf.DenseCRF2D(W, H, 2)
    with pytest.raises(ArgumentError, match=r"labels\[..., 0\]$"):
        crf.setUnaryEnergy(utils.unary_from_labels(picture, 2, 0.7))
    crf.setUnaryEnergy(utils.unary_from_labels(picture[..., 0], 2, 0.7))


# --- probabilities


P = realistic(21)
FIRST = np.ascontiguousarray(np.moveaxis(P, -1, 0)).reshape(21, -1)
PADDED = np.where(np.indices((H, W))[0][..., None] < 30, P, 0)


def energy_of(mend, p=None, u=None):
    names = {"np": np, "utils": utils, "p": p, "u": u, "nlabels": 21}
    return eval(mend.split(" or ")[-1], names)


@pytest.mark.parametrize("kind", [np.float32, np.float16])
@pytest.mark.parametrize("p", [P, P + 1e-5, PADDED])
def test_probabilities_where_energies_belong(p, kind):
    p = p.astype(kind).astype(np.float32)
    first = np.moveaxis(p, -1, 0)
    for u in (first.reshape(21, -1), p.reshape(21, -1)):
        crf = dcrf.DenseCRF2D(W, H, 21)
        with pytest.raises(ArgumentError) as error:
            crf.setUnaryEnergy(u)
        assert_one_line(error, "probabilities")
        crf.setUnaryEnergy(
            energy_of(mend_of(error), p=first if "moveaxis" not in mend_of(error) else p)
        )
        known = first.reshape(21, -1).max(axis=0) > 0
        np.testing.assert_allclose(
            crf.inference(0)[:, known], first.reshape(21, -1)[:, known], atol=2e-3
        )


@pytest.mark.parametrize("kind", [np.float32, np.float16])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("order", ["first", "last"])
def test_logarithms_of_the_wrong_sign_or_order(kind, sign, order):
    """sign -1: energies, whose labels come last."""
    u = (sign * np.log(P + 1e-6)).astype(kind).astype(np.float32)
    if order == "first":
        u = np.ascontiguousarray(np.moveaxis(u, -1, 0))
    crf = dcrf.DenseCRF2D(W, H, 21)
    if (order, sign) == ("first", -1):
        crf.setUnaryEnergy(u.reshape(21, -1))
    else:
        with pytest.raises(ArgumentError) as error:
            crf.setUnaryEnergy(u.reshape(21, -1))
        assert_one_line(error, "log-probabilities" if sign == 1 else "labels last")
        mended = energy_of(mend_of(error), u=u)
        crf.setUnaryEnergy(np.asarray(mended).reshape(21, -1))
    np.testing.assert_allclose(crf.inference(0), FIRST, atol=2e-3)


def test_probabilities_of_8_bits_are_warned_of_once(warnings):
    """They sum to 1 within 0.05 only, as energies may too."""
    p = np.floor(255 * np.random.default_rng(0).dirichlet(np.ones(4), H * W)) / 255
    for _ in range(3):
        crf = dcrf.DenseCRF2D(W, H, 4)
        crf.setUnaryEnergy(p.T.astype(np.float32))
        crf.inference(0)
    assert warnings.text.count("the unary holds probabilities") == 1


def test_softmax_in_the_wrong_order():
    p = realistic(5).astype(np.float32)
    wanted = utils.unary_from_softmax(np.moveaxis(p, -1, 0))
    for sm in (p, p.reshape(5, -1), p.reshape(5, H, W)):
        with pytest.raises(ArgumentError) as error:
            utils.unary_from_softmax(sm)
        assert_one_line(error, "labels first", "np.moveaxis(")
        mend = mend_of(error).removesuffix(" and no reshape")
        np.testing.assert_array_equal(
            utils.unary_from_softmax(eval(mend, {"np": np, "sm": sm, "p": p})), wanted
        )


def test_softmax_with_nan_or_of_8_bits():
    p = np.moveaxis(realistic(3), -1, 0)
    lost = np.where(np.indices((H, W))[0] < 9, np.nan, p)
    with pytest.raises(ArgumentError) as error:
        utils.unary_from_softmax(lost)
    unary = utils.unary_from_softmax(eval(mend_of(error), {"np": np, "sm": lost}))
    assert np.ptp(unary[:, : 9 * W], axis=0).max() == 0
    bits = np.round(255 * p).astype(np.uint8)
    with pytest.raises(ArgumentError, match=r"Of 8 bits use sm / 255") as error:
        utils.unary_from_softmax(bits)
    found = utils.unary_from_softmax(eval(mend_of(error), {"sm": bits}))
    np.testing.assert_allclose(np.exp(-found), p.reshape(3, -1), atol=0.003)


@pytest.mark.parametrize("shape", [(1, -1), (H, W), (1, H, W)])
def test_a_map_of_one_of_two_labels(shape, warnings):
    p = ANNO.reshape(shape)
    crf = dcrf.DenseCRF2D(W, H, 2)
    with pytest.raises(ArgumentError) as error:
        crf.setUnaryEnergy(utils.unary_from_softmax(p))
    crf.setUnaryEnergy(eval(mend_of(error), {"np": np, "utils": utils, "p": ANNO}))
    np.testing.assert_allclose(crf.inference(0)[1], ANNO.ravel(), atol=1e-6)
    assert not warnings.records
    dcrf.DenseCRF2D(W, H, 1).setUnaryEnergy(utils.unary_from_softmax(ANNO.reshape(1, -1)))
    assert "a CRF of 1 label gives all points to it" in warnings.text


def test_unary_with_nan():
    p = FIRST.copy()
    p[:, 5], p[3, 7] = np.nan, 0
    with np.errstate(divide="ignore"):
        u = np.log(p).astype(np.float32)
    crf = dcrf.DenseCRF(H * W, 21)
    with pytest.raises(ArgumentError) as error:
        crf.setUnaryEnergy(u)
    assert_one_line(error, "22 values that are NaN or -inf")
    crf.setUnaryEnergy(eval(mend_of(error), {"np": np, "p": p}).astype(np.float32))
    np.testing.assert_allclose(crf.inference(0)[:, 5], 1 / 21, rtol=1e-5)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


ANNO = np.clip(realistic(2)[..., 0], 0.01, 0.99)
ENERGIES = {
    "-log p": -np.log(FIRST + 1e-8),
    "-log of a scaled p": utils.unary_from_softmax(FIRST, scale=0.7),
    "labels": utils.unary_from_labels(np.indices((H, W))[0] // 14, 3, 0.7),
    "labels, sure": utils.unary_from_labels(np.indices((H, W))[0] // 14, 3, 0.9, False),
    "scores": np.random.default_rng(0).normal(0, 5, (21, H * W)),
    "no scores below 0": np.random.default_rng(0).uniform(0, 9, (4, H * W)),
    "costs from 0 to 1": np.random.default_rng(0).uniform(0, 1, (4, H * W)),
    "costs of labels": 1.0 - np.eye(4)[np.indices((H, W))[0].ravel() // 10].T,
    "maps of activations": -np.log(np.clip(FIRST / FIRST.max(axis=1, keepdims=True), 0.05, 1)),
    "sigmoids over a temperature": np.stack(
        [-np.log(q) / (1.05 * sigmoid(q)) for q in (1 - ANNO, ANNO)]
    ),
    "nothing known": np.zeros((3, H * W)),
    "all the same": np.ones((2, H * W)),
    "uniform": np.full((5, H * W), np.log(5)),
}


@pytest.mark.parametrize("name", ENERGIES)
def test_energies_raise_no_alarm(name, warnings):
    u = ENERGIES[name].astype(np.float32).reshape(len(ENERGIES[name]), -1)
    crf = dcrf.DenseCRF2D(W, H, len(u))
    crf.setUnaryEnergy(u)
    assert not warnings.records


# --- images, deviations


IMAGE = np.random.default_rng(0).integers(0, 256, (H, W, 3), np.uint8)


@pytest.mark.parametrize(
    "image", [IMAGE / 255, IMAGE.astype(np.float32), IMAGE.astype(np.uint16) * 257]
)
def test_images(image):
    crf = dcrf.DenseCRF2D(W, H, 2)
    with pytest.raises(ArgumentError) as error:
        crf.addPairwiseBilateral(80, 13, image, 10)
    mended = eval(mend_of(error), {"np": np, "rgbim": image})
    np.testing.assert_array_equal(mended, IMAGE)
    crf.addPairwiseBilateral(80, 13, mended, 10)


def test_an_image_of_true_and_false_is_taken_and_told_of(warnings):
    dcrf.DenseCRF2D(W, H, 2).addPairwiseBilateral(80, 13, IMAGE > 100, 10)
    assert "255 * rgbim" in warnings.text


def test_deviations_that_are_left_out_are_told_of_once(warnings):
    for _ in range(2):
        found = utils.create_pairwise_bilateral((3, 3), (13,), IMAGE, 2)
    np.testing.assert_array_equal(
        found, utils.create_pairwise_bilateral((3, 3), (13, 1, 1), IMAGE, 2)
    )
    assert warnings.text.count("schan has 1 values for 3 axes or channels") == 1
