"""Nets as .npz: back as they were, readable by hand, and every kind of broken file refused."""

import io
import json
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from conftest import assert_one_line
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deeplab_repro import layers
from deeplab_repro.caffe import caffemodel_chunks, load_weights, read_net, read_train_net
from deeplab_repro.convert.npz import read_npz, write_npz
from deeplab_repro.errors import DeepLabError, FormatError, NetError, WeightsError
from deeplab_repro.layers import (
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
from deeplab_repro.models import MODELS
from deeplab_repro.net import DenseCrfParameter, Filler, ImageSegData, Layer, Net

TOYS = [name for name, model in MODELS.items() if model.shipped_weights]
GOLDEN_NETS = [
    f"DeepLab{name}" for name in ("", "-LargeFOV", "-LargeFOV-513", "-MSc", "-MSc-LargeFOV")
]

on_disk = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def small() -> Net:
    """A train net with every field set, and weights."""
    conv = Convolution(2, kernel=(3, 1), pad=(1, 0), hole=(1, 2))
    net = Net(
        "small net",
        "data",
        (2, 3, 9, 9),
        [
            Layer("a/conv", conv, ("data",), ("x",), strict_dim=False),
            Layer("relu", ReLU(0.25), ("x",), ("x",)),
            Layer("fc", InnerProduct(4, bias=False), ("x",), ("fc",)),
            Layer("pool", Pooling("AVE", (0, 0)), ("x",), ("pool",)),
            Layer("größe", Split(), ("x",), ("y", "z")),
            Layer("loss", SoftmaxLoss((255, -1), 0.5), ("y", "label"), ("loss",)),
            Layer("accuracy", SegAccuracy((255,)), ("z", "label"), ("accuracy",)),
        ],
        dialect="Caffe",
        mean_bgr=(104.0, 116.66899871826172, 122.675),
        dense_crf=DenseCrfParameter(10, (3.0,), (3.0,), (50.0, 0.1), (3.0,), (5.0,)),
        labels={"label": (2, 1, 9, 9)},
        data=ImageSegData("list ${x}.txt", "/root", 2, 9, True, True, 0.5, (1.5, 0.0, -2.0), 0),
    )
    net.fill_random(0)
    net.layers[0].blobs[0].data[0, 0] = [[np.nan], [-0.0], [np.inf]]
    net.layers[0].blobs[1].lr_mult = 2.5
    net.layers[0].blobs[1].decay_mult = 0.0
    net.layers[0].blobs[0].filler = Filler("gaussian", std=0.01)
    net.layers[2].blobs[0].filler = Filler("uniform", min=-0.1, max=0.25)
    return net


def assert_same(found: Net, net: Net) -> None:
    """Equal in everything, the arrays bit for bit."""
    for ours, theirs in zip(found.layers, net.layers, strict=True):
        for blob, expected in zip(ours.blobs, theirs.blobs, strict=True):
            assert blob.data.tobytes() == expected.data.tobytes()
            assert (blob.data.shape, blob.data.dtype) == (expected.shape, np.float32)
            assert blob.data.flags.c_contiguous
            assert blob.data.flags.writeable
    assert without_weights(found) == without_weights(net)


def without_weights(net: Net) -> Net:
    bare = [
        replace(layer, blobs=[replace(blob, data=None) for blob in layer.blobs])
        for layer in net.layers
    ]
    return replace(net, layers=bare)


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
    Eltwise: st.builds(
        Eltwise, st.sampled_from(["SUM", "PROD", "MAX"]), st.just(()) | st.tuples(FLOATS)
    ),
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
    assert every == BY_TYPE.keys() | {SoftmaxLoss, SegAccuracy}


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
    document = dict.fromkeys(("mean_bgr", "dense_crf", "data"))
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
        ([Layer("a", Concat(-1), ("d",), ("x",))], "axis is -1, expected a whole number from 0"),
        ([Layer("a", Dropout(float("nan")), ("d",), ("x",))], "parameters.ratio is NaN"),
        ([Layer("a\nb", ReLU(), ("d",), ("x",))], "name is 'a\\nb', expected text"),
        ([Layer("a" * 201, ReLU(), ("d",), ("x",))], "expected a short one"),
        ([Layer("a", ReLU(), ("d",), ("\ud800",))], "tops[0] is '\\ud800', expected text"),
        ([Layer("a", Interp(height=3), ("d",), ("x",))], "height is 3, which Caffe would take as"),
        (twice("a"), "two layers with weights are named 'a'"),
        ([Layer("a", Split(), ("d",), tuple(f"{i:0200}" for i in range(6000)))], "net.json has"),
    ],
)
def test_nets_that_could_not_be_read_again(tmp_path, layers, expected):
    net = Net("n", "d", (1, 2, 3, 4), layers)
    net.fill_random(0)
    with pytest.raises(NetError) as error:
        write_npz(net, tmp_path / "a.npz")
    assert_one_line(error, expected)
    assert not list(tmp_path.iterdir())


