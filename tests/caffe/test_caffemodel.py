"""The binary format: every encoding of the same weights, our own files, and broken ones."""

import random
import tracemalloc
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from caffe_files import (
    FIXED32,
    FIXED64,
    GOLDEN,
    GOLDEN_NETS,
    VARINT,
    current_layer,
    field,
    floats,
    golden,
    mutated,
    nets,
    number,
    refused,
    survives,
    v1_layer,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from deeplab_repro.caffe import (
    Caffemodel,
    bvlc_pb2,
    caffemodel_chunks,
    deeplab_pb2,
    load_weights,
    read_caffemodel,
    read_net,
    wire,
    write_caffemodel,
)
from deeplab_repro.caffe.caffemodel import legacy_dims
from deeplab_repro.errors import FileError, ResourceError, WeightsError
from deeplab_repro.layers import Convolution
from deeplab_repro.net import Layer, Net


def legacy(*dims: int) -> bytes:
    """The four dims of old."""
    return b"".join(field(tag, dim, VARINT) for tag, dim in zip((1, 2, 3, 4), dims, strict=True))


def shape(*dims: int) -> bytes:
    """A BlobShape."""
    return field(7, b"".join(field(1, dim, VARINT) for dim in dims))


LEGACY, SHAPE = legacy(1, 1, 2, 3), shape(2, 3)
DATA = field(5, floats(0, 1, 2, 3, 4, 5))
SIX = np.arange(6, dtype=np.float32)
# A field of every wire type, with numbers that no schema has.
UNKNOWN = [
    field(300, 2**63, VARINT),
    field(301, 1.5, FIXED64),
    field(302, "x"),
    field(303, 1, FIXED32),
]


def read(tmp_path: Path, data: bytes) -> Caffemodel:
    path = tmp_path / "net.caffemodel"
    path.write_bytes(data)
    return read_caffemodel(path)


# --- one blob, said in every way


def each(tag: int, values: Iterable[float], kind: int = FIXED32, between: bytes = b"") -> bytes:
    """Unpacked values: a field for each."""
    return between.join(field(tag, value, kind) for value in values)


@pytest.mark.parametrize(
    "data",
    [
        DATA,
        DATA + field(6, floats(*range(6))),
        field(6, floats(9)) + DATA + field(6, b""),
        DATA + field(9, 1, FIXED64),
        b"".join(UNKNOWN) + DATA + b"".join(UNKNOWN),
        field(5, floats(0, 1)) + field(5, b"") + field(5, floats(2, 3, 4, 5)),
        field(5, floats(0)) + each(5, SIX[1:3]) + UNKNOWN[0] + field(5, floats(3, 4, 5)),
        each(5, SIX),
        each(5, SIX, between=UNKNOWN[3]),
        each(5, SIX, between=field(6, 9, FIXED32)),
        b"".join(b"\xad\x00" + floats(x) for x in SIX),  # the tag in more bytes than it needs
        each(8, SIX, FIXED64),
        field(8, SIX.astype("<f8").tobytes()),
        field(8, SIX.astype("<f8").tobytes()) + field(5, floats(7)),  # as in Caffe: doubles first
    ],
)
@pytest.mark.parametrize("layer", [v1_layer, current_layer])
def test_the_same_values(tmp_path, layer, data):
    for blob in (LEGACY + data, data + LEGACY, SHAPE + data, data + SHAPE):
        ((array,),) = (found.blobs for found in read(tmp_path, layer(blob)).layers)
        np.testing.assert_array_equal(array, SIX.reshape(array.shape), strict=True)
        assert array.flags.c_contiguous
        assert array.flags.writeable


@pytest.mark.parametrize(
    ("dims", "expected"),
    [
        (LEGACY, (1, 1, 2, 3)),
        (SHAPE, (2, 3)),
        (SHAPE + LEGACY, (1, 1, 2, 3)),  # as in Caffe
        (field(7, field(1, number(2) + number(3))), (2, 3)),
        (field(7, field(1, number(2)) + field(1, 3, VARINT)), (2, 3)),
        (shape(1, 2, 1, 1, 3, 1), (1, 2, 1, 1, 3, 1)),
    ],
)
def test_the_same_shape(tmp_path, dims, expected):
    (layer,) = read(tmp_path, current_layer(dims + DATA)).layers
    assert layer.blobs[0].shape == expected


def test_a_long_run_of_unpacked_floats(tmp_path):
    values = np.random.default_rng(0).standard_normal(300_000).astype("<f4")
    run = np.zeros(values.size, [("tag", "u1"), ("value", "<f4")])
    run["tag"], run["value"] = 5 << 3 | FIXED32, values
    for behind in (b"", field(6, run["value"].tobytes())):
        blob = legacy(1, 1, 1, values.size) + run.tobytes() + behind
        (layer,) = read(tmp_path, v1_layer(blob)).layers
        np.testing.assert_array_equal(layer.blobs[0].ravel(), values)


def test_no_values_and_values_that_are_no_numbers(tmp_path):
    scalar = shape() + field(5, floats(7))
    odd = shape(4) + field(5, floats(np.nan, np.inf, -np.inf, -0.0))
    (layer,) = read(tmp_path, current_layer(b"", legacy(0, 0, 0, 0), scalar, odd)).layers
    assert [blob.shape for blob in layer.blobs] == [(0, 0, 0, 0), (0, 0, 0, 0), (), (4,)]
    np.testing.assert_array_equal(layer.blobs[3], np.float32([np.nan, np.inf, -np.inf, -0.0]))


def test_a_double_beyond_float_becomes_inf(tmp_path):
    blob = shape(1) + field(8, 1e300, FIXED64)
    assert read(tmp_path, current_layer(blob)).layers[0].blobs[0] == np.inf


def test_layers_names_and_dialects(tmp_path):
    hole = field(10, field(17, 2, VARINT))
    layers = v1_layer() + v1_layer(name="\u00e9")
    model = read(tmp_path, field(1, "first") + layers + field(1, "net"))
    assert (model.name, model.dialect) == ("net", "Caffe V1")
    assert [(layer.name, layer.type) for layer in model.layers] == [
        ("conv", "CONVOLUTION"),
        ("\u00e9", "CONVOLUTION"),
    ]
    assert read(tmp_path, field(2, field(4, "a") + hole) + v1_layer()).dialect == "DeepLab v1"
    assert read(tmp_path, current_layer()).dialect == "Caffe"
    assert read(tmp_path, current_layer()).layers[0].type == "Convolution"


# --- protobuf as the oracle


def _message(schema, names: list[str], arrays: list[np.ndarray], is_legacy: bool):
    """A NetParameter with one layer a name, and all arrays in each."""
    net = schema.NetParameter(name="net")
    for name in names:
        is_v1 = schema is deeplab_pb2
        layer = (net.layers if is_v1 else net.layer).add(name=name)
        layer.type = 4 if is_v1 else "Convolution"
        layer.convolution_param.num_output = 3
        for array in arrays:
            blob = layer.blobs.add()
            if array.dtype == np.float64 and not is_v1:
                blob.double_data.extend(array.ravel().tolist())
            else:
                blob.data.extend(array.ravel().tolist())
                blob.diff.extend(array.ravel().tolist())
            if is_legacy or is_v1:
                dims = legacy_dims(array.shape)
                blob.num, blob.channels, blob.height, blob.width = dims
            else:
                blob.shape.dim.extend(array.shape)
    return net


ARRAYS = hnp.arrays(
    st.sampled_from([np.float32, np.float64]),
    hnp.array_shapes(min_dims=1, max_dims=4, max_side=4),
    elements=st.floats(width=32),
)


@pytest.mark.parametrize("schema", [deeplab_pb2, bvlc_pb2], ids=["v1", "current"])
@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    names=st.lists(st.text(st.characters(exclude_categories=("C", "Z"))), min_size=1, max_size=3),
    arrays=st.lists(ARRAYS, max_size=3),
    is_legacy=st.booleans(),
    shuffle=st.randoms(use_true_random=False),
)
def test_what_protobuf_wrote(tmp_path, schema, names, arrays, is_legacy, shuffle):
    net = _message(schema, names, arrays, is_legacy)
    is_legacy = is_legacy or schema is deeplab_pb2
    # The same message with the fields of every level in another order and unknown ones between.
    for data in (net.SerializeToString(), _shuffled(net, shuffle)):
        model = read(tmp_path, data)
        assert sorted(layer.name for layer in model.layers) == sorted(names)
        for layer in model.layers:
            assert len(layer.blobs) == len(arrays)
            for found, array in zip(layer.blobs, arrays, strict=True):
                assert found.dtype == np.float32
                np.testing.assert_array_equal(found.ravel(), array.astype(np.float32).ravel())
                assert found.shape == (legacy_dims(array.shape) if is_legacy else array.shape)


