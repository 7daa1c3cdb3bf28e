"""The first weights of a net: copied and decimated against values by hand; what does not fit."""

import numpy as np
import pytest

from deeplab_repro.caffe import read_caffemodel, read_net, write_caffemodel
from deeplab_repro.convert.torchvision import write_trunk
from deeplab_repro.errors import FormatError, WeightsError
from deeplab_repro.files.safetensors import open_safetensors, write_arrays
from deeplab_repro.models.loading import load_net, read_model
from deeplab_repro.net.net import Net
from deeplab_repro.train.initialise import (
    BY_FILLER,
    initialise,
    regular_channels,
    regular_taps,
    write_initialised,
)
from tests.conftest import assert_one_line

SOURCE = """
name: "classifier" input: "data" input_dim: 1 input_dim: 3 input_dim: 14 input_dim: 14
layers { name: "conv1" type: CONVOLUTION bottom: "data" top: "conv1"
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 } }
layers { name: "relu1" type: RELU bottom: "conv1" top: "conv1" }
layers { name: "pool1" type: POOLING bottom: "conv1" top: "pool1"
  pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layers { name: "fc6" type: INNER_PRODUCT bottom: "pool1" top: "fc6"
  inner_product_param { num_output: 8 } }
layers { name: "relu6" type: RELU bottom: "fc6" top: "fc6" }
layers { name: "fc7" type: INNER_PRODUCT bottom: "fc6" top: "fc7"
  inner_product_param { num_output: 8 } }
layers { name: "relu7" type: RELU bottom: "fc7" top: "fc7" }
layers { name: "fc8" type: INNER_PRODUCT bottom: "fc7" top: "fc8"
  inner_product_param { num_output: 10 } }
"""

TARGET = """
name: "deeplab" input: "data" input_dim: 1 input_dim: 3 input_dim: 33 input_dim: 33
layers { name: "conv1" type: CONVOLUTION bottom: "data" top: "conv1"
  convolution_param { num_output: CONV1 kernel_size: 3 pad: 1 } }
layers { name: "relu1" type: RELU bottom: "conv1" top: "conv1" }
layers { name: "pool1" type: POOLING bottom: "conv1" top: "pool1"
  pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layers { name: "fc6" type: CONVOLUTION bottom: "pool1" top: "fc6"
  convolution_param { num_output: FC6 kernel_size: TAPS hole: 2 pad: 4 } }
layers { name: "relu6" type: RELU bottom: "fc6" top: "fc6" }
layers { name: "drop6" type: DROPOUT bottom: "fc6" top: "drop6" }
layers { name: "fc7" type: CONVOLUTION bottom: "drop6" top: "fc7"
  convolution_param { num_output: FC7 kernel_size: 1 } }
layers { name: "relu7" type: RELU bottom: "fc7" top: "fc7" }
layers { name: "CLASSIFIER" type: CONVOLUTION bottom: "fc7" top: "scores"
  convolution_param { num_output: 5 kernel_size: 1 } }
"""


@pytest.fixture
def make(tmp_path):
    """Make a net of this text, with the values given for its words in capitals."""

    def made(text: str, **values: object) -> Net:
        for name, value in values.items():
            text = text.replace(name, str(value))
        path = tmp_path / "net.prototxt"
        path.write_text(text)
        return read_net(path)

    return made


@pytest.fixture
def target(make):
    """The net to initialise, as wide as the source but for the values given."""

    def made(**values: object) -> Net:
        wanted = {"CONV1": 4, "FC6": 8, "FC7": 8, "TAPS": 7, "CLASSIFIER": "fc8_voc12"} | values
        return make(TARGET, **wanted)

    return made


@pytest.fixture
def vgg(make, tmp_path):
    """The caffemodel of SOURCE, or of the text given, with random weights and biases."""

    def made(text: str = SOURCE) -> tuple[str, dict[str, list[np.ndarray]]]:
        net = make(text)
        net.fill_random(0)
        rng = np.random.default_rng(1)
        for layer in net.layers:
            for blob in layer.blobs[1:]:
                blob.data = rng.standard_normal(blob.shape, np.float32)
        path = tmp_path / "vgg.caffemodel"
        write_caffemodel(net, path)
        return str(path), {layer.name: [blob.data for blob in layer.blobs] for layer in net.layers}

    return made