# --- broken archives


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def weights(net: Net) -> dict[str, np.ndarray]:
    return {
        f"{layer.name}/{what}.npy": blob.data
        for layer in net.layers
        for what, blob in zip(("weight", "bias"), layer.blobs, strict=False)
    }


def zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


@pytest.fixture(scope="module")
def parts(tmp_path_factory) -> dict[str, bytes]:
    """The members of the small net's file."""
    path = tmp_path_factory.mktemp("npz") / "small.npz"
    write_npz(small(), path)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture
def refused(tmp_path):
    """The one-line error for a file of this content."""

    def read(content: bytes, expected: str, kind: type[DeepLabError] = FormatError) -> None:
        (tmp_path / "net.npz").write_bytes(content)
        with pytest.raises(kind) as error:
            read_npz(tmp_path / "net.npz")
        assert type(error.value) is kind
        assert str(error.value).count("net.npz: ") == 1
        assert len(str(error.value)) < 1000
        assert_one_line(error, expected)

    return read


@contextmanager
def traced_memory() -> Iterator[Callable[[], int]]:
    """The most bytes of memory that were taken at once inside."""
    tracemalloc.start()
    try:
        yield lambda: tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_not_an_archive(refused, parts):
    refused(b"no zip at all", "is not a .npz, or broken: File is not a zip file")
    refused(zipped(parts)[:-1], "is not a .npz, or broken")
    refused(zipped({}), "holds no net.json, expected a net: save it with write_npz")
    refused(npy(np.zeros(3)), "is not a .npz")


def test_compressed_members(refused, parts):
    for compression in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        refused(zipped(parts, compression), "'net.json' is compressed, expected it as it is")


def test_other_members(refused, parts):
    refused(zipped({**parts, "more.npy": b""}), "holds 'more.npy', which is no blob of net.json")
    refused(zipped({**parts, "a\n\u2028": b""}), "holds 'a\\n\\u2028', which is no blob")
    rest = {name: content for name, content in parts.items() if name != "a/conv/bias.npy"}
    refused(zipped(rest), "holds no 'a/conv/bias.npy', expected that blob of net.json")


