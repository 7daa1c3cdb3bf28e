"""Nets in PyTorch give what Caffe and a run in float64 give; skipped without PyTorch."""

from dataclasses import replace

import numpy as np
import pytest

from deeplab_repro.caffe import load_weights, read_net
from deeplab_repro.engines.exact import exact_blobs
from deeplab_repro.engines.opencv import OpenCVEngine
from deeplab_repro.net.channel_layers import (
    BN,
    ELU,
    LRN,
    AbsVal,
    BatchNorm,
    Bias,
    Exp,
    Log,
    Power,
    PReLU,
    Scale,
    Sigmoid,
    TanH,
)
from deeplab_repro.net.layers import (
    Concat,
    Convolution,
    Deconvolution,
    Dropout,
    Eltwise,
    InnerProduct,
    Interp,
    Padding,
    Pooling,
    ReLU,
    Softmax,
    Split,
)
from deeplab_repro.net.net import Layer
from deeplab_repro.net.preprocess import MeanImage, Preprocessing, preprocess
from deeplab_repro.net.shape_layers import ArgMax, Crop, Flatten, Reshape, Slice, Tile
from tests.convert.torch_nets import TorchNet, torch
from tests.engines.golden_nets import FAMILY, NETS, assert_originals, family_net
from tests.slow_layers import net_of, one_layer, random_input
from tests.train import golden_run

torch.set_num_threads(1)  # its threads take longer to start than these nets to run


# --- the original's nets


@pytest.mark.golden
@pytest.mark.parametrize("name", NETS)
def test_nets_make_the_originals_scores(golden, tmp_path, name):
    folder = golden / "nets" / name
    net = read_net(folder / "deploy.prototxt")
    load_weights(net, folder / "weights.caffemodel")
    made = TorchNet(net, tmp_path)
    with np.load(folder / "expected.npz") as expected:
        data = preprocess(expected["image"], net.input_shape[2:])
        scores = made(data)[net.output]
        if "scores" in expected:
            assert_originals({"scores": scores}, {"scores": expected["scores"]})
        else:
            coarse = scores[:, :, ::8, ::8]
            assert_originals({"scores": coarse}, {"scores": expected["scores_every_8th_pixel"]})
            return  # large
    assert_as_engine(made, net, (net.input_shape[2] + 8, net.input_shape[3] + 1))


@pytest.mark.golden
@pytest.mark.parametrize("name", FAMILY)
def test_nets_make_caffes_outputs(golden, tmp_path, name):
    net, data, expected = family_net(golden / name)
    made = TorchNet(net, tmp_path)
    outputs = made(data)
    assert_originals(outputs, {blob: expected[blob] for blob in net.outputs if blob in expected})
    if name.startswith("v2/"):
        assert_as_engine(made, net, (data.shape[2] + 8, data.shape[3] + 1))


@pytest.mark.golden
def test_interp_by_both_factors(golden, tmp_path):
    for folder in sorted(golden.glob("v2/interp_*")):
        with np.load(folder / "blobs.npz") as arrays:
            found = TorchNet(read_net(folder / "deploy.prototxt"), tmp_path)(arrays["data"])
            # As in golden_nets.py.
            np.testing.assert_allclose(found["i"], arrays["i"], rtol=0, atol=2.5e-5)


def assert_as_engine(made, net, size):
    """That it makes what OpenCV makes of an image of the next size that fits this one."""
    data = random_input(1, net.input_shape[1], *net.fitting_size(size))
    assert_originals(made(data), OpenCVEngine(net, "cpu").blobs(data, net.outputs))


@pytest.mark.golden
@pytest.mark.parametrize("name", ["DeepLab-LargeFOV", "DeepLab-MSc-LargeFOV"])
def test_gradients_are_the_originals(golden, tmp_path, name):
    folder = golden / "train" / name
    net = golden_run.read(folder)
    without = [layer for layer in net.layers if not {"label", "label_shrink"} & set(layer.bottoms)]
    made = TorchNet(replace(net, layers=without, labels={}), tmp_path)
    with np.load(folder / "first_step.npz") as recorded:
        scores = made.net.train()(torch.from_numpy(recorded["data"]))
        labels = torch.from_numpy(recorded["label"][:, 0, ::8, ::8]).long()
        torch.nn.functional.cross_entropy(scores, labels, ignore_index=255).backward()
        for layer in without:
            module = dict(made.net.named_children()).get(layer.name)
            for i, parameter in enumerate(module.parameters() if module else ()):
                expected = recorded[f"{layer.name}.param{i}.diff"]
                if expected.any():  # what does not learn has none there
                    assert golden_run.distance(parameter.grad.numpy(), expected) < 1e-4


