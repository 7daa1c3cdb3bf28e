"""Tiles make what the whole makes."""

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplab_repro.engines.exact import exact_blobs
from deeplab_repro.engines.tiles import find_tiling, least_tile, why_whole
from deeplab_repro.errors import NetError
from deeplab_repro.net.layers import (
    Concat,
    Convolution,
    Deconvolution,
    Eltwise,
    Interp,
    Padding,
    Pooling,
    ReLU,
)
from deeplab_repro.net.net import Layer, Net
from deeplab_repro.net.shape_layers import Crop


class Exact:
    """Runs nets in float64, and takes the bytes of its input."""

    def __init__(self, net):
        self.net = net

    def blobs(self, data, names):
        return exact_blobs(self.net, data, names)

    def memory_needed(self, shape):
        return 4 * math.prod(shape)


def tiled(net, shape, engine_of=Exact, **bounds):
    """What the tiles make, what the whole makes, and how many tiles there are."""
    data = np.random.default_rng(1).standard_normal(shape, np.float32)
    tiling = find_tiling(net, shape, engine_of, **bounds)
    calls = []
    size = net.output_shape(shape)[2:]
    made = tiling.run(engine_of, data, size, lambda: calls.append(1))
    assert len(calls) == tiling.count
    return made, engine_of(net).blobs(data, [net.output])[net.output], tiling


# --- any net

pairs = st.tuples(*[st.integers(1, 3)] * 2)


@st.composite
def nets(draw):
    """Small nets: chains with a branch that comes back here and there."""
    layers, blob = [], "data"

    def add(op, *bottoms):
        name = f"blob{len(layers)}"
        layers.append(Layer(name, op, bottoms or (blob,), (name,)))
        return name

    for _ in range(draw(st.integers(1, 4))):
        kernel, stride, hole = draw(pairs), draw(pairs), draw(pairs)
        pad = tuple(draw(st.integers(0, 2)) for _ in range(2))
        within = tuple(min(p, k - 1) for p, k in zip(pad, kernel, strict=True))
        kind = draw(st.sampled_from(["conv", "pool", "up", "interp", "pad", "join", "crop"]))
        if kind == "conv":
            blob = add(Convolution(2, kernel, pad, stride, hole))
        elif kind == "pool":
            # Else a last window lies outside the image, which in Caffe makes -FLT_MAX.
            within, stride = (tuple(map(min, each, kernel)) for each in (within, stride))
            blob = add(Pooling(draw(st.sampled_from(["MAX", "AVE"])), kernel, within, stride))
        elif kind == "up":
            blob = add(Deconvolution(2, kernel, within, stride))
        elif kind == "interp":
            crop = -draw(st.integers(0, 1))
            blob = add(Interp(zoom_factor=draw(st.integers(1, 3)), pad_beg=crop, pad_end=crop))
        elif kind == "pad":
            blob = add(Padding(draw(st.integers(-2, 2)), draw(st.integers(-2, 2))))
        elif kind == "join":
            blob = add(
                Concat(), blob, add(ReLU(), add(Convolution(2, (3, 3), (2, 2), hole=(2, 2))))
            )
        else:
            inner = add(Convolution(2, (3, 3)))
            blob = add(Eltwise(), add(Crop(2, (1, 1)), add(Convolution(2, (1, 1))), inner), inner)
    return layers


@settings(max_examples=60, deadline=None)
@given(nets(), st.integers(20, 60), st.integers(20, 60), st.integers(0, 400))
def test_tiles_of_any_net_make_what_the_whole_makes(layers, height, width, room):
    shape = (1, 2, height, width)
    try:
        net = Net("any", "data", shape, layers)
    except NetError:  # nothing is left
        return
    net.fill_random(1)
    tiling = find_tiling(net, shape, Exact)
    room = tiling.n_bytes * (0.3 + room / 500)
    if find_tiling(net, shape, Exact, room) is None:
        return
    made, whole, _ = tiled(net, shape, room=room)
    # Interp finds its places in float32, and tiles are rounded to it where they come together.
    np.testing.assert_allclose(made, whole, rtol=0, atol=1e-4 * (whole.std() + 1e-9))