def test_a_member_twice(refused, parts):
    file = io.BytesIO(zipped(parts))
    with zipfile.ZipFile(file, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("fc/weight.npy", parts["fc/weight.npy"])
    refused(file.getvalue(), "holds 'fc/weight.npy' twice")


def directory_entry(content: bytes, name: str) -> int:
    return content.index(name.encode(), content.index(b"PK\1\2")) - 46


def test_sizes_that_are_not_there(refused, parts):
    content = bytearray(zipped(parts))
    at = directory_entry(content, "fc/weight.npy")
    struct.pack_into("<2L", content, at + 20, 2**32 - 2, 2**32 - 2)
    refused(bytes(content), "its members claim more than its")
    # The same bytes for many members: each one fits, all of them together do not.
    struct.pack_into("<2L", content, at + 20, len(content) - 2, len(content) - 2)
    refused(bytes(content), "its members claim more than its")
    array = parts["fc/weight.npy"]
    struct.pack_into("<3L", content, at + 16, zlib.crc32(array[:-4]), len(array) - 4, len(array))
    refused(bytes(content), "'fc/weight.npy' is cut short: the file is broken")


def test_encrypted_and_damaged(refused, parts):
    content = bytearray(zipped(parts))
    content[directory_entry(content, "fc/weight.npy") + 8] |= 1
    refused(bytes(content), "is encrypted")
    content = bytearray(zipped(parts))
    content[content.index(parts["fc/weight.npy"]) + 130] ^= 1
    refused(bytes(content), "Bad CRC-32 for file 'fc/weight.npy'")


def test_a_directory_of_a_hundred_thousand_files(refused):
    directory = (b"PK\1\2" + bytes(42)) * 100_000
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0, 0, len(directory), 0, 0)
    with traced_memory() as peak:
        refused(directory + end, "its directory has over 1,048,576 bytes")
        assert peak() < 2 * len(directory)


# --- broken arrays


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.zeros((4, 162), np.int32), "is 4x162 int32, expected 4x162 float32, as in net.json"),
        (np.zeros((4, 162), complex), "is 4x162 complex128, expected"),
        (np.zeros((4, 162), np.longdouble), f"is 4x162 {np.dtype(np.longdouble)}, expected"),
        (np.full((4, 162), None), "is 4x162 object, expected"),
        (np.zeros((4, 162), [("a" * 999, "f4")]), "is 4x162 [('aaaa"),
        (np.zeros((4, 161), "f4"), "is 4x161 float32, expected 4x162 float32"),
        (np.zeros((1, 4, 162), "f4"), "is 1x4x162 float32, expected 4x162"),
        (np.float32(1), "is scalar float32, expected 4x162"),
    ],
)
def test_arrays_of_other_things(refused, parts, array, expected):
    refused(zipped({**parts, "fc/weight.npy": npy(array)}), f"'fc/weight.npy' {expected}")


def header(text: str) -> bytes:
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text.encode("latin-1")


F4 = "{'descr': '<f4', 'fortran_order': False, 'shape': %s}"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "is not an array of NumPy's, or broken"),
        (b"\x93NUMPY\3\0" + bytes(99), "its version is 3.0"),
        (b"\x93NUMPY\2\0" + bytes([255] * 9), "is not an array of NumPy's, or broken"),
        (header(F4 % ("(" * 5000)), "is not an array of NumPy's, or broken"),
        (header(F4 % "(-4, -162)"), "says of itself what no array can be"),
        (header(F4 % "(4, 162)"), "which has 2,592 bytes, but 0 are there"),
        (header(F4 % "(4, 162)") + bytes(2593), "which has 2,592 bytes, but 2,593 are there"),
        (header(F4 % f"({'9' * 18}, {'9' * 18})"), "expected 4x162 float32"),
    ],
)
def test_broken_arrays(refused, parts, content, expected):
    refused(zipped({**parts, "fc/weight.npy": content}), expected)


def test_no_pickle_is_opened(refused, parts):
    class Trap:
        def __reduce__(self):
            return pytest.fail, ("a pickle was run",)

    file = io.BytesIO()
    np.save(file, np.array([Trap()]), allow_pickle=True)
    refused(zipped({**parts, "fc/weight.npy": file.getvalue()}), "is 1 object, expected")


# --- broken descriptions


GONE = object()


def edited(parts: dict[str, bytes], *changes: tuple[tuple[str | int, ...], object]) -> bytes:
    """The file with other values at these paths of its net.json."""
    document = json.loads(parts["net.json"])
    for (*path, last), value in changes:
        inner = document
        for key in path:
            inner = inner[key]
        if value is GONE:
            del inner[last]
        else:
            inner[last] = value
    return zipped({**parts, "net.json": json.dumps(document).encode()})


