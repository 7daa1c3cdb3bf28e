"""A small data set and a net for it, for what is predicted."""

import pytest

from deeplab_repro.caffe import read_net, write_caffemodel
from deeplab_repro.files.pictures import write_image
from deeplab_repro.segmenter import Recipe
from deeplab_repro.voc.devkit import Devkit
from deeplab_repro.voc.predict import predict
from tests.voc.small import CRF, NAMES


@pytest.fixture
def devkit(tmp_path, photo):
    """Three photos of three sizes, and four classes."""
    root = tmp_path / "data"
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    (root / "JPEGImages").mkdir()
    for split in ("val", "train"):
        (root / f"ImageSets/Segmentation/{split}.txt").write_text("a\nb\nc\n")
    for seed, name in enumerate(NAMES):
        write_image(root / f"JPEGImages/{name}.jpg", photo(20 + 9 * seed, 30 + 8 * seed, seed))
    return Devkit(root, ("sky", "road", "car", "tree"))


@pytest.fixture
def recipe(tiny):
    net = read_net(tiny)
    net.fill_random(0)
    weights = tiny.with_suffix(".caffemodel")
    write_caffemodel(net, weights)
    return Recipe(str(tiny), str(weights), "cpu", CRF, iterations=3)


@pytest.fixture
def whole(devkit, recipe, tmp_path):
    """A folder of results, with the scores in s."""
    predict(devkit, "val", tmp_path / "whole", recipe, scores=tmp_path / "whole/s")
    return tmp_path / "whole"