def blobs(net: Net, name: str) -> list[np.ndarray]:
    (layer,) = [layer for layer in net.layers if layer.name == name]
    return [blob.data for blob in layer.blobs]


# --- which taps and channels


@pytest.mark.parametrize(
    ("new", "old", "taps"),
    [
        (4, 7, [0, 2, 4, 6]),
        (3, 7, [0, 3, 6]),
        (3, 4, [0, 2, 3]),
        (2, 7, [0, 6]),
        (1, 7, [3]),
        (1, 1, [0]),
        (7, 7, range(7)),
    ],
)
def test_taps(new, old, taps):
    np.testing.assert_array_equal(regular_taps(new, old), taps)


def test_channels():
    np.testing.assert_array_equal(regular_channels(1024, 4096), range(0, 4096, 4))
    np.testing.assert_array_equal(regular_channels(3, 8), [0, 2, 5])
    np.testing.assert_array_equal(regular_channels(5, 5), range(5))


# --- whole nets


def test_an_inner_product_is_copied_into_the_convolution_that_replaces_it(target, vgg):
    path, source = vgg()
    net = target()
    done = initialise(net, path)
    assert done.layers == {
        "conv1": "copied",
        "fc6": "copied from 1x1x8x196",
        "fc7": "copied from 1x1x8x8",
        "fc8_voc12": BY_FILLER,
    }
    assert done.unused == ["fc8"]
    for name in ("conv1", "fc6", "fc7"):
        for found, expected in zip(blobs(net, name), source[name], strict=True):
            np.testing.assert_array_equal(found.ravel(), expected.ravel())
    assert blobs(net, "fc6")[0].shape == (8, 4, 7, 7)
    assert blobs(net, "fc8_voc12") == [None, None]


@pytest.mark.parametrize(("taps", "rows"), [(4, [0, 2, 4, 6]), (3, [0, 3, 6])])
def test_fc6_is_decimated(target, vgg, taps, rows):
    path, source = vgg()
    net = target(TAPS=taps)
    assert initialise(net, path).layers["fc6"] == f"decimated 7x7 -> {taps}x{taps}"
    weight, bias = blobs(net, "fc6")
    for output, channel, i, j in np.ndindex(weight.shape):
        expected = source["fc6"][0][output, (channel * 7 + rows[i]) * 7 + rows[j]]
        assert weight[output, channel, i, j] == expected
    np.testing.assert_array_equal(bias, source["fc6"][1])


def test_channels_are_left_out_on_both_sides(target, vgg):
    path, source = vgg()
    net = target(TAPS=3, FC6=2, FC7=2)
    done = initialise(net, path).layers
    assert done["fc6"] == "decimated 7x7 -> 3x3, outputs 8 -> 2"
    assert done["fc7"] == "decimated outputs 8 -> 2, inputs 8 -> 2"
    six = source["fc6"][0].reshape(8, 4, 7, 7)
    np.testing.assert_array_equal(blobs(net, "fc6")[0], six[::4, :, ::3, ::3])
    np.testing.assert_array_equal(blobs(net, "fc6")[1], source["fc6"][1][::4])
    np.testing.assert_array_equal(blobs(net, "fc7")[0][..., 0, 0], source["fc7"][0][::4, ::4])
    np.testing.assert_array_equal(blobs(net, "fc7")[1], source["fc7"][1][::4])


def test_what_is_left_out_reaches_the_next_layer_through_relu_and_pooling(target, vgg):
    path, source = vgg()
    net = target(CONV1=2, FC7=4)
    done = initialise(net, path).layers
    assert done["conv1"] == "decimated outputs 4 -> 2"
    assert done["fc6"] == "decimated inputs 4 -> 2"
    assert done["fc7"] == "decimated outputs 8 -> 4"
    six = source["fc6"][0].reshape(8, 4, 7, 7)
    np.testing.assert_array_equal(blobs(net, "fc6")[0], six[:, ::2])
    np.testing.assert_array_equal(blobs(net, "fc7")[0][..., 0, 0], source["fc7"][0][::2])


