"""The threads of training, and OpenBLAS's own beside them."""

import numba
import pytest

from deeplab_repro.train.parallel import warn_of_blas_threads


@pytest.mark.parametrize(
    ("threads", "settings", "warnings"),
    [
        (2, {}, 1),
        (2, {"OPENBLAS_NUM_THREADS": "8"}, 1),
        (2, {"OPENBLAS_NUM_THREADS": "1"}, 0),
        (2, {"OMP_NUM_THREADS": "1"}, 0),
        (1, {}, 0),
    ],
)
def test_blas_threads_that_would_hurt(monkeypatch, caplog, threads, settings, warnings):
    monkeypatch.setattr(numba, "get_num_threads", lambda: threads)
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    warn_of_blas_threads.cache_clear()
    for _ in range(2):
        warn_of_blas_threads()
    warn_of_blas_threads.cache_clear()
    assert len(caplog.messages) == warnings
    assert all("set OPENBLAS_NUM_THREADS=1" in message for message in caplog.messages)
