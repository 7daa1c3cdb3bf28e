"""The CUDA twin against the definition, on a GPU or on Numba's simulator (see test_device.py).

The simulator takes a Python thread for each of the GPU's: hence the few pixels.
"""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeplab_repro.crf.cuda.device import SIMULATED, Workspace, crf_cuda_problem
from deeplab_repro.crf.dense_crf import dense_crf
from deeplab_repro.crf.params import CrfParams
from deeplab_repro.errors import DeviceError, ResourceError
from tests.crf.naive import NaiveLattice, enclosing_simplex, naive_dense_crf, softmax

if (problem := crf_cuda_problem()) is not None:
    pytest.skip(f"no GPU for the CRF: {problem}", allow_module_level=True)

from deeplab_repro.crf.cuda import field as gpu_field
from deeplab_repro.crf.cuda import lattice as gpu_lattice
from deeplab_repro.crf.cuda import lists as gpu_lists
from deeplab_repro.crf.cuda import mean_field as gpu_mean_field
from deeplab_repro.crf.cuda import quads as gpu_quads
from deeplab_repro.crf.cuda.lattice import POSITIONAL, build_lattice, packings
from deeplab_repro.crf.cuda.lists import CORNERS, CROWDS, SEGMENT
from deeplab_repro.crf.cuda.mean_field import DESIGNS, cuda, infer

ROOT = Path(__file__).resolve().parents[3]
PARAMS = CrfParams(w1=4, sigma_alpha=20, sigma_beta=40)
# Marginals are sums in single precision, and the CPU adds in another order; as for the CPU.
TOLERANCE = 5e-6