def test_a_convolution_of_4x4_is_decimated_to_3x3(target, vgg):
    net = target(TAPS=4)
    path, _ = vgg()
    initialise(net, path)
    write_initialised(net, path)
    smaller = target(TAPS=3, FC6=4)
    assert initialise(smaller, path).layers["fc6"] == "decimated 4x4 -> 3x3, outputs 8 -> 4"
    np.testing.assert_array_equal(
        blobs(smaller, "fc6")[0], blobs(net, "fc6")[0][::2][:, :, [0, 2, 3]][..., [0, 2, 3]]
    )


def test_a_classifier_of_as_many_labels_is_copied(target, vgg):
    path, source = vgg(SOURCE.replace("num_output: 10", "num_output: 5"))
    net = target(CLASSIFIER="fc8")
    assert initialise(net, path).layers["fc8"] == "copied from 1x1x5x8"
    np.testing.assert_array_equal(blobs(net, "fc8")[0].ravel(), source["fc8"][0].ravel())


def test_a_net_of_inner_products(make, vgg):
    path, source = vgg()
    text = SOURCE.replace("num_output: 8", "num_output: 4").replace("input_dim: 14", "input_dim: 6")
    net = make(text)
    assert initialise(net, path).layers == {
        "conv1": "copied",
        "fc6": "decimated 7x7 -> 3x3, outputs 8 -> 4",
        "fc7": "decimated outputs 8 -> 4, inputs 8 -> 4",
        "fc8": "decimated inputs 8 -> 4",
    }
    six = source["fc6"][0].reshape(8, 4, 7, 7)[::2, :, ::3, ::3]
    np.testing.assert_array_equal(blobs(net, "fc6")[0], six.reshape(4, 36))
    np.testing.assert_array_equal(blobs(net, "fc8")[0], source["fc8"][0][:, ::2])


def test_a_convolution_in_groups_is_copied(make, vgg):
    text = TARGET.replace("num_output: FC6", "num_output: FC6 group: 2")
    for name, value in {"CONV1": 4, "FC6": 8, "FC7": 8, "TAPS": 3}.items():
        text = text.replace(name, str(value))
    path, source = vgg(text)
    net = make(text)
    assert initialise(net, path).layers["fc6"] == "copied"
    np.testing.assert_array_equal(blobs(net, "fc6")[0], source["fc6"][0])


def test_the_file_has_the_initialised_layers_only(target, vgg, tmp_path):
    path, _ = vgg()
    net = target(TAPS=3, FC6=2, FC7=2)
    initialise(net, path)
    out = tmp_path / "init.caffemodel"
    write_initialised(net, out)
    model = read_caffemodel(out)
    assert model.name == "deeplab"
    assert [(layer.name, layer.type) for layer in model.layers] == [
        (name, "CONVOLUTION") for name in ("conv1", "fc6", "fc7")
    ]
    for layer in model.layers:
        for found, expected in zip(layer.blobs, blobs(net, layer.name), strict=True):
            np.testing.assert_array_equal(found.ravel(), expected.ravel())
    assert initialise(target(TAPS=3, FC6=2, FC7=2), out).layers == {
        **dict.fromkeys(("conv1", "fc6", "fc7"), "copied"),
        "fc8_voc12": BY_FILLER,
    }


def test_largefov_from_deeplab_at_an_eighth_of_the_width(golden):
    nets = golden / "nets"
    net = read_net(nets / "DeepLab-LargeFOV/deploy.prototxt")
    source = {
        layer.name: layer.blobs
        for layer in read_caffemodel(nets / "DeepLab/weights.caffemodel").layers
    }
    done = initialise(net, nets / "DeepLab/weights.caffemodel").layers
    assert done["fc6"] == "decimated 4x4 -> 3x3, outputs 512 -> 128"
    assert done["fc7"] == "decimated outputs 512 -> 128, inputs 512 -> 128"
    assert done["fc8_voc12"] == BY_FILLER
    others = done.keys() - {"fc6", "fc7", "fc8_voc12"}
    assert {done[name] for name in others} == {"copied"}
    assert len(others) == 13
    np.testing.assert_array_equal(blobs(net, "fc7")[0], source["fc7"][0][::4, ::4])


# --- what does not fit


