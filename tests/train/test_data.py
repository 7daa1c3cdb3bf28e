"""The batches of training: against an obvious transform, their order, the thread, what is wrong."""

import gc
import itertools
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeplab_repro.errors import ArgumentError, FileError, ImageError, ResourceError
from deeplab_repro.files.images import read_image, read_labels
from deeplab_repro.files.pictures import write_labels
from deeplab_repro.net.other_layers import ImageSegData
from deeplab_repro.net.preprocess import MEAN_BGR, VOCS, Preprocessing
from deeplab_repro.train.data import SegData
from tests.conftest import assert_one_line
from tests.train.list_files import CROP, SIZES, layer, seg_data, write_list

SHARED = Path(__file__).resolve().parents[3] / "shared/data"
CAMVID = SHARED / "camvid-voc"


def crops(image, labels, mirrors=(False, True), mean=MEAN_BGR, scale=1.0):
    """Every crop that docs/original.md, 1.8, allows, slowly: pad, crop, mirror, subtract, scale.

    (top, left, mirrored) by the crop's content.
    """
    height, width = labels.shape
    padded_height, padded_width = max(height, CROP), max(width, CROP)
    pixels = np.empty((padded_height, padded_width, 3), np.float64)
    pixels[:] = np.float32(mean)
    pixels[:height, :width] = image[..., ::-1]
    numbers = np.full((padded_height, padded_width), 255, np.float32)
    numbers[:height, :width] = labels
    tops, lefts = range(padded_height - CROP + 1), range(padded_width - CROP + 1)
    found = {}
    for top, left, mirror in itertools.product(tops, lefts, mirrors):
        window = slice(top, top + CROP), slice(left, left + CROP)
        cut, cut_labels = pixels[window], numbers[window]
        if mirror:
            cut, cut_labels = cut[:, ::-1], cut_labels[:, ::-1]
        cut = (cut - np.float32(mean).astype(np.float64)) * np.float64(np.float32(scale))
        content = content_of(cut.transpose(2, 0, 1).astype(np.float32), cut_labels)
        assert content not in found
        found[content] = (top, left, mirror)
    return found


def content_of(data, labels) -> bytes:
    return data.tobytes() + labels.tobytes()


# --- one batch


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize(("mean", "scale"), [(MEAN_BGR, 1.0), ((10.1, 20.2, 30.3), 0.017)])
def test_every_batch_holds_crops_of_the_obvious_transform(folder, mirror, mean, scale):
    source = seg_data(folder, shuffle=False, mirror=mirror, how=Preprocessing(mean, scale))
    mirrors = (False, True) if mirror else (False,)
    candidates = [
        crops(read_image(image), read_labels(labels), mirrors, mean, scale)
        for image, labels in source.pairs
    ]
    seen = [set() for _ in SIZES]
    for iteration in range(20):
        data, labels = source.batch(iteration)
        assert data.shape == (3, 3, CROP, CROP)
        assert labels.shape == (3, 1, CROP, CROP)
        assert data.dtype == labels.dtype == np.float32
        for i in range(3):
            which = (iteration * 3 + i) % len(SIZES)
            seen[which].add(candidates[which][content_of(data[i], labels[i, 0])])
    for (height, width), wheres in zip(SIZES, seen, strict=True):
        assert {flipped for _, _, flipped in wheres} == ({False, True} if mirror else {False})
        # Where an axis leaves a choice, it is taken.
        assert (len({top for top, _, _ in wheres}) > 1) == (height > CROP)
        assert (len({left for _, left, _ in wheres}) > 1) == (width > CROP)


def test_crops_reach_every_position_and_both_hands(folder):
    write_list(folder, [3])
    source = seg_data(folder, batch_size=50)
    candidates = crops(read_image(folder / "3.png"), read_labels(folder / "3_labels.png"))
    seen = []
    for iteration in range(5):
        data, labels = source.batch(iteration)
        seen += [candidates[content_of(data[i], labels[i, 0])] for i in range(50)]
    assert len(candidates) == 3 * 5 * 2
    assert set(seen) == set(candidates.values())
    assert 100 < sum(mirrored for _, _, mirrored in seen) < 150


def test_padding_is_zero_and_ignored_below_and_to_the_right(folder):
    write_list(folder, [0])
    data, labels = SegData(layer(folder, mirror=False, ignore_label=7), VOCS, 256, 0).batch(0)
    height, width = SIZES[0]
    assert not data[:, :, height:].any()
    assert not data[:, :, :, width:].any()
    assert (labels[:, :, height:] == 7).all()
    assert (labels[:, :, :, width:] == 7).all()
    np.testing.assert_array_equal(
        labels[0, 0, :height, :width], read_labels(folder / "0_labels.png")
    )


