"""The bench's arithmetic and its scene. Never how fast anything is."""

import importlib.util
from contextlib import contextmanager

import numpy as np
import pytest

from deeplab_repro.bench import crf
from deeplab_repro.bench.crf import (
    Work,
    bench_crf,
    compare,
    draw_scene,
    find_contenders,
    race,
)
from deeplab_repro.crf.dense_crf import dense_crf
from deeplab_repro.crf.params import CrfParams
from deeplab_repro.errors import DeepLabError, ResourceError
from deeplab_repro.files.pictures import write_image

TINY = Work(size=(12, 16), labels=3, params=CrfParams(4, 20, 5), iterations=2)

without_pydensecrf = pytest.mark.skipif(
    importlib.util.find_spec("pydensecrf") is None, reason="pydensecrf2 is not installed"
)


def test_the_scene_is_one_that_the_crf_takes():
    image, probs = draw_scene(21)
    assert (image.shape, image.dtype) == ((375, 500, 3), np.uint8)
    assert (probs.shape, probs.dtype) == ((21, 375, 500), np.float32)
    np.testing.assert_allclose(probs.sum(axis=0), 1, atol=1e-5)
    assert probs.min() > 0
    again = draw_scene(21)
    np.testing.assert_array_equal(image, again[0])
    np.testing.assert_array_equal(probs, again[1])
    # Sure of itself inside the regions, soft at their borders, and several labels.
    sure = probs.max(axis=0)
    assert (sure > 0.9).mean() > 0.5
    assert (sure < 0.6).mean() > 0.01
    assert len(np.unique(probs.argmax(axis=0))) > 10


def test_work_of_any_size(tmp_path, photo):
    image, probs = Work(size=(400, 510), labels=2).inputs()
    assert image.shape == (400, 510, 3)
    assert probs.shape == (2, 400, 510)
    np.testing.assert_array_equal(image[375:], image[:25])
    np.testing.assert_array_equal(probs[:, :, 500:], probs[:, :, :10])
    write_image(tmp_path / "a.png", photo(9, 12))
    image, probs = Work(size=(9, 24), labels=2, picture=str(tmp_path / "a.png")).inputs()
    np.testing.assert_array_equal(image, np.hstack([photo(9, 12)] * 2))
    assert probs.shape == (2, 9, 24)


def test_contenders_run_in_turns():
    calls = []

    def contender(name):
        return lambda: (calls.append(name), np.full(1, len(calls)))

    steps = []
    contenders = {name: contender(name) for name in "ab"}
    seconds, outcomes = race(contenders, 3, lambda: steps.append(len(calls)))
    assert calls == list("ab" * 4)  # the first time is not counted
    assert {name: len(times) for name, times in seconds.items()} == {"a": 3, "b": 3}
    assert steps == [4, 6, 8]
    assert outcomes["b"][1] == 2


def test_ratios_are_of_medians_and_of_pairs():
    seconds = {"ours": [1.0, 2.0, 4.0], "pydensecrf2": [8.0, 6.0, 40.0]}
    marginals = np.full((2, 1, 3), 0.5, np.float32)
    outcomes = {
        "ours": (np.array([[0, 1, 1]]), marginals + np.float32(0.25)),
        "pydensecrf2": (np.array([[0, 0, 0]]), marginals),
    }
    assert compare(seconds, outcomes) == {
        "ours": {
            "ratio_of_medians": 4.0,
            "median_of_ratios": 8.0,
            "labels_differing": 2,
            "largest_difference": 0.25,
        }
    }
    assert compare({"ours": [1.0]}, {"ours": outcomes["ours"]}) == {}