CONV, FC, LOSS = ("layers", 0), ("layers", 2), ("layers", 5)
OP = (*CONV, "parameters")


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        (("version",), 2, "version is 2, expected 1: read it with the deeplab-repro that wrote it"),
        (("version",), GONE, "version is null, expected 1"),
        (("name",), 3, "name is 3, expected text that can be printed"),
        (("name",), "a\nb", "name is 'a\\nb', expected text"),
        (("input",), "a" * 201, "a name is 'aaa"),
        (("dialect",), None, "dialect is null, expected text"),
        (("input_shape",), [1, 3, 9], "input_shape is a list of 3, expected a list of 4"),
        (("input_shape",), "1339", "input_shape is '1339', expected a list of 4"),
        (("input_shape", 2), -9, "input_shape[2] is -9, expected a whole number from 0"),
        (("input_shape", 2), 2**31, "is 2147483648, expected a whole number from 0 to 2147483647"),
        (("input_shape", 2), 9.0, "input_shape[2] is 9.0, expected a whole number"),
        (("input_shape", 2), True, "input_shape[2] is true, expected a whole number"),
        (("mean_bgr",), [1, 2], "mean_bgr is a list of 2, expected a list of 3"),
        (("mean_bgr", 0), 1e39, "mean_bgr[0] is 1e+39, expected a number from -3.403e+38 to"),
        (("mean_bgr", 0), float("nan"), "mean_bgr[0] is NaN, expected a number"),
        (("mean_bgr", 0), float("inf"), "mean_bgr[0] is Infinity, expected a number"),
        (("mean_bgr", 0), 10**4000, "mean_bgr[0] is 1000"),
        (("labels",), [], "labels is a list of 0, expected an object"),
        (("labels", "label"), [], "labels.'label' is a list of 0, expected a list of 4"),
        (("labels", "a\nb"), [1, 1, 9, 9], "a name is 'a\\nb'"),
        (("data",), {}, "data has no field 'source', expected one"),
        (("data", "mirror"), 1, "data.mirror is 1, expected true or false"),
        (("data", "source"), "\0", "data.source is '\\x00', expected text"),
        (("dense_crf",), [], "dense_crf is a list of 0, expected an object"),
        (("dense_crf", "bi_w"), [{}], "dense_crf.bi_w[0] is an object, expected a number"),
        (("layers",), {}, "layers is an object, expected a list"),
        (("layers", 1), None, "layers[1] is null, expected an object"),
        (("more",), 1, "net.json has a field 'more', expected version, name,"),
        (("layers",), GONE, "net.json has no field 'layers'"),
        ((*CONV, "name"), GONE, "layers[0] has no field 'name'"),
        ((*CONV, "name"), "x" * 9999, "a name is 'xxx"),
        ((*CONV, "type"), "Magic", "layer 'a/conv': type is 'Magic', expected one of Convolution,"),
        ((*CONV, "type"), "Layer", "type is 'Layer', expected one of"),
        ((*CONV, "tops", 0), "\x1b[2J", "tops[0] is '\\x1b[2J', expected text"),
        ((*CONV, "strict_dim"), 0, "layer 'a/conv': strict_dim is 0, expected true or false"),
        ((*CONV, "bottoms"), "data", "layer 'a/conv': bottoms is 'data', expected a list"),
        ((*OP, "kernel"), 3, "layer 'a/conv': parameters.kernel is 3, expected a list of 2"),
        ((*OP, "kernel"), GONE, "layer 'a/conv': parameters has no field 'kernel'"),
        ((*OP, "kernal"), [1, 1], "parameters has a field 'kernal', expected num_output, kernel,"),
        ((*OP, "pad", 0), -1, "parameters.pad[0] is -1, expected a whole number from 0"),
        ((*OP, "pad", 0), 10**12, "parameters.pad[0] is 1000000000000, expected a whole number"),
        ((*CONV, "blobs", "scale"), {}, "blobs are 'weight, bias, scale', expected weight, bias"),
        ((*CONV, "blobs", "bias"), GONE, "blobs are 2x3x3x1, expected 2x3x3x1, 2"),
        ((*CONV, "blobs", "weight"), GONE, "blobs are 'bias', expected weight, bias"),
        ((*CONV, "blobs", "bias", "shape"), [3], "blobs are 2x3x3x1, 3, expected 2x3x3x1, 2"),
        ((*CONV, "blobs", "bias", "filler"), 0, "blobs.bias.filler is 0, expected an object"),
        ((*LOSS, "parameters", "ignore_label"), [1.5], "ignore_label[0] is 1.5, expected a whole"),
        (("layers", 1, "blobs"), {"weight": 0}, "layer 'relu': blobs.weight is 0"),
    ],
)
def test_descriptions_of_other_things(refused, parts, path, value, expected):
    refused(edited(parts, (path, value)), expected)


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        (("layers",), [], "net 'small net' has no layers"),
        (("input_shape", 2), 0, "input 'data' has shape 2x3x0x9"),
        ((*CONV, "bottoms", 0), "nothing", "layer 'a/conv' takes 'nothing', which no layer"),
        ((*CONV, "bottoms"), [], "layer 'a/conv' (Convolution) has 0 bottoms"),
        ((*CONV, "tops"), [], "layer 'a/conv' (Convolution) has 0 tops, expected 1"),
        (("layers", 4, "tops"), [], "layer 'größe' (Split) has 0 tops, expected 1"),
        ((*OP, "num_output"), 0, "layer 'a/conv' (Convolution): num_output is 0, expected"),
        ((*OP, "kernel", 0), 0, "layer 'a/conv' (Convolution): kernel_size is 0, expected"),
        ((*OP, "stride", 1), 0, "layer 'a/conv' (Convolution): stride is 0, expected at least 1"),
        ((*OP, "hole"), [0, 0], "layer 'a/conv' (Convolution): dilation is 0, expected"),
        ((*OP, "group"), 0, "layer 'a/conv' (Convolution): group is 0"),
        ((*OP, "group"), 2, "layer 'a/conv' (Convolution): group 2 does not divide 3 channels"),
        (("layers", 3, "parameters", "method"), "MIN", "layer 'pool' (Pooling): Enum PoolMethod"),
        (("layers", 3, "parameters", "kernel"), [2, 0], "layer 'pool' (Pooling): kernel_size is 0"),
        (("layers", 3, "parameters", "pad"), [9, 9], "layer 'pool' (Pooling): pad is (9, 9)"),
        ((*FC, "blobs", "weight", "lr_mult"), -1, "layer 'fc' (InnerProduct): lr_mult is -1"),
        ((*FC, "blobs", "weight", "filler", "type"), "x", "weight_filler has type 'x', expected"),
        ((*FC, "blobs", "weight", "filler", "min"), 9, "weight_filler has min 9 and max 0.25"),
        ((*FC, "name"), "a/conv", "two layers with weights are named 'a/conv'"),
    ],
)
def test_nets_that_do_not_hold_together(refused, parts, path, value, expected):
    refused(edited(parts, (path, value)), expected, NetError)


