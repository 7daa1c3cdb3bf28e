"""Commands keep the memory that they free; what the user set stays, and too much is given back."""

import os
import subprocess
import sys

import pytest

from deeplab_repro.machine import heap

pytestmark = pytest.mark.skipif(heap._glibc() is None, reason="glibc only")

KEPT = """
from deeplab_repro.machine import heap
{first}
import numpy as np
array = np.ones(5_000_000)  # 40 MB: more than glibc keeps of itself
del array
print(heap._kept())
"""

EXCESS = """
from deeplab_repro.machine import heap
heap.keep_freed_memory()
import numpy as np
heap.MOST_KEPT = 50_000_000
arrays = [np.ones(1_000_000) for _ in range(20)]  # 160 MB
above = np.ones(1_000)
del arrays
kept = heap._kept()
heap.give_back_excess()
print(kept // 10**6, heap._kept() // 10**6)
"""


def printed(script, **environment):
    variables = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-c", script]
    variables |= {"PYTHONPATH": os.pathsep.join(sys.path), **environment}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
    return [int(word) for word in done.stdout.split()]


def test_freed_memory_is_kept():
    (without,) = printed(KEPT.format(first=""))
    (kept,) = printed(KEPT.format(first="heap.keep_freed_memory()"))
    assert kept > without + 35_000_000


@pytest.mark.parametrize(
    "environment",
    [
        {"MALLOC_MMAP_THRESHOLD_": "65536"},
        {"GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=65536"},
    ],
)
def test_what_the_user_set_stays(environment):
    (kept,) = printed(KEPT.format(first="heap.keep_freed_memory()"), **environment)
    assert kept < 35_000_000


def test_too_much_is_given_back():
    kept, left = printed(EXCESS)
    assert kept > 100
    assert left < 50


def test_a_process_that_was_not_told_keeps_nothing():
    asked = "from deeplab_repro.machine import heap; print(int(heap.is_kept()))"
    assert printed(asked) == [0]


def test_elsewhere_than_on_glibc_nothing_happens(monkeypatch):
    monkeypatch.setattr(heap, "_keeps", False)
    monkeypatch.setattr(heap, "_glibc", lambda: None)
    heap.keep_freed_memory()
    heap.give_back()
    heap.give_back_excess()
    assert not heap.is_kept()
