"""Coarse scores to labels on the GPU, against the CPU's way. Run as test_mean_field.py is."""

import sys

import numpy as np
import pytest

from deeplab_repro.crf.cuda import device as gpu
from deeplab_repro.crf.cuda.device import Workspace, crf_cuda_problem
from deeplab_repro.crf.dense_crf import refine_scores
from deeplab_repro.crf.params import CrfParams
from deeplab_repro.net.scores import CoarseScores, softmax

if (problem := crf_cuda_problem()) is not None:
    pytest.skip(f"no GPU for the CRF: {problem}", allow_module_level=True)

from deeplab_repro.crf.cuda.mean_field import cuda
from deeplab_repro.crf.cuda.scores import enlarged_probs, interpolated, position

PARAMS = CrfParams(w1=4, sigma_alpha=20, sigma_beta=40)
# Sums in single precision, in another order than the CPU's.
TOLERANCE = 5e-6
# exp is within 2.5 units in the last place in NumPy and within 2 on a GPU: 8 with the sum.
PROBS_TOLERANCE = 8 * 2.0**-23


@pytest.fixture(autouse=True, scope="module")
def impatient_threads():
    """The simulator's threads wait for each other in a loop."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    yield
    sys.setswitchinterval(interval)


def random_case(shape, stride, offset, size, dtype=np.float32):
    rng = np.random.default_rng(shape[0] + stride)
    image = rng.integers(0, 80, (*size, 3), dtype=np.uint8)
    values = (3 * rng.standard_normal(shape)).astype(dtype)
    return image, CoarseScores(values, stride, offset)


CASES = [
    random_case((3, 3, 4), 8, 7, (2, 5)),
    random_case((2, 3, 4), 3, 0, (3, 4), np.float16),  # 1/3 is rounded
    random_case((5, 4, 6), 1, 1, (2, 4), np.float16),
    random_case((2, 2, 2), 8, 0, (9, 2)),
    random_case((1, 2, 3), 8, 2, (2, 3)),
]


@pytest.mark.parametrize(("image", "coarse"), CASES)
def test_scores_are_enlarged_to_the_same_bits_as_on_the_cpu(image, coarse):
    @cuda.jit
    def enlarge(scores, scale, offset, enlarged):
        labels, height, width = enlarged.shape
        for y in range(height):
            for x in range(width):
                vertical = position(y + offset, scale, scores.shape[1])
                horizontal = position(x + offset, scale, scores.shape[2])
                for label in range(labels):
                    score = interpolated(scores, label, vertical, horizontal)
                    enlarged[label, y, x] = score

    expected = coarse.enlarged(image.shape[:2])
    found = cuda.device_array(expected.shape, np.float32)
    scores = cuda.to_device(coarse.values.astype(np.float32))
    # One thread: the simulator takes device functions of other modules from no more.
    enlarge[1, 1](scores, np.float32(1 / coarse.stride), coarse.offset, found)
    np.testing.assert_array_equal(found.copy_to_host(), expected)


@pytest.mark.parametrize(("image", "coarse"), CASES)
def test_probabilities_are_those_of_the_enlarged_scores(image, coarse):
    expected = softmax(coarse.enlarged(image.shape[:2]))
    found = enlarged_probs(coarse, image.shape[:2], Workspace()).copy_to_host()
    np.testing.assert_allclose(found.reshape(expected.shape), expected, rtol=PROBS_TOLERANCE)


@pytest.mark.parametrize(
    ("image", "coarse", "iterations"),
    [(*case, 0) for case in CASES] + [(*CASES[0], 2), (*CASES[1], 1)],
)
def test_same_result_as_the_cpu(image, coarse, iterations):
    expected = refine_scores(image, coarse, PARAMS, iterations, device="cpu")
    found = refine_scores(image, coarse, PARAMS, iterations, device="cuda")
    assert found.device == "cuda"
    assert found.labels.dtype == np.uint8
    np.testing.assert_array_equal(found.labels, expected.labels)
    assert found.marginals.shape == expected.marginals.shape
    np.testing.assert_allclose(found.marginals, expected.marginals, atol=TOLERANCE)


def test_ties_go_to_the_lowest_label():
    scores = np.tile(np.array([0, 3, 3, 1], np.float32)[:, None, None], (1, 2, 3))
    image = np.zeros((2, 3, 3), np.uint8)
    found = refine_scores(image, CoarseScores(scores, 1), PARAMS, 0, device="cuda")
    assert (found.labels == 1).all()


def test_scores_far_apart():
    image, coarse = random_case((3, 1, 1), 8, 0, (1, 1))
    coarse.values[:, 0, 0] = [-1e38, 1e38, 0]
    found = refine_scores(image, coarse, PARAMS, 1, device="cuda")
    assert found.marginals.ravel().tolist() == [0, 1, 0]


def test_only_labels_come_back_if_marginals_are_not_wanted(monkeypatch):
    image, coarse = CASES[0]
    coarse = CoarseScores(np.pad(coarse.values, ((0, 0), (0, 2), (0, 1))), 8, 7)
    array = type(cuda.device_array(1))
    given, taken = [], []
    to_device, to_host = array.copy_to_device, array.copy_to_host

    def copy_to_device(self, values):
        given.append(values.nbytes)
        return to_device(self, values)

    def copy_to_host(self):
        taken.append(self.nbytes)
        return to_host(self)

    monkeypatch.setattr(array, "copy_to_device", copy_to_device)
    monkeypatch.setattr(array, "copy_to_host", copy_to_host)
    found = refine_scores(image, coarse, PARAMS, 1, device="cuda", marginals=False)
    assert found.marginals is None
    assert found.labels.shape == image.shape[:2]
    assert given == [CASES[0][1].values[:, :2, :3].nbytes, image.nbytes]
    assert taken == [4 * 4, image.shape[0] * image.shape[1]]  # the lattice's counters, the labels


def test_arrays_of_other_shapes_use_the_same_memory(monkeypatch):
    sizes = []
    device_array = cuda.device_array

    def counting(size, dtype):
        sizes.append(size)
        return device_array(size, dtype)

    monkeypatch.setattr(cuda, "device_array", counting)
    monkeypatch.setattr(gpu, "MOST_SHAPES", 2)
    space = Workspace()
    for shape in ((4, 6), (3, 5), (6, 4), (1,), (5, 5), (4, 6)):
        array = space.array("here", shape, np.float32)
        assert array.shape == shape
        array.copy_to_device(np.ones(shape, np.float32))
        assert (array.copy_to_host() == 1).all()
        assert space.array("here", shape, np.float32) is array
    space.array("there", (2,), np.int64)
    assert sizes == [24, 25, 2]
