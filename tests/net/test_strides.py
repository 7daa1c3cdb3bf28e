"""Strides of the scores: of the path that they take, whatever branches do beside it."""

import numpy as np
import pytest

from deeplab_repro.caffe import write_caffemodel, write_prototxt
from deeplab_repro.net.layers import (
    Concat,
    Convolution,
    Deconvolution,
    Eltwise,
    InnerProduct,
    Interp,
    LayerType,
    Pooling,
    Softmax,
)
from deeplab_repro.net.net import Layer, Net
from deeplab_repro.net.preprocess import Preprocessing
from deeplab_repro.segmenter import DeepLab


def layer(top: str, op: LayerType, *bottoms: str) -> Layer:
    return Layer(top, op, bottoms, (top,))


def conv(top: str, bottom: str, stride: int = 1, num_output: int = 4) -> Layer:
    kernel = 2 * (stride // 2) + 1
    op = Convolution(num_output, (kernel,) * 2, (stride // 2,) * 2, (stride,) * 2)
    return layer(top, op, bottom)


def pooled(cells: int, size: int, back: LayerType) -> list[Layer]:
    """A pyramid's branch: averages of so many cells a row, a classifier, and their size again."""
    step = size // cells
    pool = Pooling("AVE", (step, step), stride=(step, step))
    return [
        layer(f"pool{cells}", pool, "c8"),
        conv(f"score{cells}", f"pool{cells}"),
        layer(f"back{cells}", back, f"score{cells}"),
    ]


def pyramid(*branches: Layer, size: int = 65, join: LayerType, last: tuple[Layer, ...]) -> Net:
    """c8 at stride 8 joined with branches."""
    backs = [branch.name for branch in branches if branch.name.startswith("back")]
    layers = [conv("c8", "data", 8), *branches, layer("join", join, "c8", *backs), *last]
    return Net("pyramid", "data", (1, 3, size, size), layers)


TO_9, TO_60 = Interp(height=9, width=9), Interp(height=60, width=60)
PSP = [each for cells in (1, 2, 3, 6) for each in pooled(cells, 60, TO_60)]
WHOLE = Deconvolution(4, (9, 9))  # one cell, spread out


@pytest.mark.parametrize(
    "net",
    [
        pyramid(*pooled(1, 9, TO_9), join=Concat(), last=(conv("score", "join"),)),
        pyramid(*pooled(1, 9, TO_9), join=Concat(), last=()),
        pyramid(*pooled(3, 9, TO_9), join=Eltwise(), last=()),
        pyramid(*pooled(1, 9, WHOLE), join=Concat(), last=()),
        pyramid(*pooled(3, 9, Interp(zoom_factor=4)), join=Concat(), last=()),
        pyramid(
            layer("pool", Pooling("AVE", (0, 0)), "c8"),  # the whole image
            layer("back", TO_9, "pool"),
            join=Concat(),
            last=(conv("score", "join"),),
        ),
        pyramid(*PSP, size=473, join=Concat(), last=(conv("score", "join"),)),
    ],
)
def test_a_pyramid_works_at_the_stride_of_what_it_joins(net):
    assert net.output_stride == 8
    made = net.ending_in_scores()
    assert made.layers[-1].op == Interp(zoom_factor=8)
    assert made.output_shape()[2:] == net.input_shape[2:]
    assert made.fitting_size((9, 30)) == net.input_shape[2:]
    enlarged = (layer("up", Interp(zoom_factor=8), net.output),)
    assert Net("n", "data", net.input_shape, [*net.layers, *enlarged]).output_stride == 8


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        # Enlarged in two steps; enlarged to a size; with a softmax at the end.
        ([conv("a", "data", 8), layer("b", Interp(zoom_factor=2), "a")], 4),
        (
            [
                conv("a", "data", 8),
                layer("b", Interp(zoom_factor=2), "a"),
                layer("c", Interp(zoom_factor=4), "b"),
            ],
            8,
        ),
        (
            [
                conv("a", "data", 8),
                layer("b", Interp(height=65, width=65), "a"),
                layer("c", Softmax(), "b"),
            ],
            8,
        ),
        # Skips, as FCN-8s: scores of stride 16 enlarged to 8, added up there, enlarged.
        (
            [
                conv("a", "data", 8),
                conv("b", "a", 2),
                layer("c", Interp(zoom_factor=2), "b"),
                layer("d", Eltwise(), "c", "a"),
                layer("e", Interp(zoom_factor=8), "d"),
            ],
            8,
        ),
        # Scores of several strides added up at full size, as the MSc nets.
        (
            [
                conv("a", "data", 8),
                conv("b", "data", 4),
                layer("c", Interp(zoom_factor=8), "a"),
                layer("d", Interp(zoom_factor=4), "b"),
                layer("e", Eltwise(), "c", "d"),
            ],
            8,
        ),
        # Features that are enlarged step by step, and scores of them at full size.
        (
            [
                conv("a", "data", 8),
                layer("b", Deconvolution(4, (1, 1), stride=(8, 8)), "a"),
                conv("c", "b"),
            ],
            1,
        ),
        # The image itself, larger.
        ([layer("a", Interp(zoom_factor=2), "data"), conv("b", "a")], 1),
        ([layer("a", Interp(zoom_factor=2), "data")], 1),
        ([conv("a", "data", 8), layer("b", InnerProduct(4), "a")], 8),
        ([layer("a", Interp(zoom_factor=3, shrink_factor=4), "data"), conv("b", "a")], 4 / 3),
    ],
)
def test_where_the_scores_are_made(layers, expected):
    assert Net("n", "data", (1, 3, 65, 65), layers).output_stride == expected


@pytest.fixture
def sampling(tmp_path) -> DeepLab:
    """A pyramid whose scores are the photo's red, green and blue at every eighth pixel."""
    score = conv("score", "join", num_output=3)
    net = pyramid(*pooled(1, 9, TO_9), join=Concat(), last=(score,))
    for each in net.layers:
        for blob in each.blobs:
            blob.data = np.zeros(blob.shape, np.float32)
    for channel in range(3):
        net.layers[0].blobs[0].data[channel, 2 - channel, 4, 4] = 1
        net.layers[-1].blobs[0].data[channel, channel] = 1
    net.preprocessing = Preprocessing((0, 0, 0))
    path, weights = tmp_path / "psp.prototxt", tmp_path / "psp.caffemodel"
    write_prototxt(net, path, current=True)
    write_caffemodel(net, weights, current=True)
    return DeepLab(path, weights, device="cpu", crf=None)


@pytest.mark.parametrize("size", [(65, 65), (41, 57), (9, 65), (1, 1)])
def test_scores_of_a_pyramid_lie_where_the_photo_has_them(sampling, size):
    y, x = np.mgrid[: size[0], : size[1]]
    photo = np.stack([3 * y, 2 * x, 2 * y + x], axis=2).astype(np.uint8)
    # A bilinear enlargement gives a slope back, but not the last pixels beside the padding.
    kept = [(n - 1) // 8 * 8 + 1 for n in size]
    expected = photo.transpose(2, 0, 1)[:, : kept[0], : kept[1]]
    scores = sampling(photo).scores[:, : kept[0], : kept[1]]
    np.testing.assert_allclose(scores, expected, atol=1e-3)  # float32, of values up to 195


def test_an_impulse_comes_back_where_it_was(sampling):
    photo = np.zeros((50, 65, 3), np.uint8)
    photo[24, 40] = 200
    scores = sampling(photo).scores
    assert np.unravel_index(scores[0].argmax(), (50, 65)) == (24, 40)
    assert scores[0].max() == pytest.approx(200)
