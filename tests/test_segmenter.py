"""The pipeline: images of any size in, labels of that size out, one after the other or streamed."""

import copy
import pickle

import numpy as np
import pytest

from deeplab_repro.caffe import load_weights, read_net, write_caffemodel
from deeplab_repro.crf.params import CrfParams
from deeplab_repro.engines.opencv import OpenCVEngine
from deeplab_repro.errors import (
    ArgumentError,
    DeepLabError,
    NetError,
    ResourceError,
    WeightsError,
)
from deeplab_repro.machine import memory
from deeplab_repro.models.registry import MODELS
from deeplab_repro.net.preprocess import preprocess
from deeplab_repro.segmenter import DeepLab, Recipe
from tests.conftest import assert_one_line

CRF = CrfParams(4, 20, 5)


@pytest.fixture
def model(tiny):
    return DeepLab(tiny, "random:0", device="cpu", crf=None)


@pytest.fixture
def write_net(tmp_path):
    """Write a prototxt of layers on an image of 3 channels (or others) and 17x17 pixels."""

    def write(layers, channels=3, name="other"):
        path = tmp_path / f"{name}.prototxt"
        size = "input_dim: 17 input_dim: 17"
        head = f'name: "{name}" input: "data" input_dim: 1 input_dim: {channels} {size}\n'
        path.write_text(head + layers)
        return path

    return write


def conv(num_output, top="fc8", bottom="data"):
    parameters = f"convolution_param {{ num_output: {num_output} kernel_size: 1 }}"
    names = f'name: "{top}" type: CONVOLUTION bottom: "{bottom}" top: "{top}"'
    return f"layers {{ {names} {parameters} }}\n"


# --- the net


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (33, 41), (20, 7), (34, 41), (90, 77)])
def test_any_size_is_padded_to_what_the_net_takes(model, photo, size):
    image = photo(*size)
    result = model(image)
    fitted = model.net.fitting_size(size)
    engine, output = OpenCVEngine(model.net, "cpu"), model.net.output
    whole = engine.blobs(preprocess(image, fitted), [output])[output][0, :, : size[0], : size[1]]
    # OpenCV's INTERP and ours round otherwise, in float32.
    np.testing.assert_allclose(result.scores, whole, rtol=0, atol=1e-5 * whole.std())
    assert result.scores.shape == (4, *size)
    assert result.scores.dtype == result.probs.dtype == np.float32
    assert result.scores.flags.c_contiguous
    np.testing.assert_array_equal(result.labels, result.scores.argmax(axis=0))
    assert result.labels.dtype == np.uint8
    assert result.marginals is None
    assert result.net_seconds > 0
    assert result.crf_seconds == 0


@pytest.mark.golden
@pytest.mark.parametrize("name", ["DeepLab", "DeepLab-LargeFOV", "DeepLab-MSc"])
def test_scores_of_the_original_at_image_size(golden, name):
    folder = golden / "nets" / name
    model = DeepLab(folder / "deploy.prototxt", folder / "weights.caffemodel", crf=None)
    with np.load(folder / "expected.npz") as expected:
        image, theirs = expected["image"], expected["scores"]
    theirs = theirs[0, :, : image.shape[0], : image.shape[1]]
    result = model(image)
    # The bar of the golden nets: float32 sums in another order.
    assert np.abs(result.scores - theirs).max() <= 1e-4 * max(1, theirs.std())
    np.testing.assert_array_equal(result.labels, theirs.argmax(axis=0))


@pytest.mark.golden
def test_a_large_image_runs_at_its_own_size_in_a_multiscale_net(golden, photo):
    folder = golden / "nets" / "DeepLab-MSc"
    model = DeepLab(folder / "deploy.prototxt", folder / "weights.caffemodel", crf=None)
    assert model(photo(100, 150)).scores.shape == (21, 100, 150)


def test_ties_go_to_the_lowest_label(write_net, tmp_path):
    path = write_net(conv(3))
    net = read_net(path)
    for blob in net.layers[0].blobs:
        blob.data = np.zeros(blob.shape, np.float32)
    write_caffemodel(net, tmp_path / "zeros.caffemodel")
    model = DeepLab(path, tmp_path / "zeros.caffemodel", crf=None)
    result = model(np.full((4, 5, 3), 200, np.uint8))
    assert (result.labels == 0).all()
    np.testing.assert_allclose(result.probs, 1 / 3, rtol=1e-6)  # float32


def test_a_view_of_an_image_is_an_image(model, photo):
    image = photo(40, 50)
    view = image[::2, ::-1]
    np.testing.assert_array_equal(model(view).scores, model(view.copy()).scores)


