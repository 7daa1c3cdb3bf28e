"""Nets in parts: which parts these are, and the same blobs as of the net run whole."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplab_repro.caffe import load_weights, read_net
from deeplab_repro.engines import parts as module
from deeplab_repro.engines.opencv import OpenCVEngine, numbered
from deeplab_repro.engines.opencv_cpu import OpenCVCpuEngine
from deeplab_repro.engines.parts import InParts, faster_way, parts
from deeplab_repro.errors import WeightsError
from deeplab_repro.models.registry import MODELS
from deeplab_repro.net.layers import Concat, Convolution, Dropout, Eltwise, Interp, Pooling, ReLU
from deeplab_repro.net.net import Layer
from deeplab_repro.net.preprocess import preprocess
from tests.conftest import PAPER, TOYS
from tests.slow_layers import net_of, random_input


def in_parts(net, *names):
    """The net in parts, and what runs it so and whole."""
    with_numbers, numbers = numbered(net)
    made = InParts(
        with_numbers, [numbers[name] for name in names], lambda n: OpenCVEngine(n, "cpu")
    )
    whole = OpenCVEngine(net, "cpu")

    def check(data, tolerance=1e-4):
        found, expected = made.blobs(data), whole.blobs(data, names)
        assert set(found) == {numbers[name] for name in names}
        for name in names:
            blob, theirs = found[numbers[name]], expected[name]
            assert blob.dtype == np.float32
            assert blob.shape == theirs.shape
            # The tolerance of the comparisons with the original: sums in float32, in another order.
            assert np.abs(blob - theirs).max() <= tolerance * max(1, theirs.std()), name

    return made, check


def conv(name, bottom, hole=1, size=3, pad=None, channels=6):
    pad = hole * (size - 1) // 2 if pad is None else pad
    op = Convolution(channels, (size, size), (pad, pad), hole=(hole, hole))
    return Layer(name, op, (bottom,), (name,))


def relu(blob, slope=0.0):
    return Layer(f"relu_{blob}", ReLU(slope), (blob,), (blob,))


def ways(net, *outputs):
    """Of every part its way and its layers, as in "phases: a b"."""
    with_numbers, numbers = numbered(net)
    found = parts(with_numbers, [numbers[name] for name in outputs or [net.output]])
    return [f"{part.way}: {' '.join(layer.name for layer in part.layers)}" for part in found]


# --- which parts


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_nets(name):
    found = ways(read_net(MODELS[name].test_prototxt))
    assert found[1] == "phases: conv5_1 relu5_1 conv5_2 relu5_2 conv5_3 relu5_3"
    assert [part for part in found if part.startswith("product")] == [
        "product: fc6 relu6 drop6",
        "product: fc7 relu7 drop7",
    ]
    assert [part.split(":")[0] for part in found] == (
        ["whole", "phases", "whole", "product", "product", "whole"] + ["join"] * ("MSc" in name)
    )


def test_a_net_of_hundreds_of_parts_runs_as_a_whole():
    net = read_net(MODELS["DeepLabv2-ResNet101"].test_prototxt)
    assert len(ways(net)) > 300
    needed = OpenCVCpuEngine(net).memory_needed((1, 3, 513, 513))
    assert needed == OpenCVEngine(net, "cpu").memory_needed((1, 3, 513, 513)) < 3.1e9


@pytest.mark.parametrize("name", TOYS)
def test_narrow_nets_run_whole(name):
    net = read_net(MODELS[name].test_prototxt)
    (only,) = ways(net)
    assert only == f"whole: {' '.join(layer.name for layer in net.layers)}"


@pytest.mark.parametrize(
    ("op", "channels", "expected"),
    [
        (Convolution(512, (3, 3), (2, 2), hole=(2, 2)), 512, "phases"),
        (Convolution(512, (3, 3), (4, 2), hole=(4, 2)), 128, "phases"),
        (Convolution(64, (3, 3), (2, 2), hole=(2, 2)), 512, "whole"),
        (Convolution(512, (3, 3), (1, 1)), 512, "whole"),
        (Convolution(512, (3, 3), (2, 2), (2, 2), (2, 2)), 512, "whole"),
        (Convolution(512, (3, 3), (2, 2), hole=(2, 2), group=2), 512, "whole"),
        (Convolution(1024, (3, 3), (1, 1), hole=(2, 2)), 512, "product"),
        (Convolution(1024, (3, 3), (12, 12), hole=(12, 12)), 512, "product"),
        (Convolution(4096, (4, 4), (6, 6), hole=(4, 4)), 512, "product"),
        (Convolution(1024, (1, 1)), 1024, "product"),
        (Convolution(1024, (1, 1)), 256, "whole"),
        (Convolution(21, (1, 1)), 1024, "whole"),
        (ReLU(), 512, "whole"),
    ],
)
def test_the_faster_way(op, channels, expected):
    assert faster_way(op, channels) == expected


@pytest.mark.usefixtures("narrow_as_wide")
def test_where_a_block_ends():
    def block(*between, second=None):
        layers = [conv("a", "data", 2), *between, second or conv("b", "a", 2)]
        return ways(net_of(*layers, shape=(1, 6, 9, 9)), "b")

    drop = Layer("drop", Dropout(), ("a",), ("a",))
    assert block() == ["phases: a b"]
    assert block(relu("a", 0.5), drop) == ["phases: a relu_a drop b"]
    assert block(second=conv("b", "a", 3)) == ["phases: a", "phases: b"]
    assert block(second=conv("b", "a")) == ["phases: a", "whole: b"]
    pooled = Layer("pool", Pooling("MAX", (3, 3), (1, 1), (1, 1)), ("a",), ("pool",))
    assert block(pooled, second=conv("b", "pool", 2)) == ["phases: a", "whole: pool", "phases: b"]
    # Another layer takes the blob in between, or it is asked for.
    net = net_of(
        conv("a", "data", 2),
        conv("b", "a", 2),
        Layer("sum", Eltwise(), ("a", "b"), ("sum",)),
        shape=(1, 6, 9, 9),
    )
    assert ways(net) == ["phases: a", "phases: b", "join: sum"]
    assert ways(net, "b", "a") == ["phases: a", "phases: b"]
    assert ways(net, "b") == ["phases: a b"]
    # A slope is not a product's.
    net = net_of(conv("a", "data", size=1), relu("a", 0.5), shape=(1, 6, 9, 9))
    assert ways(net) == ["product: a", "whole: relu_a"]


@pytest.mark.usefixtures("narrow_as_wide")
def test_weights_are_shared():
    net = net_of(conv("a", "data", 2), conv("b", "a", 8), conv("c", "b"), shape=(1, 6, 9, 9))
    made, _ = in_parts(net, "c")
    for part, layer in zip(made.parts, net.layers, strict=True):
        assert part.layers[0].blobs is layer.blobs
    engines = [layer.blobs for engine in made._engines for layer in engine.net.layers]
    assert engines == [net.layers[0].blobs, net.layers[2].blobs]
    assert engines[0] is net.layers[0].blobs


# --- the same blobs


@settings(max_examples=20, deadline=None)
@given(
    st.integers(1, 2),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.integers(2, 24),
    st.tuples(*[st.integers(1, 9)] * 3),
    st.sampled_from([0.0, 0.25]),
)
def test_blocks_of_any_hole_at_any_size(images, size, hole, channels, slope):
    first, second, third = channels
    net = net_of(
        conv("a", "data", hole, channels=first),
        relu("a", slope),
        conv("b", "a", hole, channels=second),
        conv("c", "b", hole, channels=third),
        relu("c"),
        shape=(1, 3, 33, 33),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "faster_way", lambda op, _: ["whole", "phases"][hasattr(op, "hole")])
        made, check = in_parts(net, "c")
    assert [part.way for part in made.parts] == ["phases"]
    check(random_input(images, 3, *size))


@pytest.mark.usefixtures("narrow_as_wide")
def test_branches_of_several_holes_at_several_sizes():
    """As in DeepLab v2: fc6 to fc8 four times, summed; here joined in other ways too."""
    layers = [conv("pool", "data"), relu("pool")]
    for hole in (2, 4, 6, 24):
        layers += [conv(f"fc6_{hole}", "pool", hole), relu(f"fc6_{hole}")]
        layers += [conv(f"fc7_{hole}", f"fc6_{hole}", size=1), relu(f"fc7_{hole}")]
        layers += [conv(f"fc8_{hole}", f"fc7_{hole}")]
    tops = [f"fc8_{hole}" for hole in (2, 4, 6, 24)]
    layers += [
        Layer("sum", Eltwise("SUM", (1, 0.5, -1, 2)), tuple(tops), ("sum",)),
        Layer("max", Eltwise("MAX"), ("sum", "pool", "sum"), ("max",)),
        Layer("all", Concat(), ("max", "fc6_2", "max"), ("all",)),
        Layer("prod", Eltwise("PROD"), ("max", "sum"), ("prod",)),
        Layer("up", Interp(zoom_factor=2), ("all",), ("up",)),
    ]
    net = net_of(*layers, shape=(1, 6, 21, 17))
    made, check = in_parts(net, "up", "prod", "fc7_4")
    assert {part.way for part in made.parts} == {"whole", "phases", "product", "join"}
    made.build()
    for shape in ((1, 6, 21, 17), (1, 6, 5, 40), (2, 6, 1, 1), (1, 6, 21, 17)):
        check(random_input(*shape))


@pytest.mark.usefixtures("narrow_as_wide")
def test_an_input_that_several_ways_take():
    net = net_of(
        conv("a", "data", 2),
        conv("b", "data", 8),
        conv("c", "data"),
        Layer("sum", Eltwise(), ("a", "b", "c", "data"), ("sum",)),
        shape=(1, 6, 9, 9),
    )
    made, check = in_parts(net, "sum", "c")
    assert [part.way for part in made.parts] == ["phases", "product", "whole", "join"]
    check(random_input(1, 6, 9, 9))


def test_a_product_without_weights():
    net = net_of(conv("a", "data", size=1, channels=1024), shape=(1, 512, 2, 2))
    made, _ = in_parts(net, "a")
    net.layers[0].blobs[0].data = None
    with pytest.raises(WeightsError, match="layer 'a' has no weights"):
        made.blobs(random_input(1, 512, 2, 2))


@pytest.mark.golden
@pytest.mark.usefixtures("narrow_as_wide")
@pytest.mark.parametrize("name", ["DeepLab", "DeepLab-LargeFOV-513", "DeepLab-MSc-LargeFOV"])
def test_the_originals_scores(golden, name):
    folder = golden / "nets" / name
    net = read_net(folder / "deploy.prototxt")
    load_weights(net, folder / "weights.caffemodel")
    with_numbers, numbers = numbered(net)
    made = InParts(with_numbers, [numbers[net.output]], lambda n: OpenCVEngine(n, "cpu"))
    assert {"phases", "product"} <= {part.way for part in made.parts}
    with np.load(folder / "expected.npz") as expected:
        (scores,) = made.blobs(preprocess(expected["image"], net.input_shape[2:])).values()
        if "scores" in expected:
            theirs = expected["scores"]
        else:
            scores, theirs = scores[:, :, ::8, ::8], expected["scores_every_8th_pixel"]
    assert np.abs(scores - theirs).max() <= 1e-4 * max(1, theirs.std())
    np.testing.assert_array_equal(scores.argmax(axis=1), theirs.argmax(axis=1))


@pytest.mark.usefixtures("narrow_as_wide")
@pytest.mark.parametrize("most_bytes", [1, 3000, 10**9])
def test_phases_run_together_as_far_as_they_fit(most_bytes, monkeypatch):
    monkeypatch.setattr(module, "MOST_BYTES", most_bytes)
    net = net_of(conv("a", "data", 2), conv("b", "a", 2), shape=(1, 6, 15, 18))
    assert ways(net) == ["phases: a b"]
    net.fill_random(0)
    in_parts(net, "b")[1](random_input(1, 6, 15, 18))
