"""Measured times: their ratios, and how they grow with another number."""

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np


def seconds_of(
    run: Callable[[], object], repeat: int, clock: Callable[[], float] = time.perf_counter
) -> list[float]:
    """Call a function several times: the seconds of each call, by a clock."""
    times = []
    for _ in range(repeat):
        start = clock()
        run()
        times.append(clock() - start)
    return times


def times_faster(theirs: Sequence[float], ours: Sequence[float]) -> dict[str, float]:
    """How many times faster ours is, from times that were taken in turns."""
    return {
        "ratio_of_medians": statistics.median(theirs) / statistics.median(ours),
        "median_of_ratios": statistics.median(
            their / our for their, our in zip(theirs, ours, strict=True)
        ),
    }


def slope(rows: Iterable[Mapping[str, Any]], over: str, of: str) -> float | None:
    """The slope of log `of` over log `over`: 1 for what grows in proportion. None if unknown."""
    points = [(row[over], row[of]) for row in rows]
    if any(not y or y <= 0 for _, y in points):
        return None
    x, y = np.log(np.array(points, float)).T
    return float(np.polyfit(x, y, 1)[0])


def growth(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """How the times of several programs grow with an image's pixels, beside a floor.

    rows: one for each size, with "pixels", "floor_ms" and "median_ms" of each by name. To each is
    added the "share" of the time that the floor is. The slopes are of log time over log pixels,
    none for a single size.
    """
    for row in rows:
        row["share"] = {name: row["floor_ms"] / ms for name, ms in row["median_ms"].items()}
    slopes = {}
    if len(rows) > 1:
        for name in rows[0]["median_ms"]:
            flat = [{"pixels": row["pixels"], "ms": row["median_ms"][name]} for row in rows]
            slopes[name] = slope(flat, "pixels", "ms")
    return {"rows": rows, "slopes_of_time": slopes}