def _shuffled(message, rng: random.Random) -> bytes:
    """A message's bytes, its fields shuffled (blobs among themselves in order), unknown between."""
    fields = []
    for descriptor, value in message.ListFields():
        is_many = hasattr(value, "append") or hasattr(value, "add")
        if descriptor.message_type is not None:
            inner = list(value) if is_many else [value]
            fields.append([field(descriptor.number, _shuffled(one, rng)) for one in inner])
        else:
            alone = type(message)()
            if is_many:
                getattr(alone, descriptor.name).extend(value)
            else:
                setattr(alone, descriptor.name, value)
            fields.append([alone.SerializeToString()])
    fields += [[one] for one in UNKNOWN if rng.random() < 0.3]
    out = []
    while fields:
        chosen = rng.choice(fields)
        out.append(chosen.pop(0))
        fields = [left for left in fields if left]
    return b"".join(out)


# --- our own files


@pytest.mark.parametrize("is_current", [False, True])
@settings(max_examples=40, deadline=None, derandomize=True)
@given(net=nets(), seed=st.integers(0, 9))
def test_any_net_comes_back_from_its_caffemodel(tmp_path_factory, is_current, net, seed):
    net.fill_random(seed)
    path = tmp_path_factory.mktemp("net") / "net.caffemodel"
    write_caffemodel(net, path, is_current)
    model = read_caffemodel(path)
    assert model.name == net.name
    written = [layer for layer in model.layers if layer.type not in ("Input",)]
    for layer, found in zip(net.layers, written, strict=True):
        assert found.name == layer.name
        assert found.type.replace("_", "").lower() == layer.type.lower()
        for blob, array in zip(layer.blobs, found.blobs, strict=True):
            assert array.tobytes() == blob.data.tobytes()
            assert array.shape == (blob.shape if is_current else legacy_dims(blob.shape))
    blobs = [blob for layer in net.layers for blob in layer.blobs]
    original = [blob.data for blob in blobs]
    load_weights(net, path)
    for before, blob in zip(original, blobs, strict=True):
        assert before is not blob.data
        assert before.shape == blob.data.shape
        assert before.tobytes() == blob.data.tobytes()
    # Protobuf's own parser takes it too.
    schema = bvlc_pb2 if is_current else deeplab_pb2
    message = schema.NetParameter.FromString(path.read_bytes())
    layers = message.layer if is_current else message.layers
    values = [list(blob.data) for layer in layers for blob in layer.blobs]
    assert values == [blob.ravel().tolist() for blob in original]