@pytest.mark.usefixtures("measured_here")
def test_report(monkeypatch):
    monkeypatch.setattr(crf, "SCALES", (0.5, 1))
    steps = []

    @contextmanager
    def progress(doing, total):
        yield lambda: steps.append(doing)
        assert len(steps) == total

    report = bench_crf(TINY, repeat=2, progress=progress)
    assert len(steps) == 2 + 2 + 2
    assert report["work"]["size"] == (12, 16)
    assert {"all_threads", "one_thread"} <= set(report["runs"])
    for run in report["runs"].values():
        assert len(run["ms"]) == 2
        assert min(run["ms"]) <= run["median_ms"] <= max(run["ms"])
    sizes = [(row["width"], row["height"]) for row in report["pixels"]["rows"]]
    assert sizes == [(8, 6), (16, 12)]
    assert [row["labels"] for row in report["labels"]["rows"]] == [8, 24]
    for row in report["pixels"]["rows"]:
        assert row["median_ms"].keys() == report["runs"].keys()
        assert min(row["median_ms"].values()) > 0
        limits = [amount / report["rates"][name] for name, amount in row["iteration"].items()]
        assert row["floor_ms"] == pytest.approx(1e3 * TINY.iterations * max(limits))
    assert report["pixels"]["slopes_of_time"].keys() == report["runs"].keys()
    yardstick = report["runs"].get("pydensecrf2")
    if yardstick:
        for name, ratios in report["against_pydensecrf2"].items():
            ours = report["runs"][name]
            expected = yardstick["median_ms"] / ours["median_ms"]
            assert ratios["ratio_of_medians"] == pytest.approx(expected)
    else:
        assert "pydensecrf2" in report["absent"]


def test_sizes_from_small_to_large():
    assert crf._sizes(Work((10, 15)), False, ()) == [(5, 8), (10, 15), (20, 30), (40, 60)]
    assert crf._sizes(Work((10, 15)), True, ())[-1] == (80, 120)
    assert crf._sizes(Work((10, 15)), False, [(20, 20), (3, 4)]) == [(3, 4), (10, 15), (20, 20)]


def test_ours_is_the_crf_of_the_library():
    contenders, _ = find_contenders(TINY)
    expected = dense_crf(*TINY.inputs(), TINY.params, TINY.iterations, device="cpu")
    for name in ("all_threads", "one_thread"):
        labels, marginals = contenders[name]()
        np.testing.assert_array_equal(labels, expected.labels)
        np.testing.assert_array_equal(marginals, expected.marginals)


@without_pydensecrf
def test_pydensecrf2_agrees():
    work = Work(size=(60, 80), labels=5)
    contenders, absent = find_contenders(work)
    assert "pydensecrf2" not in absent
    outcomes = {name: contenders[name]() for name in ("one_thread", "pydensecrf2")}
    ratios = compare({name: [1.0] for name in outcomes}, outcomes)["one_thread"]
    assert ratios["labels_differing"] == 0
    assert ratios["largest_difference"] < 1e-5


def test_without_pydensecrf2(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    contenders, absent = find_contenders(TINY)
    assert "pydensecrf2" not in contenders
    assert absent["pydensecrf2"] == "not installed: pip install pydensecrf2"


def test_without_a_gpu(monkeypatch):
    monkeypatch.setenv("NUMBA_ENABLE_CUDASIM", "1")
    contenders, absent = find_contenders(TINY)
    assert "cuda" not in contenders
    assert "simulates" in absent["cuda"]


def test_a_measurement_in_a_process_of_its_own():
    row = crf._apart(TINY, crf.measure, TINY, 1)
    assert (row["width"], row["height"], row["pixels"], row["labels"]) == (16, 12, 192, 3)
    assert row["median_ms"] > 0
    none = Work(size=(8, 12), labels=0)
    with pytest.raises(DeepLabError, match="12x8 pixels with 0 labels: ValueError: "):
        crf._apart(none, crf.measure, none, 1)


def test_too_little_memory(monkeypatch):
    monkeypatch.setattr("deeplab_repro.machine.memory.available_memory", lambda: 7 * 10**8)
    monkeypatch.setattr(crf, "race", lambda *_: pytest.fail("it has begun"))
    with pytest.raises(ResourceError, match="4000x3000 pixels with 21 labels: needs"):
        bench_crf(Work(size=(3000, 4000)))
    with pytest.raises(ResourceError, match="1336x1000 pixels with 21 labels: needs"):
        bench_crf(Work(size=(125, 167)), large=True)
