"""Cross-validation: what the obvious loop gives, whatever is stopped, broken or shared out."""

import itertools
import shutil
from dataclasses import asdict, replace

import numba
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from deeplab_repro.crf.dense_crf import dense_crf
from deeplab_repro.crf.params import CrfParams
from deeplab_repro.errors import ArgumentError, FileError, FormatError, ImageError
from deeplab_repro.files.holding import hold
from deeplab_repro.files.images import VOID, read_image, read_labels
from deeplab_repro.files.made_of import MadeOf, sha256_of
from deeplab_repro.files.pictures import palette, write_image, write_labels
from deeplab_repro.files.probs import read_probs, write_coarse
from deeplab_repro.net.scores import CoarseScores, softmax
from deeplab_repro.voc import crossval
from deeplab_repro.voc.crossval import released_crfs, search
from deeplab_repro.voc.crossval_files import write_found
from deeplab_repro.voc.devkit import open_devkit
from deeplab_repro.voc.grid import AUTHORS_GRID, SearchGrid, bilateral
from deeplab_repro.voc.metrics import confusion, image_scores
from deeplab_repro.voc.records import ScoresRecord, scores_record_path, write_or_compare
from deeplab_repro.work.workers import Workers
from tests.conftest import assert_one_line
from tests.voc.small import files
from tests.watched import Watched

NAMES = ("a", "b", "c", "d")
GRID = SearchGrid(w1=(9, 11), sigma_alpha=(16, 18), sigma_beta=(14, 15))
ONE = SearchGrid((3,), (10,), (6,))
FEW = {"iterations": 2, "images": 3}


def make_image(devkit, probs, name, seed):
    """Fields of a colour each, with noise, and what a net might make of them."""
    rng = np.random.default_rng(seed)
    field = rng.integers(0, 4, (4, 5)).repeat(10, axis=0).repeat(10, axis=1).astype(np.uint8)
    photo = (palette()[field + 1] / 2 + 60 + rng.normal(0, 12, (40, 50, 3))).clip(0, 255)
    write_image(devkit.photo(name), photo.astype(np.uint8))
    scores = [gaussian_filter((field == label).astype(np.float32), 3) for label in range(4)]
    noise = 3 * gaussian_filter(rng.standard_normal((4, 40, 50)), (0, 2, 2))
    np.save(probs / f"{name}.npy", softmax((4 * np.stack(scores) + noise).astype(np.float32)))
    field[rng.random(field.shape) < 0.05] = VOID
    write_labels(devkit.mask(name), field)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Threads that wait for each other take long while other tests use the cores."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(numba, "get_num_threads", lambda: 1)
        yield


def make_split(folder):
    """Four images with probabilities of four classes: the data set, and where they are."""
    root, probs = folder / "data", folder / "probs"
    for each in ("ImageSets/Segmentation", "JPEGImages", "SegmentationClass"):
        (root / each).mkdir(parents=True)
    probs.mkdir()
    (root / "classes.txt").write_text("sky\nroad\ncar\ntree\n")
    (root / "ImageSets/Segmentation/val.txt").write_text("\n".join(NAMES))
    devkit = open_devkit(root)
    for seed, name in enumerate(NAMES):
        make_image(devkit, probs, name, seed)
    return devkit, probs