# --- which nets


def test_a_training_net_is_made_one_of_scores(write_net):
    layers = """layers { name: "fc8" type: CONVOLUTION bottom: "data" top: "fc8"
      convolution_param { num_output: 3 kernel_size: 3 pad: 1 stride: 8 } }
    layers { name: "prob" type: SOFTMAX bottom: "fc8" top: "prob" }"""
    model = DeepLab(write_net(layers), "random:0", crf=None)
    assert model.net.output == "fc8_interp"
    result = model(np.zeros((20, 9, 3), np.uint8))
    assert result.scores.shape == (3, 20, 9)


def test_the_training_net_of_the_paper():
    model = MODELS["DeepLab-LargeFOV"]
    ours = read_net(model.train_prototxt).ending_in_scores()
    assert ours.output_shape() == (1, 21, 321, 321)
    with pytest.raises(ArgumentError, match="give the net's test prototxt"):
        DeepLab(MODELS["DeepLab"].train_prototxt, "random:0")


@pytest.mark.parametrize("labels", [1, 2, 255])
def test_any_number_of_labels_that_fits(write_net, labels):
    model = DeepLab(write_net(conv(labels)), "random:0", crf=None)
    result = model(np.zeros((4, 5, 3), np.uint8))
    assert result.probs.shape == (labels, 4, 5)
    assert result.labels.max() < labels


@pytest.mark.parametrize(
    ("layers", "channels", "expected"),
    [
        (conv(256), 3, "of shape 1x256x17x17, expected scores of 1 to 255 labels"),
        (conv(2), 1, "takes 1x1x17x17, expected 3 channels"),
        (
            'layers { name: "c" type: CONCAT bottom: "data" bottom: "data" top: "c" '
            "concat_param { concat_dim: 0 } }",
            3,
            "of shape 2x3x17x17",
        ),
    ],
)
def test_nets_that_do_not_segment(write_net, layers, channels, expected):
    with pytest.raises(NetError) as error:
        DeepLab(write_net(layers, channels), "random:0", crf=None)
    assert expected in str(error.value)


def test_a_net_of_one_vector_an_image(write_net):
    path = write_net(
        'layers { name: "ip" type: INNER_PRODUCT bottom: "data" top: "ip" '
        "inner_product_param { num_output: 10 } }"
    )
    with pytest.raises(NetError) as error:
        DeepLab(path, "random:0", crf=None)
    assert_one_line(
        error,
        "net 'other' gives no map of labels: 'ip' is 1x10, scores of the image as a whole",
        "convert it to ONNX, without rgb-uint8, and run that as docs/convert.md shows",
    )


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"weights": None}, "needs weights: give a caffemodel (--weights), or"),
        ({"weights": "random:"}, "expected random: and a whole number"),
        ({"weights": "random:-1"}, "expected random: and a whole number"),
        ({"weights": "random:0", "iterations": -1}, "iterations is -1"),
        ({"weights": "random:0", "iterations": 2.5}, "iterations is 2.5"),
        ({"weights": "random:0", "variables": ["A=1"]}, "variables is a list, expected a dict"),
        ({"weights": "random:0", "device": "gpu"}, "device is 'gpu'"),
        ({"weights": "random:0", "crf": "paper"}, "crf is 'paper'"),
        ({"weights": "random:0", "crf": "model"}, "no CRF parameters are published for net 'tiny'"),
    ],
)
def test_arguments_out_of_range(tiny, arguments, expected):
    with pytest.raises(ArgumentError) as error:
        DeepLab(tiny, **{"crf": None, **arguments})
    assert expected in str(error.value)


def test_unknown_models_and_missing_files(tmp_path):
    with pytest.raises(ArgumentError, match="did you mean DeepLab-LargeFOV"):
        DeepLab("DeepLab-LargeFOW", "random:0")
    for missing in ("nowhere.prototxt", "some/where", tmp_path / "DeepLab"):
        with pytest.raises(DeepLabError, match="cannot be read: no such file"):
            DeepLab(missing, "random:0")
    with pytest.raises(DeepLabError, match="is a folder"):
        DeepLab(str(tmp_path), "random:0")


def test_a_file_named_as_a_model_does_not_hide_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "DeepLab").touch()
    with pytest.raises(ArgumentError, match="net 'DeepLab' needs weights"):
        DeepLab("DeepLab")
    with pytest.raises(DeepLabError, match="is empty"):
        DeepLab(tmp_path / "DeepLab")


