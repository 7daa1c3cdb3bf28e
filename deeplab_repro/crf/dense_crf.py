"""DeepLab's dense CRF: a positional and a bilateral Gaussian kernel over the pixels of an image."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from deeplab_repro.arrays import dims
from deeplab_repro.crf.arguments import check_arguments, check_scores, memory_needed
from deeplab_repro.crf.cpu.mean_field import Kernel, MeanField, most_probable
from deeplab_repro.crf.cuda.device import crf_device
from deeplab_repro.crf.features import kernel_features
from deeplab_repro.crf.params import CrfParams
from deeplab_repro.machine.device import Device
from deeplab_repro.machine.memory import require_memory
from deeplab_repro.net.scores import CoarseScores, softmax

F32 = npt.NDArray[np.float32]
Marginals = TypeVar("Marginals", bound=F32 | None, covariant=True)


@dataclass(frozen=True)
class CrfResult(Generic[Marginals]):
    """labels: HxW uint8, the most probable label; marginals: CxHxW float32, their probabilities.

    marginals are None where they were not asked for. device: where they were computed, "cpu" or
    "cuda".
    """

    labels: npt.NDArray[np.uint8]
    marginals: Marginals
    device: Device


@functools.cache
def load(labels: int, device: Device = "cpu") -> None:
    """Load, or compile, what `refine_scores` runs for so many labels, ahead of its use.

    Loading takes half a second; compiling, once after installation, some fifteen. Raises
    ArgumentError for a number of labels that it does not take, and DeviceError where there is no
    such device.
    """
    coarse = CoarseScores(np.zeros((labels, 4, 4), np.float32), stride=1)
    refine_scores(np.zeros((4, 4, 3), np.uint8), coarse, CrfParams(1, 1, 1), 1, device=device)


def dense_crf(
    image: npt.NDArray[np.uint8],
    probs: F32,
    params: CrfParams,
    iterations: int = 10,
    *,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    on_iteration: Callable[[int, F32], object] | None = None,
) -> CrfResult[F32]:
    """Refine label probabilities with a fully connected CRF over all pairs of pixels.

    image: HxWx3 uint8 RGB; probs: CxHxW float32, one distribution a pixel, 1 to 255 labels; zeros
    are allowed. iterations: mean-field steps; 0 gives probs back, made to sum to 1.
    device: "cpu", "cuda", or "auto", which for now is "cpu" (CUDA is used when it is asked for).
    on_iteration: called after each iteration with its number, from 1, and the marginals (CxHxW; to
    be copied if they are to be kept).

    The energy is that of DeepLab v1, section 4.2: unary -log p and Potts pairwise terms, a
    positional and a bilateral Gaussian. Each kernel's message is divided by the kernel's response
    to ones at that pixel, once, after filtering (Kraehenbuehl 2011, algorithm 1, with the
    normalisation that the DeepLab authors ran). Ties go to the lowest label. Probabilities below
    1e-20 count as 0.

    The same input gives the same bits, whatever the number of Numba threads. May be called from
    several Python threads.

    Raises ArgumentError for an argument of the wrong type, shape or range, DeviceError where there
    is no CUDA, and ResourceError for too little memory.
    """
    used = crf_device(device)
    check_arguments(image, probs, params, iterations)
    if used == "cuda":
        from deeplab_repro.crf.cuda.mean_field import gpu_dense_crf

        marginals = gpu_dense_crf(image, probs, params, iterations, on_iteration)
    else:
        n_bytes = memory_needed(len(probs), image.shape[0] * image.shape[1])
        require_memory(n_bytes, f"the CRF with probs of {dims(probs.shape)}")
        position, bilateral = kernel_features(image, params)
        kernels = [Kernel(position, params.w2), Kernel(bilateral, params.w1)]
        field = MeanField(probs.reshape(len(probs), -1), kernels)
        observe = on_iteration and (lambda i, q: on_iteration(i, q.reshape(probs.shape)))
        marginals = field.run(iterations, observe).reshape(probs.shape)
    return CrfResult(most_probable(marginals), marginals, used)


def refine_scores(
    image: npt.NDArray[np.uint8],
    coarse: CoarseScores,
    params: CrfParams,
    iterations: int = 10,
    *,
    device: str = "auto",
    marginals: bool = True,
) -> CrfResult[F32 | None]:
    """Refine a net's coarse scores: `dense_crf` with the softmax of what they are enlarged to.

    image: HxWx3 uint8 RGB. coarse: finite scores of 1 to 255 labels that cover the image.
    marginals: whether they are wanted. Without them a GPU is given the image and the coarse scores
    as they are, and gives no more than the labels: maps of each label at the image's size would
    take longer to move than to make.

    All else is as for `dense_crf`. On the CPU the result is that of `dense_crf`, bit for bit.
    """
    used = crf_device(device)
    check_scores(image, coarse, params, iterations)
    size = image.shape[0], image.shape[1]
    if used == "cuda":
        from deeplab_repro.crf.cuda.mean_field import gpu_refine_scores

        best, q = gpu_refine_scores(image, coarse, params, iterations, marginals)
        return CrfResult(best, q, used)
    labels, n = len(coarse.values), size[0] * size[1]
    require_memory(4 * labels * n + memory_needed(labels, n), f"the CRF of {labels}x{dims(size)}")
    result = dense_crf(image, softmax(coarse.enlarged(size)), params, iterations, device=used)
    return CrfResult(result.labels, result.marginals if marginals else None, used)
