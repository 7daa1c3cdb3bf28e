"""Which files are meant, and how photos go through the stages."""

import os
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deeplab_repro.errors import ArgumentError, DeviceError, FileError, ResourceError
from deeplab_repro.jobs.photos import Photo, Stages, find_photos
from deeplab_repro.work.outcomes import Failed

# --- finding


def test_files_in_the_order_given_and_folders_sorted(pictures):
    b, a, z, y = pictures("b.png", "a.png", "in/z.jpg", "in/y.PNG")
    (Path("in") / "notes.txt").write_text("no picture")
    (Path("in") / "folder.png").mkdir()
    (Path("in") / ".hidden.png").touch()
    assert find_photos(["b.png", "in", "a.png"]) == [b, y, z, a]
    assert find_photos([b, Path("in")]) == [b, y, z]


def test_patterns(pictures):
    a, b, deep = pictures("a1.png", "a2.png", "x/y/a3.png")
    Path("a_folder").mkdir()
    assert find_photos(["a*"]) == [a, b]
    assert find_photos(["**/*.png"]) == [a, b, deep]
    assert find_photos(["a[2-9].png"]) == [b]
    with pytest.raises(FileError, match=r"b\*: no file matches this pattern"):
        find_photos(["b*"])


def test_brackets_and_stars_in_names_that_exist(pictures):
    wanted = pictures("a[1].png", "b*.png", "d[1]/c.png")
    pictures("a1.png", "bb.png", "d1/c.png")
    assert find_photos(["a[1].png", "b*.png", "d[1]"]) == wanted


def test_a_file_named_twice_comes_once(pictures, tmp_path):
    a, b = pictures("a.png", "b.png")
    names = ["a.png", "./a.png", tmp_path / "a.png", "*.png", "."]
    assert find_photos(names) == [a, b]
    # A link of another name is another picture.
    os.symlink("a.png", "c.png")
    assert find_photos(["a.png", "c.png"]) == [a, Path("c.png")]


def test_names_with_line_breaks_and_stray_bytes(pictures):
    (path,) = pictures("a\nb.png")
    assert find_photos(["a\nb.png"]) == [path]
    for name in ("x\ny.png", "x\ny*", "stray\udcff.png"):
        with pytest.raises(FileError) as error:
            find_photos([name])
        assert str(error.value).isprintable()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nowhere.png", "no such file"),
        ("empty.png", "is empty"),
        ("bare", "holds no readable pictures"),
        ("x" * 300 + ".png", "too long"),
        ("/dev/null", "is a pipe or a device"),
        ("null\0.png", "null"),
    ],
)
def test_names_that_stand_for_nothing(tmp_path, monkeypatch, name, expected):
    monkeypatch.chdir(tmp_path)
    Path("empty.png").touch()
    Path("bare").mkdir()
    with pytest.raises(FileError) as error:
        find_photos([name])
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


# --- stages

PATHS = [Path(f"{number}.jpg") for number in range(5)]


def read(path):
    return Photo(path, np.full((1, 1, 3), int(path.stem), np.uint8))


def add(what):
    """A stage that adds its name to the files that are written."""

    def stage(photo):
        return replace(photo, written=(*photo.written, Path(what)))

    return stage


def threads_named(name):
    return [thread for thread in threading.enumerate() if thread.name.startswith(name)]


@pytest.mark.parametrize("threads", [0, 3])
def test_photos_pass_every_stage_and_keep_their_order(threads):
    stages = Stages(read, add("score"), add("refine"), add("write"))
    photos = list(stages.many(PATHS, threads))
    assert [photo.path for photo in photos] == PATHS
    for photo in photos:
        assert photo.image[0, 0, 0] == int(photo.path.stem)
        assert photo.written == (Path("score"), Path("refine"), Path("write"))
        assert stages.one(photo.path).written == photo.written
    assert list(stages.many([], threads)) == []


def test_the_net_works_ahead_of_the_crf():
    next_was_scored = threading.Event()

    def score(photo):
        if photo.path == PATHS[1]:
            next_was_scored.set()
        return photo

    def refine(photo):
        assert next_was_scored.wait(timeout=30)
        return photo

    assert len(list(Stages(read, score, refine).many(PATHS))) == 5


def test_what_the_crf_needs_is_loaded_meanwhile():
    is_loaded = threading.Event()

    def score(photo):
        assert is_loaded.wait(timeout=30)
        return photo

    assert len(list(Stages(read, score).many(PATHS, prepare=is_loaded.set))) == 5


def test_the_threads_end_when_the_caller_stops():
    photos = Stages(read).many(PATHS)
    next(photos)
    assert threads_named("crf")
    photos.close()
    assert not threads_named("crf")


def test_the_threads_end_when_the_photos_do_not_come():
    def paths():
        yield from PATHS[:2]
        raise KeyboardInterrupt

    photos = Stages(read).many(paths())
    next(photos)
    with pytest.raises(KeyboardInterrupt):
        list(photos)
    assert not threads_named("crf")


def failing(error):
    """A stage that fails for the second photo."""

    def stage(photo):
        if getattr(photo, "path", photo) == PATHS[1]:
            raise error
        return photo if isinstance(photo, Photo) else read(photo)

    return stage


@pytest.mark.parametrize("stage", ["read", "score", "refine"])
@pytest.mark.parametrize("kind", [ArgumentError, ResourceError])
def test_an_error_of_one_photo_takes_its_place(stage, kind):
    error = kind("too dark")
    stages = replace(Stages(read), **{stage: failing(error)})
    first, second, *others = stages.many(PATHS)
    assert (second.path, str(second.error)) == (PATHS[1], f"{PATHS[1]}: too dark")
    assert second.error.__traceback__ is None  # it would keep the image
    assert [photo.path for photo in (first, *others)] == [PATHS[0], *PATHS[2:]]
    assert isinstance(stages.one(PATHS[1]), Failed)


@pytest.mark.parametrize("stage", ["read", "score", "refine", "write"])
@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), "it ran out of memory: use a smaller image"),
        (RuntimeError("can't start new thread"), "it could not start threads: raise the limits"),
    ],
)
def test_a_shortage_is_told_with_the_photo_and_the_others_go_on(stage, error, expected):
    stages = replace(Stages(read), **{stage: failing(error)})
    first, second, *others = stages.many(PATHS)
    assert str(second.error).startswith(f"{PATHS[1]}: {expected}")
    assert [photo.path for photo in (first, *others)] == [PATHS[0], *PATHS[2:]]


def test_a_bug_is_not_taken_for_a_shortage():
    with pytest.raises(RuntimeError, match="who knows"):
        list(replace(Stages(read), score=failing(RuntimeError("who knows"))).many(PATHS))


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize(
    ("stage", "error"),
    [
        ("read", DeviceError("no disk")),
        ("score", DeviceError("the GPU has fallen off the bus")),
        ("refine", DeviceError("the GPU has fallen off the bus")),
        ("write", FileError("no space left on device")),
    ],
)
def test_an_error_that_affects_every_photo_ends_the_run(stage, error, threads):
    stages = replace(Stages(read), **{stage: failing(error)})
    with pytest.raises(type(error), match=str(error)):
        list(stages.many(PATHS, threads))
    with pytest.raises(type(error)):
        stages.one(PATHS[1])
    assert not any(map(threads_named, ("read", "crf", "write")))
