"""tools/gpu_check/nets.py: nets are compared with the original's."""

import numpy as np
import pytest


@pytest.mark.golden
def test_a_net_is_compared_with_the_originals(tool, job, golden, monkeypatch):
    nets = tool("gpu_check/nets")
    folder = golden / "nets" / "DeepLab-LargeFOV"
    finding = nets.check_net(folder, job, "float32")
    assert finding.verdict == "pass"
    assert 0 < max(finding.facts[f] for f in ("its error", "scores' error")) < 1e-4
    assert finding.facts["same bits twice"]
    net, data, expected = nets.golden_net(folder)
    monkeypatch.setattr(nets, "MOST_ERROR", 1e-9)
    assert nets.check_net(folder, job, "float32").verdict == "fail"
    assert nets.check_net(folder, job, "float16").verdict == "pass"  # for its labels are the same
    monkeypatch.setattr(nets, "golden_net", lambda _: (net, data, -expected))
    finding = nets.check_net(folder, job, "float16")
    assert finding.verdict == "fail"
    assert finding.facts["same labels"] < 0.5


def test_what_is_no_number_is_a_large_error(tool):
    nets = tool("gpu_check/nets")
    scores = np.zeros((1, 2, 3, 3), np.float32)
    assert nets.scores_error(scores + 0.5, scores) == 0.5
    scores[0, 0, 0, 0] = np.nan
    assert 1e38 < nets.scores_error(scores, np.zeros_like(scores)) < np.inf  # JSON has no NaN
