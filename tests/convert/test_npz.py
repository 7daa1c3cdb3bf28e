"""Nets as .npz: back as they were, and readable by hand."""

import json
import zipfile
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeplab_repro.caffe import caffemodel_chunks, load_weights, read_net, read_train_net
from deeplab_repro.convert.npz import read_npz, write_npz
from deeplab_repro.errors import NetError, WeightsError
from deeplab_repro.models.registry import MODELS
from deeplab_repro.net import layers
from deeplab_repro.net.layers import (
    Concat,
    Convolution,
    Deconvolution,
    Dropout,
    Eltwise,
    InnerProduct,
    Interp,
    LayerType,
    Padding,
    Pooling,
    ReLU,
    SegAccuracy,
    Softmax,
    SoftmaxLoss,
    Split,
)
from deeplab_repro.net.net import Layer, Net
from deeplab_repro.net.shape_layers import ArgMax, Flatten, Reshape, Slice, Tile
from tests.conftest import assert_one_line
from tests.convert.npz_files import assert_same, npy, on_disk, small, small_parts, weights, zipped

TOYS = [name for name, model in MODELS.items() if model.shipped_weights]
GOLDEN_NETS = [
    f"DeepLab{name}" for name in ("", "-LargeFOV", "-LargeFOV-513", "-MSc", "-MSc-LargeFOV")
]


@pytest.fixture
def parts() -> dict[str, bytes]:
    """The members of the small net's file."""
    return small_parts()


# --- and back


def assert_comes_back(net: Net, tmp_path) -> None:
    write_npz(net, tmp_path / "net.npz")
    found = read_npz(tmp_path / "net.npz")
    assert_same(found, net)
    for current in (False, True):
        assert b"".join(caffemodel_chunks(found, current)) == b"".join(
            caffemodel_chunks(net, current)
        )


@pytest.mark.golden
@pytest.mark.parametrize("name", GOLDEN_NETS)
def test_golden_nets(golden, tmp_path, name):
    net = read_net(golden / "nets" / name / "deploy.prototxt")
    load_weights(net, golden / "nets" / name / "weights.caffemodel")
    assert_comes_back(net, tmp_path)


@pytest.mark.parametrize("name", TOYS)
def test_shipped_models(tmp_path, name):
    model = MODELS[name]
    net = read_net(model.test_prototxt, {"EXP": model.exp})
    load_weights(net, model.shipped_weights)
    assert_comes_back(net, tmp_path)


@pytest.mark.parametrize("name", TOYS)
def test_train_nets(tmp_path, name):
    model = MODELS[name]
    net = read_train_net(model.train_prototxt, {"EXP": model.exp, "DATA_ROOT": "/d"})
    load_weights(net, model.shipped_weights)
    assert net.data is not None
    assert_comes_back(net, tmp_path)


def test_every_field(tmp_path):
    net = small()
    write_npz(net, tmp_path / "a.npz")
    assert_same(read_npz(tmp_path / "a.npz"), net)


