"""The dense CRF of one image with many parameters: what they share is computed once."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from deeplab_repro.arrays import dims
from deeplab_repro.crf.arguments import check_iterations, check_maps, check_sigmas, memory_needed
from deeplab_repro.crf.cpu.mean_field import Kernel, MeanField, most_probable
from deeplab_repro.crf.features import kernel_features
from deeplab_repro.crf.params import CrfParams
from deeplab_repro.machine.memory import require_memory


def sweep(
    image: npt.NDArray[np.uint8],
    probs: npt.NDArray[np.float32],
    settings: Sequence[CrfParams],
    iterations: int = 10,
) -> Iterator[tuple[CrfParams, npt.NDArray[np.uint8]]]:
    """Yield each setting and its labels, HxW uint8, those that `dense_crf` gives, on the CPU.

    image: HxWx3 uint8 RGB; probs: CxHxW float32. Settings with the same deviations follow each
    other, and share a lattice; all share the checks and the unary. (To embed the pixels for the
    positional kernel again takes 3 percent of the time of two settings: it is not kept.)

    Raises what `dense_crf` raises, before the first is yielded.
    """
    check_maps(image, probs)
    check_iterations(iterations)
    alike = defaultdict(list)
    for params in settings:
        check_sigmas(image, params)
        alike[replace(params, w1=0, w2=0)].append(params)
    n_bytes = memory_needed(len(probs), image.shape[0] * image.shape[1])
    require_memory(n_bytes, f"the CRF with probs of {dims(probs.shape)}")
    field = None
    for sigmas, group in alike.items():
        position, bilateral = kernel_features(image, sigmas)
        for params in group:
            kernels = [Kernel(position, params.w2), Kernel(bilateral, params.w1)]
            if field is None:
                field = MeanField(probs.reshape(len(probs), -1), kernels)
            else:
                field.change_kernels(kernels)
            yield params, most_probable(field.run(iterations).reshape(probs.shape))
