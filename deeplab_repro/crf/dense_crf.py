"""Mean-field inference in a fully connected CRF (Kraehenbuehl and Koltun, NIPS 2011)."""

import threading
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from deeplab_repro.crf.arguments import check_arguments
from deeplab_repro.crf.features import kernel_features
from deeplab_repro.crf.lattice import LANES, Lattice, aligned_zeros, build_lattice
from deeplab_repro.crf.params import CrfParams
from deeplab_repro.crf.steps import PARTS, slice_and_normalise, splat_and_blur

F32 = npt.NDArray[np.float32]

# Numba's fallback thread pool (workqueue) aborts the process if two Python threads use it at once.
_one_at_a_time = threading.Lock()


@dataclass(frozen=True)
class CrfResult:
    """labels: HxW uint8, the most probable label; marginals: CxHxW float32, their probabilities."""

    labels: npt.NDArray[np.uint8]
    marginals: F32


def dense_crf(
    image: npt.NDArray[np.uint8], probs: F32, params: CrfParams, iterations: int = 10
) -> CrfResult:
    """Refine label probabilities with a fully connected CRF over all pairs of pixels.

    image: HxWx3 uint8 RGB; probs: CxHxW float32, one distribution a pixel, 1 to 255 labels; zeros
    are allowed. iterations: mean-field steps; 0 gives probs back, made to sum to 1.

    The energy is that of DeepLab v1, section 4.2: unary -log p and Potts pairwise terms, a
    positional and a bilateral Gaussian. Each kernel's message is divided by the kernel's response
    to ones at that pixel, once, after filtering (Kraehenbuehl 2011, algorithm 1, with the
    normalisation that the DeepLab authors ran). Ties go to the lowest label. As in their program,
    marginals below exp(-20) of the pixel's largest become 0.

    The same input gives the same bits, whatever the number of Numba threads. May be called from
    several Python threads; the iterations of concurrent calls then run one call after another.

    Raises ArgumentError for an argument of the wrong type, shape or range.
    """
    check_arguments(image, probs, params, iterations)
    n_labels, height, width = probs.shape
    n = height * width
    lanes = -(-n_labels // LANES) * LANES
    scores = aligned_zeros(n, lanes)
    scores[:, n_labels:] = -np.inf
    with np.errstate(divide="ignore"):
        scores[:, :n_labels] = np.log(probs.reshape(n_labels, n)).T

    q = aligned_zeros(n, lanes)
    no_corners, no_weights = np.empty((n, 0), np.int32), np.empty((n, 0), np.float32)
    none = no_corners, no_weights, aligned_zeros(1, lanes)
    kernels = []
    if iterations:
        position, bilateral = (build_lattice(f) for f in kernel_features(image, params))
        kernels = [(position, params.w2), (bilateral, params.w1)]
    with _one_at_a_time:
        slice_and_normalise(scores, *none, *none, q)
        messages = [Message(lattice, weight, lanes) for lattice, weight in kernels]
        for _ in range(iterations):
            filtered = [message.filter(q) for message in messages]
            slice_and_normalise(scores, *filtered[0], *filtered[1], q)
    marginals = np.ascontiguousarray(q[:, :n_labels].T).reshape(probs.shape)
    labels = marginals.argmax(axis=0).astype(np.uint8)
    return CrfResult(labels, marginals)


class Message:
    """One kernel's lattice with its work space, and its weight divided by its response to ones."""

    def __init__(self, lattice: Lattice, weight: float, lanes: int) -> None:
        self._lattice = lattice
        self._make_work_space(LANES)
        ones = aligned_zeros(lattice.corners.shape[0], LANES)
        ones += 1
        values = self._splat_and_blur(ones)[:, 0]
        alpha = np.float32(lattice.alpha)
        response = np.einsum("ij,ij->i", np.take(values, lattice.corners), lattice.weights) * alpha
        gain = np.float32(weight) * alpha / (response + np.float32(1e-20))
        self._weights = lattice.weights * gain[:, None]
        self._make_work_space(lanes)

    def filter(self, q: F32) -> tuple[npt.NDArray[np.int32], F32, F32]:
        """Corners, weights and lattice values whose slice is this kernel's message for q, N x L."""
        return self._lattice.corners, self._weights, self._splat_and_blur(q)

    def _make_work_space(self, lanes: int) -> None:
        rows = self._lattice.vertices + 1
        self._work = aligned_zeros(PARTS, rows, lanes), aligned_zeros(rows, lanes)

    def _splat_and_blur(self, q: F32) -> F32:
        of = self._lattice
        values: F32 = splat_and_blur(q, of.corners, of.weights, of.neighbours, *self._work)
        return values
