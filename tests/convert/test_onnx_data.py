"""ONNX files of other opsets, and those whose weights lie in a second file."""

import numpy as np
import pytest

from deeplab_repro.convert import onnx as module
from deeplab_repro.convert.onnx import needs_data_file, write_onnx
from deeplab_repro.convert.onnx_graph import OPSETS
from deeplab_repro.errors import ArgumentError
from deeplab_repro.files.marks import made_here
from deeplab_repro.net.layers import Convolution, InnerProduct, Interp, Pooling
from deeplab_repro.net.net import Layer, Net
from deeplab_repro.net.shape_layers import ArgMax
from tests.conftest import assert_one_line
from tests.convert.onnx_runs import Runs, model_of, onnx
from tests.slow_layers import one_layer, random_input

onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture
def net() -> Net:
    layers = [
        Layer("a", Convolution(20, (3, 3)), ("data",), ("a",)),
        Layer("b", Convolution(5, (1, 1)), ("a",), ("b",)),
        Layer("c", Convolution(30, (3, 3)), ("b",), ("c",)),
    ]
    net = Net("n", "data", (1, 3, 8, 9), layers)
    net.fill_random(0)
    return net


@pytest.mark.parametrize("half", [False, True])
def test_weights_in_a_second_file(net, tmp_path, half):
    path, data_path = tmp_path / "n.onnx", tmp_path / "n.onnx.data"
    write_onnx(net, path, half=half, data=(data_path, data_path.name))
    assert made_here(path)
    assert made_here(data_path)
    model = onnx.load(path, load_external_data=False)
    places = {
        array.name.removesuffix("/half"): {each.key: each.value for each in array.external_data}
        for array in model.graph.initializer
        if array.data_location == 1
    }
    # Small ones stay in the file itself.
    assert list(places) == ["a/weight", "c/weight"]
    content = data_path.read_bytes()
    for layer in (net.layers[0], net.layers[2]):
        place = places[f"{layer.name}/weight"]
        begin, length = int(place["offset"]), int(place["length"])
        assert (place["location"], begin % 4096) == ("n.onnx.data", 0)
        values = layer.blobs[0].data.astype("<f2" if half else "<f4")
        assert content[begin : begin + length] == values.tobytes()
    onnx.checker.check_model(path, full_check=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    write_onnx(net, tmp_path / "whole.onnx", half=half)
    data = random_input(1, 3, 8, 9)
    expected = Runs((tmp_path / "whole.onnx").read_bytes(), opencv=False)(data)["onnxruntime"]
    np.testing.assert_array_equal(session.run(None, {"data": data})[0], expected["c"])


def test_which_nets_need_one(net, monkeypatch):
    assert not needs_data_file(net, half=False)
    monkeypatch.setattr(module, "LARGEST_FILE", module._REST + 3 * net.parameters)
    assert needs_data_file(net, half=False)
    assert not needs_data_file(net, half=True)


# --- opsets


def newest_of_onnx() -> int:
    return min(OPSETS[-1], onnx.defs.onnx_opset_version())


@pytest.mark.parametrize("opset", [13, 17, 18, newest_of_onnx()])
@pytest.mark.parametrize(
    "op",
    [
        ArgMax(out_max_val=True),
        ArgMax(out_max_val=True, axis=1),
        Convolution(2, (3, 3)),
        InnerProduct(2),
        Interp(zoom_factor=2),
        Pooling("AVE", (3, 3), stride=(2, 2), pad=(1, 1)),
    ],
)
def test_every_opset_gives_the_same(tmp_path, op, opset):
    net = one_layer(op, (1, 3, 5, 6))
    data = random_input(1, 3, 5, 6)
    found = {}
    for each in (13, opset):
        write_onnx(net, tmp_path / "n.onnx", opset=each)
        content = (tmp_path / "n.onnx").read_bytes()
        assert model_of(content).opset_import[0].version == each
        found[each] = Runs(content, opencv=False)(data)["onnxruntime"]["a"]
    # Other kernels, which add up in another order.
    np.testing.assert_allclose(found[opset], found[13], rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("opset", [0, 12, 29, 10**9])
def test_opsets_that_are_none(net, tmp_path, opset):
    with pytest.raises(ArgumentError) as error:
        write_onnx(net, tmp_path / "n.onnx", opset=opset)
    assert_one_line(error, f"opset is {opset}, expected a number from 13 to 28")
    assert not list(tmp_path.iterdir())
