"""OpenCV runs our nets as Caffe did: against the original's own outputs."""

import numpy as np
import pytest

from deeplab_repro.caffe import load_weights, read_net
from deeplab_repro.engines.opencv import BY_CAFFE, OpenCVEngine
from deeplab_repro.image import preprocess

NETS = (
    "DeepLab",
    "DeepLab-LargeFOV",
    "DeepLab-LargeFOV-513",
    "DeepLab-MSc",
    "DeepLab-MSc-LargeFOV",
)


@pytest.mark.golden
@pytest.mark.parametrize("name", NETS)
def test_every_blob_is_the_originals(golden, name):
    folder = golden / "nets" / name
    net = read_net(folder / "deploy.prototxt")
    load_weights(net, folder / "weights.caffemodel")
    engine = OpenCVEngine(net, "cpu")
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
        scores = engine.forward(data)
        if "scores" in expected:
            theirs = expected["scores"]
        else:
            scores, theirs = scores[:, :, ::8, ::8], expected["scores_every_8th_pixel"]
        assert np.abs(scores - theirs).max() <= 1e-4 * max(1, theirs.std())
        np.testing.assert_array_equal(scores.argmax(axis=1), theirs.argmax(axis=1))


@pytest.mark.golden
def test_the_authors_layers_alone(golden):
    for file in sorted(golden.glob("layers/*/*.prototxt")):
        with np.load(file.with_suffix(".npz")) as arrays:
            ours = OpenCVEngine(read_net(file), "cpu").forward(arrays["x"])
            # OpenCV 5 keeps a zoom's positions as multiples of a rounded 1 / factor.
            atol = 1e-6 if BY_CAFFE else 1e-5
            np.testing.assert_allclose(ours, arrays["y"], rtol=0, atol=atol, err_msg=file.stem)
