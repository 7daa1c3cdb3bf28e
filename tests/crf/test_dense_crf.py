import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numba
import numpy as np
import pytest

from deeplab_repro.crf.cpu import lattice, threads
from deeplab_repro.crf.cpu.lattice import build_lattice, chunk_starts
from deeplab_repro.crf.cuda import device as gpu
from deeplab_repro.crf.dense_crf import dense_crf, load
from deeplab_repro.crf.features import kernel_features
from deeplab_repro.crf.params import CrfParams
from deeplab_repro.errors import ArgumentError, DeviceError
from tests.crf.naive import naive_dense_crf, softmax, vertices

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT.parent / "shared" / "golden" / "crf"
PARAMS = CrfParams(w1=4, sigma_alpha=20, sigma_beta=40)


def random_case(seed, labels=3, height=12, width=15):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    probs = softmax(3 * rng.standard_normal((labels, height, width)))
    return image, probs.astype(np.float32)


def upsample_8(scores):
    """INTERP with zoom_factor 8: bilinear, aligned corners, in single precision."""

    def axis(size):
        source = np.arange((size - 1) * 8 + 1, dtype=np.float32) / np.float32(8)
        low = source.astype(int)
        return low, np.minimum(low + 1, size - 1), source - low.astype(np.float32)

    y1, y2, y = axis(scores.shape[1])
    x1, x2, x = axis(scores.shape[2])
    y = y[:, None]
    above, below = scores[:, y1], scores[:, y2]
    return (1 - y) * ((1 - x) * above[:, :, x1] + x * above[:, :, x2]) + y * (
        (1 - x) * below[:, :, x1] + x * below[:, :, x2]
    )


@pytest.mark.golden
@pytest.mark.parametrize(
    "name",
    [
        "0016E5_07959_DeepLab",
        "0016E5_07999_DeepLab-LargeFOV",
        "0016E5_08039_DeepLab-MSc-LargeFOV",
        "0016E5_08079_DeepLab-LargeFOV",
        "0016E5_08119_DeepLab-MSc",
    ],
)
def test_same_result_as_the_original_program(name):
    if not GOLDEN.is_dir():
        pytest.skip(f"no golden data: {GOLDEN} is absent")
    with np.load(GOLDEN / f"{name}.npz") as case:
        golden = dict(case)
    image = golden["image"]
    height, width = image.shape[:2]
    params = CrfParams(*map(float, golden["params"]))
    probs = softmax(upsample_8(golden["scores"])[:, :height, :width])
    assert probs.dtype == np.float32

    built = build_lattice(kernel_features(image, params), lanes=8)
    assert vertices(built) == golden["lattice_vertices"].tolist()
    result = dense_crf(image, probs, params, int(golden["iterations"]))
    assert np.count_nonzero(result.labels != golden["label"]) == 0
    if "marginals" in golden:
        error = np.abs(result.marginals - golden["marginals"])
    else:
        error = np.abs(result.marginals[:, ::4, ::4] - golden["marginals_every_4th_pixel"])
    assert error.max() <= 1e-5


@pytest.mark.parametrize(
    ("labels", "height", "width", "iterations"),
    [(1, 1, 1, 2), (3, 5, 7, 2), (8, 6, 7, 4), (21, 3, 7, 3), (2, 1, 6, 1), (5, 2, 4, 0)],
)
def test_same_result_as_the_naive_version(labels, height, width, iterations):
    image, probs = random_case(labels, labels, height, width)
    result = dense_crf(image, probs, PARAMS, iterations)
    expected = naive_dense_crf(image, probs, PARAMS, iterations)
    np.testing.assert_allclose(result.marginals, expected, atol=5e-6)
    assert result.marginals.dtype == np.float32
    assert result.labels.dtype == np.uint8
    assert (result.labels == result.marginals.argmax(axis=0)).all()


def test_without_iterations_the_probabilities_come_back():
    image, probs = random_case(0)
    np.testing.assert_allclose(dense_crf(image, probs, PARAMS, 0).marginals, probs, atol=1e-6)