# --- layers, against a run in float64


def conv(name, bottom, top, **settings):
    return Layer(name, Convolution(4, (3, 3), (1, 1), **settings), (bottom,), (top,))


OPS = [
    AbsVal(),
    ArgMax(),
    ArgMax(axis=1),
    ArgMax(axis=2, out_max_val=True),
    BN(eps=1e-3),
    BatchNorm(eps=1e-3),
    Bias(),
    Bias(axis=1, num_axes=-1),
    Concat(axis=-1),
    Convolution(6, (3, 2), (1, 2), (2, 1), (1, 2), group=2, bias=False),
    Deconvolution(6, (4, 3), (1, 0), (2, 3), group=2),
    Dropout(0.3),
    ELU(0.7),
    Eltwise("SUM"),
    Exp(2.0, 0.01, 0.5),
    Flatten(),
    Flatten(2, 3),
    InnerProduct(5, bias=False),
    Interp(zoom_factor=3, pad_beg=-1, pad_end=-2),
    Interp(zoom_factor=2, shrink_factor=3, pad_beg=-1),
    Interp(height=5, width=17),
    LRN(3, 0.01, 0.75, k=2.0),
    LRN(3, 0.01, 0.75, "WITHIN_CHANNEL"),
    Log(2.0, 0.001, 9.0),
    PReLU(),
    PReLU(channel_shared=True),
    Padding(2, 1),
    Padding(-2, -1),
    Pooling("AVE", (0, 0)),
    Pooling("MAX", (0, 0)),
    Power(2.0, 0.01, 0.5),
    Power(scale=-2.0, shift=3.0),
    ReLU(0.1),
    Reshape((0, -1, 7)),
    Scale(bias=True),
    Scale(num_axes=0),
    Scale(axis=1, num_axes=3, bias=True),
    Sigmoid(),
    Softmax(),
    Split(),
    TanH(),
    Tile(2, axis=2),
]


@pytest.mark.parametrize("op", OPS, ids=repr)
def test_layers(op, tmp_path):
    bottoms = ("data",) * 2 if isinstance(op, Concat | Eltwise) else ("data",)
    net = one_layer(op, (2, 4, 6, 7), bottoms)
    made = TorchNet(net, tmp_path)
    assert set(made.net.state_dict()) == set(made.stored)
    shapes = [net.input_shape]
    if net.fits_any_size or (isinstance(op, Interp) and op.height is None):
        shapes.append((1, 4, 11, 8))
    for shape in shapes:
        data = random_input(*shape)
        (expected,) = exact_blobs(net, data, net.outputs).values()
        np.testing.assert_allclose(made(data)["a"], expected, rtol=1e-4, atol=1e-4)


def test_layers_of_several_bottoms_and_tops(tmp_path):
    net = net_of(
        Layer("slice", Slice(slice_point=(1, 3)), ("data",), ("a", "b", "c")),
        Layer("max", Eltwise("MAX"), ("a", "c", "a"), ("d",)),
        Layer("prod", Eltwise("PROD"), ("a", "d"), ("e",)),
        Layer("sum", Eltwise("SUM", (0.5, -1.0)), ("d", "e"), ("f",)),
        Layer("pool", Pooling("MAX", (2, 2), stride=(2, 2)), ("b",), ("g",)),
        Layer("crop", Crop(offset=(1, 2)), ("f", "g"), ("h",)),
        shape=(2, 4, 6, 7),
    )
    made = TorchNet(net, tmp_path)
    for shape in ((2, 4, 6, 7), (1, 4, 9, 12)):
        data = random_input(*shape)
        for name, expected in exact_blobs(net, data, net.outputs).items():
            np.testing.assert_allclose(made(data)[name], expected, rtol=1e-5, atol=1e-3)


