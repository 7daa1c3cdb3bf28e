"""DeepLab's dense CRF: a positional and a bilateral Gaussian kernel over the pixels of an image."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from deeplab_repro.crf.arguments import check_arguments, memory_needed
from deeplab_repro.crf.features import kernel_features
from deeplab_repro.crf.gpu import crf_cuda_problem
from deeplab_repro.crf.mean_field import Kernel, MeanField, most_probable
from deeplab_repro.crf.params import CrfParams
from deeplab_repro.device import Device, resolve_device
from deeplab_repro.files import require_memory
from deeplab_repro.layers import dims

F32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class CrfResult:
    """labels: HxW uint8, the most probable label; marginals: CxHxW float32, their probabilities.

    device: where they were computed, "cpu" or "cuda".
    """

    labels: npt.NDArray[np.uint8]
    marginals: F32
    device: Device


@functools.cache
def load(labels: int) -> None:
    """Load, or compile, what `dense_crf` runs on the CPU for so many labels, ahead of its use.

    Loading takes half a second; compiling, once after installation, some fifteen. Raises
    ArgumentError for a number of labels that `dense_crf` does not take.
    """
    probs = np.full((labels, 4, 4), 1 / max(labels, 1), np.float32)
    dense_crf(np.zeros((4, 4, 3), np.uint8), probs, CrfParams(1, 1, 1), 1, device="cpu")


def dense_crf(
    image: npt.NDArray[np.uint8],
    probs: F32,
    params: CrfParams,
    iterations: int = 10,
    *,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    on_iteration: Callable[[int, F32], object] | None = None,
) -> CrfResult:
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
    # CUDA only on request, until the twin has been run on GPUs as much as on Numba's simulator.
    used = resolve_device("cpu" if device == "auto" else device, crf_cuda_problem)
    check_arguments(image, probs, params, iterations)
    if used == "cuda":
        from deeplab_repro.crf.gpu_mean_field import gpu_dense_crf

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
