"""DeepLab's dense CRF: a positional and a bilateral Gaussian kernel over the pixels of an image."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

import numpy as np

from deeplab_repro.arrays import F32, UInt8, in_brief
from deeplab_repro.crf.arguments import (
    check_coarse,
    check_iterations,
    check_labels,
    check_reach,
    given_photos,
)
from deeplab_repro.crf.cuda.device import crf_device
from deeplab_repro.crf.params import CrfParams
from deeplab_repro.errors import ArgumentError
from deeplab_repro.machine.device import AnyDevice, Device
from deeplab_repro.machine.memory import require_memory
from deeplab_repro.net.given import check_image
from deeplab_repro.net.scores import CoarseScores

Marginals = TypeVar("Marginals", bound=F32 | None, covariant=True)


@dataclass(frozen=True, eq=False)
class CrfResult(Generic[Marginals]):
    """labels: HxW uint8, the most probable label; marginals: CxHxW float32, their probabilities.

    Of a batch both have a leading axis N. marginals are None if they were not asked for. device:
    what computed them, "cpu" or "cuda".
    """

    labels: UInt8
    marginals: Marginals
    device: Device

    __repr__ = in_brief


def dense_crf(
    image: UInt8,
    probs: F32,
    params: CrfParams,
    iterations: int = 10,
    *,
    device: AnyDevice = "auto",
    on_iteration: Callable[[int, F32], object] | None = None,
) -> CrfResult[F32]:
    """Refine label probabilities with a fully connected CRF over all pairs of pixels.

    image: HxWx3 uint8 RGB; probs: CxHxW float32, one distribution a pixel, 1 to 255 labels; zeros
    are allowed. Or a batch, NxHxWx3 and NxCxHxW, of which each photo is refined by itself. Tensors
    of other libraries are taken too, if they are on the CPU; and of Pillow's pictures those that
    are upright.
    iterations: mean-field steps; 0 gives probs back, made to sum to 1.
    device: "cpu", "cuda", or "auto", which for now is "cpu" (CUDA is used when it is asked for).
    on_iteration: called after each iteration with its number, from 1, and the marginals (CxHxW; to
    be copied if they are to be kept). On a GPU each call costs a transfer, and it must not start
    another CRF there.

    The energy is that of DeepLab v1, section 4.2: unary -log p and Potts pairwise terms, a
    positional and a bilateral Gaussian. Each kernel's message is divided by the kernel's response
    to ones at that pixel, once, after filtering (Kraehenbuehl 2011, algorithm 1, with the
    normalisation that the DeepLab authors ran). Ties go to the lowest label. Probabilities below
    1e-20 count as 0.

    The same input gives the same bits on the same machine, whatever the number of Numba threads.
    May be called from several Python threads.

    Raises ArgumentError for an argument of the wrong type, shape or range, DeviceError where there
    is no CUDA or it fails, and ResourceError for too little memory.

    >>> image = np.zeros((3, 4, 3), np.uint8)
    >>> image[:, 2:] = 255  # a dark half and a bright one
    >>> bright = np.float32([[0.1, 0.1, 0.9, 0.9], [0.1, 0.6, 0.9, 0.9], [0.1, 0.1, 0.9, 0.9]])
    >>> params = CrfParams(w1=5, sigma_alpha=20, sigma_beta=10)
    >>> dense_crf(image, np.stack([1 - bright, bright]), params).labels
    array([[0, 0, 1, 1],
           [0, 0, 1, 1],
           [0, 0, 1, 1]], dtype=uint8)
    """
    image, probs = given_photos(image, probs)
    if image.ndim == 4:
        if on_iteration is not None:
            raise ArgumentError("on_iteration is for one photo; image and probs hold a batch")
        return _refine_batch(image, probs, params, iterations, device)
    result = _refine(image, probs, params, iterations, device, on_iteration=on_iteration)
    return cast(CrfResult[F32], result)


def refine_scores(
    image: UInt8,
    coarse: CoarseScores,
    params: CrfParams,
    iterations: int = 10,
    *,
    device: str = "auto",
    marginals: bool = True,
) -> CrfResult[F32 | None]:
    """Refine a net's coarse scores: `dense_crf` of their softmax at the image's size.

    image: HxWx3 uint8 RGB. coarse: finite scores of 1 to 255 labels that cover the image.
    marginals: whether they are wanted. Without them only the coarse scores and the image go to a
    GPU, and only the labels come back: to move probabilities takes longer than to compute them.

    All else is as for `dense_crf`. On the CPU the result is that of `dense_crf`, bit for bit.
    """
    image = check_image(image)
    check_coarse(image, coarse)
    return _refine(image, coarse, params, iterations, device, marginals)


@functools.cache
def load(labels: int, device: Device = "cpu") -> None:
    """Load, or compile, what `refine_scores` runs for so many labels, ahead of its use.

    Loading takes half a second; compiling, once after installation, some seven. Raises
    ArgumentError for a number of labels that it does not take, and DeviceError where there is no
    such device.
    """
    check_labels("probs", labels)
    coarse = CoarseScores(np.zeros((labels, 4, 4), np.float32), stride=1)
    refine_scores(np.zeros((4, 4, 3), np.uint8), coarse, CrfParams(1, 1, 1), 1, device=device)


def _refine_batch(
    images: UInt8, probs: F32, params: CrfParams, iterations: int, device: str
) -> CrfResult[F32]:
    """`dense_crf` of each photo of a batch, one after the other."""
    require_memory(probs.nbytes, f"the marginals of a batch of {len(probs)}")
    labels = np.empty(images.shape[:3], np.uint8)
    marginals = np.empty(probs.shape, np.float32)
    for number, (image, given) in enumerate(zip(images, probs, strict=True)):
        result = _refine(image, given, params, iterations, device)
        labels[number], marginals[number] = result.labels, result.marginals
    return CrfResult(labels, marginals, result.device)


def _refine(
    image: UInt8,
    probs: F32 | CoarseScores,
    params: CrfParams,
    iterations: int,
    device: str,
    marginals: bool = True,
    on_iteration: Callable[[int, F32], object] | None = None,
) -> CrfResult[F32 | None]:
    """What both doors share: the other checks, and the choice between the twins."""
    check_iterations(iterations)
    used = crf_device(device)
    if used == "cuda":
        check_reach(image, params)
        from deeplab_repro.crf.cuda.mean_field import infer
    else:
        from deeplab_repro.crf.cpu.mean_field import infer
    labels, found = infer(image, probs, params, iterations, marginals, on_iteration)
    return CrfResult(labels, found, used)