def test_a_blob_that_is_changed_in_place_while_another_still_is_it(tmp_path):
    net = net_of(
        Layer("split", Split(), ("data",), ("kept", "other")),
        Layer("scale", Scale(bias=True), ("data",), ("data",)),
        Layer("same", Eltwise("MAX"), ("other",), ("same",)),
        Layer("tanh", TanH(), ("kept",), ("tanh",)),
        Layer("again", AbsVal(), ("data",), ("data",)),
        shape=(1, 4, 6, 7),
    )
    data = random_input(1, 4, 6, 7)
    found = TorchNet(net, tmp_path)(data)
    for name, expected in exact_blobs(net, data, net.outputs).items():
        np.testing.assert_allclose(found[name], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", ["MAX", "AVE"])
def test_poolings_of_all_sizes(method, tmp_path):
    for kernel, pad, stride in ((2, 0, 2), (2, 1, 2), (3, 0, 2), (3, 1, 1), (3, 1, 2), (3, 1, 4)):
        op = Pooling(method, (kernel, kernel), (pad, pad), (stride, stride))
        net = one_layer(op, (1, 2, 9, 9))
        made = TorchNet(net, tmp_path)
        for height in range(kernel, 12):
            data = random_input(1, 2, height, 14 - height)
            (expected,) = exact_blobs(net, data, net.outputs).values()
            np.testing.assert_allclose(made(data)["a"], expected, rtol=1e-5, atol=1e-4)


def test_weights_that_layers_share(tmp_path):
    """By a layer as it is, and by one with holes."""
    layers = [conv("one", "data", "one"), conv("two", "pooled", "two")]
    layers.insert(1, Layer("pool", Pooling("MAX", (2, 2)), ("data",), ("pooled",)))
    layers.append(Layer("three", replace(layers[0].op, hole=(2, 2), pad=(2, 2)), ("data",), ("3",)))
    net = net_of(*layers, shape=(1, 4, 8, 9))
    for blob, name in zip(net.layers[0].blobs, "wb", strict=True):
        blob.name = name
    for layer in (net.layers[2], net.layers[3]):
        layer.blobs = net.layers[0].blobs
    made = TorchNet(net, tmp_path)
    assert set(made.stored) == {"one.weight", "one.bias"} == set(made.net.state_dict())
    data = random_input(1, 4, 8, 9)
    for name, expected in exact_blobs(net, data, net.outputs).items():
        np.testing.assert_allclose(made(data)[name], expected, rtol=1e-5, atol=1e-3)


# --- what is around the net


@pytest.mark.parametrize("scale", [1.0, 0.0078125])
def test_preprocess(scale, tmp_path, photo):
    op = Convolution(4, (3, 3), (1, 1))
    net = replace(one_layer(op, (1, 3, 33, 41)), preprocessing=Preprocessing(scale=scale))
    make = TorchNet(net, tmp_path).names["preprocess"]
    for size in ((20, 30), (33, 41), (34, 42), (120, 40)):
        image = photo(*size)
        expected = preprocess(image, net.fitting_size(size), net.preprocessing)
        np.testing.assert_allclose(make(image), expected, rtol=1e-6, atol=1e-6)
        np.testing.assert_array_equal(make(torch.from_numpy(image)), make(image))
    for wrong in (image / 255, image[0], image[..., :1]):
        with pytest.raises(ValueError, match="expected HxWx3 uint8"):
            make(wrong)


def test_a_mean_of_each_pixel(tmp_path, photo):
    mean = MeanImage("mean.binaryproto", np.abs(random_input(3, 20, 24)))
    op = Convolution(4, (3, 3), (1, 1))
    net = replace(one_layer(op, (1, 3, 20, 24)), preprocessing=Preprocessing(mean))
    made = TorchNet(net, tmp_path)
    image = photo(20, 24)
    expected = preprocess(image, net.fitting_size((20, 24)), net.preprocessing)
    np.testing.assert_allclose(made.names["preprocess"](image), expected, rtol=1e-6, atol=1e-5)
    with pytest.raises(ValueError, match="expected 20x24x3"):
        made.names["preprocess"](photo(20, 25))
