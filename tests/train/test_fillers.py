"""Caffe's fillers: the distributions of their values."""

import math

import numpy as np
import pytest

from deeplab_repro.errors import NetError
from deeplab_repro.net.net import Blob, Filler
from deeplab_repro.train.fillers import filled
from tests.train.tiny_training import TRAIN, prepared


def values(shape: tuple[int, ...] = (100, 20, 10, 5), **filler) -> np.ndarray:
    blob = Blob(shape, filler=Filler(**filler))
    found = filled(blob, np.random.default_rng(0))
    assert (found.shape, found.dtype) == (shape, np.float32)
    return found


def test_constant_filler():
    np.testing.assert_array_equal(values(type="constant", value=0.25), np.float32(0.25))
    assert not values(type="constant").any()
    assert not filled(Blob((3,)), np.random.default_rng(0)).any()  # as where none is given


# 100,000 values: means and deviations within a hundredth, three times what is to be expected.
FAN_IN = 20 * 10 * 5


def test_gaussian_fillers():
    for found, mean, std in (
        (values(type="gaussian", mean=3, std=0.5), 3, 0.5),
        (values(type="msra", mean=3, std=7), 0, math.sqrt(2 / FAN_IN)),
    ):
        assert abs(found.mean() - mean) < 0.01 * std
        assert found.std() == pytest.approx(std, rel=0.01)
        assert np.mean(np.abs(found - mean) < std) == pytest.approx(0.683, abs=0.01)


def test_uniform_fillers():
    bound = math.sqrt(3 / FAN_IN)
    for found, low, high in (
        (values(type="uniform", min=-1, max=3), -1, 3),
        (values(type="xavier", min=-1, max=3), -bound, bound),
    ):
        assert found.min() >= np.float32(low)
        assert found.max() <= np.float32(high)
        counts, _ = np.histogram(found, 10, (low, high))
        np.testing.assert_allclose(counts, 10_000, rtol=0.05)


@pytest.mark.parametrize(
    ("size", "row"),
    [(4, [1, 3, 3, 1]), (3, [1, 2, 1]), (1, [1]), (16, [*range(1, 17, 2), *range(15, 0, -2)])],
)
def test_bilinear_filler(size, row):
    """The weights of a Deconvolution of stride 2, 2, 1 and 8: what overlaps adds up to 1."""
    stride = (size + 1) // 2
    row = np.array(row) / (stride if size % 2 else 2 * stride)
    assert row[::stride].sum() == pytest.approx(1)
    found = values((3, 2, size, size), type="bilinear")
    np.testing.assert_allclose(found, np.broadcast_to(np.outer(row, row), found.shape), rtol=1e-6)


@pytest.mark.parametrize("shape", [(3,), (3, 2), (3, 2, 4, 5)])
def test_a_bilinear_filler_wants_square_kernels(shape):
    with pytest.raises(NetError, match=r"filler bilinear for .*expected square kernels"):
        values(shape, type="bilinear")


def test_each_blob_has_random_numbers_of_its_own(tmp_path):
    same = 'weight_filler { type: "gaussian" std: 1 } bias_filler { type: "gaussian" std: 1 } }'
    conv = f"convolution_param {{ num_output: 3 kernel_size: 1 {same} }}\n"
    text = TRAIN.replace(
        'layers { name: "relu1"',
        "".join(
            f'layers {{ name: "{name}" type: CONVOLUTION bottom: "data" top: "{name}" {conv}'
            for name in ("one", "two")
        )
        + 'layers { name: "relu1"',
    )
    solver, _ = prepared(tmp_path, train=text)
    blobs = [
        blob.data.ravel()[:3]
        for layer in solver.net.layers
        if layer.name in ("one", "two")
        for blob in layer.blobs
    ]
    assert len({array.tobytes() for array in blobs}) == 4
