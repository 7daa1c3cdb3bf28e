"""Whether the CRF on the GPU gives what the original program and the CPU give."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from gpu_check_steps import Finding, Job, largest

from deeplab_repro.arrays import dims
from deeplab_repro.crf.cuda.device import SIMULATED, Workspace, plain_errors
from deeplab_repro.crf.dense_crf import dense_crf, refine_scores
from deeplab_repro.crf.params import CrfParams
from deeplab_repro.errors import FileError, one_line
from deeplab_repro.machine.device import Device
from deeplab_repro.net.scores import CoarseScores, softmax

F32 = npt.NDArray[np.float32]
UInt8 = npt.NDArray[np.uint8]

MOST_ERROR = 1e-5  # of a marginal
STRIDE = 8  # of the golden scores

# What Numba's simulator does in seconds; the original has no result for so small a part.
_CROP, _LABELS, _ITERATIONS = (5, 6), 3, 2


def check_crf(job: Job) -> Iterator[Finding]:
    """Every golden case, from coarse scores to labels."""
    paths = sorted(job.golden.glob("crf/*.npz"))
    if not paths:
        raise FileError(f"{one_line(job.golden)}: has no crf/*.npz")
    for path in paths[:1] if SIMULATED else paths:
        yield check_case(path, job)


def check_case(path: Path, job: Job) -> Finding:
    """One case: by `refine_scores` twice, by it without marginals, and by `dense_crf`."""
    with np.load(path) as case:
        golden = dict(case)
    image, params = golden["image"], CrfParams(*map(float, golden["params"]))
    scores, iterations = golden["scores"], int(golden["iterations"])
    if SIMULATED:
        image = image[: _CROP[0], : _CROP[1]]
        scores, iterations = scores[:_LABELS], _ITERATIONS
    size = image.shape[0], image.shape[1]
    coarse = CoarseScores(scores, STRIDE).covering(size)

    def refine(device: Device) -> tuple[UInt8, F32]:
        result = refine_scores(image, coarse, params, iterations, device=device)
        assert result.marginals is not None
        return result.labels, result.marginals

    on = job.crf_device
    labels, marginals = refine(on)
    again_labels, again = refine(on)
    alone = refine_scores(image, coarse, params, iterations, device=on, marginals=False)
    same = bool((marginals == again).all() and (labels == again_labels).all())
    _, on_cpu = refine("cpu")
    plain = dense_crf(image, softmax(coarse.enlarged(size)), params, iterations, device=on)
    errors = {
        "off the CPU's": largest(marginals - on_cpu),
        "dense_crf's": largest(plain.marginals - on_cpu),
    }
    wrong = {"labels changed without marginals": int(np.count_nonzero(labels != alone.labels))}
    if not SIMULATED:
        errors["off the original's"] = _golden_error(marginals, golden)
        wrong["other labels than the original"] = int(np.count_nonzero(labels != golden["label"]))
        if on == "cuda":
            expected = int(golden["lattice_vertices"].sum())
            wrong["vertices too many"] = _vertices(image, params) - expected
    good = same and max(errors.values()) <= MOST_ERROR and not any(wrong.values())
    facts = {"case": path.stem, "image": dims(size), **errors, **wrong, "same bits twice": same}
    return Finding("CRF", facts, "pass" if good else "fail")


def _golden_error(marginals: F32, golden: dict[str, Any]) -> float:
    """The largest difference from the original's marginals, of which some cases have a part."""
    if "marginals" in golden:
        return largest(marginals - golden["marginals"])
    return largest(marginals[:, ::4, ::4] - golden["marginals_every_4th_pixel"])


def _vertices(image: UInt8, params: CrfParams) -> int:
    """The vertices of both lattices on the GPU."""
    from numba import cuda

    from deeplab_repro.crf.cuda.lattice import build_lattice

    height, width = image.shape[:2]
    with plain_errors():
        points = cuda.to_device(np.ascontiguousarray(image).reshape(-1, 3))
        return build_lattice(points, height, width, params, Workspace()).vertices
