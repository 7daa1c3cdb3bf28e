"""Caffemodels that are broken, of another kind, too large, or changed by accident."""

import tracemalloc
from functools import partial

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deeplab_repro.caffe import (
    bvlc_pb2,
    deeplab_pb2,
    load_weights,
    read_caffemodel,
    read_net,
    wire,
)
from deeplab_repro.errors import FileError, ResourceError
from tests.caffe.caffe_files import (
    DATA,
    FIXED32,
    FIXED64,
    GOLDEN,
    LEGACY,
    VARINT,
    check_mutations,
    current_layer,
    field,
    floats,
    golden,
    legacy,
    number,
    protobuf_net,
    read,
    refused,
    shape,
    survives,
    v1_layer,
)

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
        (b"PK\x03\x04" + bytes(99), "a zip file, .*: make a .safetensors"),
        (b"\x1f\x8b" + bytes(99), "a gzip file"),
        (
            field(1, 6000, VARINT) + field(2, "net.caffemodel"),
            "a .solverstate, a .binaryproto or an ONNX file",
        ),
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
        (v1_layer(*[b""] * 65), "the layer at byte 0 has more than 64 blobs"),
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
    refused(lambda: read_caffemodel(tmp_path / "a\nb"), r"a\\nb: .*no such file", FileError)
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
    max_examples=40,
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
    arrays = [np.ones((1, 1, 2, 3)), np.ones(2, np.float32)]
    original = protobuf_net(schema, ["conv1", "conv2", "fc6"], arrays, False).SerializeToString()
    check_mutations(tmp_path / "net.caffemodel", original, read_caffemodel)


@golden
def test_mutations_of_a_golden_caffemodel(tmp_path):
    net = read_net(GOLDEN / "nets/DeepLab-LargeFOV/deploy.prototxt")
    original = (GOLDEN / "nets/DeepLab-LargeFOV/weights.caffemodel").read_bytes()
    check_mutations(tmp_path / "net.caffemodel", original, partial(load_weights, net))