SIDES = st.integers(1, 3)
PAIRS = st.tuples(SIDES, SIDES)
FLOATS = st.floats(-1e30, 1e30)
CROPS = {"pad_beg": st.integers(-2, 0), "pad_end": st.integers(-2, 0)}
FILTERS = {"num_output": SIDES, "kernel": PAIRS, "stride": PAIRS, "bias": st.booleans()}
BY_TYPE = {
    Concat: st.builds(Concat, st.integers(0, 3)),
    Convolution: st.builds(Convolution, pad=PAIRS, hole=PAIRS, **FILTERS),
    Deconvolution: st.builds(Deconvolution, **FILTERS),
    Dropout: st.builds(Dropout, FLOATS),
    Eltwise: st.builds(Eltwise, st.sampled_from(["SUM", "PROD", "MAX"]))
    | st.builds(Eltwise, st.just("SUM"), st.tuples(FLOATS)),
    InnerProduct: st.builds(InnerProduct, SIDES, st.booleans()),
    Interp: st.builds(Interp, zoom_factor=SIDES, **CROPS)
    | st.builds(Interp, shrink_factor=SIDES, **CROPS)
    | st.builds(Interp, height=SIDES, width=SIDES, **CROPS),
    Padding: st.builds(Padding, st.integers(0, 9), st.integers(0, 9))
    | st.builds(Padding, st.integers(-1, 0), st.integers(-1, 0)),
    Pooling: st.builds(Pooling, st.sampled_from(["MAX", "AVE"]), PAIRS, stride=PAIRS),
    ReLU: st.builds(ReLU, FLOATS),
    Softmax: st.just(Softmax()),
    Split: st.just(Split()),
    ArgMax: st.builds(ArgMax, st.booleans(), SIDES, st.none() | st.integers(-2, 3)),
    Flatten: st.builds(Flatten, st.integers(-4, 3), st.integers(-4, 3)),
    Reshape: st.builds(Reshape, st.sampled_from([(0, -1), (-1, 2, 1, 1), (1, 0, -1, 1)])),
    Slice: st.builds(Slice, st.integers(-4, 3)),
    Tile: st.builds(Tile, SIDES, st.integers(-4, 3)),
}
NAMES = st.text(max_size=8).filter(str.isprintable)


@st.composite
def chains(draw) -> Net:
    """A net of one layer after the other, each of a type at random."""
    names = draw(st.lists(NAMES, min_size=8, max_size=8, unique=True))
    first = Layer("", Softmax(), (names[0],), (names[0],))
    net = Net(draw(NAMES), names[0], (1, 2, 9, 8), [first])
    for bottom, top in pairwise(names):
        op = draw(st.sampled_from(list(BY_TYPE)).flatmap(BY_TYPE.get))
        layer = Layer(top, op, (bottom,), (top,), strict_dim=draw(st.booleans()))
        try:
            net = replace(net, layers=[*net.layers, layer])
        except NetError:  # the image has become too small for it
            break
    net.fill_random(0)
    return net


@on_disk
@given(chains())
def test_nets_at_random(tmp_path, net):
    write_npz(net, tmp_path / "a.npz")
    assert_same(read_npz(tmp_path / "a.npz"), net)


def test_every_layer_type_comes_back():
    in_layers = {kind for kind in vars(layers).values() if isinstance(kind, type)}
    every = {kind for kind in in_layers if issubclass(kind, LayerType)} - {LayerType}
    assert every <= BY_TYPE.keys() | {SoftmaxLoss, SegAccuracy}


# --- the format, as its docstring has it