def test_odd_weights_are_written_as_they_are(tmp_path):
    conv = Layer("data", Convolution(2, (1, 2), pad=(0, 1)), ("data",), ("y",))
    net = Net("n", "data", (1, 1, 1, 1), [conv])
    weight, bias = conv.blobs
    weight.data = np.float32([[[[np.nan, 1]]], [[[np.inf, -0.0]]]])[::-1]  # not contiguous
    bias.data = np.float64([1, 2])
    for is_current in (False, True):
        write_caffemodel(net, tmp_path / "a", is_current)
        layers = [layer for layer in read_caffemodel(tmp_path / "a").layers if layer.blobs]
        assert len(layers) == 1  # the input, of the same name, has none
        np.testing.assert_array_equal(layers[0].blobs[0], weight.data)


def test_nothing_is_written_without_weights(tmp_path):
    conv = Layer("conv", Convolution(1, (1, 1)), ("data",), ("y",))
    net = Net("n", "data", (1, 1, 1, 1), [conv])
    path = tmp_path / "net.caffemodel"
    refused(lambda: write_caffemodel(net, path), "'conv' has no weights", WeightsError)
    assert not list(tmp_path.iterdir())


# --- what is refused

TOO_MANY = "broken: more than 5000 fields"


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        # other kinds of files
        ('name: "n"\nlayers { }\n', "a text file, expected a caffemodel .*prototxt in the wrong"),
        ("\ufeff# caf\u00e9\nlayers { }" + "\u00e9" * 600, "this is a text file"),
        ("\n <!DOCTYPE html><html>404</html>", "a web page, .*download it again"),
        (b"\x89HDF\r\n\x1a\n" + bytes(99), "an HDF5 file"),
        (b"PK\x03\x04" + bytes(99), "a zip file"),
        (b"\x1f\x8b" + bytes(99), "a gzip file"),
        (field(1, 6000, VARINT) + field(2, "net.caffemodel"), "a .solverstate or a .binaryproto"),
        (field(1, "net\x00"), "a layer or net is named 'net\\\\x00'"),
        (field(1, "net") + field(4, 1, VARINT), "no layers in it"),
        (v1_layer() + current_layer(), "layers of V1 and of the current format"),
        (field(2, field(1, field(1, "conv1"))), "V0 format of 2013"),
        # the end is missing
        (v1_layer(LEGACY + DATA)[:-1], "broken: field 2 at byte 0 asks for 44 bytes, but 43 "),
        (b"\x12", "cut off or broken at byte 1"),
        (b"\x12\x80", "cut off or broken at byte 2"),
        (v1_layer(LEGACY + b"\x2a\x7f"), "layer 'conv', blob at byte 10: cut off or broken"),
        (v1_layer(LEGACY + b"\x2d\0\0\0"), "asks for 4 bytes, but 3 are left"),
        (v1_layer(b"\x08"), "cut off or broken at byte 13, inside a number"),
        # broken tags and lengths
        (b"\x12" + b"\xff" * 11, "a number above 64 bits"),
        (b"\x12" + b"\xff" * 9 + b"\x01", "asks for 18446744073709551615 bytes"),
        (b"\x00" * 600, "no field has number 0"),
        (b"\x0b\x0c\x00", "no field here is of kind 3"),
        (b"\x0f\x00", "of kind 7"),
        (field(2, field(4, b"\xff\xfe")), "a layer or net is named"),
        (field(2, field(4, "a\nb")), "a layer or net is named 'a\\\\nb'"),
        (field(2, field(4, "a" * 201)), "a layer or net is named 'a+\\.\\.\\.'"),
        (field(100, field(2, "a\x1bb")), "a layer or net is named 'a\\\\x1bb'"),
        (field(2, field(10, b"\xff")), "a layer's description does not parse"),
        (field(2, field(4, bytes(17_000_000))), "field 4 at byte 5 is too long for a description"),
        # blobs
        (v1_layer(LEGACY + field(5, floats(0))), "1 values for shape 1x1x2x3, expected 6"),
        (v1_layer(LEGACY), "0 values for shape 1x1x2x3, expected 6"),
        (v1_layer(DATA), "6 values for shape 0x0x0x0, expected 0"),
        (v1_layer(DATA + field(5, b"abc")), "3 bytes of data, expected a multiple of 4"),
        (current_layer(field(8, floats(1))), "4 bytes of data, expected a multiple of 8"),
        (v1_layer(field(5, 1, VARINT)), "data of wire type 0, expected floats"),
        (v1_layer(field(5, 1, FIXED64)), "data of wire type 1, expected floats"),
        (v1_layer(legacy(-2, -3, 1, 1) + DATA), "shape -2x-3x1x1, expected sizes"),
        (v1_layer(legacy(*[2**31 - 1] * 4) + DATA), "6 values for"),
        (current_layer(shape(-2, -3) + DATA), "shape -2x-3, expected sizes from 0 to 2147483647"),
        (current_layer(shape(0, 2**62)), "shape 0x4611686018427387904, expected sizes"),
        (current_layer(shape(0, *[2**31 - 1] * 3)), "expected one with values"),
        (current_layer(shape(*[2**31 - 1] * 32) + DATA), "6 values for"),
        (current_layer(shape(*[1] * 33) + field(5, floats(1))), "more than 32 axes"),
        (current_layer(field(7, field(1, b"\x01" * 10**6))), "more than 32 axes"),
        (current_layer(field(7, field(1, b"\x01\x80"))), "broken at byte .*inside a number"),
        # files that are made to keep the reader busy
        (b"\x28\x01" * 9000, TOO_MANY),
        (b"\x12\x00" * 9000, TOO_MANY),
        (v1_layer(*[b""] * 9000), TOO_MANY),
        (v1_layer(b"\x2a\x00" * 9000), TOO_MANY),
        (v1_layer((field(5, 1, FIXED32) + field(6, 1, FIXED32)) * 9000), TOO_MANY),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_broken_file_is_named_with_its_fault(tmp_path, monkeypatch, data, problem):
    monkeypatch.setattr(wire, "_MOST_FIELDS", 5000)
    data = data.encode() if isinstance(data, str) else data
    message = refused(lambda: read(tmp_path, data), problem)
    assert message.startswith(f"{tmp_path / 'net.caffemodel'}: ")


