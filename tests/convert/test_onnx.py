"""Whole nets in ONNX: the original's, and with what comes before and after them in the graph."""

import json

import numpy as np
import pytest

from deeplab_repro.caffe import load_weights, read_net, write_caffemodel
from deeplab_repro.convert import write_onnx
from deeplab_repro.engines.opencv import OpenCVEngine
from deeplab_repro.errors import ArgumentError, NetError
from deeplab_repro.models.registry import MODELS, VOC_CLASSES
from deeplab_repro.net.layers import (
    Concat,
    Convolution,
    InnerProduct,
    Interp,
    ReLU,
    Softmax,
    SoftmaxLoss,
)
from deeplab_repro.net.net import Layer, Net
from deeplab_repro.net.preprocess import VOCS, Preprocessing, preprocess
from deeplab_repro.segmenter import DeepLab
from tests.conftest import assert_one_line
from tests.convert.onnx_runs import Runs, model_of, written
from tests.slow_layers import net_of, random_input, scores_of, softmax

# Each with another size that it fits.
GOLDEN_NETS = {
    "DeepLab": (90, 106),
    "DeepLab-LargeFOV": (89, 105),
    "DeepLab-LargeFOV-513": (89, 105),
    "DeepLab-MSc": (89, 105),
    "DeepLab-MSc-LargeFOV": (89, 105),
}


def file_of(net, folder, **options):
    path = folder / "net.onnx"
    write_onnx(net, path, **options)
    return path.read_bytes()


def golden_net(golden, name):
    folder = golden / "nets" / name
    net = read_net(folder / "deploy.prototxt")
    load_weights(net, folder / "weights.caffemodel")
    return net, folder / "expected.npz"


def assert_same_scores(found, expected):
    """As of float32 sums in another order; so are the labels, unless the two best are as close."""
    assert found.shape == expected.shape
    scale = max(1, expected.std())
    assert np.abs(found - expected).max() <= 1e-4 * scale
    second, best = np.moveaxis(np.partition(expected, -2, axis=1), 1, 0)[-2:]
    clear = best - second > 2e-5 * scale
    assert clear.mean() > 0.999
    np.testing.assert_array_equal(found.argmax(axis=1)[clear], expected.argmax(axis=1)[clear])


# --- the original's nets


@pytest.mark.golden
@pytest.mark.parametrize(("name", "other_size"), GOLDEN_NETS.items())
def test_one_file_at_two_sizes(golden, tmp_path, name, other_size):
    net, expected = golden_net(golden, name)
    run = Runs(file_of(net, tmp_path))
    with np.load(expected) as arrays:
        whole = "scores" in arrays
        theirs = arrays["scores" if whole else "scores_every_8th_pixel"]
        data = preprocess(arrays["image"], net.input_shape[2:])
    for found in run(data).values():
        scores = found[net.output]
        assert_same_scores(scores if whole else scores[:, :, ::8, ::8], theirs)
        if whole:  # at this size no two of the original's are that close
            np.testing.assert_array_equal(scores.argmax(axis=1), theirs.argmax(axis=1))
    # OpenCV 4's engine comes by way of Caffe.
    data = random_input(2, 3, *other_size)
    theirs = scores_of(OpenCVEngine(net, "cpu"), data)
    for found in run(data).values():
        assert_same_scores(found[net.output], theirs)


@pytest.mark.golden
@pytest.mark.parametrize("name", GOLDEN_NETS)
def test_what_is_in_the_file(golden, tmp_path, name):
    net, _ = golden_net(golden, name)
    model = model_of(file_of(net, tmp_path, labels=VOC_CLASSES))
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 13)]
    assert {node.domain for node in model.graph.node} == {""}
    # With these OpenCV 4 reads it, which takes no shapes from the graph.
    kinds = {"AveragePool", "Conv", "MaxPool", "Pad", "Relu", "Resize", "Slice", "Sum"}
    assert {node.op_type for node in model.graph.node} <= kinds
    (given,), (made,) = model.graph.input, model.graph.output
    axes = [axis.dim_param or axis.dim_value for axis in given.type.tensor_type.shape.dim]
    assert (given.name, axes) == ("data", ["batch", 3, "height", "width"])
    axes = [axis.dim_param or axis.dim_value for axis in made.type.tensor_type.shape.dim]
    assert (made.name, axes[:2]) == (net.output, ["batch", 21])
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert metadata.pop("channel_order") == "BGR"
    assert json.loads(metadata.pop("labels")) == list(VOC_CLASSES)
    assert tuple(map(float, metadata.pop("mean").split(","))) == (net.preprocessing or VOCS).mean
    assert not metadata


