"""The trainer's layers, each alone, against the original software."""

import numpy as np
import pytest

from deeplab_repro.caffe import read_net
from tests.train.test_layers_forward_backward import blob, step


@pytest.mark.golden
@pytest.mark.parametrize("kind", ["interp", "padding", "pooling"])
def test_the_authors_layers_alone(golden, kind):
    files = sorted((golden / "layers" / kind).glob("*.prototxt"))
    assert files
    for file in files:
        (layer,) = read_net(file).layers
        with np.load(file.with_suffix(".npz")) as arrays:
            found = step(layer.op, blob(arrays["x"])).top.data
            # An average sums in another order; all the rest is the same to the last bit.
            rtol = 1e-6 if file.stem.startswith("ave") else 0
            np.testing.assert_allclose(found, arrays["y"], rtol=rtol, err_msg=file.stem)


@pytest.mark.golden
def test_the_second_releases_interp_with_both_factors(golden):
    folders = sorted(golden.glob("v2/interp_*"))
    assert folders
    for folder in folders:
        (layer,) = read_net(folder / "deploy.prototxt").layers
        with np.load(folder / "blobs.npz") as arrays:
            found = step(layer.op, blob(arrays["data"])).top.data
            np.testing.assert_array_equal(found, arrays["i"], err_msg=folder.name)
