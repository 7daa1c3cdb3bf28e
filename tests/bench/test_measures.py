"""Times, their ratios, and slopes."""

import pytest

from deeplab_repro.bench.measures import growth, seconds_of, slope, times_faster


def test_each_call_is_timed():
    calls = []
    times = seconds_of(lambda: calls.append(1), 3)
    assert len(calls) == len(times) == 3
    assert min(times) > 0


def test_ratios_are_of_medians_and_of_pairs():
    expected = {"ratio_of_medians": 4.0, "median_of_ratios": 8.0}
    assert times_faster([8.0, 6.0, 40.0], [1.0, 2.0, 4.0]) == expected


def test_slope():
    rows = [{"pixels": n, "ms": 3.0 * n**1.25, "peak": None} for n in (10, 100, 5000)]
    assert slope(rows, "pixels", "ms") == pytest.approx(1.25)
    assert slope(rows, "pixels", "peak") is None


def test_growth_beside_a_floor():
    rows = [
        {"pixels": n, "floor_ms": 1.5 * n, "median_ms": {"a": 3.0 * n, "b": 2.0 * n**0.5}}
        for n in (10, 1000)
    ]
    grown = growth(rows)
    assert grown["slopes_of_time"] == pytest.approx({"a": 1, "b": 0.5})
    assert grown["rows"][0]["share"] == pytest.approx({"a": 0.5, "b": 15 / (2 * 10**0.5)})
    assert growth(rows[:1])["slopes_of_time"] == {}
