"""What fuzzing the readers found (tools/fuzz/readers.py), and inputs that reach most of them."""

import importlib.util
from pathlib import Path

import pytest

from deeplab_repro.caffe import load_weights, prototxt, read_solverstate
from deeplab_repro.errors import FormatError, NetError, WeightsError
from tests.caffe.caffe_files import (
    INPUT,
    current_layer,
    field,
    floats,
    net,
    read,
    refused,
    shape,
    v1,
)

TOOL = Path(__file__).resolve().parents[2] / "tools" / "fuzz" / "targets.py"
FUZZED = sorted(Path(__file__).with_name("fuzzed").iterdir())


@pytest.fixture(scope="module")
def check():
    """Give bytes to the readers of a kind: what came of it, or an error for a finding."""
    spec = importlib.util.spec_from_file_location("fuzz_targets", TOOL)
    assert spec
    assert spec.loader
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    tool.SECONDS = float("inf")  # not on a machine that may be busy
    return tool.check


@pytest.mark.parametrize("path", FUZZED, ids=lambda path: path.name)
def test_an_input_ends_in_a_result_or_in_one_line(tmp_path, check, path):
    assert check(path.suffix[1:], path.read_bytes(), tmp_path, thorough=True)


@pytest.mark.parametrize("name", ["v1_layers", "current_layers", "train", "memory_data"])
def test_nets_of_many_layers_are_read(tmp_path, check, name):
    path = Path(__file__).with_name("fuzzed") / f"{name}.prototxt"
    assert check("prototxt", path.read_bytes(), tmp_path) == "read"


def test_a_finding_is_one(tmp_path, check, monkeypatch):
    monkeypatch.setattr(prototxt, "_unescape", lambda _: [][1])
    with pytest.raises(Exception, match=r"IndexError at test_fuzzed.py:\d+: read_"):
        check("prototxt", INPUT.encode() + b"layers { name: 'a' }", tmp_path)


# --- prototxts


MEMORY = "memory_data_param { channels: 3 height: 9 width: 9 }"


def chain(kind: str, parameters: str) -> str:
    """A net of 500 layers of a kind, each on the last one's top."""
    layers = [v1(kind, parameters, str(i), str(i + 1)) for i in range(500)]
    return INPUT.replace("data", "0") + "".join(layers)


@pytest.mark.parametrize(
    ("text", "problem", "kind"),
    [
        # too much of anything
        ("a: 1 " * 33_400, "more than 100000 words and signs, too many for a net", FormatError),
        ("layers {} " * 5001, "1:50001: more than 5000 'layers'", FormatError),
        ("name: '" + "\\n" * 1000 + "'", "no closing quote .*, or a thousand", FormatError),
        # blobs of one name, of which the second took the first one's place
        (
            v1("MEMORY_DATA", MEMORY, "", 'data" top: "data') + v1("RELU"),
            "layer 'data' has two tops of one name, expected different ones",
            NetError,
        ),
        (INPUT + 'input: "data"' + v1("RELU"), "two inputs have one name", NetError),
        # messages that were as long as the file
        (
            "layers {} input: 'a' input_dim: [" + "1, " * 4000 + "1]",
            "input 'a' has 1x1x1x1, .*, expected 4 input_dim .* for each of 1",
            NetError,
        ),
        (
            INPUT
            + "".join(
                v1("PADDING", f"padding_param {{ pad_beg: {i} }}", top=f"p{i}") for i in range(300)
            )
            + v1("ELTWISE", " ".join(f'bottom: "p{i}"' for i in range(300)), "p0"),
            "shapes 1x3x9x9, 1x3x10x10, 1x3x11x11, 1x3x12x12, 1x3x13x13, expected one shape",
            NetError,
        ),
        # numbers of thousands of digits, which Python does not print
        (
            chain("INTERP", "interp_param { zoom_factor: 2147483647 }"),
            "layer '2' .Interp. would make 1x3x.*, expected sizes up to 9223372036854775807",
            NetError,
        ),
    ],
    ids=["words", "layers", "escapes", "tops", "inputs", "dims", "shapes", "sizes"],
)
def test_a_prototxt_that_is_refused(tmp_path, text, problem, kind):
    refused(lambda: net(tmp_path, text), problem, kind)


def test_strides_of_thousands_of_digits(tmp_path):
    conv = "convolution_param { num_output: 1 kernel_size: 1 stride: 4294967295 }"
    found = net(tmp_path, chain("CONVOLUTION", conv))
    refused(lambda: found.output_stride, "layer '1' .* comes to a stride of 4294967295", NetError)


@pytest.mark.parametrize("text", ["${A}" * 490_000, "name: '" + "\\n" * 20_000 + "'"])
def test_a_text_that_took_many_times_its_memory(tmp_path, check, text):
    check("prototxt", text.encode(), tmp_path, thorough=True)


# --- binary files


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"\x12\x00" * 5001, "more than 5000 layers, too many for a net"),
        (field(100, field(7, b"") * 65), "the layer at byte 0 has more than 64 blobs"),
        # Protobuf's objects take up to 27 times these bytes.
        (field(2, field(32, b"") * 2 + field(4, bytes(1 << 20))), "too long for a description"),
        (field(2, field(32, b"\x0a\0" * 1000)) * 600, "too long for a description"),
        # A message of a line for each axis.
        (current_layer(shape(*[1] * 32) * 9), "blob at byte 23: more than 32 axes"),
    ],
    ids=["layers", "blobs", "description", "descriptions", "axes"],
)
def test_a_caffemodel_that_is_refused(tmp_path, data, problem):
    refused(lambda: read(tmp_path, data), problem)


def test_doubles_without_values_do_not_hide_the_floats(tmp_path):
    blob = shape(2) + field(8, b"") + field(5, floats(1, 2))
    (array,) = read(tmp_path, current_layer(blob)).layers[0].blobs
    assert array.tolist() == [1, 2]


def test_the_nearest_of_long_names(tmp_path):
    ours, *theirs = ("a" * 190 + end for end in ("1", "2", "3"))
    conv = "convolution_param { num_output: 2 kernel_size: 1 }"
    found = net(tmp_path, INPUT + v1("CONVOLUTION", conv, top=ours))
    path = tmp_path / "net.caffemodel"
    path.write_bytes(b"".join(field(2, field(4, name) + field(6, b"")) for name in theirs))
    refused(
        lambda: load_weights(found, path), f"the nearest in the file: '{theirs[-1]}'", WeightsError
    )


def test_a_solverstate_of_too_many_arrays(tmp_path):
    path = tmp_path / "a.solverstate"
    path.write_bytes(b"\x08\x01" + b"\x1a\x00" * 10_001)
    refused(lambda: read_solverstate(path), "more than 10000 arrays, too many for a net")
