"""The original's nets and layers, for every engine that is to run them as it did."""

from dataclasses import replace

import numpy as np

from deeplab_repro.caffe import load_weights, read_net
from deeplab_repro.net.preprocess import preprocess
from tests.slow_layers import scores_of

NETS = (
    "DeepLab",
    "DeepLab-LargeFOV",
    "DeepLab-LargeFOV-513",
    "DeepLab-MSc",
    "DeepLab-MSc-LargeFOV",
)


def check_every_blob(make_engine, folder):
    """Compare the blobs and scores of an engine with those of the original in `folder`."""
    net = read_net(folder / "deploy.prototxt")
    load_weights(net, folder / "weights.caffemodel")
    engine = make_engine(net, "cpu")
    with np.load(folder / "expected.npz") as expected, np.load(folder / "blob_samples.npz") as own:
        data = preprocess(expected["image"], net.input_shape[2:])
        names = [key.removesuffix("__index") for key in own.files if key.endswith("__index")]
        names.remove("data")
        blobs = engine.blobs(data, names)
        for blob in names:
            assert blobs[blob].shape == tuple(own[f"{blob}__shape"])
            difference = blobs[blob].ravel()[own[f"{blob}__index"]] - own[f"{blob}__value"]
            # Both sum hundreds of products in float32, in another order.
            assert np.abs(difference).max() <= 1e-4 * max(1, own[f"{blob}__std"]), blob
        scores = scores_of(engine, data)
        if "scores" in expected:
            theirs = expected["scores"]
        else:
            scores, theirs = scores[:, :, ::8, ::8], expected["scores_every_8th_pixel"]
        assert np.abs(scores - theirs).max() <= 1e-4 * max(1, theirs.std())
        np.testing.assert_array_equal(scores.argmax(axis=1), theirs.argmax(axis=1))


def check_layers(make_engine, golden, atol):
    """Compare the authors' own layers, each alone: v1's, and v2's INTERP with both factors."""
    for file in sorted(golden.glob("layers/*/*.prototxt")):
        with np.load(file.with_suffix(".npz")) as arrays:
            ours = scores_of(make_engine(read_net(file), "cpu"), arrays["x"])
            np.testing.assert_allclose(ours, arrays["y"], rtol=0, atol=atol, err_msg=file.stem)
    for folder in sorted(golden.glob("v2/interp_*")):
        net = read_net(folder / "deploy.prototxt")
        with np.load(folder / "blobs.npz") as arrays:
            ours = scores_of(make_engine(net, "cpu"), arrays["data"])
            # Positions up to 55 are rounded: 4e-6 off, times differences of up to 6.
            np.testing.assert_allclose(ours, arrays["i"], rtol=0, atol=2.5e-5, err_msg=folder.name)


BVLCS = (
    "batchnorm_eps",
    "batchnorm_scale_in_place",
    "bias",
    "bilinear_group_deconvolution",
    "crop",
    "crop_two_offsets",
    "fcn_skips",
    "flatten_reshape_inner_product",
    "global_pooling",
    "leaky_relu",
    "lrn_across",
    "lrn_within",
    "power_abs_exp_log",
    "prelu",
    "residual_with_holes",
    "scale_of_two_bottoms",
    "shared_by_name",
    "sigmoid_tanh_elu",
    "slice_concat",
)
# That people trained; of these there are the scores alone.
REAL = ("cifar10-full-v1", "cifar10-quick-v1", "lenet-rmsprop-v2", "lenet-v1", "mtcnn-det1")
FAMILY = (
    *(f"bvlc/{name}" for name in BVLCS),
    *(f"real/{name}" for name in REAL),
    *("v2/ResNet101", "v2/VGG16"),
)
"""Nets of later Caffes, with what they recorded."""


def family_net(folder):
    """A net of the family with its weights, its input, and the blobs that Caffe made of it."""
    net = read_net(
        folder / "net.prototxt" if "bvlc" in folder.parts else folder / "deploy.prototxt"
    )
    load_weights(net, folder / "weights.caffemodel")
    if "real" in folder.parts:
        with np.load(folder / "io.npz") as blobs:
            data, scores = blobs["input"], blobs["output"]
        return replace(net, input_shape=data.shape), data, {"prob": scores}
    with np.load(folder / "blobs.npz") as blobs:
        expected = {name: blobs[name] for name in blobs.files}
    return net, expected.pop(net.input), expected


def assert_originals(found, expected):
    """That blobs are Caffe's: both sum products in float32, in another order."""
    for name, theirs in expected.items():
        assert found[name].shape == theirs.shape
        assert np.abs(found[name] - theirs).max() <= 1e-4 * max(1, theirs.std()), name
    np.testing.assert_array_equal(found[name].argmax(axis=1), theirs.argmax(axis=1))  # the last