def test_files_that_are_not_there(tmp_path):
    (tmp_path / "empty").touch()
    refused(lambda: read_caffemodel(tmp_path / "a\nb"), r"a\\nb': .*no such file", FileError)
    refused(lambda: read_caffemodel(tmp_path), "is a folder: expected a file", FileError)
    refused(lambda: read_caffemodel(tmp_path / "empty"), "is empty", FileError)


def test_a_file_larger_than_memory(tmp_path):
    path = tmp_path / "net.caffemodel"
    with open(path, "wb") as file:
        file.write(field(2, b"")[:1] + number(2**50))
        try:
            file.truncate(2**43)
        except OSError:
            pytest.skip("this file system has no sparse files of 8 TB")
    refused(lambda: read_caffemodel(path), "needs 8,796.1 GB of memory", ResourceError)


def test_memory_is_that_of_the_weights(tmp_path):
    n = 3_000_000
    blob = legacy(1, 1, 1, n) + field(5, bytes(4 * n)) + field(6, bytes(4 * n))
    (tmp_path / "a").write_bytes(v1_layer(blob))
    read_caffemodel(tmp_path / "a")
    tracemalloc.start()
    read_caffemodel(tmp_path / "a")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.1 * 4 * n  # the diff is not read, the data once


# --- accidents