def test_a_model_is_not_copied_but_its_recipe_is(tiny, photo):
    """Copies would be of the files, and not of what was changed of the model since."""
    model = DeepLab(tiny, "random:0", crf=None)
    for copy_of in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(ArgumentError, match=r"give a Recipe\('tiny'\) to the other"):
            copy_of(model)
    recipe = pickle.loads(pickle.dumps(Recipe(tiny, "random:0", crf=None)))
    np.testing.assert_array_equal(recipe.build()(photo(5, 6)).scores, model(photo(5, 6)).scores)


def test_crf_parameters_of_the_net_or_its_file(write_net):
    published = DeepLab(write_net(conv(2), name="DeepLab-MSc"), "random:0").crf
    assert published == MODELS["DeepLab-MSc"].crf
    block = """layers { name: "crf" type: DENSE_CRF bottom: "fc8" bottom: "data" top: "crf"
      dense_crf_param { max_iter: 10 pos_w: 2 pos_xy_std: 1
      bi_w: 7 bi_xy_std: 40 bi_rgb_std: 6 %s } }"""
    own = DeepLab(write_net(conv(2) + block % ""), "random:0").crf
    assert own == CrfParams(7, 40, 6, w2=2, sigma_gamma=1)
    with pytest.raises(ArgumentError, match="no CRF parameters"):
        DeepLab(write_net(conv(2) + block % "pos_w: 1 pos_xy_std: 9"), "random:0")
    wrong = (block % "").replace("bi_w: 7", "bi_w: -7")
    with pytest.raises(ArgumentError, match=r"net 'other' asks for a CRF: .* w1 is -7\.0;"):
        DeepLab(write_net(conv(2) + wrong), "random:0")


def test_broken_weights(write_net, tmp_path, photo):
    path = write_net(conv(2))
    net = read_net(path)
    net.fill_random(0)
    weights = tmp_path / "w.caffemodel"
    for value in (np.nan, np.inf, 3e38):
        net.layers[0].blobs[0].data[0, 0] = value
        write_caffemodel(net, weights)
        model = DeepLab(path, weights, crf=CRF)
        with pytest.raises(WeightsError, match="'other' gives scores that are NaN or infinite"):
            model(photo(4, 5))


# --- memory


def test_too_little_memory_is_seen_first(tiny, monkeypatch, photo):
    model = DeepLab(tiny, "random:0", crf=None)
    model(photo(33, 41))
    monkeypatch.setattr(memory, "available_memory", lambda: 10**6)
    with pytest.raises(ResourceError, match=r"net 'tiny' on an image of 1257x1633 pixels: needs"):
        model(photo(1600, 1200))
    model(photo(20, 20))  # takes no more than it has


def test_a_net_that_needs_more_memory_than_there_is(write_net):
    path = write_net(conv(2))
    huge = path.read_text().replace("17", "2000000")
    path.write_text(huge)
    with pytest.raises(ResourceError, match="2000000x2000000 pixels"):
        DeepLab(path, "random:0", crf=None)
    path.write_text(huge.replace("2000000", "17").replace("output: 2", "output: 2147483647"))
    with pytest.raises(DeepLabError):
        DeepLab(path, "random:0", crf=None)


def test_hidden_layers_that_need_more_memory_than_there_is(write_net):
    path = write_net(conv(2147483647, top="a") + conv(2, bottom="a"))
    with pytest.raises(ResourceError, match="net 'other'"):
        DeepLab(path, "random:0", crf=None)


# --- the CRF


def test_the_crf_refines(tiny, photo):
    image = photo(30, 40)
    model = DeepLab(tiny, "random:0", crf=CRF, iterations=2)
    plain = model.run_net(image)
    result = model(image)
    np.testing.assert_array_equal(result.probs, plain.probs)
    assert result.marginals.shape == (4, 30, 40)
    assert result.marginals.dtype == np.float32
    np.testing.assert_array_equal(result.labels, result.marginals.argmax(axis=0))
    assert result.crf_seconds > 0
    without = DeepLab(tiny, "random:0", crf=CRF, iterations=0)(image)
    np.testing.assert_array_equal(without.labels, plain.labels)


@pytest.mark.golden
def test_weights_of_a_caffemodel_are_loaded(golden):
    folder = golden / "nets" / "DeepLab-LargeFOV"
    model = DeepLab(str(folder / "deploy.prototxt"), str(folder / "weights.caffemodel"), crf=None)
    net = read_net(folder / "deploy.prototxt")
    load_weights(net, folder / "weights.caffemodel")
    for ours, theirs in zip(model.net.layers, net.layers, strict=True):
        for blob, other in zip(ours.blobs, theirs.blobs, strict=True):
            np.testing.assert_array_equal(blob.data, other.data)
    assert model.device == "cpu"
