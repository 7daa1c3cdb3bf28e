"""What `segment` writes, where, and what it refuses before anything is written."""

import os
from pathlib import Path

import numpy as np
import pytest

from deeplab_repro.crf.params import CrfParams
from deeplab_repro.errors import ArgumentError, FileError, ImageError
from deeplab_repro.files.images import read_image, read_labels
from deeplab_repro.files.pictures import write_image
from deeplab_repro.files.probs import read_probs
from deeplab_repro.jobs.photos import Photo
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


def test_results_that_would_overwrite_each_other(pictures):
    paths = pictures("a.png", "b/a.jpg")
    with pytest.raises(FileError, match=r"b/a.jpg and a.png would both be written to out/a.png"):
        check_outputs(paths, Path("out"))
    check_outputs(paths[:1], Path("out"))


def test_results_that_would_overwrite_a_picture(pictures):
    (a,) = pictures("a.png")
    with pytest.raises(FileError, match=r"a.png: the results would overwrite it"):
        check_outputs([a], Path("."))
    b, c = pictures("b.jpg", "b.overlay.jpg")
    check_outputs([b, c], Path("."))
    with pytest.raises(FileError, match=r"b.overlay.jpg: the results would overwrite"):
        check_outputs([b, c], Path("."), ["overlay"])


def test_out_is_a_file_or_below_one(pictures):
    (a,) = pictures("a.png")
    for out in ("a.png", "a.png/deeper/still"):
        with pytest.raises(FileError, match=r"a.png: is a file, expected a folder"):
            check_outputs([a], Path(out))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_out_cannot_be_written_to(pictures):
    (a,) = pictures("a.png")
    Path("locked").mkdir(mode=0o555)
    with pytest.raises(FileError, match="locked: cannot be written to"):
        check_outputs([a], Path("locked/deeper"))


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
        assert result.written == tuple(out / f"{stem}{ending}" for ending in endings)
        alone = model(read_image(result.path))
        np.testing.assert_array_equal(read_labels(out / f"{stem}.png"), alone.labels)
        assert read_image(out / f"{stem}.overlay.jpg").shape == (20, 30, 3)
        for name in ("scores", "probs", "marginals"):
            array = np.load(out / f"{stem}.{name}.npy")
            np.testing.assert_array_equal(array, getattr(alone, name))
            assert array.dtype == np.float32
        for name in (f"{stem}.bin", f"{stem}_blob_0.mat"):
            np.testing.assert_array_equal(read_probs(out / name, (20, 30)), alone.probs)
    assert len(list(out.iterdir())) == 21


def test_labels_only_unless_more_is_asked_for(pictures, model):
    (result,) = segment_files(model, pictures("..jpg"), Path("out"))
    assert result.written == (Path("out/..png"),)
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
    with pytest.raises(ArgumentError, match="come from the CRF, which is off"):
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
