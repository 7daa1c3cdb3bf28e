"""Mean-field inference on the GPU: the CUDA twin of crf/cpu/mean_field.py.

Everything happens on the GPU: the image and the scores go in, the labels come out, and the host
learns one number in between, that of the lattice's vertices.
"""

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numba import cuda

from deeplab_repro.arrays import F32, UInt8
from deeplab_repro.crf.cuda.device import Workspace, plain_errors
from deeplab_repro.crf.cuda.field import MeanField
from deeplab_repro.crf.cuda.lattice import build_lattice
from deeplab_repro.crf.cuda.quads import QuadField
from deeplab_repro.crf.cuda.scores import enlarged_probs
from deeplab_repro.crf.params import CrfParams
from deeplab_repro.net.scores import CoarseScores

# Designs of the step, until a GPU has said which is fastest; their numbers differ by rounding.
DESIGNS: dict[str, Callable[[Any, Workspace], MeanField]] = {
    "a float a thread": MeanField,
    "a quad a thread": partial(QuadField, quads_a_thread=1),
    "two quads a thread": QuadField,
}
DESIGN = "two quads a thread"

# The work space is shared by all calls, and one GPU has nothing to gain from two at a time.
_one_at_a_time = threading.Lock()


@plain_errors()
@cuda.require_context  # or each launch asks the driver for it
def infer(
    image: UInt8,
    probs: F32 | CoarseScores,
    params: CrfParams,
    iterations: int,
    marginals: bool = True,
    on_iteration: Callable[[int, F32], object] | None = None,
) -> tuple[UInt8, F32 | None]:
    """The labels and, if wanted, the marginals of `dense_crf`, computed on the current CUDA device.

    probs: probabilities, or a net's coarse scores, whose softmax at the image's size is taken. The
    caller has checked all arguments. The twin of `crf.cpu.mean_field.infer`.

    The same input gives the same bits on the same GPU. Memory on the GPU is kept for the next
    call. Raises ResourceError where it does not suffice, ArgumentError for deviations so small
    that lattice keys overflow, and DeviceError where CUDA fails.
    """
    size = height, width = image.shape[0], image.shape[1]
    with _one_at_a_time:
        space = work_space()
        if isinstance(probs, CoarseScores):
            given = enlarged_probs(probs, size, space)
        else:
            rows = np.ascontiguousarray(probs).reshape(len(probs), -1)
            given = space.array("probs", rows.shape, np.float32)
            given.copy_to_device(rows)
        field = DESIGNS[DESIGN](given, space)
        if iterations:
            points = space.array("image", (height * width, 3), np.uint8)
            points.copy_to_device(np.ascontiguousarray(image).reshape(-1, 3))
            field.connect(build_lattice(points, height, width, params, space), params)
        for iteration in range(1, iterations + 1):
            field.step()
            if on_iteration is not None:
                on_iteration(iteration, field.marginals().reshape(-1, *size))
        labels = field.labels().reshape(size)
        return labels, field.marginals().reshape(-1, *size) if marginals else None


def work_space() -> Workspace:
    """The arrays of the current CUDA context, which go when it goes (`cuda.close()`)."""
    context = cuda.current_context()
    if not hasattr(context, "crf_work_space"):  # contexts cannot be keys of a dictionary
        context.crf_work_space = Workspace()
    space: Workspace = context.crf_work_space
    return space
