"""Scores of a folder of results: the original's numbers, any kind of workers, bad folders."""

import csv
import json
import logging
from dataclasses import asdict, replace

import numpy as np
import pytest
from PIL import Image

from deeplab_repro.errors import ArgumentError, DeepLabError, FileError, FormatError, ImageError
from deeplab_repro.files.images import VOID
from deeplab_repro.files.made_of import MadeOf, sha256_of_text
from deeplab_repro.files.pictures import palette, write_labels
from deeplab_repro.voc import evaluate as module
from deeplab_repro.voc.devkit import open_devkit, results_folder
from deeplab_repro.voc.evaluate import evaluate, find_results, write_evaluation
from deeplab_repro.voc.metrics import confusion, trimap_confusions
from deeplab_repro.voc.records import Record, record_path
from deeplab_repro.work.workers import Workers
from tests.conftest import assert_one_line
from tests.watched import Watched

NAMES = ("a", "b", "c")


def labels(seed, void=0.1, shape=(20, 30)):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 21, (4, 5)).repeat(5, axis=0).repeat(6, axis=1)
    return np.where(rng.random(shape) < void, VOID, coarse).astype(np.uint8)


def make_split(root, names, split="val"):
    (root / "SegmentationClass").mkdir(parents=True, exist_ok=True)
    lists = root / "ImageSets/Segmentation"
    lists.mkdir(parents=True, exist_ok=True)
    (lists / f"{split}.txt").write_text("\n".join(names))


@pytest.fixture
def devkit(tmp_path):
    """A split of three images with masks."""
    make_split(tmp_path / "voc", NAMES)
    devkit = open_devkit(tmp_path / "voc")
    for seed, name in enumerate(NAMES):
        write_labels(devkit.mask(name), labels(seed))
    return devkit


@pytest.fixture
def results(tmp_path):
    """A folder with a result for every image."""
    folder = tmp_path / "results_of_mine"
    folder.mkdir()
    for seed, name in enumerate(NAMES):
        write_labels(folder / f"{name}.png", labels(10 + seed, void=0))
    return folder


def recorded(tmp_path, **changes):
    """A record of predict's beside a folder for results of val; and that folder."""
    made = ("net", 21, "1", "w", "2", None, "float32", "0.1", "val", None, 10, None)
    record = replace(Record(*made), **changes)
    folder = results_folder(tmp_path / "out", "val")
    folder.mkdir(parents=True)
    record_path(tmp_path / "out", "val").write_text(json.dumps(asdict(record)))
    return record, folder


# --- numbers


@pytest.mark.golden
def test_golden(golden, tmp_path, caplog):
    data = np.load(golden / "eval" / "masks_and_predictions.npz")
    expected = np.load(golden / "eval" / "expected.npz")
    names, missing = data["ids"].tolist(), data["missing"].tolist()
    make_split(tmp_path, names)
    devkit = open_devkit(tmp_path)
    folder = results_folder(tmp_path / "out", "val")
    folder.mkdir(parents=True)
    for name in names:
        write_labels(devkit.mask(name), data[f"gt/{name}"])
        if name not in missing:
            write_labels(folder / f"{name}.png", data[f"pred/{name}"])
    widths = [int(width) for width in expected["W"]]
    found = evaluate(devkit, "val", tmp_path / "out", widths)
    assert found.missing == missing
    assert found.images == len(found.per_image) == 59
    assert "no result for 1 of the 60 images of 'val' in" in caplog.text
    np.testing.assert_array_equal(found.confusion, expected["raw"])
    np.testing.assert_array_equal(found.trimap, np.moveaxis(expected["raw_boundary"], 2, 0))
    numbers = found.as_json()
    for key, theirs in {
        "iou": expected["iou"],
        "class_accuracy": expected["conf"].diagonal(),
    }.items():
        ours = list(numbers[key].values())
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)
    assert numbers["mean_iou"] == pytest.approx(expected["avacc"].item(), abs=1e-12)
    for key, theirs in {
        "pixel_accuracy": "pixel_acc",
        "class_accuracy": "class_acc",
        "mean_iou": "pixel_iou",
    }.items():
        ours = [each[key] for each in numbers["trimap"]]
        np.testing.assert_allclose(ours, expected[theirs], rtol=0, atol=1e-12)


