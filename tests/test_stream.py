"""Many photos, one after the other: the net works on one while the CRF works on another."""

import threading
import time

import numpy as np
import pytest

from deeplab_repro.crf.params import CrfParams
from deeplab_repro.errors import ArgumentError, DeviceError, FileError, ResourceError
from deeplab_repro.machine import memory
from deeplab_repro.segmenter import DeepLab
from tests.conftest import assert_one_line


@pytest.fixture(params=[CrfParams(4, 20, 5), None], ids=["CRF", "no CRF"])
def model(tiny, request):
    return DeepLab(tiny, "random:0", device="cpu", crf=request.param, iterations=1)


def n_threads():
    return sum(thread.name.startswith("crf") for thread in threading.enumerate())


def test_results_are_those_of_calls_in_order(model, pictures):
    paths = pictures("a.png", "b.png", "c.jpg")
    arrays = [model(path).image for path in paths]
    for photos in (paths, arrays, np.stack(arrays), iter(paths), map(str, paths)):
        results = list(model.stream(photos))
        assert len(results) == 3
        for result, path in zip(results, paths, strict=True):
            expected = model(path)
            np.testing.assert_array_equal(result.labels, expected.labels)
            np.testing.assert_array_equal(result.scores, expected.scores)
    assert [result.path for result in model.stream(paths)] == paths
    assert list(model.stream([])) == []


def test_photos_are_taken_as_they_are_needed(model, photo):
    taken = []

    def endless():
        buffer = photo(20, 30)
        for number in range(1000):
            taken.append(number)
            buffer[:] = number  # as a camera that has one buffer
            yield buffer

    stream = model.stream(endless())
    assert taken == []
    for number in range(4):
        result = next(stream)
        assert (result.image == number).all()
        assert len(taken) <= number + 2
    stream.close()
    assert len(taken) <= 5
    assert n_threads() == 0


def test_the_net_and_the_crf_work_at_the_same_time(tiny, photo):
    """The second photo's net runs before the first one's CRF has ended."""
    model = DeepLab(tiny, "random:0", device="cpu", crf=CrfParams(4, 20, 5), iterations=1)
    second_began = threading.Event()
    seen = []
    refine = model.refine

    def slow_refine(image, made):
        seen.append(second_began.wait(10) if not seen else True)
        return refine(image, made)

    def photos():
        yield photo(20, 30)
        second_began.set()
        yield photo(20, 30)

    model.refine = slow_refine
    assert len(list(model.stream(photos()))) == 2
    assert seen == [True, True]


def test_an_error_comes_at_its_photos_turn(model, pictures, photo):
    good, other = pictures("good.png", "other.png")
    stream = model.stream([good, "nowhere.png", other])
    assert next(stream).path == good
    with pytest.raises(FileError) as error:
        next(stream)
    assert_one_line(error, "photo 2: nowhere.png: cannot be read: no such file")
    assert list(stream) == []
    assert n_threads() == 0
    with pytest.raises(ArgumentError, match=r"^photo 1: image is float64; expected"):
        next(model.stream([photo(5, 6) / 255]))


def test_errors_in_place_of_results(model, pictures, photo):
    good, other = pictures("good.png", "other.png")
    photos = [None, good, "nowhere.png", photo(4, 5)[..., 0], other]
    results = list(model.stream(photos, errors="yield"))
    kinds = [type(result).__name__ for result in results]
    segmented = "Segmentation"
    assert kinds == ["ArgumentTypeError", segmented, "FileError", "ArgumentError", segmented]
    for number in (0, 2, 3):
        assert str(results[number]).startswith(f"photo {number + 1}: ")


def test_errors_of_the_net_and_the_crf_name_the_photo(tiny, pictures, monkeypatch):
    (path,) = pictures("photo.png")
    model = DeepLab(tiny, "random:0", device="cpu", crf=CrfParams(4, 20, 5))
    refine = model.refine

    def no_memory(*_):
        raise ResourceError("the CRF: too little")

    model.refine = no_memory
    with pytest.raises(ResourceError, match=r"^photo 1, photo\.png: the CRF: too little$"):
        next(model.stream([path]))
    model.refine = refine
    monkeypatch.setattr(memory, "available_memory", lambda: 10)
    with pytest.raises(ResourceError, match=r"^photo 1, photo\.png: net 'tiny'"):
        next(model.stream([path]))


def test_an_error_of_the_device_ends_the_stream(tiny, photo):
    model = DeepLab(tiny, "random:0", device="cpu", crf=CrfParams(4, 20, 5))

    def broken(*_):
        raise DeviceError("gone")

    model.refine = broken
    with pytest.raises(DeviceError, match="photo 1: gone"):
        next(model.stream([photo(5, 6)], errors="yield"))


@pytest.mark.parametrize("errors", ["raise", "yield"])
def test_what_the_photos_raise_comes_after_the_results_before(model, photo, errors):
    def photos():
        yield photo(20, 30)
        raise RuntimeError("no more")

    stream = model.stream(photos(), errors=errors)
    assert next(stream).size == (20, 30)
    with pytest.raises(RuntimeError, match="no more"):
        next(stream)


def test_a_forgotten_stream_ends_its_thread(model, photo):
    stream = model.stream(photo(20, 30) for _ in range(9))
    next(stream)
    del stream
    end = time.monotonic() + 5
    while n_threads() and time.monotonic() < end:
        time.sleep(0.01)
    assert n_threads() == 0


def test_one_photo_or_wrong_arguments_are_told_at_once(model, photo):
    with pytest.raises(ArgumentError, match="call the model itself"):
        model.stream(photo(5, 6))
    with pytest.raises(ArgumentError, match="errors is 'skip', expected 'raise' or 'yield'"):
        model.stream([], errors="skip")