def test_by_hand(tmp_path):
    net = small()
    write_npz(net, tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz", allow_pickle=False) as arrays:
        assert arrays.files == ["net.json", "a/conv/weight", "a/conv/bias", "fc/weight"]
        np.testing.assert_array_equal(arrays["a/conv/weight"], net.layers[0].blobs[0].data)
        assert arrays["a/conv/weight"].shape == (2, 3, 3, 1)
        document = json.loads(arrays["net.json"])
    layer = document["layers"][0]
    assert layer["type"] == "Convolution"
    assert layer["parameters"] == {
        "num_output": 2,
        "kernel": [3, 1],
        "pad": [1, 0],
        "stride": [1, 1],
        "hole": [1, 2],
        "group": 1,
        "bias": True,
    }
    assert layer["blobs"]["bias"]["lr_mult"] == 2.5
    assert document["layers"][4]["name"] == "größe"
    assert document["data"]["source"] == "list ${x}.txt"
    assert document["input_shape"] == [2, 3, 9, 9]


def test_the_same_net_gives_the_same_bytes(tmp_path, monkeypatch):
    write_npz(small(), tmp_path / "a.npz")
    monkeypatch.setattr("time.time", lambda: 2e9)
    write_npz(small(), tmp_path / "b.npz")
    content = (tmp_path / "a.npz").read_bytes()
    assert content == (tmp_path / "b.npz").read_bytes()
    # Stored, and nothing else: the values lie there as they are.
    assert small().layers[0].blobs[0].data.tobytes() in content
    assert b'"kernel": [3,1],\n' in content
    assert "größe".encode() in content


def test_weights_that_do_not_lie_in_rows_are_written_right(tmp_path):
    net = small()
    blob = net.layers[0].blobs[0]
    blob.data = np.asfortranarray(blob.data, ">f4")
    write_npz(net, tmp_path / "a.npz")
    assert_same(read_npz(tmp_path / "a.npz"), small())


def test_what_numpy_and_others_save(tmp_path, parts):
    net = small()
    for blob in (blob for layer in net.layers for blob in layer.blobs):
        blob.data = np.round(blob.data, 1).astype("f2").astype("f4")
    for kind in ("<f2", ">f4", "<f8"):
        members = {"net.json": parts["net.json"]}
        for name, array in weights(net).items():
            members[name] = npy(np.asfortranarray(array.astype(kind)))
        (tmp_path / "a.npz").write_bytes(zipped(members))
        assert_same(read_npz(tmp_path / "a.npz"), net)


def test_a_description_by_hand(tmp_path):
    """The shortest: what has a default is left out."""
    conv = {
        "name": "c",
        "type": "Convolution",
        "parameters": {"num_output": 1, "kernel": [1, 1]},
        "bottoms": ["d"],
        "tops": ["c"],
        "strict_dim": True,
        "blobs": {"weight": {"shape": [1, 1, 1, 1]}, "bias": {"shape": [1]}},
    }
    document = dict.fromkeys(("preprocessing", "dense_crf", "data"))
    document |= {"version": 1, "name": "", "dialect": "", "input": "d", "labels": {}}
    document |= {"input_shape": [1, 1, 2, 2], "layers": [conv]}
    np.savez(tmp_path / "a.npz", **{"c/weight": np.ones((1, 1, 1, 1)), "c/bias": np.zeros(1)})
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive:
        archive.writestr("net.json", json.dumps(document))
    found = read_npz(tmp_path / "a.npz")
    assert found.layers[0].op == Convolution(1, (1, 1))
    np.testing.assert_array_equal(found.layers[0].blobs[0].data, [[[[1]]]])


# --- what is not written


def test_no_weights(tmp_path):
    net = small()
    net.layers[2].blobs[0].data = None
    with pytest.raises(WeightsError, match="layer 'fc' has no weights, expected them loaded"):
        write_npz(net, tmp_path / "a.npz")
    assert not list(tmp_path.iterdir())


def twice(name: str) -> list[Layer]:
    return [Layer(name, InnerProduct(1), ("d",), (top,)) for top in "xy"]


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ([Layer("a", Dropout(float("nan")), ("d",), ("x",))], "parameters.ratio is NaN"),
        ([Layer("a\nb", ReLU(), ("d",), ("x",))], "name is 'a\\nb', expected text"),
        ([Layer("a" * 201, ReLU(), ("d",), ("x",))], "expected a short one"),
        ([Layer("a", ReLU(), ("d",), ("\ud800",))], "tops[0] is '\\ud800', expected text"),
        ([Layer("a", Interp(height=3), ("d",), ("x",))], "height is 3, which Caffe would take as"),
        (twice("a"), "two layers with weights are named 'a'"),
        ([Layer("a", Split(), ("d",), tuple(f"{i:0200}" for i in range(21_000)))], "net.json has"),
    ],
)
def test_nets_that_could_not_be_read_again(tmp_path, layers, expected):
    net = Net("n", "d", (1, 2, 3, 4), layers)
    net.fill_random(0)
    with pytest.raises(NetError) as error:
        write_npz(net, tmp_path / "a.npz")
    assert_one_line(error, expected)
    assert not list(tmp_path.iterdir())