def test_on_a_constant_picture_every_pixel_follows_the_scalar_recursion():
    p = np.array([0.5, 0.3, 0.2])
    probs = np.broadcast_to(p[:, None, None], (3, 9, 10)).astype(np.float32)
    image = np.full((9, 10, 3), 77, np.uint8)
    q = p
    for _ in range(3):
        q = softmax(np.log(p) + (PARAMS.w1 + PARAMS.w2) * q)
    marginals = dense_crf(image, probs, PARAMS, 3).marginals
    np.testing.assert_allclose(marginals, np.broadcast_to(q[:, None, None], (3, 9, 10)), atol=1e-5)


def test_permuting_the_labels_permutes_the_marginals():
    image, probs = random_case(1, labels=11)
    order = np.random.default_rng(1).permutation(11)
    straight = dense_crf(image, probs, PARAMS).marginals[order]
    np.testing.assert_allclose(
        dense_crf(image, probs[order], PARAMS).marginals, straight, atol=5e-6
    )


def test_ties_go_to_the_lowest_label():
    probs = np.tile(np.array([0.2, 0.4, 0.4], np.float32)[:, None, None], (1, 4, 6))
    assert (dense_crf(random_case(2, 3, 4, 6)[0], probs, PARAMS).labels == 1).all()


def test_tiny_deviations_tell_every_colour_apart():
    """Pixels of one colour share their mean, and those of others have no part in it."""
    image, probs = random_case(2, 3, 6, 7)
    image[:] = image[:, :, :1] // 128 * 200 + 5
    marginals = dense_crf(image, probs, CrfParams(2, 1000, 1e-12, 0), 1).marginals
    of = image[:, :, 0] > 100
    means = np.where(of, *(probs[:, where].mean(axis=1)[:, None, None] for where in (of, ~of)))
    # Positions are hardly told apart: the kernel is 1 to 5e-5.
    np.testing.assert_allclose(marginals, softmax(np.log(probs) + 2 * means), atol=2e-4)


def test_impossible_labels_stay_impossible():
    image, probs = random_case(3, labels=4)
    probs[2] = 0
    probs[:, 5, 5] = [0, 1, 0, 0]
    result = dense_crf(image, probs / probs.sum(axis=0), PARAMS)
    assert (result.marginals[2] == 0).all()
    assert result.marginals[:, 5, 5].tolist() == [0, 1, 0, 0]
    assert np.isfinite(result.marginals).all()


def test_the_most_labels_and_views_and_read_only_inputs():
    image, probs = random_case(4, 255, 5, 6)
    expected = dense_crf(image[:, ::-1].copy(), probs[:, :, ::-1].copy(), PARAMS, 2)
    image.flags.writeable = probs.flags.writeable = False
    result = dense_crf(image[:, ::-1], probs[:, :, ::-1], PARAMS, 2)
    assert (result.marginals == expected.marginals).all()


def test_same_bits_on_any_number_of_threads(monkeypatch):
    image, probs = random_case(5, 21, 50, 60)
    monkeypatch.setattr(lattice, "LEAST_IN_A_CHUNK", 500)
    monkeypatch.setattr(threads, "SMALL", 1000)
    assert len(chunk_starts(50 * 60, 9 * 24)) == 5  # or there is nothing to share
    results = []
    for count in (1, 2, 3, 7, 7):
        monkeypatch.setattr(numba, "get_num_threads", lambda count=count: count)
        results.append(dense_crf(image, probs, PARAMS, 5))
    for other in results[1:]:
        assert (results[0].marginals == other.marginals).all()
        assert (results[0].labels == other.labels).all()


def test_may_be_called_from_several_python_threads():
    # The workqueue pool aborts the process if two threads enter it at once.
    program = """
from concurrent.futures import ThreadPoolExecutor
import numba
from tests.crf.test_dense_crf import PARAMS, dense_crf, random_case
case = random_case(6, 21, 90, 100)
alone = dense_crf(*case, PARAMS).marginals
assert numba.threading_layer() == "workqueue"
with ThreadPoolExecutor(4) as pool:
    together = list(pool.map(lambda _: dense_crf(*case, PARAMS).marginals, range(8)))
assert all((one == alone).all() for one in together)
"""
    paths = str(ROOT)
    environment = {**os.environ, "NUMBA_THREADING_LAYER": "workqueue", "PYTHONPATH": paths}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_each_iteration_can_be_seen():
    image, probs = random_case(9)
    seen = {}
    dense_crf(image, probs, PARAMS, 3, on_iteration=lambda i, q: seen.update({i: q.copy()}))
    assert list(seen) == [1, 2, 3]
    for i, marginals in seen.items():
        assert marginals.shape == probs.shape
        assert (marginals == dense_crf(image, probs, PARAMS, i).marginals).all()