def failed(net: Net, path: str) -> pytest.ExceptionInfo:
    with pytest.raises(WeightsError) as caught:
        initialise(net, path)
    assert all(blob.data is None for layer in net.layers for blob in layer.blobs)
    return caught


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        ({"FC7": 9}, ["layer 'fc7'", "has 8 outputs, expected 9 or more", "narrower"]),
        ({"CONV1": 5}, ["layer 'conv1'", "has 4 outputs, expected 5 or more"]),
        ({"TAPS": 8}, ["layer 'fc6'", "filters of 7x7, expected 8x8 or more", "smaller kernel"]),
        ({"CLASSIFIER": "fc8"}, ["layer 'fc8'", "has 10 outputs, expected 5", "rename"]),
    ],
)
def test_growing_is_refused_and_labels_are_not_left_out(target, vgg, values, parts):
    path, _ = vgg()
    assert_one_line(failed(target(**values), path), path, *parts)


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("input_dim: 3", "input_dim: 1", ["layer 'conv1'", "takes 1 channels, expected 3"]),
        ("conv1", "conv0", ["layer 'fc6'", "has 147 inputs, expected 4 channels of a square"]),
        ("num_output: 4", "bias_term: false num_output: 4", ["has 1 blobs, expected 2"]),
    ],
)
def test_weights_of_a_net_with_other_channels(target, vgg, old, new, parts):
    text = SOURCE.replace(old, new, 1 if old.startswith("num") else -1)
    if new == "conv0":  # a net without our conv1, whose fc6 takes 3 channels
        text = text.replace("num_output: 4", "num_output: 3")
    path, _ = vgg(text)
    assert_one_line(failed(target(), path), path, *parts)


def test_weights_of_another_net(target, vgg):
    path, _ = vgg(SOURCE.replace('name: "', 'name: "my_'))
    assert_one_line(
        failed(target(), path),
        path,
        "none of the net's layers ('conv1', 'fc6', 'fc7')",
        "but 'my_conv1'",
    )


def test_weights_that_are_nan(make, target, vgg):
    path, _ = vgg()
    broken = make(SOURCE)
    broken.fill_random(0)
    (fc7,) = [layer for layer in broken.layers if layer.name == "fc7"]
    fc7.blobs[1].data[0] = np.nan
    write_caffemodel(broken, path)
    assert_one_line(failed(target(), path), path, "layer 'fc7' has weights that are NaN")


def test_a_prototxt_for_weights(target, tmp_path):
    net = target()
    with pytest.raises(FormatError) as caught:
        initialise(net, tmp_path / "net.prototxt")
    assert_one_line(caught, "net.prototxt", "text file, expected a caffemodel")


# --- layers with a number for each channel

NORMED = """
name: "n" input: "data" input_dim: 1 input_dim: 3 input_dim: 9 input_dim: 9
layer { name: "c" type: "Convolution" bottom: "data" top: "c"
  convolution_param { num_output: WIDTH kernel_size: 3 bias_term: false } }
layer { name: "bn" type: "BatchNorm" bottom: "c" top: "c" }
layer { name: "sc" type: "Scale" bottom: "c" top: "c" scale_param { bias_term: true } }
layer { name: "p" type: "PReLU" bottom: "c" top: "c" }
layer { name: "s" type: "Convolution" bottom: "c" top: "s"
  convolution_param { num_output: 5 kernel_size: 1 } }
"""


@pytest.mark.parametrize("width", [8, 4])
def test_numbers_of_the_channels_that_are_kept(make, tmp_path, width):
    source = make(NORMED, WIDTH=8)
    source.fill_random(0)
    for layer in source.layers[1:4]:
        for blob in layer.blobs:
            blob.data = np.arange(blob.data.size, dtype=np.float32).reshape(blob.shape)
    write_caffemodel(source, tmp_path / "n.caffemodel", current=True)
    net = make(NORMED, WIDTH=width)
    told = initialise(net, tmp_path / "n.caffemodel").layers
    assert told["bn"] == ("copied" if width == 8 else "decimated outputs 8 -> 4")
    step = 8 // width
    for name, arrays in (("bn", 2), ("sc", 2), ("p", 1)):
        for data in blobs(net, name)[:arrays]:
            np.testing.assert_array_equal(data, np.arange(0, 8, step))
    assert blobs(net, "bn")[2] == [0]
    np.testing.assert_array_equal(blobs(net, "s")[0], source.layers[4].blobs[0].data[:, ::step])


