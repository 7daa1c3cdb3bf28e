"""How photos go through the stages."""

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deeplab_repro.errors import ArgumentError, DeviceError, FileError, ResourceError
from deeplab_repro.jobs.photos import Photo, Skipped, Stages
from deeplab_repro.work.outcomes import Failed

PATHS = [Path(f"{number}.jpg") for number in range(5)]


def read(path):
    return Photo(path, np.full((1, 1, 3), int(path.stem), np.uint8))


def add(what):
    """A stage that adds its name to the files that are written."""

    def stage(photo):
        return replace(photo, written={**photo.written, what: ()})

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
        assert [*photo.written] == ["score", "refine", "write"]
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


def test_a_photo_that_is_done_keeps_its_place():
    def read_others(path):
        return Skipped(path, path) if path == PATHS[1] else read(path)

    stages = Stages(read_others, add("score"), add("refine"), add("write"))
    photos = list(stages.many(PATHS))
    assert [type(photo) for photo in photos] == [Photo, Skipped, Photo, Photo, Photo]
    assert stages.one(PATHS[1]) == photos[1] == Skipped(PATHS[1], PATHS[1])


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
