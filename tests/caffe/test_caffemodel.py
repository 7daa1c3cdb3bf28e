"""The binary format: every encoding of the same weights, protobuf's files and our own."""

import random
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from deeplab_repro.caffe import (
    bvlc_pb2,
    caffemodel_chunks,
    deeplab_pb2,
    load_weights,
    read_caffemodel,
    read_net,
    write_caffemodel,
)
from deeplab_repro.caffe.blobs import legacy_dims
from deeplab_repro.errors import WeightsError
from deeplab_repro.net.layers import Convolution
from deeplab_repro.net.net import Layer, Net
from tests.caffe.caffe_files import (
    DATA,
    FIXED32,
    FIXED64,
    GOLDEN,
    GOLDEN_NETS,
    LEGACY,
    VARINT,
    current_layer,
    field,
    floats,
    golden,
    legacy,
    nets,
    number,
    protobuf_net,
    read,
    refused,
    shape,
    v1_layer,
)

SHAPE = shape(2, 3)
SIX = np.arange(6, dtype=np.float32)
# A field of every wire type, with numbers that no schema has.
UNKNOWN = [
    field(300, 2**63, VARINT),
    field(301, 1.5, FIXED64),
    field(302, "x"),
    field(303, 1, FIXED32),
]


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

ARRAYS = hnp.arrays(
    st.sampled_from([np.float32, np.float64]),
    hnp.array_shapes(min_dims=1, max_dims=4, max_side=4),
    elements=st.floats(width=32),
)


@pytest.mark.parametrize("schema", [deeplab_pb2, bvlc_pb2], ids=["v1", "current"])
@settings(
    max_examples=20,
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
    net = protobuf_net(schema, names, arrays, is_legacy)
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


@settings(max_examples=25, deadline=None, derandomize=True)
@given(net=nets(), is_current=st.booleans())
def test_any_net_comes_back_from_its_caffemodel(tmp_path_factory, net, is_current):
    net.fill_random(0)
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