def test_counts_are_sums_over_the_images(devkit, results):
    found = evaluate(devkit, "val", results, (3, 1))
    pairs = [(labels(seed), labels(10 + seed, void=0)) for seed in range(3)]
    np.testing.assert_array_equal(
        found.confusion, sum(confusion(*pair, 21) for pair in pairs), strict=True
    )
    np.testing.assert_array_equal(
        found.trimap, sum(trimap_confusions(*pair, 21, (3, 1)) for pair in pairs), strict=True
    )
    assert list(found.per_image) == list(NAMES)
    assert found.missing == []


def test_a_process_finds_the_same(devkit, results, monkeypatch):
    here = evaluate(devkit, "val", results, (1, 40))
    monkeypatch.chdir(devkit.root)
    there = evaluate(open_devkit("."), "val", results.parent / results.name, (1, 40), Workers(1))
    assert there.as_json(per_image=True) == here.as_json(per_image=True)
    np.testing.assert_array_equal(there.trimap, here.trimap)


def test_a_cluster_finds_the_same(devkit, results):
    distributed = pytest.importorskip("dask.distributed")
    here = evaluate(devkit, "val", results, (1, 40))
    with distributed.LocalCluster(
        n_workers=1, processes=False, threads_per_worker=1, dashboard_address=":0"
    ) as cluster:
        there = evaluate(
            devkit, "val", results, (1, 40), Workers(scheduler=cluster.scheduler_address)
        )
    assert there.as_json(per_image=True) == here.as_json(per_image=True)
    np.testing.assert_array_equal(there.trimap, here.trimap)


def test_images_are_ranked_by_the_classes_that_they_have(devkit, results):
    write_labels(results / "b.png", np.where(labels(1) == VOID, 0, labels(1)))
    write_labels(devkit.mask("a"), np.full((20, 30), VOID, np.uint8))
    found = evaluate(devkit, "val", results)
    assert found.per_image["b"] == 100
    assert 0 <= found.per_image["c"] < 50
    assert [name for name, _ in found.ranking] == ["c", "b", "a"]
    assert found.as_json(per_image=True)["per_image"][1:] == [
        {"image": "b", "mean_iou": 100},
        {"image": "a", "mean_iou": None},
    ]
    assert "per_image" not in found.as_json()


def test_what_is_not_defined_is_null(devkit, results):
    for name in NAMES:
        write_labels(devkit.mask(name), np.zeros((20, 30), np.uint8))
    found = evaluate(devkit, "val", results, (2,))
    assert found.absent == list(devkit.classes[1:])
    numbers = json.loads(json.dumps(found.as_json(per_image=True), allow_nan=False))
    undefined = {"mean_iou": None, "pixel_accuracy": None, "class_accuracy": None}
    undefined |= {"classes_present": 0, "mean_iou_of_present": None}
    assert numbers["trimap"] == [{"width": 2, **undefined}]
    assert numbers["mean_iou"] == pytest.approx(numbers["iou"]["background"] / 21)
    there = numbers["classes_present"]
    assert numbers["mean_iou_of_present"] == pytest.approx(numbers["iou"]["background"] / there)
    background = numbers["class_accuracy"]["background"]
    assert numbers["mean_class_accuracy_of_present"] == background


def test_files(devkit, results, tmp_path):
    found = evaluate(devkit, "val", results)
    write_evaluation(tmp_path, found, {"made": "up"})
    assert json.loads((tmp_path / "evaluation.json").read_text()) == {"made": "up"}
    with open(tmp_path / "confusion.csv", newline="") as file:
        heading, *rows = csv.reader(file)
    assert heading == ["true", *devkit.classes]
    assert [row[0] for row in rows] == list(devkit.classes)
    np.testing.assert_array_equal([list(map(int, row[1:])) for row in rows], found.confusion)
    with open(tmp_path / "per_image.csv", newline="") as file:
        heading, *rows = csv.reader(file)
    assert heading == ["image", "mean_iou"]
    assert [(name, float(iou)) for name, iou in rows] == found.ranking


