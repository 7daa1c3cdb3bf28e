"""Weights into nets: what fits what, and what is said where nothing fits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplab_repro.caffe import (
    Caffemodel,
    ModelLayer,
    deeplab_pb2,
    load_weights,
    read_caffemodel,
    read_net,
)
from deeplab_repro.errors import FileError, NetError, WeightsError
from deeplab_repro.net.layers import Convolution
from deeplab_repro.net.net import Layer, Net
from tests.caffe.caffe_files import (
    CONV,
    GOLDEN,
    GOLDEN_NETS,
    INPUT,
    current,
    current_layer,
    field,
    floats,
    golden,
    refused,
    v1,
    v1_layer,
)


def model(**layers: list[tuple[int, ...]]) -> Caffemodel:
    """A caffemodel of layers with blobs of these shapes, counting up from 0."""
    made = [
        ModelLayer(
            deeplab_pb2.LayerParameter(name=name),
            [np.arange(np.prod(shape), dtype=np.float32).reshape(shape) for shape in shapes],
        )
        for name, shapes in layers.items()
    ]
    return Caffemodel("n", "Caffe V1", made)


def net(*names: str, strict: bool = True) -> Net:
    """A chain of convolutions of a 1x2 kernel, from 2 channels to 2."""
    layers = []
    bottom = "data"
    for name in names:
        op = Convolution(2, (1, 2), pad=(0, 1))
        layers.append(Layer(name, op, (bottom,), (name,), [], strict))
        bottom = name
    return Net("n", "data", (1, 2, 1, 8), layers)


WEIGHT, BIAS = (2, 2, 1, 2), (2,)


@pytest.mark.parametrize("bias", [(2,), (1, 2), (1, 1, 2), (1, 1, 1, 2)])
def test_shapes_count_as_their_four_legacy_dims(bias):
    found = net("conv")
    load_weights(found, model(other=[(1,)], conv=[WEIGHT, bias]))
    weight, loaded_bias = found.layers[0].blobs
    np.testing.assert_array_equal(weight.data, np.arange(8).reshape(WEIGHT))
    np.testing.assert_array_equal(loaded_bias.data, [0, 1])


@pytest.mark.parametrize(
    ("shapes", "problem"),
    [
        ([WEIGHT], "layer 'conv' has 1 blobs, expected 2"),
        ([], "layer 'conv' has 0 blobs"),
        ([WEIGHT, BIAS, BIAS], "has 3 blobs"),
        (
            [(2, 2, 1, 3), BIAS],
            "weight of layer 'conv' is 2x2x1x3, expected 2x2x1x2; use the net",
        ),
        ([WEIGHT, (3,)], "the bias of layer 'conv' is 1x1x1x3, expected 1x1x1x2"),
        (
            [(2, 4), BIAS],
            "is 1x1x2x4, expected 2x2x1x2.*'strict_dim: false' on the layer",
        ),
        ([(1, 2, 2, 1, 2), BIAS], "is 1x2x2x1x2, expected 2x2x1x2"),
        ([(0, 2, 1, 2), BIAS], "is 0x2x1x2"),
    ],
)
def test_what_does_not_fit_changes_nothing(shapes, problem):
    found = net("first", "conv")
    found.fill_random(0)
    before = [blob.data for layer in found.layers for blob in layer.blobs]
    refused(
        lambda: load_weights(found, model(first=[WEIGHT, BIAS], conv=shapes)), problem, WeightsError
    )
    after = [blob.data for layer in found.layers for blob in layer.blobs]
    assert all(a is b for a, b in zip(after, before, strict=True))


def test_without_strict_dim_the_count_is_enough():
    found = net("fc6", strict=False)
    load_weights(found, model(fc6=[(1, 1, 2, 4), BIAS]))  # an inner product's
    np.testing.assert_array_equal(found.layers[0].blobs[0].data, np.arange(8).reshape(WEIGHT))
    refused(lambda: load_weights(found, model(fc6=[(3, 3), BIAS])), "is 1x1x3x3", WeightsError)


def test_of_two_layers_of_one_name_the_last_counts():
    twice = model(conv=[WEIGHT, BIAS])
    twice.layers.insert(0, model(conv=[(1,)]).layers[0])
    load_weights(net("conv"), twice)


def test_layers_that_share_weights_which_no_layer_has():
    found = net("conv", "conv_half", "other")
    found.layers[1].blobs = found.layers[0].blobs
    message = refused(
        lambda: load_weights(found, model(conv_third=[WEIGHT, BIAS], other=[WEIGHT, BIAS])),
        r"has no layer 'conv' \(and 1 more of the net's 3\), nor a layer that shares all its "
        r"weights \('conv_half'\); the nearest in the file: 'conv_third'.*made for$",
        WeightsError,
    )
    assert "EXP" not in message


def test_no_variable_is_told_where_the_nets_own_layer_is_the_nearest():
    message = refused(
        lambda: load_weights(net("conv_1", "conv_2"), model(conv_1=[WEIGHT, BIAS])),
        "no layer 'conv_2'; the nearest in the file: 'conv_1'",
        WeightsError,
    )
    assert "EXP" not in message


@pytest.mark.parametrize(
    ("wanted", "problem"),
    [
        (
            ["conv1", "fc8_exper"],
            "'fc8_exper'; the nearest in the file: 'fc8_voc12'; use the net that it was made for, "
            r"or give --set EXP=voc12 where its prototxt has 'fc8_\$\{EXP\}'",
        ),
        (
            ["conv1", "zzz"],
            "'zzz'; the nearest in the file: 'conv1', 'fc8_voc12'; use",
        ),
        (["conv11", "conv12"], "'conv11' .and 1 more of the net's 2.; .*'conv1'"),
    ],
)
def test_a_layer_that_the_file_lacks(wanted, problem):
    found = net(*wanted)
    weights = model(data=[], conv1=[WEIGHT, BIAS], fc8_voc12=[WEIGHT, BIAS])
    refused(
        lambda: load_weights(found, weights),
        f"the caffemodel: has no layer {problem}",
        WeightsError,
    )
    assert all(blob.data is None for layer in found.layers for blob in layer.blobs)


def test_a_file_without_weights():
    weights = model(conv1=[], fc8=[])
    refused(lambda: load_weights(net("a"), weights), "none: it holds no weights", WeightsError)


def test_errors_name_the_file(tmp_path):
    path = tmp_path / "a\nb"
    refused(lambda: load_weights(net("conv"), path), r"a\\nb.* no such file", FileError)
    path.write_bytes(v1_layer(name="con"))
    refused(lambda: load_weights(net("conv"), path), r"a\\nb: has no layer 'conv'", WeightsError)


def test_thousands_of_long_names_are_compared_in_no_time(tmp_path):
    path = tmp_path / "net.caffemodel"
    blob = field(7, b"") + field(5, floats(0))
    path.write_bytes(b"".join(current_layer(blob, name="a" * 190 + str(i)) for i in range(2000)))
    refused(lambda: load_weights(net("a" * 190), path), "has no layer", WeightsError)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)) | st.just(WEIGHT) | st.just(BIAS)),
    st.booleans(),
)
def test_any_blobs_load_whole_or_not_at_all(shapes, strict):
    found = net("conv", strict=strict)
    try:
        load_weights(found, model(conv=shapes))
    except WeightsError:
        assert all(blob.data is None for blob in found.layers[0].blobs)
    else:
        assert [blob.data.shape for blob in found.layers[0].blobs] == [WEIGHT, BIAS]


@golden
@pytest.mark.parametrize("name", GOLDEN_NETS)
def test_golden_weights(name):
    folder = GOLDEN / "nets" / name
    found = read_net(folder / "deploy.prototxt")
    load_weights(found, folder / "weights.caffemodel")
    original = {
        layer.name: layer for layer in read_caffemodel(folder / "weights.caffemodel").layers
    }
    for layer in found.layers:
        for blob, array in zip(layer.blobs, original[layer.name].blobs, strict=True):
            assert blob.data.shape == blob.shape
            assert blob.data.tobytes() == array.tobytes()


@golden
def test_golden_weights_of_another_net():
    nets = GOLDEN / "nets"
    found = read_net(nets / "DeepLab-LargeFOV/deploy.prototxt")
    for other, problem in [("DeepLab", "layer 'fc6' is"), ("DeepLab-MSc", "layer 'fc6' is")]:
        refused(
            lambda other=other: load_weights(found, nets / other / "weights.caffemodel"),
            f"{problem}|has no layer 'fc8_voc12'; the nearest in the file: 'fc8_pascal'",
            WeightsError,
        )


def test_an_unreplaced_classifier_is_the_classic(tmp_path):
    path = tmp_path / "net.prototxt"
    sizes = "convolution_param { num_output: 1 kernel_size: 1 }"
    path.write_text(INPUT + v1("CONVOLUTION", sizes, top="fc8_${EXP}"))
    weights = model(fc8_voc12=[(1, 3, 1, 1), (1,)])
    load_weights(read_net(path), weights)
    wrong = read_net(path, {"EXP": "exper/voc12"})
    refused(
        lambda: load_weights(wrong, weights),
        "no layer 'fc8_exper/voc12'.*'fc8_voc12'",
        WeightsError,
    )


# --- weights that layers share


def sharing(tmp_path, *, second: str = CONV) -> Net:
    """Two convolutions of one image that share both params."""
    path = tmp_path / "shared.prototxt"
    params = 'param { name: "w" } param { name: "b" }'
    image = INPUT + current("Convolution", f"{params} {CONV}", top="a")
    path.write_text(image + current("Convolution", f"{params} {second}", top="b"))
    return read_net(path)


OWN = {"a": [(2, 3, 3, 3), (2,)], "b": [(2, 3, 3, 3), (2,)]}


@pytest.mark.parametrize("names", ["a", "b", "ab"])
def test_one_copy_of_shared_weights_is_enough(tmp_path, names):
    found = sharing(tmp_path)
    assert found.parameters == 2 * 3 * 9 + 2
    assert load_weights(found, model(**{name: OWN[name] for name in names})) == []
    first, second = found.layers
    assert first.blobs[0].data is second.blobs[0].data is not None
    assert first.blobs[1].data is second.blobs[1].data is not None


def test_copies_of_shared_weights_that_differ_are_refused(tmp_path):
    found, weights = sharing(tmp_path), model(**OWN)
    weights.layers[1].blobs[1][1] = 7
    refused(
        lambda: load_weights(found, weights),
        "layers 'a' and 'b' have different weights, but the net lets them share one param",
        WeightsError,
    )
    assert found.layers[0].blobs[0].data is None


def test_shared_weights_have_one_shape(tmp_path):
    other = "convolution_param { num_output: 2 kernel_size: 1 }"
    refused(
        lambda: sharing(tmp_path, second=other),
        "layer 'b' shares param 'w' with layer 'a', but wants 2x3x1x1 where that has 2x3x3x3",
        NetError,
    )


def test_v1_names_params_without_braces(tmp_path):
    path = tmp_path / "shared.prototxt"
    params = 'param: "w" param: ""'
    path.write_text(INPUT + "".join(v1("CONVOLUTION", params + CONV, top=x) for x in "ab"))
    first, second = read_net(path).layers
    assert first.blobs[0] is second.blobs[0]
    assert first.blobs[1] is not second.blobs[1]