def test_a_photo_of_640x480_with_crop_513(tmp_path, photo):
    # At TEST the original takes the central crop; at TRAIN its column varies.
    image = photo(480, 640)
    Image.fromarray(image).save(tmp_path / "0.png")
    write_labels(tmp_path / "0_labels.png", np.zeros((480, 640), np.uint8))
    write_list(tmp_path, [0])
    data, labels = seg_data(tmp_path, crop_size=513, mirror=False).batch(0)
    assert not data[:, :, 480:].any()
    assert (labels[:, :, 480:] == 255).all()
    assert not labels[:, :, :480].any()
    blue = image[..., 2] - np.float32(MEAN_BGR[0])
    lefts = set()
    for crop in data[:, 0]:
        (left,) = [x for x in range(128) if np.array_equal(blue[0, x : x + 513], crop[0])]
        np.testing.assert_array_equal(crop[:480], blue[:, left : left + 513])
        lefts.add(left)
    assert len(lefts) > 1


# --- which images, in which order


def order_of(source: SegData, iterations) -> list[int]:
    """Which images the batches hold, told by their labels' first row: each has its own number."""
    return [int(label) for i in iterations for label in source.batch(i)[1][:, 0, 0, 0]]


@pytest.fixture
def numbered(tmp_path) -> Path:
    """Seven one-pixel images, whose label is their number."""
    for i in range(7):
        Image.new("RGB", (1, 1)).save(tmp_path / f"{i}.png")
        Image.new("L", (1, 1), i).save(tmp_path / f"{i}_labels.png")
    write_list(tmp_path, range(7))
    return tmp_path


def numbers(folder: Path, seed: int = 0, **values) -> SegData:
    return SegData(layer(folder, **{"crop_size": 1, **values}), VOCS, 7, seed)


def test_without_shuffle_the_list_goes_round(numbered):
    source = numbers(numbered, shuffle=False)
    assert order_of(source, range(7)) == list(range(7)) * 3
    assert order_of(source, [5]) == [1, 2, 3]


