"""What `segment` writes, where, and what it refuses before anything is written."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeplab_repro.crf.params import CrfParams
from deeplab_repro.errors import ArgumentError, FileError, ImageError
from deeplab_repro.files.images import read_image, read_labels
from deeplab_repro.files.marks import NOTE
from deeplab_repro.files.pictures import write_cutout, write_image, write_labels
from deeplab_repro.files.probs import read_probs
from deeplab_repro.jobs.photos import Photo, Skipped
from deeplab_repro.jobs.segment import OUTPUTS, check_outputs, segment_files
from deeplab_repro.machine import memory
from deeplab_repro.segmenter import DeepLab
from deeplab_repro.work.outcomes import Failed


@pytest.fixture
def model(tiny):
    return DeepLab(tiny, "random:0", device="cpu", crf=None)


@pytest.fixture(params=["cpu", "cuda"])
def staged(monkeypatch, request):
    """What the CPU passes for: beside a GPU threads read and write."""
    monkeypatch.setattr(DeepLab, "device", request.param)


# --- where the results go


def test_results_that_would_overwrite_a_picture(pictures):
    (a,) = pictures("a.png")
    with pytest.raises(FileError, match=r"a.png: the results would overwrite it"):
        check_outputs({a: "a"}, Path("."))
    b, c = pictures("b.jpg", "b.overlay.jpg")
    names = {b: "b", c: "b.overlay"}
    check_outputs(names, Path("."))
    with pytest.raises(FileError, match=r"b.overlay.jpg: the results would overwrite"):
        check_outputs(names, Path("."), ["overlay"])


def test_out_is_a_file_or_below_one(pictures):
    (a,) = pictures("a.png")
    for out in ("a.png", "a.png/deeper/still"):
        with pytest.raises(FileError, match=r"a.png: is a file, expected a folder"):
            check_outputs({a: "a"}, Path(out))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_out_cannot_be_written_to(pictures):
    (a,) = pictures("a.png")
    Path("locked").mkdir(mode=0o555)
    with pytest.raises(FileError, match="locked: cannot be written to"):
        check_outputs({a: "a"}, Path("locked/deeper"))


# --- segmenting


@pytest.mark.usefixtures("staged")
def test_what_is_written(pictures, tiny):
    paths = pictures("a.png", "b.png", "c.png")
    model = DeepLab(tiny, "random:0", crf=CrfParams(4, 20, 5), iterations=1)
    out = Path("some/out")
    results = list(segment_files(model, paths, out, OUTPUTS))
    assert [result.path for result in results] == paths
    for result in results:
        assert isinstance(result, Photo)
        stem = result.path.stem
        endings = (".png", ".overlay.jpg", ".scores.npy", ".probs.npy", ".marginals.npy", ".bin")
        endings += ("_blob_0.mat",)
        alone = model(read_image(result.path))
        image = read_image(result.path)
        cutouts = tuple(
            out / f"{stem}.class-{label}.png" for label in np.unique(alone.labels) if label
        )
        files = [*((out / f"{stem}{ending}",) for ending in endings), cutouts]
        assert dict(result.written) == dict(zip(OUTPUTS, files, strict=True))
        np.testing.assert_array_equal(read_labels(out / f"{stem}.png"), alone.labels)
        assert read_image(out / f"{stem}.overlay.jpg").shape == (20, 30, 3)
        for name in ("scores", "probs", "marginals"):
            array = np.load(out / f"{stem}.{name}.npy")
            np.testing.assert_array_equal(array, getattr(alone, name))
            assert array.dtype == np.float32
        for name in (f"{stem}.bin", f"{stem}_blob_0.mat"):
            np.testing.assert_array_equal(read_probs(out / name, (20, 30)), alone.probs)
        for path in cutouts:
            there = alone.labels == int(path.name.split("-")[1][0])
            cut = np.array(Image.open(path))
            np.testing.assert_array_equal(cut[..., :3], image)
            np.testing.assert_array_equal(cut[..., 3], 255 * there)
    written = {path for result in results for files in result.written.values() for path in files}
    assert {*out.iterdir()} == {*written, out / NOTE}


def test_labels_only_unless_more_is_asked_for(pictures, model):
    (result,) = segment_files(model, pictures("..jpg"), Path("out"))
    assert result.written == {"labels": (Path("out/..png"),)}
    assert sorted(os.listdir()) == ["..jpg", "out", "tiny.prototxt"]


@pytest.mark.usefixtures("staged")
def test_broken_pictures_among_good_ones_keep_their_place(pictures, model):
    a, b = pictures("a.png", "b.png")
    for name in ("x.png", "y.png", "z.png"):
        Path(name).write_text("no picture")
    order = [Path("x.png"), a, Path("y.png"), b, Path("z.png")]
    results = list(segment_files(model, order, Path("out")))
    assert [result.path for result in results] == order
    assert [type(result) for result in results] == [Failed, Photo, Failed, Photo, Failed]
    assert isinstance(results[0].error, ImageError)
    assert sorted(os.listdir("out")) == ["a.png", "b.png"]


def test_only_broken_pictures_write_nothing(pictures, model):
    pictures()
    Path("x.png").write_text("no picture")
    results = list(segment_files(model, [Path("x.png"), Path("gone.png")], Path("out")))
    assert [type(result) for result in results] == [Failed, Failed]
    assert not Path("out").exists()


def test_a_picture_that_the_crf_refuses(pictures, tiny, photo, monkeypatch):
    pictures()
    write_image("small.png", photo(1, 1))
    write_image("large.png", photo(150, 150))
    model = DeepLab(tiny, "random:0", crf=CrfParams(4, 10, 5), iterations=1)
    # The CRF fits this memory at 5x5 pixels, at 150x150 no longer.
    monkeypatch.setattr(memory, "available_memory", lambda: 152_000_000)
    paths = [Path("small.png"), Path("large.png")]
    results = list(segment_files(model, paths, Path("out")))
    assert [type(result) for result in results] == [Photo, Failed]


def test_outputs_that_there_are_not(pictures, model):
    paths = pictures("a.png")
    with pytest.raises(
        ArgumentError, match="come from the CRF, which is off: take it, or ask for probs"
    ):
        next(segment_files(model, paths, Path("out"), ["marginals"]))
    with pytest.raises(ArgumentError, match="'logits' is none of labels"):
        next(segment_files(model, paths, Path("out"), ["logits"]))
    assert not Path("out").exists()


@pytest.mark.usefixtures("staged")
def test_a_full_disk_leaves_nothing_half_written(pictures, model, monkeypatch):
    paths = pictures("a.png", "b.png")
    written = []

    def replace(source, target):
        if written:
            raise OSError(28, "No space left on device")
        written.append(target)
        os.rename(source, target)

    monkeypatch.setattr(os, "replace", replace)
    results = segment_files(model, paths, Path("out"))
    next(results)
    with pytest.raises(FileError, match=r"out/b.png: cannot be written: no space left on device"):
        next(results)
    assert os.listdir("out") == ["a.png"]


def test_out_cannot_be_made(pictures, model):
    paths = pictures("a.png")
    os.symlink("nowhere/at/all", "out")
    with pytest.raises(FileError, match="out: cannot be made"):
        next(segment_files(model, paths, Path("out")))


@pytest.mark.usefixtures("staged")
def test_stopping_in_the_middle_leaves_whole_files(pictures, model):
    results = segment_files(model, pictures("a.png", "b.png", "c.png"), Path("out"))
    next(results)
    results.close()
    written = os.listdir("out")  # beside a GPU others may be done by then
    assert "a.png" in written
    assert set(written) <= {"a.png", "b.png", "c.png"}
    for name in written:
        assert read_labels(f"out/{name}").shape == (20, 30)


# --- cutouts


@pytest.mark.usefixtures("staged")
def test_cutouts_of_an_earlier_result_do_not_stay(pictures, model, photo):
    paths = pictures("a.png", "a.class-2.png")
    stale, other = Path("out/a.class-3.png"), Path("out/b.class-3.png")
    none_there = np.zeros((20, 30), bool)
    Path("out").mkdir()
    for path in (stale, other):
        write_cutout(path, photo(20, 30), none_there)
    result, _ = segment_files(model, paths, Path("out"), ["cutout"])
    assert stale.exists() == (stale in result.written["cutout"])
    assert other.exists()


def test_cutouts_that_would_overwrite_files_of_others(pictures, model):
    (a,) = pictures("a.png")
    Path("out").mkdir()
    Path("out/a.class-3.png").write_bytes(b"mine")
    with pytest.raises(FileError, match=r"out/a.class-3.png: is there already"):
        segment_files(model, [a], Path("out"), ["cutout"])
    segment_files(model, [a], Path("out"))
    (b,) = pictures("b.class-2.png")
    (c,) = pictures("b.png")
    with pytest.raises(FileError, match=r"b.class-2.png: the results would overwrite it"):
        segment_files(model, [c, b], Path("."), ["cutout"], names={c: "b", b: "x"})


# --- what is there already


def again(model, paths, outputs=("overlay", "bin", "cutout"), **more):
    """What becomes of each photo if those that are done are skipped."""
    results = segment_files(model, paths, Path("out"), outputs, skip_existing=True, **more)
    return [type(result) for result in results]


@pytest.mark.usefixtures("staged")
def test_photos_that_are_done_are_skipped(pictures, model):
    paths = pictures("a.png", "b.png")
    assert again(model, paths[:1]) == [Photo]
    times = {path: path.stat().st_mtime_ns for path in Path("out").iterdir()}
    assert again(model, paths) == [Skipped, Photo]
    assert {path: path.stat().st_mtime_ns for path in times if path.name != NOTE} == {
        path: time for path, time in times.items() if path.name != NOTE
    }
    # Less than was made is there too; more is not, and then all is made.
    assert again(model, paths, []) == [Skipped, Skipped]
    assert again(model, paths[:1], ["scores"]) == [Photo]
    assert again(model, paths[:1], ["scores"]) == [Skipped]
    # The overlay is of an earlier run, of which the labels say nothing.
    assert again(model, paths[:1], ["overlay"]) == [Photo]


def test_what_changed_since_is_made_again(pictures, model, tiny, photo):
    paths = pictures("a.png")
    assert again(model, paths) == [Photo]
    changes = {
        "the photo": lambda: write_image("a.png", photo(20, 30, seed=9)),
        "an overlay that is gone": lambda: os.remove("out/a.overlay.jpg"),
        "an overlay of something else": lambda: write_image("out/a.overlay.jpg", photo(9, 9)),
        "a cutout that is cut short": lambda: cut_short(next(Path("out").glob("a.class*"))),
        "labels that are cut short": lambda: cut_short(Path("out/a.png")),
        "labels of another command": lambda: write_labels("out/a.png", read_labels("out/a.png")),
        "probabilities that are cut short": lambda: cut_short(Path("out/a.bin")),
    }
    for what, change in changes.items():
        change()
        assert again(model, paths, force=True) == [Photo], what
        assert again(model, paths) == [Skipped], what
    others = {
        "weights": DeepLab(tiny, "random:1", device="cpu", crf=None),
        "a CRF": DeepLab(tiny, "random:1", device="cpu", crf=CrfParams(4, 20, 5), iterations=1),
        "iterations": DeepLab(
            tiny, "random:1", device="cpu", crf=CrfParams(4, 20, 5), iterations=2
        ),
    }
    for what, other in others.items():
        assert again(other, paths) == [Photo], what
        assert again(other, paths) == [Skipped], what
    tiny.write_text(tiny.read_text().replace("hole: 2", "hole: 1"))
    assert again(DeepLab(tiny, "random:0", device="cpu", crf=None), paths) == [Photo]


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-20])


def test_a_run_that_was_stopped_before_the_labels(pictures, model, monkeypatch):
    paths = pictures("a.png")
    with monkeypatch.context() as patched:
        patched.setattr("deeplab_repro.jobs.segment.write_labels", interrupted)
        with pytest.raises(KeyboardInterrupt):
            again(model, paths)
    assert again(model, paths) == [Photo]  # all that is there is known to be our own
    assert again(model, paths) == [Skipped]


def interrupted(*_):
    raise KeyboardInterrupt


def test_a_photo_that_cannot_be_read_is_told_though_it_was_done(pictures, model):
    paths = pictures("a.png")
    assert again(model, paths) == [Photo]
    Path("a.png").write_bytes(b"")
    assert again(model, paths) == [Failed]
