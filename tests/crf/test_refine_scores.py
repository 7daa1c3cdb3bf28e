"""`refine_scores` on the CPU; cuda/test_scores.py compares the GPU's with it."""

import tracemalloc

import numpy as np
import pytest

from deeplab_repro.crf.cpu import unary
from deeplab_repro.crf.cuda import device as gpu
from deeplab_repro.crf.dense_crf import dense_crf, load, refine_scores
from deeplab_repro.crf.params import CrfParams
from deeplab_repro.crf.sweep import sweep
from deeplab_repro.errors import ArgumentError, DeviceError, ResourceError
from deeplab_repro.machine import memory
from deeplab_repro.net.scores import CoarseScores, softmax

PARAMS = CrfParams(w1=4, sigma_alpha=20, sigma_beta=40)
RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (9, 14, 3), dtype=np.uint8)
VALUES = 3 * RNG.standard_normal((4, 3, 4)).astype(np.float32)
COARSE = CoarseScores(VALUES, 8, 3)


@pytest.mark.parametrize(
    "coarse",
    [
        COARSE,
        CoarseScores(VALUES.astype(np.float16), 8, 7),
        CoarseScores(RNG.standard_normal((4, 10, 15)).astype(np.float32), 1, 1),
        CoarseScores(VALUES[:1], 8),
    ],
)
@pytest.mark.parametrize("iterations", [0, 2])
def test_the_same_bits_as_dense_crf_of_the_enlarged_scores(coarse, iterations):
    expected = dense_crf(IMAGE, softmax(coarse.enlarged((9, 14))), PARAMS, iterations)
    found = refine_scores(IMAGE, coarse, PARAMS, iterations)
    assert found.device == "cpu"
    np.testing.assert_array_equal(found.labels, expected.labels)
    np.testing.assert_array_equal(found.marginals, expected.marginals)
    without = refine_scores(IMAGE, coarse, PARAMS, iterations, marginals=False)
    assert without.marginals is None
    np.testing.assert_array_equal(without.labels, expected.labels)


@pytest.mark.parametrize("w1", [4, 40])  # 40: the unary is kept as logarithms
@pytest.mark.parametrize("coarse", [COARSE, CoarseScores(VALUES.astype(np.float16), 8, 7)])
def test_bands_of_rows_give_the_same_bits(coarse, w1, monkeypatch):
    params = CrfParams(w1, 20, 40)
    expected = dense_crf(IMAGE, softmax(coarse.enlarged((9, 14))), params, 2)
    for floats in (1, 100, 200):
        monkeypatch.setattr(unary, "BAND", floats)
        found = refine_scores(IMAGE, coarse, params, 2)
        np.testing.assert_array_equal(found.marginals, expected.marginals)


def test_no_whole_array_of_scores_is_made():
    """Rows and corners of each pixel, but no scores, probabilities, marginals or features."""
    size, labels = (300, 400), 64
    image = np.zeros((*size, 3), np.uint8)
    coarse = CoarseScores(RNG.standard_normal((labels, 39, 51)).astype(np.float32), 8)
    load(labels)
    tracemalloc.start()
    refine_scores(image, coarse, PARAMS, 1, marginals=False)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    one = 4 * labels * size[0] * size[1]
    assert peak < 2.6 * one  # 1 of the unary; a lattice of 0.3 vertices a pixel, twice; its corners


def spoilt(value):
    values = VALUES.copy()
    values[1, 1, 1:3] = value
    return CoarseScores(values, 8)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": IMAGE.astype(np.float32)}, r"image is float32; expected a HxWx3 uint8 array"),
        ({"image": IMAGE[:, :, :2]}, r"image has shape 9x14x2; expected HxWx3"),
        ({"image": IMAGE[:, :0]}, r"image has shape 9x0x3; .*not empty"),
        ({"coarse": VALUES}, r"coarse is a ndarray; expected CoarseScores"),
        ({"coarse": CoarseScores([1.0], 8)}, r"coarse\.values is a list; expected a CxHxW float32"),
        ({"coarse": CoarseScores(VALUES[0], 8)}, r"coarse\.values has shape 3x4; expected a CxHxW"),
        ({"coarse": CoarseScores(VALUES[:, 0].astype(np.float16), 8)}, r"has shape 4x4; expected"),
        ({"coarse": CoarseScores(VALUES.astype(float), 8)}, r"is float64; .*\.astype\(np\.float32"),
        (
            {"coarse": CoarseScores(VALUES[:0], 8)},
            r"coarse\.values has 0 labels; expected 1 to 255",
        ),
        (
            {"coarse": CoarseScores(VALUES, 0)},
            r"a stride of 0 and an offset of 0; expected a stride",
        ),
        ({"coarse": CoarseScores(VALUES, 8, -1)}, r"an offset of -1; expected a stride from 1"),
        ({"coarse": CoarseScores(VALUES, 2)}, r"cover 5x7 pixels, expected the image's 9x14"),
        ({"coarse": CoarseScores(VALUES[:, :0], 8)}, r"4x0x4 with a stride of 8, cover -7x25"),
        ({"coarse": spoilt(np.nan)}, r"coarse has 2 scores that are NaN or infinite; expected"),
        ({"coarse": spoilt(-np.inf)}, r"coarse has 2 scores that are NaN or infinite; expected"),
        ({"iterations": -1}, r"iterations is -1; expected a whole number"),
        ({"device": "gpu"}, r"'gpu', expected one of auto, cpu, cuda"),
    ],
)
def test_wrong_arguments_are_named(changes, message):
    arguments = {"image": IMAGE, "coarse": COARSE, "params": PARAMS, "iterations": 1, **changes}
    with pytest.raises(ArgumentError, match=message) as caught:
        refine_scores(**arguments)
    assert "\n" not in str(caught.value)


def test_no_silent_fall_back_from_cuda(monkeypatch):
    monkeypatch.setattr(gpu, "crf_cuda_problem", lambda: "there is no GPU: buy one")
    with pytest.raises(DeviceError, match=r"^CUDA was asked for, but there is no GPU: buy one$"):
        refine_scores(IMAGE, COARSE, PARAMS, device="cuda")
    with pytest.raises(DeviceError, match="buy one"):
        load(len(VALUES), "cuda")


def test_memory_is_asked_for_once_and_too_little_is_an_error(monkeypatch):
    asked = []
    monkeypatch.setattr(memory, "available_memory", lambda: asked.append(1) or 10**6)
    probs = softmax(COARSE.enlarged((9, 14)))
    for run in (
        lambda: dense_crf(IMAGE, probs, PARAMS),
        lambda: refine_scores(IMAGE, COARSE, PARAMS),
        lambda: next(sweep(IMAGE, probs, [PARAMS])),
    ):
        with pytest.raises(ResourceError, match=r"probs of 4x9x14: needs 0\.2 GB of memory"):
            run()
    with pytest.raises(ResourceError, match=r": do without marginals \(0\.2 GB\) or use a smaller"):
        refine_scores(IMAGE, COARSE, PARAMS)
    assert len(asked) == 8  # once more each, when what is kept of earlier calls is given back
    monkeypatch.setattr(memory, "available_memory", lambda: asked.append(1) or 10**9)
    refine_scores(IMAGE, COARSE, PARAMS)
    assert len(asked) == 9