def net_of(*ops, size=(64, 72)):
    names = ["data", *(f"{number}" for number in range(len(ops)))]
    chain = [
        Layer(f"layer {top}", op, (bottom,), (top,))
        for op, bottom, top in zip(ops, names, names[1:], strict=False)
    ]
    net = Net("chain", "data", (1, 2, *size), chain)
    net.fill_random(1)
    return net


def test_stages_take_less_room_than_one():
    net = net_of(*[Convolution(2, (5, 5), (8, 8), hole=(4, 4))] * 4)
    made, whole, tiling = tiled(net, net.input_shape, longest=32)
    assert len(tiling.stages) > 1
    assert max(side for stage in tiling.stages for side in stage.tile) <= 32
    np.testing.assert_allclose(made, whole, rtol=0, atol=1e-6 * whole.std())


def test_branches_that_share_nothing_run_one_after_the_other():
    """As the three scales of DeepLabv2-ResNet101, whose copies of the image are smaller."""
    size = 73, 81
    layers, joined = [], []
    for name, op in (("half", Interp(shrink_factor=2)), ("same", ReLU())):
        layers += [
            Layer(name, op, ("data",), (name,)),
            Layer(
                f"{name} conv", Convolution(2, (3, 3), (4, 4), hole=(4, 4)), (name,), (f"{name} a",)
            ),
            Layer(
                f"{name} more",
                Convolution(2, (3, 3), (4, 4), hole=(4, 4)),
                (f"{name} a",),
                (f"{name} b",),
            ),
        ]
        joined.append(f"{name} b")
    layers.append(Layer("up", Interp(zoom_factor=2), ("half b",), ("half c",)))
    layers.append(Layer("max", Eltwise("MAX"), ("half c", "same b"), ("max",)))
    net = Net("two scales", "data", (1, 2, *size), layers)
    net.fill_random(1)
    made, whole, tiling = tiled(net, net.input_shape, longest=41)
    assert len(tiling.branches) == 2
    assert all(branch.count > 1 for branch in tiling.branches)
    np.testing.assert_allclose(made, whole, rtol=0, atol=1e-6 * whole.std())


def test_what_cannot_be_tiled_runs_as_a_whole_behind_what_can():
    """A pyramid's pooling of the whole, on a grid that is coarse by then."""
    pyramid = [Pooling("AVE", (0, 0)), Interp(height=8, width=9)]
    net = net_of(Convolution(2, (3, 3), (1, 1), stride=(8, 8)), *pyramid)
    made, whole, tiling = tiled(net, net.input_shape, room=50_000)
    assert [stage.count > 1 for stage in tiling.stages] == [True, False]
    np.testing.assert_allclose(made, whole, rtol=1e-5)  # a sum of 72 values that nearly cancel
    assert "layer 'layer 1' (Pooling)" in why_whole(net, net.input_shape)


def test_the_least_tile_takes_no_more_than_ten_times_as_long():
    """A tile of 41 would make one value of the 1,681 that it depends on."""
    net = net_of(Convolution(2, (41, 41), (20, 20)), size=(80, 80))
    least = least_tile(net, net.input_shape, Exact)
    assert find_tiling(net, net.input_shape, Exact, longest=least - 1) is None
    found = find_tiling(net, net.input_shape, Exact, longest=least)
    assert found.work <= 10 * net.operations(net.output)
    assert 41 < least < 60


def test_tiles_fit_the_room_and_overlap_the_least():
    net = net_of(Convolution(2, (3, 3), (1, 1)), size=(90, 900))
    tiling = find_tiling(net, net.input_shape, Exact, room=4 * 90 * 900 * 5)
    assert tiling.n_bytes <= 4 * 90 * 900 * 5
    (stage,) = tiling.stages
    assert stage.tile[0] == 90  # bands across the short side have the shortest borders
    assert stage.count == 5
