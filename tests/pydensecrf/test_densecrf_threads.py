"""CRFs in threads and processes, as people run them over many images."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from deeplab_repro.crf.cpu import mean_field, threads
from deeplab_repro.pydensecrf import densecrf as dcrf

ROOT = Path(__file__).resolve().parents[2]
LARGE = 1000  # in place of threads.SMALL: the CRFs here have more


def made(seed=0):
    rng = np.random.default_rng(seed)
    crf = dcrf.DenseCRF2D(20, 15, 4)
    crf.setUnaryEnergy(rng.uniform(0.1, 4, (4, 300)).astype(np.float32))
    crf.addPairwiseGaussian(3, 3)
    crf.addPairwiseBilateral(20, 30, rng.integers(0, 256, (15, 20, 3), np.uint8), 5)
    return crf


def refined(seed):
    return made(seed).inference(20)


@pytest.fixture(params=[LARGE, 10**9], ids=["large", "small"])
def size(request, monkeypatch):
    """Whether the CRFs here count as large, and use threads of their own."""
    monkeypatch.setattr(threads, "SMALL", request.param)


@pytest.mark.usefixtures("size")
@pytest.mark.parametrize("count", [2, 8])
def test_one_crf_for_all_threads(count):
    crf = made()
    q = crf.startInference()[0]
    asked = {
        "inference": lambda: crf.inference(7),
        "one step": lambda: step(crf, q.copy()),
        "divergence": lambda: crf.klDivergence(q),
    }
    alone = {name: ask() for name, ask in asked.items()}
    with ThreadPoolExecutor(count) as pool:
        found = [(name, pool.submit(ask)) for _ in range(10) for name, ask in asked.items()]
        for name, result in found:
            np.testing.assert_array_equal(result.result(), alone[name], name)


def step(crf, q):
    crf.stepInference(q, None, None)
    return q


@pytest.mark.usefixtures("size")
@pytest.mark.parametrize(
    "method", sorted({"fork", "spawn"} & {*multiprocessing.get_all_start_methods()})
)
def test_processes(method):
    expected = refined(0)
    with multiprocessing.get_context(method).Pool(1) as pool:
        np.testing.assert_array_equal(pool.apply_async(refined, [0]).get(timeout=100), expected)


@pytest.mark.parametrize("backend", ["loky", "threading", "multiprocessing"])
def test_joblib(backend):
    joblib = pytest.importorskip("joblib")
    found = joblib.Parallel(2, backend)(joblib.delayed(refined)(seed) for seed in (0, 1, 2))
    np.testing.assert_array_equal(found, [refined(seed) for seed in (0, 1, 2)])


@pytest.mark.parametrize(("small", "most_at_once"), [(LARGE, 10**9), (10**9, 100)])
def test_ctrl_c_is_heard_within_a_second(monkeypatch, small, most_at_once):
    monkeypatch.setattr(threads, "SMALL", small)
    monkeypatch.setattr(mean_field, "MOST_AT_ONCE", most_at_once)
    crf = made()
    expected = crf.inference(3)
    told = []

    def interrupt():
        told.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)

    threading.Timer(0.2, interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        crf.inference(10**7)
    assert time.perf_counter() - told[0] < 1
    np.testing.assert_array_equal(crf.inference(3), expected)


AT_THE_END = """
import atexit, sys, threading, time
from deeplab_repro.crf.cpu import mean_field, threads
from tests.pydensecrf.test_densecrf_threads import refined
threads.SMALL = int(sys.argv[1])
expected = refined(0).tobytes()
def check(name):
    print(name, refined(0).tobytes() == expected, flush=True)
def for_ever():
    while True:
        refined(0)
def late():
    time.sleep(0.3)
    check("late")
threading.Thread(target=for_ever, daemon=True).start()
threading.Thread(target=late).start()
atexit.register(check, "atexit")
"""


@pytest.mark.parametrize("small", [LARGE, 10**9])
def test_the_end_of_the_process(small):
    """A thread outlives the main one, another never ends, and a CRF runs last of all."""
    done = subprocess.run(
        [sys.executable, "-c", AT_THE_END, str(small)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (done.stdout.split(), done.stderr) == (["late", "True", "atexit", "True"], "")
    assert done.returncode == 0
