"""The fastest of several engines runs a net, once there was enough work to measure them."""

import json

import numpy as np
import pytest

from deeplab_repro.caffe import read_net
from deeplab_repro.engines import fastest
from deeplab_repro.engines.calibration import find
from deeplab_repro.engines.fastest import FastestEngine
from deeplab_repro.engines.opencv_cpu import OpenCVCpuEngine
from deeplab_repro.errors import ArgumentError, NetError, ResourceError
from tests.slow_layers import random_input

ENOUGH = 30  # runs of a second, or two


@pytest.fixture
def net(tiny):
    found = read_net(tiny)
    found.fill_random(0)
    return found


@pytest.fixture
def made(net, tmp_path, monkeypatch):
    """Make a FastestEngine of real engines that take so many seconds of a clock of the test's."""
    monkeypatch.setenv("DEEPLAB_REPRO_HOME", str(tmp_path / "home"))
    clock = [0.0]
    monkeypatch.setattr(fastest.time, "perf_counter", lambda: clock[0])

    class Timed(OpenCVCpuEngine):
        def __init__(self, name, seconds, fault):
            super().__init__(net)
            self.name, self.seconds, self.fault, self.ran = name, seconds, fault, 0

        def blobs(self, data, names):
            clock[0] += self.seconds(data) if callable(self.seconds) else self.seconds
            self.ran += 1
            if isinstance(self.fault, Exception):
                raise self.fault
            found = super().blobs(data, names)
            return {name: blob + (self.fault or 0) for name, blob in found.items()}

        def memory_needed(self, _):
            return 1000

    def make(faults=(), **seconds):
        faults = dict(faults)
        return FastestEngine(
            net, [lambda n=n, s=s: Timed(n, s, faults.get(n)) for n, s in seconds.items()]
        )

    return make


def run(engine, count=ENOUGH, size=(33, 41)):
    for seed in range(count):
        engine.blobs(random_input(1, 3, *size, seed=seed), ["fc8"])
    return engine.name


def test_the_fastest_runs_after_enough_work(made, net, tmp_path):
    engine = made(slow=2.0, fast=1.0, middle=1.5)
    engine.build()
    assert engine.name == "slow"
    data = random_input(1, 3, 33, 41)
    expected = engine.blobs(data, ["fc8", "up"])
    assert run(engine, 23) == "slow"
    assert not (tmp_path / "home").exists()
    assert run(engine, 1) == "slow"  # and then it is measured
    assert run(engine, 1) == "slow and fast"
    for name, values in engine.blobs(data, ["fc8", "up"]).items():
        np.testing.assert_array_equal(values, expected[name])
    # Whatever is not used holds nothing.
    assert engine.memory_needed(data.shape) == 1000
    assert [each._made != {} for each in engine._engines.values()] == [False, True, False]
    # The next process begins with it.
    assert run(made(slow=2.0, fast=1.0, middle=1.5), 1) == "fast"
    measured = find(net, 10, {"slow", "fast", "middle"})
    assert measured.seconds == {"slow": 2.0, "fast": 1.0, "middle": 1.5}


def test_short_work_is_not_measured(made, tmp_path):
    assert run(made(slow=0.5, fast=0.1), 40) == "slow"  # 20 seconds
    assert run(made(slow=9.0, fast=0.1), 20) == "slow"  # few runs, three minutes
    assert not (tmp_path / "home").exists()


def test_what_another_process_has_measured_meanwhile(made):
    engine, other = made(slow=2.0, fast=1.0), made(slow=2.0, fast=1.0)
    run(other)
    assert run(engine) == "slow and fast"
    assert max(each.ran for each in engine._engines.values()) == 5  # those after the 25th


def test_nearly_as_fast_is_fast_enough_for_one_that_is_built(made):
    assert run(made(one=1.02, other=1.0), 60) == "one"
    assert run(made(one=1.02, other=1.0), 1) == "other"


def test_each_class_of_sizes_has_its_own(made):
    """Where nothing was measured of a size, the nearest one counts."""
    speeds = {"one": lambda data: data.size / 2000, "other": lambda _: 2.2}
    run(made(**speeds), size=(33, 41))  # 4059 values
    assert run(made(**speeds), 1, (17, 25)) == "one"
    large = made(**speeds)
    assert run(large, 1, (49, 65)) == "one"
    assert run(large, 40, (49, 65)) == "one and other"
    run(large, 3, (33, 41))
    assert large.memory_needed((1, 3, 33, 41)) == 2000  # both are built
    assert large._largest.keys() == {"one", "other"}


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (NetError("cannot run it"), "cannot run it"),
        (1.0, "gives other values of 'fc8'"),
        (np.nan, "gives other values of 'fc8'"),
    ],
)
def test_an_engine_that_fails_is_left_out(made, caplog, fault, why):
    engine = made({"fast": fault}, slow=2.0, fast=1.0, middle=1.5)
    assert run(engine) == "slow and middle"
    (message,) = (each.message for each in caplog.records if each.levelname == "WARNING")
    assert message.startswith("fast is left out: ")
    assert why in message
    caplog.clear()
    assert run(made({"fast": fault}, slow=2.0, fast=1.0, middle=1.5)) == "middle"
    assert caplog.messages == []


def test_without_the_memory_nothing_is_measured(made, monkeypatch, tmp_path):
    out_of_memory = {"fast": ResourceError("no room")}
    assert run(made(out_of_memory, slow=2.0, fast=1.0), 60) == "slow"
    monkeypatch.setattr(fastest, "available_memory", lambda: 999)
    assert run(made(slow=2.0, fast=1.0), 60) == "slow"
    assert not (tmp_path / "home").exists()


def test_a_folder_that_cannot_be_written(made, tmp_path):
    (tmp_path / "home").write_text("no folder")
    assert run(made(slow=2.0, fast=1.0)) == "slow and fast"
    assert run(made(slow=2.0, fast=1.0), 1) == "slow"


def test_requests_that_the_engine_refuses(made):
    engine = made(one=1.0, other=2.0)
    data = random_input(1, 3, 33, 41)
    for given in (data[0], data[0, 0, 0, 0], data.astype(np.uint8)):
        with pytest.raises(ArgumentError, match="expected float32 NxCxHxW"):
            engine.blobs(given, ["fc8"])
    with pytest.raises(NetError, match="1x3x0x41"):
        engine.blobs(data[:, :, :0], ["fc8"])


def test_errors_of_a_run_are_the_engines_own(made):
    engine = made({"slow": NetError("not this net")}, slow=2.0, fast=1.0)
    with pytest.raises(NetError, match="not this net"):
        run(engine)


def test_the_file_is_plain(made, tmp_path):
    run(made(slow=2.0, fast=1.0))
    (entry,) = json.loads((tmp_path / "home/engines.json").read_text())
    assert (entry["net"], entry["size"]) == ("tiny", 10)