def test_the_result_says_where_it_was_computed():
    case = random_case(10)
    assert dense_crf(*case, PARAMS, 1).device == "cpu"
    assert dense_crf(*case, PARAMS, 1, device="cpu").device == "cpu"
    with pytest.raises(ArgumentError, match="'gpu', expected one of auto, cpu, cuda"):
        dense_crf(*case, PARAMS, 1, device="gpu")


def test_no_silent_fall_back_from_cuda(monkeypatch):
    monkeypatch.setattr(gpu, "crf_cuda_problem", lambda: "there is no GPU: buy one")
    with pytest.raises(DeviceError, match=r"^CUDA was asked for, but there is no GPU: buy one$"):
        dense_crf(*random_case(10), PARAMS, 1, device="cuda")


def test_parameters_come_without_numba():
    program = "import sys, deeplab_repro.crf; sys.exit('numba' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.run([sys.executable, "-c", program], env=environment).returncode == 0


IMAGE, PROBS = random_case(7, 3, 4, 6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": IMAGE.astype(np.float32)}, r"image is float32; expected a HxWx3 uint8 array"),
        ({"image": IMAGE.tolist()}, r"image is a list; expected"),
        ({"image": IMAGE[:, :, 0]}, r"image has shape 4x6; expected a HxWx3"),
        ({"image": IMAGE[:, :, :2]}, r"image has shape 4x6x2; expected HxWx3"),
        ({"image": IMAGE[:0], "probs": PROBS[:, :0]}, r"image has shape 0x6x3; .*not empty"),
        ({"probs": PROBS.astype(np.float64)}, r"probs is float64; .*\.astype\(np\.float32\)"),
        ({"probs": PROBS.transpose(0, 2, 1)}, r"height and width are swapped"),
        ({"probs": PROBS.transpose(1, 2, 0)}, r"the labels come last"),
        ({"probs": PROBS[:, :3]}, r"probs has shape 3x3x6 but the image is 4x6"),
        ({"probs": PROBS[:0]}, r"probs has 0 labels; expected 1 to 255"),
        ({"probs": np.full((256, 4, 6), 1 / 256, np.float32)}, r"probs has 256 labels"),
        ({"probs": np.where(PROBS > 0.5, np.nan, PROBS)}, r"\d+ values that are NaN or infinite"),
        ({"probs": np.where(PROBS > 0.5, np.inf, PROBS)}, r"\d+ values that are NaN or infinite"),
        ({"probs": -np.log(PROBS)}, r"scores or energies\?"),
        ({"probs": PROBS - 0.1}, r"scores or energies\?"),
        ({"probs": PROBS / 2}, r"sums to 0\.5 over the labels at row"),
        ({"iterations": -1}, r"iterations is -1; expected a whole number"),
        ({"iterations": 2.5}, r"iterations is 2\.5; expected a whole number"),
    ],
)
def test_wrong_arguments_are_named(changes, message):
    arguments = {"image": IMAGE, "probs": PROBS, "params": PARAMS, "iterations": 1, **changes}
    with pytest.raises(ArgumentError, match=message) as caught:
        dense_crf(**arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["w1", "sigma_alpha", "sigma_beta", "w2", "sigma_gamma"])
@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), 1e7, 10**400, 0, 1e-40, -1, "5", 5j, None]
)
def test_wrong_parameters_are_named(name, value):
    numbers = {"w1": 4, "sigma_alpha": 20, "sigma_beta": 40, name: value}
    if name.startswith("w") and value in (0, 1e-40):
        assert getattr(CrfParams(**numbers), name) == value
        return
    with pytest.raises(ArgumentError, match=rf"CRF parameter {name} is .*; expected a number"):
        CrfParams(**numbers)


def test_parameters_are_kept_as_floats():
    """So that a result is known again, however its parameters were written."""
    params = CrfParams(4, np.float32(121), Fraction(5, 1), np.int64(3))
    assert repr(params) == repr(CrfParams(4.0, 121.0, 5.0, 3.0, 3.0))


def test_loading_ahead():
    load(3)
    for labels in (0, 256):
        with pytest.raises(ArgumentError, match=f"has {labels} labels; expected 1 to 255"):
            load(labels)
