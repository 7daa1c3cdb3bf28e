"""tools/gpu_check/crf.py: the CRF is compared and timed."""

from pathlib import Path

import numpy as np
import pytest

from deeplab_repro.crf.dense_crf import refine_scores
from deeplab_repro.crf.params import CrfParams
from tests.tools.conftest import TOOLS

ROOT = TOOLS.parent


@pytest.fixture
def crf_case(tool, photo, tmp_path):
    """Make a case as the golden ones are, with so many labels that are wrong."""

    def make(wrong: int) -> Path:
        image, size = photo(20, 30), (20, 30)
        coarse = tool("gpu_check/crf").random_scores(size, 21)
        params = CrfParams(4, 20, 10)
        result = refine_scores(image, coarse, params, 2, device="cpu")
        labels = result.labels.copy()
        labels.ravel()[:wrong] = 99
        values = (params.w1, params.sigma_alpha, params.sigma_beta, params.w2, params.sigma_gamma)
        path = tmp_path / f"{wrong}.npz"
        np.savez(
            path,
            image=image,
            scores=coarse.values,
            params=values,
            iterations=2,
            label=labels,
            marginals_every_4th_pixel=result.marginals[:, ::4, ::4],
        )
        return path

    return make


def test_the_crf_is_compared_with_the_originals(tool, job, crf_case):
    check = tool("gpu_check/crf").check_case
    assert check(crf_case(0), job).verdict == "pass"
    finding = check(crf_case(2), job)
    assert finding.verdict == "fail"
    assert finding.facts["other labels than the original"] == 2


def test_the_crf_is_timed(tool, job):
    finding, stages = tool("gpu_check/crf").check_crf_speed(job)
    assert finding.facts["median ms"] >= finding.facts["least ms"] > 0
    assert stages.kind == "left out"


def test_traffic_is_of_the_kernels_that_there_are(tool):
    speed = tool("gpu_check/crf")
    rates = tool("gpu_check/rates").Rates(67e12, 990e12, 3.35e12, "here")
    *kernels, together = speed.kernel_floors(375 * 500, 21, 10_000, 20_000, 10, rates)
    sources = "".join(path.read_text() for path in (ROOT / "deeplab_repro/crf/cuda").glob("*.py"))
    for finding in kernels:
        assert f"\ndef {finding.facts['kernel'].split(',')[0]}(" in sources
    total = sum(each.facts["floor ms, all"] for each in kernels)
    assert together.facts["floor ms, all"] == pytest.approx(total)
    assert 0.5 < total < 5