@pytest.mark.golden
@pytest.mark.parametrize("name", ["DeepLab", "DeepLab-MSc-LargeFOV"])
def test_photos_in_the_original_nets(golden, tmp_path, photo, name):
    net, _ = golden_net(golden, name)
    folder = golden / "nets" / name
    run = Runs(file_of(net, tmp_path, rgb_uint8=True, softmax=True), opencv=False)
    model = DeepLab(folder / "deploy.prototxt", folder / "weights.caffemodel", crf=None)
    for size in ((60, 140), (131, 101)):
        image = photo(*size)
        (found,) = run(image[None])["onnxruntime"]["probs"]
        expected = model(image)
        np.testing.assert_allclose(found, expected.probs, atol=1e-4)  # scores up to 1e-4 apart
        np.testing.assert_array_equal(found.argmax(axis=0), expected.labels)


# --- from a photo to probabilities


@pytest.fixture
def model(tiny, tmp_path):
    """DeepLab with a net of crop 33x41, and weights in a file, and the net."""
    net = read_net(tiny)
    net.fill_random(1)
    net.layers[0].blobs[1].data[:] = [-1, 0, 1, 2, 3]
    weights = tmp_path / "tiny.caffemodel"
    write_caffemodel(net, weights)
    return DeepLab(tiny, weights, device="cpu", crf=None), net


PHOTOS = [(1, 1), (1, 90), (20, 30), (33, 41), (34, 41), (41, 33), (70, 100)]


def test_photos_of_any_size(model, tmp_path, photo):
    ours, net = model
    runs = {
        what: Runs(file_of(net, tmp_path, rgb_uint8=True, softmax=what == "probs"), opencv=False)
        for what in ("scores", "probs")
    }
    for size in PHOTOS:
        images = photo(*size), photo(*size, seed=1)
        expected = [ours(image) for image in images]
        for what, run in runs.items():
            assert run.outputs == [what]
            # One alone, and both as a batch.
            for batch in (images[:1], images):
                found = run(np.stack(batch))["onnxruntime"][what]
                assert found.shape == (len(batch), 4, *size)
                for each, result in zip(found, expected, strict=False):
                    np.testing.assert_allclose(each, getattr(result, what), atol=1e-4)


@pytest.mark.parametrize("name", [name for name in MODELS if MODELS[name].shipped_weights])
def test_photos_in_trained_nets(tmp_path, photo, name):
    model = DeepLab(name, crf=None)
    run = Runs(file_of(model.net, tmp_path, rgb_uint8=True, softmax=True), opencv=False)
    for size in ((50, 70), (150, 130)):
        image = photo(*size)
        (found,) = run(image[None])["onnxruntime"]["probs"]
        np.testing.assert_allclose(found, model(image).probs, atol=1e-4)


def test_the_metadata_of_a_net_for_photos(model, tmp_path):
    _, net = model
    message = model_of(file_of(net, tmp_path, rgb_uint8=True, labels=list("abcd")))
    metadata = {entry.key: entry.value for entry in message.metadata_props}
    assert metadata == {"channel_order": "RGB", "labels": '["a", "b", "c", "d"]'}
    (image,), (scores,) = message.graph.input, message.graph.output
    assert image.name == "image"
    assert image.type.tensor_type.elem_type == message.graph.initializer[0].UINT8
    axes = [axis.dim_param or axis.dim_value for axis in image.type.tensor_type.shape.dim]
    assert axes == ["batch", "height", "width", 3]
    axes = [axis.dim_param or axis.dim_value for axis in scores.type.tensor_type.shape.dim]
    assert axes == ["batch", 4, "height", "width"]


def test_the_mean_and_the_scale_are_the_nets_own(model, tmp_path, photo):
    _, net = model
    net.preprocessing = Preprocessing((1.5, 20.0, 300.0), scale=0.02)
    image = photo(33, 41)
    expected = scores_of(OpenCVEngine(net, "cpu"), preprocess(image, (33, 41), net.preprocessing))
    found = Runs(file_of(net, tmp_path, rgb_uint8=True), opencv=False)(image[None])
    np.testing.assert_allclose(found["onnxruntime"]["scores"], expected, atol=1e-4)


def test_a_net_that_fits_one_size_takes_photos_of_that_size(tmp_path, photo):
    layers = [
        Layer("c", Convolution(3, (3, 3), (1, 1), (4, 4)), ("data",), ("c",)),
        Layer("i", Interp(height=17, width=21), ("c",), ("i",)),
    ]
    net = net_of(*layers, shape=(1, 3, 17, 21))
    image = photo(17, 21)
    expected = scores_of(OpenCVEngine(net, "cpu"), preprocess(image, (17, 21)))
    run = Runs(file_of(net, tmp_path, rgb_uint8=True), opencv=False)
    found = run(image[None])["onnxruntime"]
    np.testing.assert_allclose(found["scores"], expected, atol=1e-4)
    with pytest.raises(Exception, match="Got: 18 Expected: 17"):  # onnxruntime's own
        run(photo(18, 21)[None])


