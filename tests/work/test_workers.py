"""Work in processes and on a Dask cluster: with real processes, that really die."""

import asyncio
import contextlib
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from deeplab_repro.errors import ArgumentError, DeepLabError, ImageError, ResourceError
from deeplab_repro.files.pictures import write_labels
from deeplab_repro.voc.devkit import open_devkit
from deeplab_repro.voc.evaluate import evaluate
from deeplab_repro.work import cluster, workers
from deeplab_repro.work.stages import n_cores
from deeplab_repro.work.workers import Workers
from tests.conftest import assert_one_line
from tests.work import worker_functions

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
NAMES = [*"abcdefgh", "broken 1", "ij" * 40, "a"]
# Fewer deaths cost an image its result here: each takes a second.
DASK = {
    "PYTHONPATH": os.pathsep.join([str(ROOT), str(HERE)]),
    "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0",
}


@contextlib.contextmanager
def dask(folder, n_workers):
    """A cluster of processes: its address, and its scheduler."""
    if importlib.util.find_spec("distributed") is None:
        pytest.skip('Dask is not installed: pip install "deeplab-repro[dask]"')
    from distributed.utils import open_port

    address = f"tcp://127.0.0.1:{open_port()}"
    with open(folder / "log", "wb") as log, contextlib.ExitStack() as stack:

        def start(*arguments):
            process = subprocess.Popen(
                [sys.executable, "-m", "dask", *arguments, "--no-dashboard"],
                env={**os.environ, **DASK},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            stack.callback(process.wait)
            stack.callback(os.killpg, process.pid, signal.SIGKILL)
            return process

        scheduler = start("scheduler", "--host", address)
        for _ in range(n_workers):
            start("worker", address, "--nthreads", "1")
        yield address, scheduler


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory):
    """The address of a Dask cluster of two workers."""
    with dask(tmp_path_factory.mktemp("dask"), 2) as (address, _):
        yield address


@pytest.fixture(params=["here", "processes", "cluster"])
def anybody(request):
    """Workers of each kind."""
    if request.param == "cluster":
        return Workers(scheduler=request.getfixturevalue("scheduler"))
    return Workers({"here": 0, "processes": 2}[request.param])


@pytest.fixture(params=["processes", "cluster"])
def mortals(request):
    """Workers that may die."""
    if request.param == "cluster":
        return Workers(scheduler=request.getfixturevalue("scheduler"))
    return Workers(2)


def test_results_and_errors_by_name(anybody, capfd):
    found = sorted(
        anybody.map(worker_functions.squares, [*NAMES, "vast"]), key=lambda each: each[0]
    )
    *found, (vast, error) = found
    assert (vast, type(error)) == ("vast", ResourceError)
    assert str(error).startswith("vast: it ran out of memory: use a smaller image")
    assert [name for name, _ in found] == sorted(NAMES)
    for name, result in found:
        if name.startswith("broken"):
            assert type(result) is ImageError
            assert str(result) == "broken 1: is broken"
            assert result.__traceback__ is None
        else:
            np.testing.assert_array_equal(result, worker_functions.squares(name))
    assert list(anybody.map(worker_functions.squares, [])) == []
    assert capfd.readouterr() == ("", "")


def test_here_all_comes_in_order():
    assert [name for name, _ in Workers().map(str.upper, NAMES)] == NAMES


def test_nobody_has_two_before_everybody_has_one(mortals, tmp_path):
    work = partial(worker_functions.wait_for_each_other, tmp_path, ["a", "b"])
    (_, one), (_, other) = mortals.map(work, ["a", "b"])
    assert one
    assert other
    assert one != other


