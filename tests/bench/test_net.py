"""The bench of the net: what it reports of real processes. Never how fast anything is."""

import json
import math
import statistics
import sys
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

from deeplab_repro.bench import net as bench
from deeplab_repro.bench.contenders import CONTENDERS, Contender, Runner
from deeplab_repro.bench.net import AGREEMENT, bench_net
from deeplab_repro.bench.net_files import write_net_files
from deeplab_repro.caffe import read_net
from deeplab_repro.engines.calibration import on_this_machine
from deeplab_repro.engines.opencv import OpenCVEngine
from deeplab_repro.engines.opencv_cpu import OpenCVCpuEngine
from deeplab_repro.errors import NetError, ResourceError
from deeplab_repro.models.loading import read_model

OPERATIONS = 2 * 30 * (5 * 27 + 4 * 5)  # of the tiny net: conv 5x5x6 of 3x3x3, fc8 4x5x6


def test_report(tiny, monkeypatch, tmp_path):
    monkeypatch.setenv("DEEPLAB_REPRO_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(bench, "SCALES", ((1, 1), (2, 2)))
    few = {name: CONTENDERS[name] for name in ("opencv", "plain_opencv")}
    few |= {name: replace(CONTENDERS[name], library="none") for name in ("onnxruntime", "openvino")}
    few["torch"] = replace(CONTENDERS["torch"], library="no_such_library")
    monkeypatch.setattr(bench, "CONTENDERS", few)
    steps = []

    @contextmanager
    def progress(doing, total):
        yield lambda: steps.append(doing)
        assert len(steps) == total

    report = bench_net(tiny, "random:3", repeat=2, threads=1, progress=progress)
    assert steps
    assert json.loads(json.dumps(report, allow_nan=False))["size"] == [33, 41]
    assert (report["net"], report["blob"], report["threads"]) == ("tiny", "fc8", 1)
    runs = report["runs"]
    assert runs.keys() == {"opencv", "plain_opencv"}
    assert report["absent"].keys() == {"onnxruntime", "openvino", "torch"}
    assert report["absent"]["torch"] == few["torch"].problem
    for run in runs.values():
        assert len(run["ms"]) == 2
        assert run["median_ms"] == statistics.median(run["ms"])
        assert 0 <= run["difference"] <= AGREEMENT
        assert run["same_scores"]
        assert run["build_ms"] > 0
        assert run["first_run_ms"] > 0
    assert report["against"].keys() == {"plain_opencv"}
    assert report["against"]["plain_opencv"]["opencv"]["ratio_of_medians"] == pytest.approx(
        runs["plain_opencv"]["median_ms"] / runs["opencv"]["median_ms"]
    )
    small, large = report["growth"]["rows"]
    # "auto" goes by it from now on.
    at_both = {each.size: each for each in on_this_machine()}
    assert at_both.keys() == {10, 12}
    assert at_both[10].threads == 1
    assert at_both[10].seconds == {OpenCVCpuEngine.name: min(runs["opencv"]["ms"]) / 1e3}
    assert (small["width"], small["height"], small["operations"]) == (41, 33, OPERATIONS)
    assert small["median_ms"]["opencv"] == runs["opencv"]["median_ms"]
    assert (large["width"], large["height"]) == (81, 65)
    floor = 1e3 * large["operations"] / report["products_a_second"]
    assert large["floor_ms"] == pytest.approx(floor)
    assert large["share"]["plain_opencv"] == pytest.approx(
        floor / large["median_ms"]["plain_opencv"]
    )


def test_growth_at_given_sizes(tiny, monkeypatch, tmp_path):
    monkeypatch.setenv("DEEPLAB_REPRO_HOME", str(tmp_path / "home"))
    one = {name: replace(each, library="none") for name, each in CONTENDERS.items()}
    monkeypatch.setattr(bench, "CONTENDERS", one | {"opencv": CONTENDERS["opencv"]})
    report = bench_net(tiny, sizes=[(90, 100), (33, 41)], repeat=1, threads=1)
    assert report["size"] == (97, 105)  # as photos are padded
    rows = report["growth"]["rows"]
    assert [(row["height"], row["width"]) for row in rows] == [(33, 41), (97, 105)]
    assert report["growth"]["slopes_of_time"].keys() == {"opencv"}


@pytest.mark.parametrize("name", CONTENDERS)
def test_every_contender_runs_the_net(tiny, tmp_path, name):
    if problem := CONTENDERS[name].problem:
        pytest.skip(problem)
    net = read_net(tiny)
    net.fill_random(0)
    runner = Runner(CONTENDERS[name], write_net_files(net, tmp_path, (1, 3, 41, 49), threads=1))
    runner.build()
    assert "openvino_telemetry" not in sys.modules  # it would ask the network
    assert runner._data.std() > 50  # as a photo's minus the mean
    for size, of_scores in (((41, 49), (6, 7)), ((33, 57), (5, 8))):
        runner.resize(*size)
        runner.save_scores(tmp_path / "scores.npy")
        scores = np.load(tmp_path / "scores.npy")
        assert (runner._data.shape[2:], scores.shape[2:]) == (size, of_scores)
        expected = OpenCVEngine(net, "cpu").blobs(runner._data, ["fc8"])["fc8"]
        assert bench._difference(scores, expected) < AGREEMENT
    assert runner.run() > 0


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("DeepLab-LargeFOV", [(321, 321), (513, 513), (577, 769), (769, 1025)]),
        ("DeepLab-MSc-LargeFOV", [(321, 321), (513, 513), (577, 769), (769, 1025)]),
        ("DeepLab", [(322, 322), (514, 514), (578, 770), (770, 1026)]),
    ],
)
def test_sizes_are_those_that_the_net_fits(name, expected):
    assert bench._growth_sizes(read_model(name)) == expected


def test_a_library_that_is_missing():
    found = Contender("X", "m", "f", "no_such_library", "pip install x").problem
    assert found == "no_such_library is not installed: pip install x"
    assert CONTENDERS["opencv"].problem is None


class Unable:
    """A process whose contender cannot run the net."""

    closed = False

    def ask(self, _method):
        raise NetError("PyTorch: it has no such layer")

    def close(self):
        self.closed = True


class Able:
    def ask(self, _method):
        return {"build_ms": 1.0}


def test_a_peer_that_cannot_run_the_net_is_told_and_gone():
    unable = Unable()
    running = {"opencv": Able(), "torch": unable}
    runs, why = bench._build(running, lambda: None)
    assert runs == {"opencv": {"build_ms": 1.0}}
    assert why == {"torch": "it has no such layer"}
    assert running.keys() == {"opencv"}
    assert unable.closed


def test_where_our_engine_cannot_there_is_nothing_to_compare():
    with pytest.raises(NetError, match="it has no such layer"):
        bench._build({"opencv": Unable()}, lambda: None)


def test_differences_are_in_standard_deviations():
    expected = np.array([1.0, 3.0], np.float32)  # of a standard deviation of 1
    assert bench._difference(expected + np.array([0, 0.5]), expected) == pytest.approx(0.5)
    assert bench._difference(expected[:1], expected) is None
    assert bench._difference(expected * math.nan, expected) is None


def test_too_little_memory(monkeypatch):
    monkeypatch.setattr("deeplab_repro.machine.memory.available_memory", lambda: 10**9)
    with pytest.raises(ResourceError, match=r"at 1x3x769x1025 in \d processes: needs .*smaller"):
        bench_net()