@settings(
    max_examples=120,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.binary(min_size=1, max_size=80))
def test_random_bytes(tmp_path, data):
    for inside in (data, b"\x00" + data, field(2, data), v1_layer(data), current_layer(data)):
        survives(lambda inside=inside: read(tmp_path, inside))


@pytest.mark.parametrize("schema", [deeplab_pb2, bvlc_pb2], ids=["v1", "current"])
def test_mutations_of_a_small_caffemodel(tmp_path, schema):
    rng = random.Random(2)
    arrays = [np.ones((1, 1, 2, 3)), np.ones(2, np.float32)]
    original = _message(schema, ["conv1", "conv2", "fc6"], arrays, False).SerializeToString()
    good = sum(survives(lambda: read(tmp_path, mutated(original, rng))) for _ in range(300))
    assert 0 < good < 300


@golden
def test_mutations_of_a_golden_caffemodel(tmp_path):
    net = read_net(GOLDEN / "nets/DeepLab-LargeFOV/deploy.prototxt")
    original = (GOLDEN / "nets/DeepLab-LargeFOV/weights.caffemodel").read_bytes()
    path = tmp_path / "net.caffemodel"
    rng = random.Random(3)
    good = 0
    for _ in range(300):
        path.write_bytes(mutated(original, rng))
        good += survives(lambda: load_weights(net, path))
    assert 0 < good < 300