@pytest.fixture(autouse=True, scope="module")
def impatient_threads():
    """The simulator's threads wait for each other in a loop."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    yield
    sys.setswitchinterval(interval)


@pytest.fixture(params=DESIGNS)
def design(request, monkeypatch):
    """The designs of the step, one after the other; the other tests take the one in use."""
    monkeypatch.setattr(gpu_mean_field, "DESIGN", request.param)


def random_case(seed, labels, height, width):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 80, (height, width, 3), dtype=np.uint8)  # some share vertices
    probs = softmax(3 * rng.standard_normal((labels, height, width)))
    return image, probs.astype(np.float32)


def marginals_on_gpu(image, probs, params, iterations, on_iteration=None):
    return infer(image, probs, params, iterations, on_iteration=on_iteration)[1]


def photo(height, width):
    with Image.open(ROOT / "examples" / "street.jpg") as image:
        pixels = np.asarray(image.convert("RGB"))
    return np.ascontiguousarray(pixels[200 : 200 + height, 220 : 220 + width])


@pytest.mark.parametrize(
    ("labels", "height", "width", "iterations"),
    [
        (3, 3, 5, 2),  # N % 4 is 3
        (2, 6, 3, 1),  # 2
        (4, 3, 3, 2),  # 1
        (5, 2, 4, 1),  # 0
        (1, 1, 1, 2),
        (40 if SIMULATED else 255, 1, 1, 1),  # a thread a label
        (9, 2, 3, 2),  # two threads share a row of quads
        (7, 4, 4, 0),
    ],
)
@pytest.mark.usefixtures("design")
def test_same_result_as_the_naive_version(labels, height, width, iterations):
    image, probs = random_case(labels, labels, height, width)
    marginals = marginals_on_gpu(image, probs, PARAMS, iterations)
    assert marginals.dtype == np.float32
    assert marginals.shape == probs.shape
    expected = naive_dense_crf(image, probs, PARAMS, iterations)
    np.testing.assert_allclose(marginals, expected, atol=TOLERANCE)


def test_keys_beyond_32_bits():
    image, probs = random_case(12, 3, 3, 3)
    params = CrfParams(4, 0.5, 1.5, 3, 0.4)
    assert packings(3, 3, params)[1].stop > 2**32
    marginals = marginals_on_gpu(image, probs, params, 1)
    np.testing.assert_allclose(marginals, naive_dense_crf(image, probs, params, 1), atol=TOLERANCE)


def test_same_result_as_the_cpu_on_a_photo():
    image = photo(5, 8)
    probs = random_case(0, 4, 5, 8)[1]
    params = CrfParams(5, 50, 10)
    found, expected = (dense_crf(image, probs, params, 1, device=on) for on in ("cuda", "cpu"))
    assert found.device == "cuda"
    np.testing.assert_array_equal(found.labels, expected.labels)
    np.testing.assert_allclose(found.marginals, expected.marginals, atol=TOLERANCE)


def test_simplices_weights_and_vertices_are_those_of_the_definition():
    image = photo(6, 7)  # 42 pixels: a point of zeros joins them
    image[0, 0] = 0  # so is this one; every residual ties
    params = CrfParams(5, 50, 10)
    space = Workspace()
    lattice = build_lattice(cuda.to_device(image.reshape(-1, 3)), 6, 7, params, space)
    keys = space.array("keys", (CORNERS * 43,), np.int64).copy_to_host().reshape(43, CORNERS)
    weights = lattice.weights.copy_to_host().reshape(42, CORNERS)
    y, x = np.indices((6, 7)).reshape(2, -1).astype(np.float32)
    rgb = image.reshape(-1, 3).astype(np.float32)
    position = np.stack([x, y], axis=1) / np.float32(params.sigma_gamma)
    bilateral = np.column_stack(
        [np.stack([x, y], axis=1) / np.float32(params.sigma_alpha), rgb / np.float32(10)]
    )
    vertices = 0
    for features, packing, part in zip(
        (position, bilateral),
        packings(6, 7, params),
        (slice(0, POSITIONAL), slice(POSITIONAL, CORNERS)),
        strict=True,
    ):
        d = features.shape[1]
        for i, point in enumerate([*features, np.zeros(d)]):
            simplex, expected_weights = enclosing_simplex(point)
            expected = [pack(packing, corner) for corner in simplex]
            assert keys[i, part].tolist() == expected
            if i < 42:
                np.testing.assert_allclose(weights[i, part], expected_weights, atol=2e-6)
        vertices += len(NaiveLattice(features).vertices)
    assert lattice.vertices == vertices


def pack(packing, coordinates):
    d = len(coordinates) - 1
    remainder = coordinates[0] % (d + 1)
    quotients = [(c - remainder) // (d + 1) for c in coordinates]
    return packing.origin + remainder + int(np.dot(quotients, packing.bases))


@pytest.mark.usefixtures("design")
def test_on_a_constant_picture_every_pixel_follows_the_scalar_recursion(monkeypatch):
    """Also the longest lists that there are: 135 pixels share vertices, more than SEGMENT."""
    space = Workspace()
    monkeypatch.setattr(gpu_mean_field, "work_space", lambda: space)
    p = np.array([0.7, 0.3])
    probs = np.broadcast_to(p[:, None, None], (2, 9, 15)).astype(np.float32)
    image = np.full((9, 15, 3), 77, np.uint8)
    q = p
    for iterations in (1, 2) if "quad" in gpu_mean_field.DESIGN else (1,):
        q = softmax(np.log(p) + 7 * q)
        marginals = marginals_on_gpu(image, probs, CrfParams(4, 500, 40), iterations)
        expected = np.broadcast_to(q[:, None, None], (2, 9, 15))
        np.testing.assert_allclose(marginals, expected, atol=1e-5)
    assert space.array("counters", (4,), np.int32).copy_to_host()[CROWDS] > 0


def test_segments_are_the_lists_cut_up():
    image = np.full((9, 15, 3), 77, np.uint8)
    points, params, space = cuda.to_device(image.reshape(-1, 3)), CrfParams(4, 500, 40), Workspace()
    lattice = build_lattice(points, 9, 15, params, space)
    lists, corners = lattice.lists, lattice.corners.copy_to_host()[: 9 * 135]
    pixels, shares = lists.pixels.copy_to_host(), lists.shares.copy_to_host()
    weights, crowds = lattice.weights.copy_to_host(), lists.crowds.copy_to_host()
    _, entries, n_segments, n_crowds = lists.counters.copy_to_host()
    assert entries == 9 * 135
    found, crowd_of = {}, {}
    for start, stop, vertex, crowd in lists.segments.copy_to_host()[:n_segments]:
        assert 0 <= stop - start <= SEGMENT
        found.setdefault(vertex, []).extend(
            zip(pixels[start:stop], shares[start:stop], strict=True)
        )
        crowd_of.setdefault(vertex, []).append(crowd)
    assert sorted(found) == list(range(lattice.vertices + 1))
    for vertex, around in found.items():
        entries = np.flatnonzero(corners == vertex)
        assert sorted(around) == sorted(zip(entries // 9, weights[entries], strict=True))
        own = crowd_of[vertex]
        assert (
            own == [-1] if len(own) == 1 else [crowds[own[0]]] == [len(own)] == [own.count(own[0])]
        )
    assert n_crowds == sum(len(own) > 1 for own in crowd_of.values()) > 0


def test_impossible_labels_stay_impossible():
    image, probs = random_case(3, 4, 3, 3)
    probs[2] = 0
    probs[:, 2, 2] = [0, 1, 0, 0]
    probs /= probs.sum(axis=0)
    marginals = marginals_on_gpu(image, probs, PARAMS, 1)
    assert (marginals[2] == 0).all()
    assert marginals[:, 2, 2].tolist() == [0, 1, 0, 0]
    np.testing.assert_allclose(marginals, naive_dense_crf(image, probs, PARAMS, 1), atol=TOLERANCE)


def test_heavy_weights_do_not_overflow():
    image, probs = random_case(5, 3, 2, 3)
    marginals = marginals_on_gpu(image, probs, CrfParams(1e6, 20, 40, 1e6), 1)
    assert np.isfinite(marginals).all()
    np.testing.assert_allclose(marginals.sum(axis=0), 1, atol=1e-5)


def test_probabilities_that_sum_to_nearly_1_are_normalised():
    image, probs = random_case(6, 3, 3, 4)
    np.testing.assert_allclose(
        marginals_on_gpu(image, probs * np.float32(0.992), PARAMS, 0), probs, atol=1e-6
    )


def test_views_and_read_only_inputs():
    image, probs = random_case(4, 3, 2, 3)
    expected = marginals_on_gpu(image[:, ::-1].copy(), probs[:, :, ::-1].copy(), PARAMS, 1)
    image.flags.writeable = probs.flags.writeable = False
    marginals = marginals_on_gpu(image[:, ::-1], probs[:, :, ::-1], PARAMS, 1)
    assert (marginals == expected).all()


@pytest.mark.usefixtures("design")
def test_same_bits_in_whatever_order_threads_run(monkeypatch):
    image = photo(4, 5)
    probs = random_case(7, 3, 4, 5)[1]
    results = []
    for blocks, threads in ((1, 8), (3, 4)):
        for module in (gpu_lattice, gpu_lists, gpu_field, gpu_quads):
            monkeypatch.setattr(module, "BLOCKS", blocks)
            monkeypatch.setattr(module, "THREADS", threads)
        results.append(marginals_on_gpu(image, probs, CrfParams(5, 50, 10), 1))
    assert (results[0] == results[1]).all()


def test_memory_is_reused_and_nothing_of_the_last_call_is_seen(monkeypatch):
    space = Workspace()
    monkeypatch.setattr(gpu_mean_field, "work_space", lambda: space)
    cases = [random_case(8, 3, 3, 3), random_case(9, 3, 2, 2), random_case(10, 5, 3, 3)]
    for image, probs in cases:
        alone = naive_dense_crf(image, probs, PARAMS, 1)
        np.testing.assert_allclose(marginals_on_gpu(image, probs, PARAMS, 1), alone, atol=TOLERANCE)
    keys = space.array("keys", (CORNERS * 10,), np.int64)
    marginals_on_gpu(*cases[0], PARAMS, 1)
    assert space.array("keys", (CORNERS * 10,), np.int64) is keys


def test_every_iteration_can_be_watched():
    image, probs = random_case(11, 3, 2, 3)
    seen = {}
    last = marginals_on_gpu(image, probs, PARAMS, 2, seen.__setitem__)
    assert list(seen) == [1, 2]
    assert seen[1].dtype == np.float32
    assert (seen[1] == marginals_on_gpu(image, probs, PARAMS, 1)).all()
    assert (seen[2] == last).all()


def failing(monkeypatch, message):
    def device_array(*_args, **_options):
        raise CudaAPIError(message)

    monkeypatch.setattr(gpu_mean_field, "work_space", Workspace)
    monkeypatch.setattr(cuda, "device_array", device_array)


class CudaAPIError(RuntimeError):
    """As the driver's, whose arguments depend on Numba's release."""

    __module__ = "numba.cuda.cudadrv.driver"


def test_too_little_memory_is_said_plainly(monkeypatch):
    failing(monkeypatch, "[2] Call to cuMemAlloc results in CUDA_ERROR_OUT_OF_MEMORY")
    image, probs = random_case(0, 3, 4, 5)
    with pytest.raises(ResourceError, match=r"needs \d+ MiB of GPU memory .* smaller image"):
        marginals_on_gpu(image, probs, PARAMS, 1)


def test_what_the_driver_says_is_passed_on_plainly(monkeypatch):
    failing(monkeypatch, "[222] Call to X results in CUDA_ERROR_UNSUPPORTED_PTX_VERSION\nlog")
    image, probs = random_case(0, 3, 4, 5)
    with pytest.raises(
        DeviceError, match=r"UNSUPPORTED_PTX_VERSION log\): .* device='cpu'"
    ) as caught:
        marginals_on_gpu(image, probs, PARAMS, 1)
    assert "\n" not in str(caught.value)


def test_errors_of_the_watcher_are_its_own():
    image, probs = random_case(0, 2, 2, 2)
    with pytest.raises(KeyError, match="stop"):
        marginals_on_gpu(image, probs, PARAMS, 2, lambda *_: {}["stop"])
    marginals_on_gpu(image, probs, PARAMS, 1)  # and the GPU is free again
