"""What is taken for a path, at every door that takes one."""

import io

import numpy as np
import pytest

from deeplab_repro import DeepLab, read_image
from deeplab_repro.errors import ArgumentError
from deeplab_repro.files.given_path import given_path
from deeplab_repro.files.given_photo import given_photo, path_of
from deeplab_repro.files.images import read_labels
from deeplab_repro.files.pictures import write_image
from deeplab_repro.segmentation import Segmentation
from tests.conftest import assert_one_line, smooth_photo

TOY = "ToyVOC-LargeFOV"


class InBytes:
    """A path in bytes, as os.scandir(b".") gives."""

    def __init__(self, path):
        self.path = bytes(path)

    def __fspath__(self):
        return self.path


class Gone:
    """A path whose own code fails."""

    def __fspath__(self):
        raise OSError("gone")


DOORS = {
    "read_image": read_image,
    "read_labels": read_labels,
    "model": DeepLab,
    "weights": lambda path: DeepLab(TOY, path),
    "save": lambda path: Segmentation((1, 1), None).save(path),
}


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
@pytest.mark.parametrize(
    "value", [None, 0, ["a.png"], io.BytesIO(b"a"), np.zeros(3), Gone(), "", b""]
)
def test_what_is_no_path(door, value):
    if value is None and door is DOORS["weights"]:
        return  # the model's own
    with pytest.raises(ArgumentError) as error:
        door(value)
    assert_one_line(error, "expected a path")
    assert ("give the path of that file" in str(error.value)) == hasattr(value, "read")


def test_paths_in_bytes(tmp_path):
    image = smooth_photo(3, 4)
    write_image(tmp_path / "photo.png", image)
    path = InBytes(tmp_path / "photo.png")
    assert given_path("path", path) == str(tmp_path / "photo.png")
    assert path_of(path) == tmp_path / "photo.png"
    np.testing.assert_array_equal(given_photo(path), image)
    np.testing.assert_array_equal(read_image(path.path), image)
