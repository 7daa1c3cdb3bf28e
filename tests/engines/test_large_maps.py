"""First layers in tiles: where, and the same blobs as of the whole."""

import numpy as np
import pytest

from deeplab_repro.engines import large_maps
from deeplab_repro.engines.large_maps import run_in_tiles, tiles_of, up_to_poolings
from deeplab_repro.engines.opencv import OpenCVEngine
from deeplab_repro.net.layers import Convolution, Pooling
from deeplab_repro.net.net import Layer
from tests.engines.test_parts import conv
from tests.slow_layers import net_of, random_input


def pool(name, bottom, stride=2):
    op = Pooling("MAX", (3, 3), (1, 1), (stride, stride))
    return Layer(name, op, (bottom,), (name,))


@pytest.fixture
def net():
    layers = [conv("a", "data"), pool("b", "a"), conv("c", "b"), pool("d", "c", 1), pool("e", "d")]
    made = net_of(*layers, conv("f", "e"), shape=(1, 3, 61, 83))
    made.fill_random(0)
    return made


def test_it_ends_at_poolings_that_make_maps_smaller(net):
    assert [part.output for part in up_to_poolings(net)] == ["b", "e", "f"]


@pytest.mark.parametrize("size", [(61, 83), (83, 61), (64, 200), (300, 40)])
def test_tiles_make_what_the_whole_makes(net, size, monkeypatch):
    monkeypatch.setattr(large_maps, "MOST_BYTES", 40_000)
    monkeypatch.setattr(large_maps, "_MOST_COMPUTED", 3)
    data = random_input(1, 3, *size)
    parts = up_to_poolings(net)
    assert tiles_of(parts[0], data.shape).count > 1
    found = run_in_tiles([OpenCVEngine(part, "cpu") for part in parts], data)
    expected = OpenCVEngine(net, "cpu").blobs(data, ["f"])["f"]
    np.testing.assert_allclose(found, expected, atol=1e-4)  # float32, summed in another order


def test_small_maps_run_as_a_whole(net):
    assert tiles_of(net, (1, 3, 61, 83)) is None


def test_tiles_that_overlap_too_much_are_none(monkeypatch):
    monkeypatch.setattr(large_maps, "MOST_BYTES", 10_000)
    wide = Layer("a", Convolution(4, (41, 41), (20, 20)), ("data",), ("a",))
    assert tiles_of(net_of(wide, shape=(1, 3, 60, 60)), (1, 3, 60, 60)) is None
