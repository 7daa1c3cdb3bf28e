"""What the libraries say, in words of their own, where memory or threads run short."""

import pytest

from deeplab_repro.machine.shortage import shortage


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), "ran out of memory: use a smaller image"),
        (MemoryError("std::bad_alloc"), "ran out of memory"),
        (OSError(12, "Cannot allocate memory"), "ran out of memory"),
        (ImportError("x.so: failed to map segment from shared object"), "ran out of memory"),
        (RuntimeError("Available memory of 5 is smaller than requested bytes of 9"), "ran out of"),
        (RuntimeError("can't start new thread"), "could not start threads: raise the limits"),
        (OSError(11, "Resource temporarily unavailable"), "could not start threads"),
    ],
)
def test_a_shortage(error, expected):
    assert shortage(error).startswith(expected)


def test_other_errors():
    for error in (ValueError("the location of the allocator"), RuntimeError(), OSError(2, "gone")):
        assert shortage(error) is None