def test_sizes_of_interp_that_contradict(refused, parts):
    def interp(**parameters):
        return edited(
            parts,
            (("layers", 1, "type"), "Interp"),
            (("layers", 1, "parameters"), parameters),
            (("layers", 1, "tops"), ["i"]),
        )

    for sizes in ({"zoom_factor": 0}, {"shrink_factor": 0}, {"height": 0, "width": 1}):
        refused(interp(**sizes), "layer 'relu' (Interp): ", NetError)
        refused(interp(**{"height": 5, "width": 5, **sizes}), "layer 'relu' (Interp): ", NetError)
    refused(interp(height=5), "height is 5, which Caffe would take as None", NetError)
    refused(interp(zoom_factor=2, pad_beg=1), "pads 1, 0, expected none above 0", NetError)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "net.json is no JSON"),
        (b"[]", "net.json is a list of 0, expected an object"),
        (b"[" * 500_000, "net.json is no JSON"),
        (b'{"version": 1' + b"0" * 5000 + b"}", "net.json is no JSON"),
        (b'{"version": ' + b"[" * 500 + b"]" * 500 + b"}", "version is a list of 1, expected 1"),
        (b"\xff\xfe", "codec can't decode"),
        (b" " * 1_048_577, "net.json has 1,048,577 bytes, expected at most 1,048,576"),
    ],
)
def test_broken_json(refused, parts, content, expected):
    refused(zipped({**parts, "net.json": content}), expected)


