"""The graph: names, what is changed in place, constants; and the schema that it is written in."""

import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from deeplab_repro.convert import onnx_model_pb2 as schema
from deeplab_repro.convert import write_onnx
from deeplab_repro.convert.onnx import to_onnx
from deeplab_repro.errors import NetError, WeightsError
from deeplab_repro.net.layers import Convolution, Dropout, InnerProduct, ReLU, SoftmaxLoss, Split
from deeplab_repro.net.net import Layer, Net
from tests.conftest import assert_one_line
from tests.convert.onnx_runs import Runs, model_of, onnx, written
from tests.slow_layers import convolve, net_of, one_layer, random_input


def test_a_layer_that_onnx_does_not_have():
    layers = [
        Layer("c", Convolution(1, (1, 1)), ("data",), ("c",)),
        Layer("the loss", SoftmaxLoss(), ("data", "c"), ("loss",)),
    ]
    with pytest.raises(NetError) as error:
        written(net_of(*layers, shape=(1, 3, 4, 5)))
    assert_one_line(error, "layer 'the loss' has type SoftmaxLoss", "Convolution, Deconvolution")


def test_weights_must_be_there():
    net = Net("n", "data", (1, 1, 4, 5), [Layer("a", InnerProduct(2), ("data",), ("a",))])
    with pytest.raises(WeightsError, match="layer 'a' has no weights, expected them loaded"):
        written(net)


def conv(bottom, top, name="conv"):
    return Layer(name, Convolution(3, (1, 1)), (bottom,), (top,))


def relu(bottom, top, name="relu"):
    return Layer(name, ReLU(), (bottom,), (top,))


@pytest.mark.parametrize(
    ("layers", "outputs"),
    [
        # Changed in place, once and twice; the input too, which keeps its name.
        ([conv("data", "a"), relu("a", "a")], ["a"]),
        ([conv("data", "a"), relu("a", "a"), conv("a", "b"), conv("a", "a")], ["b", "a"]),
        ([relu("data", "data")], ["data_1"]),
        ([conv("data", "a"), relu("data", "data")], ["a", "data_1"]),
        # The names of layers, blobs and weights in each other's way.
        ([conv("data", "conv/weight"), conv("conv/weight", "conv/bias")], ["conv/bias"]),
        ([conv("data", "data_1"), relu("data", "data")], ["data_1", "data_2"]),
        ([conv("data", "a/b", "a"), conv("a/b", "a", "a/b")], ["a"]),
        ([conv("data", "b", ""), conv("b", "", ""), relu("", "", "")], ["_1"]),
        ([conv("data", "größe 日本", "größe")], ["größe 日本"]),
        # What makes no node.
        ([Layer("d", Dropout(), ("data",), ("a",))], ["a"]),
        ([Layer("d", Dropout(), ("data",), ("data",))], ["data_1"]),
        ([conv("data", "a"), Layer("s", Split(), ("a",), ("b", "c"))], ["b", "c"]),
        (
            [
                conv("data", "a"),
                Layer("s", Split(), ("a",), ("b", "c")),
                relu("b", "b"),
                Layer("d", Dropout(), ("c",), ("c",)),
            ],
            ["b", "c"],
        ),
        # Several open ends, in the order in which they are made.
        ([conv("data", "z"), relu("data", "b"), conv("b", "a"), relu("data", "c")], list("zac")),
    ],
)
def test_names_and_blobs_changed_in_place(layers, outputs):
    net = net_of(*layers, shape=(1, 3, 4, 5))
    data = random_input(1, 3, 4, 5)
    blobs = {"data": data}
    for layer in net.layers:
        made = blobs[layer.bottoms[0]]
        if isinstance(layer.op, Convolution):
            made = convolve(made, layer.op, *(blob.data for blob in layer.blobs))
        elif isinstance(layer.op, ReLU):
            made = np.maximum(made, 0)
        blobs.update(dict.fromkeys(layer.tops, made))
    run = Runs(written(net))
    assert run.outputs == outputs
    for found in run(data).values():
        for blob, output in zip(net.outputs, outputs, strict=True):
            np.testing.assert_allclose(found[output], blobs[blob], rtol=1e-5, atol=1e-4)