def test_processes_share_the_cores():
    found = dict(Workers(2).map(worker_functions.told, ["NUMBA_NUM_THREADS", "OMP_NUM_THREADS"]))
    assert set(found.values()) == {str(max(1, n_cores() // 2))}


def test_workers_are_ready_before_numpy_is_loaded():
    program = "import sys, deeplab_repro.work.workers; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_a_death_costs_the_image_a_retry(tmp_path):
    work = partial(worker_functions.die_once, tmp_path)
    assert dict(Workers(2).map(work, list("abc"))) == {"a": "A", "b": "B", "c": "C"}


def test_an_image_that_kills_workers_is_given_up(mortals):
    names = [*"abcdef", "deadly", *"ghij"]
    found = dict(mortals.map(worker_functions.die, names))
    assert set(found) == set(names)
    error = found.pop("deadly")
    assert type(error) is ResourceError
    assert str(error).startswith("deadly: workers died over it")
    if mortals.processes:
        assert "3 times (Killed): see whether the memory is enough" in str(error)
    assert found == {name: name.upper() for name in found}


def test_processes_that_die_before_they_begin():
    work = partial(worker_functions.take, worker_functions.Deadly())
    with pytest.raises(ResourceError, match=r"3 worker processes ended before .*exit status 4"):
        list(Workers(2).map(work, list("abc")))


def test_what_a_process_cannot_import():
    work = partial(worker_functions.take, worker_functions.Missing())
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        list(Workers(2).map(work, list("abc")))


def test_what_a_cluster_cannot_import(scheduler):
    work = partial(worker_functions.take, worker_functions.Missing())
    with pytest.raises(ArgumentError, match=r"'no_such_module': install deeplab-repro \S+ where"):
        list(Workers(scheduler=scheduler).map(work, list("abc")))


def test_another_version_on_the_cluster(scheduler, monkeypatch):
    monkeypatch.setattr(cluster, "__version__", "9.9.9")
    with pytest.raises(ArgumentError, match=r"has deeplab-repro \S+: install 9\.9\.9, as here"):
        list(Workers(scheduler=scheduler).map(str.upper, ["a"]))


def test_processes_that_cannot_be_started(monkeypatch):
    def refuse(*_):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(workers, "_Process", refuse)
    with pytest.raises(ResourceError, match="cannot be started: Resource temporarily unavailable"):
        list(Workers(2).map(str.upper, list("abc")))


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (worker_functions.raise_error, LookupError, "no a"),
        (worker_functions.raise_odd_error, RuntimeError, "TwoArgumentsError: a and 2"),
        (worker_functions.unpicklable, Exception, "pickle"),
    ],
)
def test_other_exceptions_are_raised(mortals, function, error, message):
    with pytest.raises(error, match=message) as raised:
        list(mortals.map(function, ["a"]))
    assert not isinstance(raised.value, DeepLabError)
    if function is not worker_functions.unpicklable:
        assert f"in {function.__name__}" in str(raised.value.__cause__)


def test_a_caller_that_has_enough(mortals):
    results = mortals.map(worker_functions.die, [str(number) for number in range(1000)])
    next(results)
    inside = dict(results.gi_frame.f_locals)
    results.close()
    if mortals.processes:
        assert len(inside["processes"]) == 2
        assert all(each._process.exitcode is not None for each in inside["processes"])
    else:
        assert inside["client"].status == "closed"


@pytest.fixture
def begun(tmp_path):
    """Start a program whose two processes are at work; with it all of them end, or communicate
    would not: each holds its stderr."""

    @contextlib.contextmanager
    def start(function):
        program = [sys.executable, str(HERE / "worker_functions.py"), function, str(tmp_path), "2"]
        process = subprocess.Popen(
            program,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        try:
            while len(list(tmp_path.glob("*.begun"))) < 2:
                assert process.poll() is None, process.stderr.read()
                time.sleep(0.01)
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    return start


def test_ctrl_c(begun, tmp_path):
    with begun("write_slowly") as process:
        assert len(list(tmp_path.glob(".*.tmp"))) == 2
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert err.count("Traceback") == 1  # of the program itself
    assert err.endswith("KeyboardInterrupt\n")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.begun", "b.begun"]


def test_nothing_is_left_of_a_parent_that_is_killed(begun, tmp_path):
    with begun("write_after_a_second") as process:
        process.kill()
        _, err = process.communicate(timeout=20)
    assert err == ""
    assert {each.name for each in tmp_path.iterdir()} == {"a", "a.begun", "b", "b.begun"}


def test_a_dask_worker_that_is_killed(scheduler, tmp_path):
    """Whoever was working on something else goes on, and the images are done by another."""
    work = partial(worker_functions.die_once, tmp_path)
    for name in ("b", "c"):  # these do not kill, but may be blamed
        (tmp_path / name).touch()
    found = dict(Workers(scheduler=scheduler).map(work, list("abc")))
    assert found == {"a": "A", "b": "B", "c": "C"}


def test_an_evaluation_that_loses_a_worker(scheduler, tmp_path):
    """Gives the figures of one at home."""
    ids = [f"image_{number}" for number in range(40)]
    split = tmp_path / "ImageSets" / "Segmentation" / "val.txt"
    for folder in (split.parent, tmp_path / "SegmentationClass", tmp_path / "results"):
        folder.mkdir(parents=True)
    split.write_text("\n".join(ids))
    labels = np.random.default_rng(1).integers(0, 21, (len(ids), 20, 30), np.uint8)
    labels = labels.repeat(9, axis=1).repeat(9, axis=2)
    for name, each in zip(ids, labels, strict=True):
        write_labels(tmp_path / "SegmentationClass" / f"{name}.png", each)
        write_labels(tmp_path / "results" / f"{name}.png", np.roll(each, 3, axis=0))
    devkit = open_devkit(tmp_path)
    at_home = evaluate(devkit, "val", tmp_path / "results", (1, 20))
    there_are = Workers(scheduler=scheduler)
    ((_, a_worker),) = there_are.map(worker_functions.process, ["a"])
    steps = []

    def advance():
        steps.append(1)
        if len(steps) == 3:
            os.kill(a_worker, signal.SIGKILL)

    progress = contextlib.nullcontext(advance)
    there = evaluate(devkit, "val", tmp_path / "results", (1, 20), there_are, lambda *_: progress)
    assert len(steps) == len(ids)
    assert there.as_json() == at_home.as_json()
    assert there.per_image == at_home.per_image


def run_on(address):
    return list(Workers(scheduler=address).map(str.upper, ["a"]))


@pytest.mark.parametrize(
    "address", ["nowhere", "bar://127.0.0.1:1", "127.0.0.1:x", "", "127.0.0.1:9"]
)
def test_what_is_not_a_scheduler(address, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr(cluster, "_SECONDS_TO_CONNECT", 0.1)
    with pytest.raises(ArgumentError, match=r"cannot be reached: .*expected the address") as error:
        run_on(address)
    assert_one_line(error, f"scheduler {address}: ")


def test_what_listens_and_never_says_a_word(monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr(cluster, "_SECONDS_TO_CONNECT", 0.1)
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(ArgumentError, match="cannot be reached: no answer"),
    ):
        run_on(f"tcp://127.0.0.1:{silent.getsockname()[1]}")


def test_without_dask(monkeypatch):
    monkeypatch.setitem(sys.modules, "dask.distributed", None)
    with pytest.raises(ArgumentError, match=r'pip install "deeplab-repro\[dask\]"'):
        run_on("tcp://127.0.0.1:9")


def wait_for_scheduler(address):
    host, port = address.removeprefix("tcp://").split(":")
    until = time.monotonic() + 30
    while True:
        try:
            return socket.create_connection((host, int(port)), timeout=1).close()
        except OSError:
            assert time.monotonic() < until
            time.sleep(0.05)


def test_a_scheduler_without_workers_that_is_lost(tmp_path, monkeypatch, capfd):
    with dask(tmp_path, 0) as (address, process):
        wait_for_scheduler(address)
        with monkeypatch.context() as patch:
            patch.setattr(cluster, "_SECONDS_TO_CONNECT", 1)
            patch.setattr(cluster, "_reach", lambda _: asyncio.sleep(0))
            with pytest.raises(ResourceError, match=f"has no workers: .*`dask worker {address}`"):
                run_on(address)
        monkeypatch.setattr(cluster, "_require_workers", lambda *_: None)
        threading.Timer(0.2, process.kill).start()
        with pytest.raises(ResourceError, match="the connection was lost: start it again") as error:
            run_on(address)
    assert_one_line(error)
    assert capfd.readouterr() == ("", "")