# --- golden


@golden
@pytest.mark.parametrize("name", GOLDEN_NETS)
def test_golden_caffemodels_through_our_writer(tmp_path, name):
    folder = GOLDEN / "nets" / name
    net = read_net(folder / "deploy.prototxt")
    original = read_caffemodel(folder / "weights.caffemodel")
    assert original.dialect == "DeepLab v1"
    load_weights(net, original)
    expected = {layer.name: layer.blobs for layer in original.layers if layer.blobs}
    for is_current in (False, True):
        write_caffemodel(net, tmp_path / "ours", is_current)
        ours = read_caffemodel(tmp_path / "ours")
        assert ours.dialect == ("Caffe" if is_current else "DeepLab v1")
        written = {layer.name: layer.blobs for layer in ours.layers if layer.blobs}
        assert written.keys() == expected.keys()
        for layer, blobs in written.items():
            assert [b.tobytes() for b in blobs] == [b.tobytes() for b in expected[layer]]


@golden
@pytest.mark.parametrize("name", GOLDEN_NETS)
def test_golden_caffemodels_as_protobuf_reads_them(name):
    path = GOLDEN / "nets" / name / "weights.caffemodel"
    message = deeplab_pb2.NetParameter.FromString(path.read_bytes())
    for layer, found in zip(message.layers, read_caffemodel(path).layers, strict=True):
        assert found.name == layer.name
        assert [blob.shape for blob in found.blobs] == [
            (blob.num, blob.channels, blob.height, blob.width) for blob in layer.blobs
        ]
        for array, blob in zip(found.blobs, layer.blobs, strict=True):
            np.testing.assert_array_equal(array.ravel(), np.array(blob.data, np.float32))


@golden
@pytest.mark.parametrize("name", ["DeepLab-LargeFOV", "DeepLab-MSc"])
def test_opencv_takes_our_caffemodels(name):
    cv2 = pytest.importorskip("cv2")
    if not hasattr(cv2.dnn, "readNetFromCaffe"):
        pytest.skip("this OpenCV has no Caffe importer")
    folder = GOLDEN / "nets" / name
    net = read_net(folder / "deploy.prototxt")
    load_weights(net, folder / "weights.caffemodel")
    with_weights = [layer for layer in net.layers if layer.blobs]
    start = "name: 'n' input: 'data' input_dim: 1 input_dim: 3 input_dim: 9 input_dim: 9 "
    for is_current in (False, True):
        data = np.frombuffer(b"".join(caffemodel_chunks(net, is_current)), np.uint8)
        prototxt = start + "".join(
            f"layer {{ name: '{layer.name}' type: 'Convolution' bottom: 'data' top: '{layer.name}' "
            f"convolution_param {{ num_output: {layer.op.num_output} "
            f"kernel_size: {layer.op.kernel[0]} }} }} "
            for layer in with_weights
        )
        loaded = cv2.dnn.readNetFromCaffe(np.frombuffer(prototxt.encode(), np.uint8), data)
        for layer in with_weights:
            for i, blob in enumerate(layer.blobs):
                found = loaded.getParam(layer.name, i)
                np.testing.assert_array_equal(found.ravel(), blob.data.ravel())
