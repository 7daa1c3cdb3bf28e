"""Arrays as people give them: tensors, batches, and mends that give what was wanted."""

import re

import numpy as np
import pytest

from deeplab_repro.crf.dense_crf import dense_crf
from deeplab_repro.crf.params import CrfParams
from deeplab_repro.crf.sweep import sweep
from deeplab_repro.errors import ArgumentError, ResourceError
from tests.conftest import assert_one_line, mend_of
from tests.crf.test_dense_crf import random_case

PARAMS = CrfParams(4, 20, 40)
IMAGE, PROBS = random_case(0, 3, 6, 7)
IMAGES, BATCH = (
    np.stack(pair) for pair in zip((IMAGE, PROBS), random_case(1, 3, 6, 7), strict=True)
)


class Tensor:
    """What a tensor of another library offers; GPU: DLPack's number for CUDA."""

    GPU = 2

    def __init__(self, array, requires_grad=False, place=1, dtype="float32"):
        self.array, self.requires_grad = array, requires_grad
        self.place, self.dtype = place, dtype

    def __array__(self, dtype=None, copy=None):
        if self.requires_grad or self.place == self.GPU or "bfloat16" in self.dtype:
            raise RuntimeError("Can't\nbe an array")
        return np.asarray(self.array, dtype)

    def __dlpack_device__(self):
        return self.place, 0

    def detach(self):
        return Tensor(self.array, False, self.place, self.dtype)

    def float(self):
        return Tensor(self.array, self.requires_grad, self.place)

    def cpu(self):
        return Tensor(self.array, self.requires_grad)


class DLPackOnly:
    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


@pytest.mark.parametrize("kind", [Tensor, DLPackOnly, np.ma.masked_array])
def test_tensors_are_arrays(kind):
    expected = dense_crf(IMAGE, PROBS, PARAMS, 2)
    result = dense_crf(kind(IMAGE), kind(PROBS), PARAMS, 2)
    assert type(result.marginals) is np.ndarray
    np.testing.assert_array_equal(result.marginals, expected.marginals)


@pytest.mark.parametrize("masked", ["image", "probs"])
def test_masked_values_are_not_taken_in_silence(masked):
    given = {"image": IMAGE, "probs": PROBS}
    given[masked] = np.ma.masked_equal(given[masked], given[masked].max())
    with pytest.raises(ArgumentError) as error:
        dense_crf(**given, params=PARAMS)
    assert_one_line(error, f"{masked} has masked values", f"use {masked}.filled(0)")


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ({"requires_grad": True}, "use probs.detach()"),
        ({"place": Tensor.GPU}, "use probs.cpu()"),
        ({"place": Tensor.GPU, "requires_grad": True}, "use probs.detach().cpu()"),
        ({"dtype": "torch.bfloat16"}, "use probs.float()"),
    ],
)
def test_tensors_that_cannot_be_arrays_are_told_how(kind, told):
    with pytest.raises(ArgumentError) as error:
        dense_crf(IMAGE, probs := Tensor(PROBS, **kind), PARAMS)
    assert_one_line(error, "probs is a Tensor", told)
    dense_crf(IMAGE, eval(mend_of(error), {"probs": probs}), PARAMS, 1)


@pytest.mark.parametrize("image", [None, IMAGE.tolist(), "photo.jpg", 3])
def test_what_is_no_array_is_a_type_error_too(image):
    with pytest.raises(TypeError, match=r"image is a .*; expected a HxWx3 uint8 array") as error:
        dense_crf(image, PROBS, PARAMS)
    assert isinstance(error.value, ArgumentError)


def test_each_photo_of_a_batch_is_refined_by_itself():
    result = dense_crf(IMAGES, BATCH, PARAMS, 2)
    assert result.labels.dtype == np.uint8
    assert result.device == "cpu"
    for image, probs, labels, marginals in zip(
        IMAGES, BATCH, result.labels, result.marginals, strict=True
    ):
        alone = dense_crf(image, probs, PARAMS, 2)
        np.testing.assert_array_equal(labels, alone.labels)
        np.testing.assert_array_equal(marginals, alone.marginals)


@pytest.mark.parametrize(
    ("image", "probs", "told"),
    [
        (IMAGES, BATCH[0], "image is 2x6x7x3 and probs 3x6x7: only image is a batch"),
        (IMAGES, BATCH[:1], "2x6x7x3 and probs 1x3x6x7; expected NxHxWx3"),
        (IMAGES[:0], BATCH[:0], "of the same N from 1"),
        (IMAGE[0], PROBS, "image has shape 7x3"),
        (IMAGES, np.stack([PROBS, -PROBS]), "image 1 of the batch: probs goes from -"),
    ],
)
def test_batches_that_do_not_fit(image, probs, told):
    with pytest.raises(ArgumentError) as error:
        dense_crf(image, probs, PARAMS)
    assert_one_line(error, told)


