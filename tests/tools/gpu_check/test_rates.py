"""tools/gpu_check/rates.py: floors are counted from the net."""

from dataclasses import replace
from pathlib import Path

import pytest

from deeplab_repro.caffe import read_net
from deeplab_repro.models.loading import read_model


def test_floors_are_counted_from_the_net(tool, tiny):
    rates = tool("gpu_check/rates")
    net = read_net(tiny)  # the input 33x41, conv 5x5x6 in place rectified, fc8 4x5x6, enlarged
    slow = rates.Rates(float32=1e6, float16=1e6, memory=1e9, source="here")
    operations = 2 * 30 * (5 * 27 + 4 * 5)
    numbers = (3 * 33 * 41 + 150 + 5 * 28) + (150 + 120 + 4 * 6)
    floor = rates.net_floor(net, net.input_shape, "float16", slow)
    assert floor == pytest.approx(
        {"GFLOP": operations / 1e9, "MB": 2 * numbers / 1e6, "floor ms": operations / 1e3}
    )
    bound_by_memory = replace(slow, float32=1e15)
    floor = rates.net_floor(net, net.input_shape, "float32", bound_by_memory)
    assert floor["floor ms"] == pytest.approx(4 * numbers / 1e6)


def test_the_papers_net_takes_257_gflop(tool):
    rates = tool("gpu_check/rates")
    steps = tool("gpu_check/steps")
    measured = {"float32": 50e12, "float16": 500e12, "memory": 3e12, "to the GPU": 1e10}
    found = [steps.Finding("rates", {"what": w, "a second": a}) for w, a in measured.items()]
    of = rates.Rates.of(steps.Checking(Path(), found={"rates": found}))
    assert of == rates.Rates(50e12, 500e12, 3e12, "measured")
    without = rates.Rates.of(steps.Checking(Path(), found={"rates": found[1:]}))
    assert without == rates.Rates(67e12, 990e12, 3.35e12, "an H100's datasheet")
    floor = rates.net_floor(read_model("DeepLab-LargeFOV"), (1, 3, 513, 513), "float32", of)
    assert floor["GFLOP"] == pytest.approx(257, abs=0.5)
    assert floor["floor ms"] == pytest.approx(257 / 50, rel=0.1)