@pytest.fixture
def split(tmp_path):
    return make_split(tmp_path)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A whole search: the data set, its probabilities, the folder of results, what was found."""
    folder = tmp_path_factory.mktemp("undisturbed")
    devkit, probs = make_split(folder)
    found = search(devkit, "val", probs, folder / "out", GRID, **FEW)
    return devkit, probs, folder / "out", found


def naive_scores(devkit, folder, names, settings, iterations):
    """The scores of each setting, one call of the CRF after the other; None for the net alone."""
    scores = {}
    for params in settings:
        counts = np.zeros((4, 4), np.int64)
        for name in names:
            image = read_image(devkit.photo(name))
            probs = read_probs(folder / f"{name}.npy", image.shape[:2])
            labels = probs.argmax(axis=0).astype(np.uint8)
            if params:
                labels = dense_crf(image, probs, params, iterations).labels
            counts += confusion(read_labels(devkit.mask(name)), labels, 4)
        scores[params] = image_scores(counts)
    return scores


# --- what is found


def test_every_score_is_that_of_the_obvious_loop(split, tmp_path, monkeypatch):
    devkit, probs = split
    monkeypatch.setattr(crossval, "_DIVISORS", (2,))
    released = {"one": CrfParams(4, 33, 7), "on the grid": CrfParams(11, 18, 15)}
    found = search(devkit, "val", probs, tmp_path, GRID, released=released, iterations=1, images=2)
    grid, others, *around = found.rounds.values()
    loops = itertools.product((9, 11), (16, 18), (14, 15))  # the authors' order
    assert list(grid) == list(itertools.starmap(CrfParams, loops))
    assert list(others) == [CrfParams(4, 33, 7)]
    assert around
    tried = [params for each in found.rounds.values() for params in each]
    assert len(set(tried)) == len(tried)
    by_loop = naive_scores(devkit, probs, found.names, [None, *tried], 1)
    assert found.of_present == {
        params: (each.n_present, 4, each.mean_iou_of_present) for params, each in by_loop.items()
    }
    expected = {params: each.mean_iou for params, each in by_loop.items()}
    assert found.net == expected.pop(None)
    assert found.scores == expected
    best = max(expected.values())
    assert found.best == next(params for params in tried if expected[params] == best)
    assert best > found.net + 1  # the CRF is of use here
    assert found.as_json()["best"]["mean_iou"] == best


def test_some_classes_may_be_what_counts(split, tmp_path):
    devkit, probs = split
    found = search(devkit, "val", probs, tmp_path, ONE, classes=[3, 1], **FEW)
    by_loop = naive_scores(devkit, probs, found.names, [None, *found.scores], FEW["iterations"])
    expected = {params: each.iou[[3, 1]].mean() for params, each in by_loop.items()}
    assert found.net == expected.pop(None)
    assert found.scores == expected


def test_a_sample_is_drawn_by_its_seed(split, tmp_path):
    devkit, probs = split
    drawn = {
        tuple(search(devkit, "val", probs, tmp_path / f"{seed}", ONE, images=2, seed=seed).names)
        for seed in range(6)
    }
    assert len(drawn) > 1
    for names in drawn:
        assert list(names) == sorted(set(names))
        assert len(names) == 2
    again = search(devkit, "val", probs, tmp_path / "again", ONE, images=2, seed=0)
    known = np.random.RandomState(0).permutation(4)[:2]  # NumPy keeps this stream for ever
    assert again.names == [NAMES[place] for place in sorted(known)]


def test_a_process_finds_the_same(split, tmp_path):
    devkit, probs = split
    search(devkit, "val", probs, tmp_path / "here", ONE, **FEW)
    search(devkit, "val", probs, tmp_path / "there", ONE, **FEW, workers=Workers(1))
    assert files(tmp_path / "here") == files(tmp_path / "there")


def by_formula(monkeypatch, score):
    """Have settings scored by a formula of w1, sigma_alpha and sigma_beta."""

    def scores(self, round_, settings, workers, watch):  # noqa: ARG001
        found = [score(*bilateral(params)) for params in settings] or [0.0]
        return [replace(image_scores(np.eye(21)), mean_iou=each) for each in found]

    monkeypatch.setattr(crossval._Counter, "scores", scores)


def test_the_search_climbs_off_the_grid(split, tmp_path, monkeypatch):
    by_formula(
        monkeypatch,
        lambda w1, alpha, beta: -((w1 - 4) ** 2) - ((alpha - 123) / 10) ** 2 - (beta - 1) ** 2,
    )
    found = search(split[0], "val", split[1], tmp_path / "out", AUTHORS_GRID)
    assert next(iter(found.rounds["1-grid"])) == CrfParams(5, 40, 3)
    assert len(found.rounds["1-grid"]) == 112
    w1, alpha, beta = bilateral(found.best)
    assert (w1, beta) == (4, 1)
    assert abs(alpha - 123) <= 1
    tried = np.array([bilateral(params) for params in found.scores])
    assert tried.min() > 0
    assert (tried % 1 == 0).all()


def test_steps_are_fractions_where_the_values_are_and_none_where_there_is_one_value():
    grid = SearchGrid((0.5, 1.0, 2.0), (40,), (3, 7, 12))
    around = grid.around(CrfParams(0.5, 40, 3), 4)
    assert sorted({params.w1 for params in around}) == [0.375, 0.5, 0.625]
    assert {params.sigma_alpha for params in around} == {40}
    assert sorted({params.sigma_beta for params in around}) == [2, 3, 4]
    assert len(around) == 9
    assert {params.w1 for params in grid.around(CrfParams(0.5, 40, 3), 1)} == {0.5, 1}


def test_of_equals_the_first_and_it_goes_on_around_released_ones(split, tmp_path, monkeypatch):
    by_formula(monkeypatch, lambda *_: 7.0)
    found = search(split[0], "val", split[1], tmp_path / "out", GRID)
    assert found.best == CrfParams(9, 16, 14)
    by_formula(monkeypatch, lambda w1, *_: float(w1 in (100, 99)))
    released = {"far": CrfParams(100, 50, 50)}
    found = search(split[0], "val", split[1], tmp_path / "out", GRID, released=released)
    assert found.best == CrfParams(100, 50, 50)
    assert CrfParams(99, 50, 50) in found.scores


# --- going on


def test_goes_on_with_what_is_kept_and_sees_what_is_broken(undisturbed, tmp_path, monkeypatch):
    devkit, probs, whole, found = undisturbed
    out = shutil.copytree(whole, tmp_path / "out")
    write_found(out, found)
    expected = files(out)
    kept = sorted((out / "counts").glob("*/*"))
    assert len(kept) == 3 * (1 + len(found.rounds))
    for path in kept[::2]:
        path.unlink()
    cut, swapped, empty, flipped = kept[1:8:2]
    cut.write_bytes(cut.read_bytes()[:-1])
    shutil.copy(kept[9], swapped)
    empty.write_bytes(b"")
    content = bytearray(flipped.read_bytes())
    content[-3] ^= 1
    flipped.write_bytes(content)
    (kept[0].parent / ".deeplab-0123456789abcdef.tmp").write_bytes(b"half")
    (out / ".deeplab-0123456789abcdef.tmp").write_bytes(b"half")
    counted = []
    count = crossval._count
    monkeypatch.setattr(crossval, "_count", lambda *a: counted.append(a[-1]) or count(*a))
    progress = Watched()
    again = search(devkit, "val", probs, out, GRID, **FEW, progress=progress)
    assert progress.told[0] == ("0-net (0 settings)", 3, 3)
    assert progress.told[1] == ("1-grid (8 settings)", 3, 3)
    write_found(out, again)
    assert again == found
    assert files(out) == expected
    assert again.counted == len(counted) == len(kept[::2]) + 4


def test_another_search_is_not_mixed_in(split, tmp_path):
    devkit, probs = split
    out = tmp_path / "out"
    search(devkit, "val", probs, out, ONE, **FEW)
    before = files(out)
    (devkit.root / "ImageSets/Segmentation/train.txt").write_text("a\nb\nc")
    for change, part in (
        ({"grid": SearchGrid((3,), (10,), (7,))}, "sigma_beta 6, not with 7"),
        ({"iterations": 3}, "iterations 2, not with 3"),
        ({"seed": 11}, "seed 10, not with 11"),
        ({"images": 2}, "images 3, not with 2"),
        ({"split": "train"}, "split val, not with train"),
    ):
        asked = {"split": "val", "scores": probs, "out": out, "grid": ONE, **FEW, **change}
        with pytest.raises(ArgumentError) as error:
            search(devkit, **asked)
        assert_one_line(error, "search.json: was made with", part, "give another folder")
    for name in NAMES:
        np.save(probs / f"{name}.npy", np.load(probs / f"{name}.npy")[::-1])
    with pytest.raises(ArgumentError) as error:
        search(devkit, "val", probs, out, ONE, **FEW)
    assert_one_line(error, "sha256_of_photos_masks_and_scores", "give another folder")
    assert files(out) == before


def keep_scores(devkit, probs, version="0.1"):
    """Have the folder hold coarse scores in place of probabilities, as predict keeps them."""
    record = ScoresRecord("net", 4, "1", "w", "2", None, "float32", version, "float32")
    for name in NAMES:
        (probs / f"{name}.npy").unlink(missing_ok=True)
        coarse = CoarseScores(np.ones((4, 40, 50), np.float32), 1, 0)
        made_of = MadeOf(sha256_of(devkit.photo(name)), record.digest)
        write_coarse(probs / f"{name}.npz", coarse, made_of)
    return record


def test_scores_of_other_photos_are_refused(split, tmp_path):
    devkit, probs = split
    record = keep_scores(devkit, probs)
    search(devkit, "val", probs, tmp_path / "out", ONE, **FEW)
    write_or_compare(scores_record_path(probs), asdict(record), is_begun=False)
    search(devkit, "val", probs, tmp_path / "out", ONE, **FEW)
    before = files(tmp_path)
    keep_scores(devkit, probs, "0.2")
    with pytest.raises(FileError) as error:
        search(devkit, "val", probs, tmp_path / "other", ONE)
    assert_one_line(error, "a.npz: was made in another way than scores.json beside it says")
    keep_scores(devkit, probs)
    write_image(devkit.photo("c"), read_image(devkit.photo("d")))
    with pytest.raises(FileError) as error:
        search(devkit, "val", probs, tmp_path / "other", ONE)
    assert_one_line(error, "c.npz: was made of another photo than", "c.jpg", "predict --scores")
    assert not list(tmp_path.glob("other/*"))
    assert {name: content for name, content in files(tmp_path).items() if "c.jpg" not in name} == {
        name: content for name, content in before.items() if "c.jpg" not in name
    }


def test_one_search_at_a_time(split, tmp_path):
    devkit, probs = split
    for held in (tmp_path / "out", probs):
        with hold(held), pytest.raises(FileError, match="is in use by process"):
            search(devkit, "val", probs, tmp_path / "out", ONE)
    with hold(reading=[probs]):  # as another search does
        search(devkit, "val", probs, tmp_path / "out", ONE)


def test_before_anything_is_counted_all_may_change(split, tmp_path):
    devkit, probs = split
    whole = np.load(probs / "a.npy")
    np.save(probs / "a.npy", whole[:3] / whole[:3].sum(axis=0))
    with pytest.raises(ArgumentError, match="has 3 labels"):
        search(devkit, "val", probs, tmp_path / "out", ONE)
    np.save(probs / "a.npy", whole)
    assert search(devkit, "val", probs, tmp_path / "out", ONE).rounds


@pytest.mark.parametrize("content", ["{", "[3]", "[" * 100_000, "null"])
def test_a_broken_record(split, tmp_path, content):
    (tmp_path / "out/counts/0-net").mkdir(parents=True)
    (tmp_path / "out/counts/0-net/a").touch()
    (tmp_path / "out/search.json").write_text(content)
    with pytest.raises(FormatError) as error:
        search(split[0], "val", split[1], tmp_path / "out", ONE)
    assert_one_line(error, "search.json", "is broken, or another program's")


# --- bad input


@pytest.mark.parametrize("what", ["photo", "mask", "probs"])
def test_something_is_missing(split, tmp_path, what):
    devkit, probs = split
    for name in "bd":
        {"photo": devkit.photo, "mask": devkit.mask}.get(what, lambda name: probs / f"{name}.npy")(
            name
        ).unlink()
    with pytest.raises(FileError) as error:
        search(devkit, "val", probs, tmp_path / "out", ONE)
    assert_one_line(error, "has no scores of b" if what == "probs" else "b.", "1 more")
    assert not (tmp_path / "out").exists()


def test_probs_are_in_no_folder(split, tmp_path):
    with pytest.raises(FileError) as error:
        search(split[0], "val", split[1] / "a.npy", tmp_path / "out", ONE)
    assert_one_line(error, "a.npy", "is not a folder")


@pytest.mark.parametrize(
    ("spoil", "kind", "parts"),
    [
        (
            lambda p: p[:3] / p[:3].sum(axis=0),
            ArgumentError,
            ["c.npy: has 3 labels", "has 4 classes"],
        ),
        (lambda p: p[:, :-1], FormatError, ["c.npy: holds 4x39x50", "the image's 40x50"]),
        (lambda p: 3 * p, FormatError, ["c.npy: goes from", "save p / p.sum(axis=0)"]),
        (lambda p: p[0], FormatError, ["c.npy: holds 40x50"]),
    ],
)
def test_probs_that_do_not_fit(split, tmp_path, spoil, kind, parts):
    devkit, probs = split
    np.save(probs / "c.npy", spoil(np.load(probs / "c.npy")))
    with pytest.raises(kind) as error:
        search(devkit, "val", probs, tmp_path / "out", ONE)
    assert_one_line(error, *parts)


def test_a_mask_of_another_size(split, tmp_path):
    devkit, probs = split
    write_labels(devkit.mask("b"), np.zeros((40, 49), np.uint8))
    with pytest.raises(ImageError) as error:
        search(devkit, "val", probs, tmp_path / "out", ONE)
    assert_one_line(error, "b.png: is 40x49, expected its photo's 40x50")


def test_masks_of_nothing_but_void(split, tmp_path):
    """All settings would have the same score, 0, and one of them be called the best."""
    devkit, probs = split
    for name in NAMES:
        write_labels(devkit.mask(name), np.full((40, 50), VOID, np.uint8))
    with pytest.raises(ImageError) as error:
        search(devkit, "val", probs, tmp_path / "out", ONE, images=2)
    assert_one_line(error, f"{devkit.root}: all 2 masks are void")


@pytest.mark.parametrize(("option", "value"), [("images", 0), ("seed", -1), ("seed", 1 << 32)])
def test_numbers_out_of_range(split, tmp_path, option, value):
    with pytest.raises(ArgumentError, match=f"{option} is {value}, expected"):
        search(split[0], "val", split[1], tmp_path / "out", ONE, **{option: value})


def test_released_parameters(tmp_path):
    assert released_crfs(["DeepLab"], tmp_path) == {"DeepLab": CrfParams(5, 50, 10)}
    assert released_crfs([], tmp_path) == {}
    record = ScoresRecord("DeepLab-LargeFOV", 21, "", "w", "", None, "float32", "0.1", "float16")
    write_or_compare(scores_record_path(tmp_path), asdict(record), is_begun=False)
    assert released_crfs([], tmp_path) == {"DeepLab-LargeFOV": CrfParams(4, 121, 5)}
    with pytest.raises(ArgumentError) as error:
        released_crfs(["DeepLab-4x4"], tmp_path)
    assert_one_line(error, "no CRF parameters are published for DeepLab-4x4, but for DeepLab,")
    with pytest.raises(ArgumentError, match="there is no model 'x'"):
        released_crfs(["x"], tmp_path)
