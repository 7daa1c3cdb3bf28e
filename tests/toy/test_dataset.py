"""ToyVOC on disk: VOCdevkit's layout, lists that name what is there, repeatable."""

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from deeplab_repro.errors import ArgumentError, FileError
from deeplab_repro.files.images import read_image, read_labels
from deeplab_repro.files.marks import NOTE
from deeplab_repro.models.registry import VOC_CLASSES
from deeplab_repro.toy import dataset
from deeplab_repro.toy.dataset import write_dataset
from deeplab_repro.toy.scenes import make_scene
from tests.watched import Watched


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy") / "new/ToyVOC"
    write_dataset(folder, train=3, val=2, seed=5)
    return folder


def test_the_layout_is_vocdevkits(toy):
    ids = [f"toy_train_{i:06d}" for i in range(3)] + [f"toy_val_{i:06d}" for i in range(2)]
    sets = {f"ImageSets/Segmentation/{split}.txt" for split in ("train", "val", "trainval")}
    lists = {f"list/{name}.txt" for name in ("train", "val", "train_id", "val_id")}
    pictures = {f"JPEGImages/{name}.jpg" for name in ids}
    labels = {f"SegmentationClass/{name}.png" for name in ids}
    notes = {f"{folder}{NOTE}" for folder in ("", "ImageSets/Segmentation/", "list/")}
    assert set(contents(toy)) == {"classes.txt"} | sets | lists | pictures | labels | notes
    assert contents(toy)["classes.txt"].decode().split() == list(VOC_CLASSES)
    for split, names in (("train", ids[:3]), ("val", ids[3:]), ("trainval", ids)):
        assert (toy / f"ImageSets/Segmentation/{split}.txt").read_text().split() == names
    assert (toy / "list/val_id.txt").read_text().split() == ids[3:]
    assert (toy / "list/train_id.txt").read_text().split() == ids[:3]


@pytest.mark.parametrize(("split", "count"), [("train", 3), ("val", 2)])
def test_the_authors_lists_name_pictures_with_their_labels(toy, split, count):
    lines = (toy / f"list/{split}.txt").read_text().splitlines()
    assert len(lines) == count
    for index, line in enumerate(lines):
        picture, labels = (f"{toy}{path}" for path in line.split(" "))
        scene = make_scene(5, index, split)
        np.testing.assert_array_equal(read_image(picture), scene.image)
        np.testing.assert_array_equal(read_labels(labels), scene.labels)


def test_again_gives_the_same_files_and_fewer_the_same_scenes(toy, tmp_path):
    before = contents(toy)
    write_dataset(toy, train=3, val=2, seed=5)
    assert contents(toy) == before
    write_dataset(tmp_path, train=2, val=0, seed=5)
    small = contents(tmp_path)
    for name, data in small.items():
        if name.endswith((".jpg", ".png")):
            assert before[name] == data
    assert small["list/val.txt"] == b""


def test_interrupted_it_leaves_no_lists_and_nothing_half_written(tmp_path):
    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_dataset(tmp_path, 1, 1, progress=lambda *_: nullcontext(interrupt))
    assert len(contents(tmp_path)) == 2  # a picture and its labels
    progress = Watched()
    write_dataset(tmp_path, 1, 1, progress=progress)
    assert len(contents(tmp_path)) == 4 + 8 + 3  # pictures, lists, notes
    assert progress.told == [("drawing", 2, 2)]


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ({"train": -1, "val": 1}, "train: is -1"),
        ({"train": 1, "val": dataset.MOST_SCENES + 1}, "val: is 1000000"),
        ({"train": 0, "val": 0}, "both 0"),
        ({"train": 1, "val": 1, "seed": -2}, "seed: is -2"),
    ],
)
def test_bad_numbers(tmp_path, arguments, part):
    with pytest.raises(ArgumentError, match=part):
        write_dataset(tmp_path / "toy", **arguments)
    assert not (tmp_path / "toy").exists()


def test_out_is_a_file(tmp_path):
    (tmp_path / "file").write_text("here")
    with pytest.raises(FileError, match="is a file, expected a folder"):
        write_dataset(tmp_path / "file", 1, 1)
