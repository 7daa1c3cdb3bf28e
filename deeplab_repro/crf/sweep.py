"""The dense CRF of one image with many settings: what they share is computed once."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

from deeplab_repro.arrays import F32, UInt8, dims
from deeplab_repro.crf.arguments import check_iterations, check_memory, given_photos
from deeplab_repro.crf.cpu.mean_field import Kernel, MeanField
from deeplab_repro.crf.features import kernel_features
from deeplab_repro.crf.params import CrfParams
from deeplab_repro.errors import ArgumentError


def sweep(
    image: UInt8,
    probs: F32,
    settings: Sequence[CrfParams],
    iterations: int = 10,
) -> Iterator[tuple[CrfParams, UInt8]]:
    """Yield each setting and its labels, HxW uint8, those that `dense_crf` gives, on the CPU.

    image: HxWx3 uint8 RGB; probs: CxHxW float32. All settings share the checks and the unary.
    Those with the same deviations follow each other and share a lattice. (Other deviations of the
    bilateral kernel alone rebuild the positional lattice too, 3 percent of two settings' time.)

    Raises what `dense_crf` raises, before the first is yielded.
    """
    image, probs = given_photos(image, probs)
    if image.ndim == 4:
        raise ArgumentError(f"image is {dims(image.shape)}, a batch; expected HxWx3, one photo")
    check_iterations(iterations)
    alike = defaultdict(list)
    for params in settings:
        alike[replace(params, w1=0, w2=0)].append(params)
    size = image.shape[0], image.shape[1]
    check_memory(len(probs), size, marginals=False)
    field = None
    for sigmas, group in alike.items():
        position, bilateral = kernel_features(image, sigmas)
        for params in group:
            kernels = [Kernel(position, params.w2), Kernel(bilateral, params.w1)]
            if field is None:
                field = MeanField(probs.reshape(len(probs), -1), kernels, marginals=False)
            else:
                field.change_kernels(kernels)
            yield params, field.infer(iterations, marginals=False)[0].reshape(size)
