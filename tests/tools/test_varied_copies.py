"""The varied copies of photos that tools/finetune_camvid.py trains on."""

import numpy as np
import pytest

from deeplab_repro.files.images import read_image, read_labels
from deeplab_repro.files.pictures import write_image, write_labels
from tests.conftest import smooth_photo
from tests.tools.conftest import load

TOOL = load("varied_copies")
N_LABELS = 3


@pytest.fixture
def pairs(tmp_path):
    """Two photos of 40x60: the frequent label 0 on 99 %, the rare label 1, a strip of void."""
    labels = np.zeros((40, 60), np.uint8)
    labels[0], labels[10:14, 20:25] = 255, 1
    found = []
    for name in "ab":
        image_path, labels_path = tmp_path / f"{name}.jpg", tmp_path / f"{name}_labels.png"
        write_image(image_path, smooth_photo(40, 60))
        write_labels(labels_path, labels)
        found.append((str(image_path), str(labels_path)))
    return found


def copies(listed):
    """The photos and label maps of a list."""
    lines = [line.split() for line in listed.read_text().splitlines()]
    folder = listed.parent.as_posix()
    return [(read_image(folder + image), read_labels(folder + labels)) for image, labels in lines]


def test_copies_differ_in_size_and_colour_and_keep_rare_labels(pairs, tmp_path):
    made = copies(TOOL.write_copies(pairs, tmp_path / "out", 3, (0.5, 2), N_LABELS))
    assert len(made) == 6
    sizes = {image.shape for image, _ in made}
    assert len(sizes) == 6
    assert all(20 <= height <= 80 and 30 <= width <= 120 for height, width, _ in sizes)
    assert len({round(float(image.mean())) for image, _ in made}) > 3
    for image, labels in made:
        assert image.shape[:2] == labels.shape
        assert set(np.unique(labels)) == {0, 1, 255}
        scale = labels.shape[0] / 40
        assert np.sum(labels == 1) == pytest.approx(20 * scale**2, rel=0.35)  # whole pixels
        # Of label 0, sqrt(0.01 / 0.9915) is kept; some thousand pixels at random.
        assert np.sum(labels == 0) == pytest.approx(0.1004 * 2320 * scale**2, rel=0.3)


def test_a_label_stays_where_it_was(pairs, tmp_path):
    ((_, labels), *_) = copies(TOOL.write_copies(pairs, tmp_path / "out", 1, (2, 2), N_LABELS))
    rows, columns = np.nonzero(labels == 1)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (20, 27, 40, 49)


def test_copies_that_are_there_are_not_made_again(pairs, tmp_path):
    listed = TOOL.write_copies(pairs, tmp_path / "out", 1, (1, 1), N_LABELS)
    (tmp_path / "out/a_0.jpg").unlink()
    assert TOOL.write_copies(pairs, tmp_path / "out", 1, (1, 1), N_LABELS) == listed
    assert not (tmp_path / "out/a_0.jpg").exists()
    listed.unlink()
    TOOL.write_copies(pairs, tmp_path / "out", 1, (1, 1), N_LABELS)
    assert (tmp_path / "out/a_0.jpg").exists()


def test_classes_are_kept_by_the_root_of_how_rare_they_are(pairs):
    kept = TOOL.kept_parts([labels for _, labels in pairs], N_LABELS)
    assert kept[0] == pytest.approx((0.01 / (2320 / 2340)) ** 0.5)
    assert kept[1] == kept[2] == 1