@pytest.mark.parametrize(
    ("shape", "op", "expected"),
    [
        ((1, 1, 9, 9), Convolution(2, (1, 1)), "takes 1x1x9x9, expected 3 channels"),
        ((1, 3, 9, 9), InnerProduct(2), "gives no map of labels: 'a' is 1x2, scores of the image"),
        ((1, 3, 9, 9), Interp(height=9, width=8), "makes scores of 9x8 of an image of 9x9"),
    ],
)
def test_nets_that_do_not_segment_photos(shape, op, expected, tmp_path):
    net = net_of(Layer("a", op, ("data",), ("a",)), shape=shape)
    with pytest.raises(NetError) as error:
        file_of(net, tmp_path, rgb_uint8=True)
    assert_one_line(error, f"net 'n' {expected}")
    assert not list(tmp_path.iterdir())


# --- softmax, labels, train nets


def test_softmax_of_the_scores_alone(model, tmp_path):
    """Other open ends stay as they are."""
    _, net = model
    layers = [*net.layers, Layer("other", ReLU(), ("fc8",), ("other",))]
    layers += [Layer("up2", ReLU(), ("up",), ("scores of the net",))]
    net = net_of(*layers, shape=net.input_shape)
    run = Runs(file_of(net, tmp_path, softmax=True, labels=list("abcd")))
    assert run.outputs == ["other", "probs"]
    data = random_input(1, 3, 33, 49)
    expected = OpenCVEngine(net, "cpu").blobs(data, net.outputs)
    for found in run(data).values():
        np.testing.assert_allclose(found["other"], expected["other"], atol=1e-4)
        probs = softmax(expected["scores of the net"])
        np.testing.assert_allclose(found["probs"], probs, atol=1e-5)


@pytest.mark.parametrize("rgb_uint8", [False, True])
def test_a_net_that_ends_in_softmax(model, tmp_path, photo, rgb_uint8):
    ours, net = model
    net = net_of(*net.layers, Layer("p", Softmax(), ("up",), ("softmax",)), shape=net.input_shape)
    for layer, other in zip(net.layers, ours.net.layers, strict=False):
        layer.blobs = other.blobs
    image = photo(33, 41)
    run = Runs(file_of(net, tmp_path, softmax=True, rgb_uint8=rgb_uint8), opencv=False)
    (found,) = run(image[None] if rgb_uint8 else preprocess(image, (33, 41))).values()
    # For photos the net is made one of scores first.
    name = "probs" if rgb_uint8 else "softmax"
    assert list(found) == [name]
    np.testing.assert_allclose(found[name][0], ours(image).probs, atol=1e-5)


@pytest.mark.parametrize("taken", ["scores", "probs", "image"])
def test_names_of_the_ends_are_kept_for_them(tmp_path, photo, taken):
    layers = [
        Layer("c", Convolution(2, (1, 1)), ("data",), (taken,)),
        Layer("r", ReLU(), (taken,), (taken,)),
    ]
    net = net_of(*layers, shape=(1, 3, 9, 9))
    image = photo(5, 12)
    expected = scores_of(OpenCVEngine(net, "cpu"), preprocess(image, (9, 12)))[:, :, :5]
    run = Runs(file_of(net, tmp_path, rgb_uint8=True), opencv=False)
    np.testing.assert_allclose(run(image[None])["onnxruntime"]["scores"], expected, atol=1e-4)
    run = Runs(file_of(net, tmp_path, rgb_uint8=True, softmax=True), opencv=False)
    found = run(image[None])["onnxruntime"]["probs"]
    np.testing.assert_allclose(found, softmax(expected), atol=1e-5)


@pytest.mark.parametrize("count", [1, 3, 5, 21])
@pytest.mark.parametrize("rgb_uint8", [False, True])
def test_labels_of_another_number(model, tmp_path, count, rgb_uint8):
    _, net = model
    before = set(tmp_path.iterdir())
    with pytest.raises(ArgumentError) as error:
        file_of(net, tmp_path, labels=["x"] * count, rgb_uint8=rgb_uint8)
    assert_one_line(error, f"{count} names of labels, expected 4")
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize("shrunk", [False, True])
def test_train_nets(shrunk, tmp_path):
    layers = [Layer("loss", SoftmaxLoss(), ("data", "label"), ("loss",))]
    if shrunk:
        layers.insert(0, Layer("shrink", Interp(), ("label",), ("small",)))
    net = Net("n", "data", (1, 3, 9, 9), layers, labels={"label": (1, 1, 9, 9)})
    with pytest.raises(NetError) as error:
        file_of(net, tmp_path)
    which = "'shrink' (Interp)" if shrunk else "'loss' (SoftmaxLoss)"
    assert_one_line(error, f"layer {which} takes 'label', which a train net has beside the image")


def test_both_writers_make_one_graph(model, tmp_path):
    _, net = model
    ours, engines = model_of(file_of(net, tmp_path)), model_of(written(net))
    assert ours.graph == engines.graph
    assert not engines.metadata_props


def test_batches_of_a_net_that_joins_them(tmp_path):
    """Whose output has another number of images than its input."""
    net = net_of(Layer("a", Concat(0), ("data", "data"), ("a",)), shape=(1, 3, 4, 5))
    data = random_input(2, 3, 4, 5)
    for found in Runs(file_of(net, tmp_path))(data).values():
        np.testing.assert_array_equal(found["a"], np.concatenate([data, data]))
