"""Label maps of other classes than somebody takes them for, and VOC's, which are never doubted."""

import numpy as np
import pytest

from deeplab_repro.files.labels import LabelsFound, look_at, shares
from deeplab_repro.files.pictures import write_labels


def test_shares_of_the_classes_that_are_there():
    labels = np.array([[2, 2, 2, 0, 0], [255, 9, 0, 0, 0]], np.uint8)
    found = shares(labels, ["sky", "road", "car"])
    assert list(found.items()) == [("sky", 0.5), ("car", 0.3), ("class-9", 0.1), ("void", 0.1)]
    assert shares(labels, ()).keys() == {"class-0", "class-2", "class-9", "void"}


def found(labels, n_maps):
    return LabelsFound(frozenset(labels), n_maps, n_maps)


@pytest.mark.parametrize(
    ("labels", "n_maps", "n_labels"),
    [
        (range(11), 1, 21),  # a photo of CamVid
        ({0, 1, 2, 3, 4, 5, 8, 9, 10}, 1, 21),  # without signs and fences
        (range(12), 233, 21),  # with its void as a label
        (range(19), 500, 21),  # Cityscapes
        ({0, 1}, 10, 21),  # objects before a background
        (range(20), 100, 21),
    ],
)
def test_maps_of_fewer_labels(labels, n_maps, n_labels):
    assert found(labels, n_maps).are_of_fewer_than(n_labels)


@pytest.mark.parametrize(
    ("labels", "n_maps", "n_labels"),
    [
        (range(21), 1449, 21),
        ({0, 15}, 1, 21),
        ({0, 2, 3, 9}, 3, 21),  # a few photos of one's own
        (range(20), 60, 21),
        ({0, 20}, 500, 21),
        (range(11), 500, 11),
        (range(25), 500, 21),  # of more: whoever reads them refuses them
        ((), 500, 21),
    ],
)
def test_maps_that_may_be_of_so_many(labels, n_maps, n_labels):
    assert not found(labels, n_maps).are_of_fewer_than(n_labels)


def written(folder, names, labels):
    for name in names:
        write_labels(folder / f"{name}.png", np.array([labels], np.uint8))
    return [folder / f"{name}.png" for name in names]


def test_looking_at_maps(tmp_path):
    paths = written(tmp_path, [f"a{number}" for number in range(150)], [0, 3, 255])
    (tmp_path / "a0.png").write_bytes(b"broken")
    seen = look_at(paths)
    assert (seen.labels, seen.largest) == ({0, 3}, 3)
    assert str(seen) == "74 of 150 label maps hold none above 3"
    assert look_at(paths[1:3], ignored=3).labels == {0, 255}
    assert str(look_at(paths[1:3])) == "2 label maps hold none above 3"
    assert str(look_at(paths[1:2])) == "1 label map holds none above 3"
    assert not look_at([]).are_of_fewer_than(21)


@pytest.mark.parametrize(
    ("labels", "are_masks"),
    [([0, 255], True), ([0], False), ([255], False), ([0, 1], False), ([0, 1, 255], False)],
)
def test_masks_of_0_and_255(tmp_path, labels, are_masks):
    assert look_at(written(tmp_path, "ab", labels)).are_masks is are_masks


@pytest.mark.parametrize("names", [["2007_000033", "2011_003256"], ["000032", "009963"]])
def test_vocs_own_images_are_not_doubted(tmp_path, names):
    seen = look_at(written(tmp_path, names, range(11)))
    assert seen.read == 0
    assert not seen.are_of_fewer_than(21)
    mixed = written(tmp_path, [*names, "0016E5_07959"], range(11))
    assert look_at(mixed).are_of_fewer_than(21)