def test_only_what_the_outputs_need():
    net = net_of(
        conv("data", "a", "first"),
        relu("a", "b"),
        relu("a", "a", "after"),
        conv("data", "c", "other"),
        shape=(1, 3, 4, 5),
    )

    def nodes(*outputs):
        file = to_onnx(net, net.input_shape, outputs)
        graph = model_of(file).graph
        assert [output.name for output in graph.output] == list(dict.fromkeys(outputs))
        constants = {constant.name for constant in graph.initializer}
        assert constants == {each for node in graph.node for each in node.input[1:]}
        return [node.op_type for node in graph.node]

    assert nodes("c") == ["Conv"]
    assert nodes("b") == ["Conv", "Relu"]
    assert nodes("c", "b", "c") == ["Conv", "Relu", "Conv"]
    assert nodes("a") == ["Conv", "Relu"]


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.astype(np.float64),
        lambda data: data.astype(">f4"),
        lambda data: data.astype(np.float16),
        lambda data: np.rint(data).astype(int),
        lambda data: np.repeat(data, 2, axis=-1)[..., ::2],
        lambda data: np.asfortranarray(data),
        lambda data: np.broadcast_to(data.ravel()[:1], data.shape),
    ],
)
@pytest.mark.parametrize("op", [Convolution(4, (2, 3)), InnerProduct(4)])
def test_weights_of_any_array(op, change):
    net = one_layer(op, (1, 3, 4, 5))
    for blob in net.layers[0].blobs:
        blob.data = change(blob.data * 4)
    kept = model_of(written(net)).graph.initializer
    for blob, constant in zip(net.layers[0].blobs, kept, strict=True):
        found = onnx.numpy_helper.to_array(constant)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found.ravel(), np.float32(blob.data).ravel())


@pytest.mark.parametrize("op", [Convolution(200_000, (30, 30)), InnerProduct(200_000)])
def test_a_net_beyond_the_format_takes_no_memory(op, tmp_path):
    net = Net("big", "data", (1, 3, 30, 30), [Layer("a", op, ("data",), ("a",))])
    for blob in net.layers[0].blobs:
        blob.data = np.broadcast_to(np.float32(1), blob.shape)
    tracemalloc.start()
    try:
        with pytest.raises(NetError) as error:
            write_onnx(net, tmp_path / "big.onnx")
        assert tracemalloc.get_traced_memory()[1] < 10e6
    finally:
        tracemalloc.stop()
    assert_one_line(error, "net 'big' has 2.2 GB of weights, expected less than 2 GB")
    assert not list(tmp_path.iterdir())


# --- the schema


def test_our_excerpt_of_the_schema_is_onnxs():
    def described(module):
        file = FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(file)
        return {message.name: message for message in file.message_type}

    def named(values):
        return {value.name: value for value in values}

    def compare(ours, theirs):
        for name, field in named(ours.field).items():
            other = named(theirs.field)[name]
            assert (field.number, field.label, field.type) == (
                other.number,
                other.label,
                other.type,
            ), name
            kinds = [kind.rpartition(".")[2] for kind in (field.type_name, other.type_name)]
            assert kinds[0] == kinds[1]
            assert field.options.packed == other.options.packed
        for name, enum in named(ours.enum_type).items():
            values = named(named(theirs.enum_type)[name].value)
            assert all(value.number == values[value.name].number for value in enum.value)
        for name, message in named(ours.nested_type).items():
            compare(message, named(theirs.nested_type)[name])

    theirs = described(onnx.onnx_ml_pb2)
    assert len(described(schema)) > 8
    for name, message in described(schema).items():
        compare(message, theirs[name])


@pytest.mark.parametrize("first", ["onnx", "deeplab_repro.convert"])
def test_both_schemas_in_one_process(first):
    imports = {"onnx", "deeplab_repro.convert"} - {first}
    script = f"import {first}; import {imports.pop()}; print(onnx.ModelProto().ir_version)"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, "0\n", "")
