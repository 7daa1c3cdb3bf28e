"""What a session is made of: files that fit each other, or one line that says which does not."""

from pathlib import Path

import numpy as np
import pytest

from deeplab_repro.crf.params import CrfParams
from deeplab_repro.errors import DeepLabError
from deeplab_repro.files.images import read_image
from deeplab_repro.files.pictures import write_image, write_labels
from deeplab_repro.models.registry import MODELS
from deeplab_repro.segmenter import DeepLab
from deeplab_repro.toy.scenes import make_scene
from deeplab_repro.tune.opening import open_session
from deeplab_repro.tune.session import Source
from deeplab_repro.tune.setting import Setting
from tests.conftest import assert_one_line
from tests.tune.conftest import SIZE

SOURCE = Source(Path("photo.png"), Path("photo.npy"))


def test_where_it_begins(inputs):
    assert open_session(SOURCE).start == Setting(CrfParams(4, 121, 5), 10)
    found = open_session(SOURCE, CrfParams(1, 2, 3), (4, 5), 6, inputs / "truth.png")
    assert found.start == Setting(CrfParams(1, 2, 3, 4, 5), 6)
    assert set(np.unique(found.truth)) == {0, 2, 255}


def test_of_a_model(tmp_path):
    path = tmp_path / "scene.png"
    write_image(path, make_scene(0, 0).image[100:180, 100:200])
    session = open_session(Source(path, model="ToyVOC-LargeFOV"))
    assert session.start.params == MODELS["ToyVOC-LargeFOV"].crf
    expected = DeepLab("ToyVOC-LargeFOV")(read_image(path))
    np.testing.assert_array_equal(session.refine(session.start).labels, expected.labels)


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (
            {"photo.npy": np.ones((4, *SIZE), np.float32)},
            "photo.npy: goes from 1 to 1 and sums",
        ),
        (
            {"photo.npy": np.ones((4, 9, 9), np.float32)},
            "photo.npy: holds 4x9x9, expected CxHxW",
        ),
        ({"truth.png": np.zeros((3, 3), np.uint8)}, "truth.png: is 3x3 (height x width), expected"),
        ({"truth.png": np.full(SIZE, 9, np.uint8)}, "truth.png: has label 9, expected 0 to 3"),
    ],
)
def test_what_does_not_fit(inputs, made, told):
    for name, array in made.items():
        if name.endswith("npy"):
            np.save(inputs / name, array)
        else:
            write_labels(inputs / name, array)
    with pytest.raises(DeepLabError) as error:
        open_session(SOURCE, truth=Path("truth.png"))
    assert_one_line(error, told)