@pytest.mark.parametrize("batch_size", [3, 7, 20])
def test_every_epoch_visits_each_image_once(numbered, batch_size):
    order = order_of(numbers(numbered, batch_size=batch_size), range(-(-70 // batch_size)))
    epochs = [tuple(order[at : at + 7]) for at in range(0, 70, 7)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert len(set(epochs)) > 5
    # Where the batches end changes nothing.
    assert order[:70] == order_of(numbers(numbered, batch_size=10), range(7))


def test_a_batch_depends_on_seed_and_iteration_alone(folder):
    source, again = seg_data(folder, seed=7), seg_data(folder, seed=7)
    straight = [source.batch(i) for i in range(6)]
    for i in (4, 1, 4):
        for one, other in zip(straight[i], again.batch(i), strict=True):
            np.testing.assert_array_equal(one, other)
    assert not np.array_equal(straight[0][0], seg_data(folder, seed=8).batch(0)[0])
    assert not np.array_equal(straight[0][0], straight[5][0])  # the same place in another epoch


# --- made ahead by a thread


def threads() -> int:
    return sum(thread.name == "batches" for thread in threading.enumerate())


def test_batches_are_those_of_batch(folder):
    source = seg_data(folder)
    made = list(source.batches(2, 12))
    assert len(made) == 10
    for i, batch in enumerate(made, 2):
        for one, other in zip(batch, source.batch(i), strict=True):
            np.testing.assert_array_equal(one, other)
    assert list(source.batches(5, 5)) == []
    assert threads() == 0


def test_only_a_few_batches_are_made_ahead(folder, monkeypatch):
    source = seg_data(folder)
    made = []
    monkeypatch.setattr(source, "batch", lambda i: made.append(i) or (i, i))
    batches = source.batches(0, 100)
    assert next(batches) == (0, 0)
    time.sleep(0.2)
    assert 2 <= len(made) <= 4
    batches.close()
    assert made == list(range(len(made)))


@pytest.mark.parametrize("taken", [0, 1, 5])
def test_the_thread_ends_when_the_iterator_is_dropped(folder, taken):
    batches = seg_data(folder).batches(0, 10**9)
    for _ in range(taken):
        next(batches)
    assert threads() == (taken > 0)
    del batches
    gc.collect()
    assert threads() == 0


def test_the_thread_ends_at_ctrl_c(folder):
    def interrupted():
        for _ in seg_data(folder).batches(0, 10**9):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    gc.collect()
    assert threads() == 0


def test_an_error_in_the_thread_comes_at_its_batch(folder):
    source = seg_data(folder, shuffle=False, batch_size=1)
    batches = source.batches(0, 100)
    os.remove(folder / "4.png")
    for _ in range(4):
        next(batches)
    with pytest.raises(FileError, match=r"4\.png: cannot be read"):
        next(batches)
    assert threads() == 0


def test_a_process_ends_with_batches_under_way(folder):
    script = (
        "import sys\n"
        "from deeplab_repro.net.other_layers import ImageSegData\n"
        "from deeplab_repro.net.preprocess import VOCS\n"
        "from deeplab_repro.train.data import SegData\n"
        "data = ImageSegData(sys.argv[1], sys.argv[2], 3, 20)\n"
        "batches = SegData(data, VOCS, 21, 0).batches(0, 1000)\n"
        "next(batches)\n"
    )
    arguments = [sys.executable, "-c", script, str(folder / "list.txt"), f"{folder}/"]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


# --- what is wrong


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        ({"source": ""}, ["source", "names no list"]),
        ({"crop_size": 0}, ["crop_size", "is 0", "list.txt", "at least 1"]),
        ({"batch_size": 0}, ["batch_size", "is 0", "list.txt", "at least 1"]),
    ],
)
def test_data_layers_that_are_none(folder, values, parts):
    with pytest.raises(ArgumentError) as caught:
        seg_data(folder, **values)
    assert_one_line(caught, *parts)


@pytest.mark.parametrize(("n_labels", "seed", "what"), [(0, 0, "n_labels"), (5, -1, "seed")])
def test_arguments_out_of_range(folder, n_labels, seed, what):
    with pytest.raises(ArgumentError) as caught:
        SegData(layer(folder), VOCS, n_labels, seed)
    assert_one_line(caught, f"{what}: is {min(n_labels, seed)}, expected")


def test_batches_larger_than_the_memory(folder):
    with pytest.raises(ResourceError) as caught:
        seg_data(folder, batch_size=10**6, crop_size=10**4)
    assert_one_line(caught, "list.txt", "crop_size 10000", "make the batches smaller")


def test_sizes_that_changed_since(folder):
    source = seg_data(folder, shuffle=False)
    write_labels(folder / "2_labels.png", np.zeros((12, 33), np.uint8))
    with pytest.raises(ImageError) as caught:
        source.batch(0)
    assert_one_line(caught, "2_labels.png", "is 12x33", "expected 11x33")


def test_labels_out_of_range(folder):
    labels = read_labels(folder / "1_labels.png")
    labels[3, 4], labels[3, 5] = 220, 5
    write_labels(folder / "1_labels.png", labels)
    source = seg_data(folder, shuffle=False)
    with pytest.raises(ImageError) as caught:
        source.batch(0)
    assert_one_line(caught, "1_labels.png", "the label 5", "expected 0 to 4, or 255", "indexed")
    with pytest.raises(ImageError, match="the label 220"):
        SegData(layer(folder, shuffle=False), VOCS, 6, 0).batch(0)
    with pytest.raises(ImageError, match="the label 255"):
        SegData(layer(folder, shuffle=False, ignore_label=4), VOCS, 250, 0).batch(0)


# --- real files


@pytest.fixture
def camvid(tmp_path) -> ImageSegData:
    """A data layer over the 367 training images of CamVid."""
    if not CAMVID.is_dir():
        pytest.skip(f"there is no {CAMVID}")
    ids = (CAMVID / "ImageSets/Segmentation/train.txt").read_text().split()
    lines = [f"/JPEGImages/{i}.jpg /SegmentationClass/{i}.png\n" for i in ids]
    (tmp_path / "list.txt").write_text("".join(lines))
    return layer(tmp_path, root_folder=str(CAMVID), crop_size=321, batch_size=10)


def test_camvid(camvid):
    source = SegData(camvid, VOCS, 11, 1)
    assert len(source.pairs) == 367
    ((data, labels),) = source.batches(36, 37)  # the second epoch begins inside of it
    assert data.shape == (10, 3, 321, 321)
    for channel, mean in enumerate(np.float32(MEAN_BGR)):
        values = data[:, channel] + mean
        assert values.min() >= -1e-4
        assert values.max() <= 255.001
        np.testing.assert_allclose(values, np.rint(values), atol=1e-4)
    assert set(np.unique(labels)) <= {*range(11), 255}
    assert len(np.unique(labels)) > 5


def test_masks_of_voc(tmp_path):
    masks = sorted((SHARED / "voc12-val/SegmentationClass").glob("*.png"))[:4]
    if not masks:
        pytest.skip(f"there is no {SHARED / 'voc12-val'}")
    for i, mask in enumerate(masks):
        Image.new("RGB", Image.open(mask).size).save(tmp_path / f"{i}.png")
    lines = [f"{tmp_path / str(i)}.png {mask}\n" for i, mask in enumerate(masks)]
    (tmp_path / "list.txt").write_text("".join(lines))
    values = {"root_folder": "", "mirror": False, "shuffle": False, "batch_size": 4}
    _, labels = SegData(layer(tmp_path, crop_size=513, **values), VOCS, 21, 0).batch(0)
    for i, mask in enumerate(masks):
        indices = np.asarray(Image.open(mask))
        height, width = indices.shape
        np.testing.assert_array_equal(labels[i, 0, :height, :width], indices)