# --- which folder is meant


@pytest.mark.parametrize("comp", ["comp5", "comp6"])
@pytest.mark.parametrize("year", ["VOC2012", "VOC2007"])
def test_results_in_the_servers_layout(tmp_path, comp, year):
    folder = tmp_path / f"results/{year}/Segmentation/{comp}_val_cls"
    folder.mkdir(parents=True)
    (tmp_path / f"results/{year}/Segmentation/comp6_test_cls").mkdir()
    (tmp_path / "trimap.png").write_bytes(b"of an earlier evaluate")
    assert find_results(tmp_path, "val") == folder
    assert find_results(folder, "val") == folder


def test_results_of_another_split(tmp_path):
    folder = results_folder(tmp_path, "train")
    folder.mkdir(parents=True)
    for given in (tmp_path, folder):
        with pytest.raises(FileError) as error:
            find_results(given, "val")
        assert_one_line(error, folder, "has the results of split 'train', expected those of 'val'")


def test_results_twice(tmp_path):
    for year in ("VOC2007", "VOC2012"):
        results_folder(tmp_path, "val", year).mkdir(parents=True)
    with pytest.raises(FileError) as error:
        find_results(tmp_path, "val")
    assert_one_line(error, "results of 'val' more than once", "VOC2007", "VOC2012")


def test_no_folder(tmp_path):
    (tmp_path / "file").touch()
    for name, message in {"none": "does not exist", "file": "is a file"}.items():
        with pytest.raises(FileError) as error:
            find_results(tmp_path / name, "val")
        assert_one_line(error, tmp_path / name, message, "expected a folder of results")


# --- results that are missing, or of something else


def test_missing_and_foreign_results_are_told(devkit, results, caplog):
    (results / "b.png").rename(results / "elsewhere.png")
    progress = Watched()
    with caplog.at_level(logging.WARNING):
        found = evaluate(devkit, "val", results, progress=progress)
    assert found.missing == ["b"]
    assert list(found.per_image) == ["a", "c"]
    assert progress.told == [("scoring val", 2, 2)]
    missing, foreign = (record.getMessage() for record in caplog.records)
    assert missing.startswith("no result for 1 of the 3 images of 'val' in")
    assert foreign == f"PNGs in {results} that are not of 'val', and not scored: 1"


def test_no_result_at_all(devkit, results, tmp_path):
    make_split(devkit.root, ["d", "e"], "other")
    with pytest.raises(FileError) as error:
        evaluate(devkit, "other", results)
    assert_one_line(
        error, results, "none of its 3 PNGs is of split 'other'", "it has 'a'", "begins with 'd'"
    )
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileError) as error:
        evaluate(devkit, "val", tmp_path / "empty")
    assert_one_line(error, "holds no PNGs, nor results/<year>/Segmentation/comp6_val_cls")


def test_no_true_labels(devkit, results):
    devkit.mask("c").unlink()
    with pytest.raises(FileError) as error:
        evaluate(devkit, "val", results)
    assert_one_line(error, devkit.mask("c"), "does not exist")


# --- pictures that are none of labels


def save_as(mode):
    def save(path, values):
        picture = Image.fromarray(values)
        picture.putpalette(palette().tobytes())
        picture.convert(mode).save(path)

    return save


def save_cut(path, values):
    write_labels(path, values)
    path.write_bytes(path.read_bytes()[:100])


RIGHT = labels(1, void=0)