def test_what_a_batch_cannot_be():
    with pytest.raises(ArgumentError, match="on_iteration is for one photo"):
        dense_crf(IMAGES, BATCH, PARAMS, on_iteration=print)
    with pytest.raises(ArgumentError, match="a batch; expected HxWx3, one photo"):
        next(sweep(IMAGES, BATCH, [PARAMS]))


def test_a_batch_asks_for_its_memory_first(monkeypatch):
    monkeypatch.setattr("deeplab_repro.machine.memory.available_memory", lambda: 10**7)
    image = np.zeros((3, 200, 400, 3), np.uint8)
    with pytest.raises(ResourceError, match="the marginals of a batch of 3: needs 0"):
        dense_crf(image, np.full((3, 20, 200, 400), 0.05, np.float32), PARAMS)


LEFT = (np.indices((6, 7))[1] < 3).astype(np.float32)
EMPTY = np.where(LEFT, PROBS, 0)
NAN = np.where(LEFT, PROBS, np.nan).astype(np.float32)
FILLED = np.where(LEFT, PROBS, 1 / 3)


@pytest.mark.parametrize(
    ("probs", "wanted"),
    [
        (LEFT * np.float32(0.8), np.stack([1 - 0.8 * LEFT, 0.8 * LEFT])),
        (LEFT[None] * 0.8, np.stack([1 - 0.8 * LEFT, 0.8 * LEFT])),
        (8 * LEFT[None] - 3, np.stack([1 - (p := 1 / (1 + np.exp(3 - 8 * LEFT))), p])),
        (EMPTY, FILLED),
        (NAN, FILLED),
        (PROBS / 2, PROBS),
        (EMPTY / 2, FILLED),
        (PROBS.astype(np.float64), PROBS),
        (PROBS.transpose(0, 2, 1), PROBS),
        (PROBS.transpose(1, 2, 0), PROBS),
        (PROBS[None], PROBS),
    ],
)
@pytest.mark.parametrize("in_batch", [False, True])
def test_mends_of_probabilities_give_what_was_wanted(probs, wanted, in_batch):
    """Followed until nothing is told; twice where two things are wrong."""
    image = IMAGE
    if in_batch and probs.ndim == 3:
        image, probs, wanted = IMAGE[None], probs[None], wanted[None]
    for _ in range(5):
        try:
            found = dense_crf(image, probs, PARAMS, 0).marginals
            break
        except ArgumentError as told:
            names = {"np": np, "probs": probs}
            if of_p := re.search(r"With p = (.*?) use", str(told)):
                names["p"] = eval(of_p[1], names)
            probs = eval(mend_of(told), names)
    np.testing.assert_allclose(found, wanted, atol=1e-6)


SIXTEEN = IMAGE.astype(np.uint16)


@pytest.mark.parametrize(
    "image",
    [
        IMAGE.astype(np.float32) / 255,
        IMAGE / 255 * 1.1 - 0.05,
        (IMAGE / 255).astype(np.float16),
        IMAGE.astype(np.float64),
        IMAGE.astype(np.int64),
        SIXTEEN * 257,
        SIXTEEN * 16 + 7,
        IMAGE.astype(np.float32) * 40 - 1000,
        IMAGE - 128.0,
        IMAGE.transpose(2, 0, 1),
        IMAGE[None],
        Tensor(IMAGE / 255),
    ],
)
def test_mends_of_images_give_what_was_wanted(image):
    """Within 2 % where the range was not told, as contrast is then a guess."""
    given = image
    for _ in range(2):
        with pytest.raises(ArgumentError) as error:
            dense_crf(given, PROBS, PARAMS)
        assert_one_line(error)
        given = eval(mend_of(error), {"np": np, "image": given})
        if given.dtype == np.uint8 and given.shape == IMAGE.shape:
            break
    dense_crf(given, PROBS, PARAMS, 1)
    assert np.abs(given.astype(int) - IMAGE).max() <= 12
    assert np.corrcoef(given.ravel(), IMAGE.ravel())[0, 1] > 0.999


GREY = IMAGE[..., 0]


@pytest.mark.parametrize(
    ("image", "wanted"),
    [
        (GREY, np.stack([GREY, GREY, GREY], axis=-1)),
        (GREY[..., None], np.stack([GREY, GREY, GREY], axis=-1)),
        (np.dstack([IMAGE, GREY]), IMAGE),
    ],
)
def test_mends_of_channels(image, wanted):
    with pytest.raises(ArgumentError) as error:
        dense_crf(image, PROBS, PARAMS)
    np.testing.assert_array_equal(eval(mend_of(error), {"np": np, "image": image}), wanted)


def test_masks_become_black_and_white():
    mask = IMAGE > 100
    with pytest.raises(ArgumentError) as error:
        dense_crf(mask, PROBS, PARAMS)
    white = eval(mend_of(error), {"np": np, "image": mask})
    np.testing.assert_array_equal(white, np.where(mask, 255, 0))