def test_a_huge_layer_takes_no_memory(refused, parts):
    many = 2**31 - 1
    content = edited(
        parts,
        ((*FC, "parameters", "num_output"), many),
        ((*FC, "blobs", "weight", "shape"), [many, 162]),
    )
    with traced_memory() as peak:
        refused(content, "is 4x162 float32, expected 2147483647x162 float32")
        assert peak() < 5_000_000


def test_no_more_memory_than_for_the_weights(tmp_path):
    net = Net("n", "d", (1, 1024, 1, 1), [Layer("fc", InnerProduct(2048), ("d",), ("fc",))])
    net.fill_random(0)
    with traced_memory() as peak:
        write_npz(net, tmp_path / "a.npz")
        assert peak() < 1_000_000
        found = read_npz(tmp_path / "a.npz")
        assert 4 * net.parameters <= peak() < 1.5 * 4 * net.parameters
    assert_same(found, net)


# --- anything else


def use(path) -> None:
    """A file is refused in one line, or what it holds is a net."""
    try:
        net = read_npz(path)
    except DeepLabError as error:
        message = str(error)
        assert message.isprintable()
        assert len(message) < 1000
        return
    assert net.blob_shapes()[net.output] == net.output_shape()
    assert net.output_stride > 0
    assert all(blob.data.shape == blob.shape for layer in net.layers for blob in layer.blobs)


@on_disk
@given(st.data())
def test_flipped_and_missing_bytes(tmp_path, parts, data):
    content = bytearray(zipped(parts))
    for at in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=3)):
        content[at] ^= data.draw(st.integers(1, 255))
    # Most of what matters to zipfile lies at the end.
    directory = content.index(b"PK\1\2")
    for at in data.draw(st.lists(st.integers(directory, len(content) - 1), max_size=3)):
        content[at] = data.draw(st.integers(0, 255))
    start = data.draw(st.integers(0, 9))
    end = data.draw(st.just(len(content)) | st.integers(start, len(content)))
    (tmp_path / "a.npz").write_bytes(bytes(content[start:end]) or b"x")
    use(tmp_path / "a.npz")


ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, 1, 2, 3, -1, 2**31 - 1, 10**12, 0.5, -0.0, 1e300, "", "data", "MAX"]),
    st.text(max_size=3),
    st.lists(st.integers(-1, 3), max_size=4),
    st.sampled_from(["{}", "[[]]", '{"weight": {}}']).map(json.loads),
)


@settings(parent=on_disk, max_examples=60)
@given(st.data())
def test_any_values_in_the_description(tmp_path, parts, data):
    document = json.loads(parts["net.json"])
    for _ in range(data.draw(st.integers(1, 3))):
        inner = document
        while True:
            keys = list(inner) if isinstance(inner, dict) else list(range(len(inner)))
            if not keys:
                break
            key = data.draw(st.sampled_from(keys))
            if not isinstance(inner[key], dict | list) or data.draw(st.integers(0, 5)) == 0:
                inner[key] = data.draw(ANYTHING)
                break
            inner = inner[key]
    text = json.dumps(document).encode()
    (tmp_path / "a.npz").write_bytes(zipped({**parts, "net.json": text}))
    use(tmp_path / "a.npz")
