"""Whether a net runs as a whole or in tiles, by what is free."""

import math

import numpy as np
import pytest

from deeplab_repro.engines import any_size
from deeplab_repro.engines.any_size import AnySize
from deeplab_repro.engines.exact import exact_blobs
from deeplab_repro.errors import ResourceError
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
    data = np.zeros((1, 3, *SIZE), np.float32)
    runs.run(way(runs), data, SIZE)
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