@pytest.mark.parametrize(
    ("save", "values", "parts"),
    [
        (write_labels, RIGHT.T, ["is 30x20 (height x width)", "expected 20x30", "b.png"]),
        (write_labels, np.where(RIGHT == 3, 21, RIGHT), ["has label 21", "expected 0 to 20"]),
        (
            write_labels,
            labels(1),
            ["has label 255, expected 0 to 20: 255 is void, which only true"],
        ),
        (save_as("RGB"), RIGHT, ["mode RGB", "indexed"]),
        (save_as("L"), RIGHT, ["the brightness of VOC's colours"]),
        (save_cut, RIGHT, ["cannot be decoded"]),
    ],
    ids=["size", "label", "void", "colour", "grey", "cut"],
)
def test_refused_results(devkit, results, save, values, parts):
    path = results / "b.png"
    save(path, values.astype(np.uint8))
    with pytest.raises(ImageError) as error:
        evaluate(devkit, "val", results)
    assert_one_line(error, path, *parts)


@pytest.mark.parametrize(
    ("save", "parts"),
    [(save_as("RGB"), ["mode RGB"]), (save_as("L"), ["the brightness of VOC's colours"])],
    ids=["colour", "grey"],
)
def test_refused_masks(devkit, results, save, parts):
    save(devkit.mask("b"), labels(1))
    with pytest.raises(ImageError) as error:
        evaluate(devkit, "val", results)
    assert_one_line(error, devkit.mask("b"), *parts)


def test_true_labels_in_place_of_results(devkit, caplog):
    """What void they have is refused, as above; without any, the scores of 100 are told."""
    for name in NAMES:
        write_labels(devkit.mask(name), labels(1, void=0))
    found = evaluate(devkit, "val", devkit.mask(NAMES[0]).parent)
    assert found.scores.pixel_accuracy == 100
    told = f"{devkit.mask(NAMES[0]).parent}: the true labels are scored against themselves"
    assert told in caplog.messages


def test_grey_pictures_of_indices_are_right(devkit, results):
    found = evaluate(devkit, "val", results)
    for name in NAMES:
        path = results / f"{name}.png"
        Image.fromarray(np.array(Image.open(path))).save(path)
        assert Image.open(path).mode == "L"
    np.testing.assert_array_equal(evaluate(devkit, "val", results).confusion, found.confusion)


def test_refused_widths(devkit, results):
    with pytest.raises(ArgumentError, match="width is 0"):
        evaluate(devkit, "val", results, (1, 0))


def test_too_many_tables_for_the_memory(devkit, results, monkeypatch):
    asked = []

    def no_memory(n_bytes, what, mend):
        asked.append(n_bytes)
        raise DeepLabError(f"{what}: {mend}")

    monkeypatch.setattr(module, "require_memory", no_memory)
    with pytest.raises(DeepLabError, match="41 confusion matrices"):
        evaluate(devkit, "val", results, range(1, 41))
    assert asked == [8 * 21 * 21 * 81]


def test_results_that_are_not_as_recorded_are_told(devkit, tmp_path, caplog):
    record, folder = recorded(tmp_path)
    for seed, name in enumerate(NAMES):
        made_of = MadeOf(sha256_of_text(name), record.digest)
        write_labels(folder / f"{name}.png", labels(seed, void=0), made_of)
    evaluate(devkit, "val", tmp_path / "out")
    assert "run predict again" not in caplog.text
    devkit.photo(NAMES[1]).parent.mkdir()
    devkit.photo(NAMES[0]).write_text(NAMES[0])
    devkit.photo(NAMES[1]).write_text("another photo")
    write_labels(folder / f"{NAMES[2]}.png", labels(7, void=0))
    found = evaluate(devkit, "val", tmp_path / "out")
    assert found.images == 3
    assert f"than the record of predict says: 2, as {NAMES[1]}: run predict again" in caplog.text


def test_the_record_of_another_split(devkit, tmp_path):
    _, folder = recorded(tmp_path, split="train")
    write_labels(folder / f"{NAMES[0]}.png", labels(0, void=0))
    with pytest.raises(FormatError) as error:
        evaluate(devkit, "val", tmp_path / "out")
    assert_one_line(error, "predict.val.json: is the record of split 'train', expected that of")
