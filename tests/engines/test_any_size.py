"""Whether a net runs as a whole or in tiles, by what is free."""

import math

import numpy as np
import pytest

from deeplab_repro.engines import any_size
from deeplab_repro.engines.any_size import AnySize, Way
from deeplab_repro.engines.exact import exact_blobs
from deeplab_repro.errors import ArgumentError, ResourceError
from deeplab_repro.machine import memory
from deeplab_repro.net.layers import Convolution, Pooling
from deeplab_repro.net.net import Layer, Net

BYTES_A_PIXEL = 100


class Measured:
    """Runs nets in float64, and takes a known number of bytes a pixel."""

    name, precision, device = "measured", "float32", "cpu"

    def __init__(self, net):
        self.net = net

    def build(self):
        pass

    def blobs(self, data, names):
        return exact_blobs(self.net, data, names)

    def memory_needed(self, shape):
        return BYTES_A_PIXEL * math.prod(shape[2:])


class OnGpu(Measured):
    device = "cuda"


def net_of(op, size=(80, 80)):
    net = Net("one", "data", (1, 3, *size), [Layer("it", op, ("data",), ("it",))])
    net.fill_random(1)
    return net


NET = net_of(Convolution(2, (3, 3), (1, 1)))
SIZE = 80, 80
WHOLE = BYTES_A_PIXEL * 80 * 80


def way(runs, rest=0, smaller=lambda _: "make it smaller"):
    return runs.way(SIZE, WHOLE, rest, smaller)


@pytest.fixture
def free(monkeypatch):
    """Say how many bytes are free."""

    def be(n_bytes):
        monkeypatch.setattr(memory, "available_memory", lambda: n_bytes)

    return be


def test_the_rest_is_kept_free_for_the_crf(free):
    runs = AnySize(NET, Measured, "auto")
    free(WHOLE + 1000)
    assert way(runs, rest=1000).tiling is None
    assert way(runs, rest=1001).tiling


def test_what_the_engine_holds_is_there_already(free):
    runs = AnySize(NET, Measured, "auto")
    free(None)
    runs.run(way(runs), np.zeros((1, 3, *SIZE), np.float32), SIZE)
    free(1000)
    assert way(runs).tiling is None


def test_little_memory_on_a_gpu_means_tiles(free, monkeypatch):
    free(100 * WHOLE)
    monkeypatch.setattr(any_size, "free_memory", lambda: WHOLE - 1)
    assert way(AnySize(NET, OnGpu, "auto")).tiling
    assert way(AnySize(NET, Measured, "auto")).tiling is None
    monkeypatch.setattr(any_size, "free_memory", lambda: None)  # it cannot be told
    assert way(AnySize(NET, OnGpu, "auto")).tiling is None


def test_tiles_get_more_memory_where_they_would_overlap_much(free, monkeypatch):
    monkeypatch.setattr(any_size, "_ENOUGH", 300_000)
    wide = net_of(Convolution(2, (31, 31), (15, 15)))
    free(WHOLE - 1)
    found = way(AnySize(wide, Measured, "auto"))
    assert 300_000 < found.n_bytes <= WHOLE - 1
    assert way(AnySize(NET, Measured, "auto")).n_bytes <= 300_000


def test_a_layer_that_depends_on_the_whole_is_named(free):
    free(1000)
    with pytest.raises(ResourceError) as error:
        way(AnySize(net_of(Pooling("AVE", (0, 0))), Measured, "auto"))
    assert "layer 'it' (Pooling)" in str(error.value)
    assert str(error.value).endswith("does not run in tiles, or make it smaller")


class RunsOut(Measured):
    """Takes four times what it says."""

    most = WHOLE // 2

    def blobs(self, data, names):
        if 4 * self.memory_needed(data.shape) > self.most:
            raise ResourceError("ran out of memory")
        return super().blobs(data, names)


def test_where_memory_runs_out_the_tiles_get_smaller(free):
    free(None)
    runs, told = AnySize(NET, RunsOut, "auto"), []
    data = np.random.default_rng(1).standard_normal((1, 3, *SIZE), np.float32)
    values, made = runs.run(Way(WHOLE), data, SIZE, lambda *how: told.append(how) or (lambda: 0))
    assert 4 * BYTES_A_PIXEL * math.prod(made.tiling.tile) <= RunsOut.most
    assert told[-1] == (str(made), made.count)
    assert all("as memory ran out" in how for how, _ in told)
    np.testing.assert_allclose(values, exact_blobs(NET, data, ["it"])["it"][0], atol=1e-6)


@pytest.mark.parametrize(("tile", "most"), [("never", WHOLE // 2), ("auto", 1)])
def test_memory_that_runs_out_in_every_way_is_told(free, monkeypatch, tile, most):
    free(None)
    monkeypatch.setattr(RunsOut, "most", most)
    with pytest.raises(ResourceError, match=r"^ran out of memory$"):
        AnySize(NET, RunsOut, tile).run(Way(WHOLE), np.zeros((1, 3, *SIZE), np.float32), SIZE)


def test_what_failed_holds_nothing(free, monkeypatch):
    free(None)
    monkeypatch.setattr(RunsOut, "most", 1)
    runs = AnySize(NET, RunsOut, "never")
    runs._bytes_held = WHOLE
    with pytest.raises(ResourceError):
        runs.run(Way(WHOLE), np.zeros((1, 3, *SIZE), np.float32), SIZE)
    free(WHOLE - 1)
    with pytest.raises(ResourceError):
        way(runs)


def test_tiles_of_a_given_size_get_smaller_where_memory_is_small(free):
    free(WHOLE // 2)
    assert way(AnySize(NET, Measured, 79)).n_bytes <= WHOLE // 2


def test_what_fits_when_the_engine_is_dropped_runs_as_a_whole(monkeypatch):
    left = iter([WHOLE - 1, WHOLE])
    monkeypatch.setattr(memory, "available_memory", lambda: next(left))
    assert str(way(AnySize(NET, Measured, "auto"))) == "as a whole"


def test_tiles_too_small_for_a_layer_that_depends_on_the_whole(free):
    free(None)
    with pytest.raises(ArgumentError, match=r"layer 'it' \(Pooling\).*use --tile 80$"):
        way(AnySize(net_of(Pooling("AVE", (0, 0))), Measured, 40))
