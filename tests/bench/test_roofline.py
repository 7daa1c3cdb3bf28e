"""What an iteration of the CRF takes of the machine, and how fast the machine is."""

import pytest

from deeplab_repro.bench.crf import Work
from deeplab_repro.bench.roofline import (
    LEVELS,
    MULTIPLY_ADDS,
    bytes_by_stage,
    limits_ms,
    machine_rates,
    work_of,
)
from deeplab_repro.crf.cpu.mean_field import MeanField, photo_kernels


def field_of(size):
    work = Work(size=size, labels=21)
    image, probs = work.inputs()
    field = MeanField(probs.reshape(21, -1), photo_kernels(image, work.params))
    field.run(1)
    return field


def test_an_iteration_is_counted():
    small, large = (work_of(field_of(size)) for size in ((40, 60), (80, 60)))
    for name, amount in small.items():
        assert 1.5 * amount < large[name] < 2.5 * amount  # of twice the pixels
    # 21 labels take 24 lanes; 3 + 6 corners: their places, two weights each; the unary.
    assert small["memory"] > 40 * 60 * (9 * 12 + 4 * 24)
    assert small["memory"] < small["L1"] == sum(bytes_by_stage(field_of((40, 60))).values())


@pytest.mark.usefixtures("measured_here")
def test_rates_of_this_machine():
    rates = machine_rates()
    assert rates.keys() == {"L1", "memory", MULTIPLY_ADDS} < {*LEVELS, MULTIPLY_ADDS}
    assert all(1e7 < rate < 1e14 for rate in rates.values())


def test_limits():
    assert limits_ms({"L1": 4e6, "memory": 1e6}, {"L1": 2e9, "memory": 1e9}) == {
        "L1": 2.0,
        "memory": 1.0,
    }