def test_numbers_of_other_channels(make, tmp_path):
    source = make(NORMED, WIDTH=8)
    source.fill_random(0)
    for blob in source.layers[2].blobs:
        blob.data = np.ones(5, np.float32)
        blob.shape = (5,)
    write_caffemodel(source, tmp_path / "n.caffemodel", current=True)
    with pytest.raises(WeightsError) as error:
        initialise(make(NORMED, WIDTH=8), tmp_path / "n.caffemodel")
    assert_one_line(error, "layer 'sc' has 5 values, expected 8")


def test_layers_that_share_their_weights(make, tmp_path):
    again = NORMED.replace('top: "c"\n', 'top: "c" param { name: "w" }\n', 1)
    layer = again[again.index('layer { name: "c"') : again.index('layer { name: "bn"')]
    again += layer.replace('name: "c"', 'name: "again"').replace('top: "c"', 'top: "again"')
    source, net = make(NORMED, WIDTH=8), make(again, WIDTH=4)
    source.fill_random(0)
    write_caffemodel(source, tmp_path / "n.caffemodel", current=True)
    told = initialise(net, tmp_path / "n.caffemodel").layers
    assert told["again"] == "as 'c', whose weights it shares"
    assert blobs(net, "again")[0] is blobs(net, "c")[0]
    write_initialised(net, tmp_path / "init.caffemodel")  # V1 has no BatchNorm
    written = read_caffemodel(tmp_path / "init.caffemodel")
    assert {layer.name for layer in written.layers if layer.blobs} == {*told}


def test_torchvisions_vgg16(tmp_path):
    """As torchvision names it, with classifiers: fc6 has 7x7 taps of what pool5 makes."""
    net = load_net("ToyVOC-LargeFOV")
    path = tmp_path / "vgg16.safetensors"
    write_trunk(net, path)
    with open_safetensors(path) as file:
        arrays = {name: file.read(name) for name in file.arrays}
    before = {layer.name: [blob.data for blob in layer.blobs] for layer in net.layers}
    (fc6,) = [layer for layer in net.layers if layer.name == "fc6"]
    outputs, inputs = fc6.blobs[0].shape[:2]
    rng = np.random.default_rng(0)
    taps = rng.standard_normal((4 * outputs, inputs, 7, 7), np.float32)
    arrays["classifier.0.weight"] = taps.reshape(4 * outputs, -1)
    arrays["classifier.0.bias"] = rng.standard_normal(4 * outputs, np.float32)
    arrays["classifier.6.weight"] = np.ones((10, 4 * outputs), np.float32)
    arrays["classifier.6.bias"] = np.ones(10, np.float32)
    write_arrays(path, arrays, {})
    found = read_model("ToyVOC-LargeFOV")
    initialised = initialise(found, path)
    assert initialised.layers["conv1_1"] == "copied, from torchvision's RGB"
    assert initialised.layers["fc7"] == BY_FILLER
    assert initialised.unused == ["fc8"]
    np.testing.assert_allclose(blobs(found, "conv1_1")[0], before["conv1_1"][0], atol=1e-6)
    np.testing.assert_array_equal(blobs(found, "conv5_3")[0], before["conv5_3"][0])
    # Every third tap and every fourth output.
    np.testing.assert_array_equal(blobs(found, "fc6")[0], taps[::4, :, ::3, ::3])
    del arrays["features.2.weight"], arrays["features.2.bias"]
    write_arrays(path, arrays, {})
    with pytest.raises(WeightsError) as error:
        initialise(found, path)
    assert_one_line(error, f"{path}: has no 'features.2', expected", "use torchvision's vgg16")


def test_a_safetensors_by_the_names_of_its_layers(target, vgg, tmp_path):
    path, arrays = vgg()
    named = {
        f"{name}.{x}": y
        for name, each in arrays.items()
        for x, y in zip(("weight", "bias"), each, strict=False)
    }
    write_arrays(tmp_path / "a.safetensors", named, {})
    by_caffemodel, by_safetensors = target(), target()
    expected, found = (
        initialise(by_caffemodel, path),
        initialise(by_safetensors, tmp_path / "a.safetensors"),
    )
    assert found.unused == expected.unused
    for name in ("conv1", "fc6", "fc7"):
        for ours, theirs in zip(
            blobs(by_safetensors, name), blobs(by_caffemodel, name), strict=True
        ):
            np.testing.assert_array_equal(ours, theirs)
