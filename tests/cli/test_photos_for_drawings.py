"""A net that knows drawn scenes only says so when it is given a photo: one line, once a run."""

import logging
from pathlib import Path

import pytest

from deeplab_repro import DeepLab
from deeplab_repro.files.pictures import write_image
from deeplab_repro.models.registry import MODELS
from deeplab_repro.toy.scenes import make_scene

NAME = "ToyVOC-LargeFOV"
SAID = (
    f"{NAME} knows drawn scenes only, and photo.jpg does not look like one: its labels will mean "
    "little"
)


@pytest.fixture
def pictures(tmp_path, photo, monkeypatch):
    """A data set of a drawn scene and two pictures with a photo's noise; its folder is current."""
    monkeypatch.chdir(tmp_path)
    root = Path("voc")
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    for split, names in (("drawn", "scene\n"), ("all", "scene\nbroken\nphoto\nother\n")):
        (root / f"ImageSets/Segmentation/{split}.txt").write_text(names)
    folder = root / "JPEGImages"
    folder.mkdir()
    (folder / "scene.jpg").write_bytes(make_scene(3, 1).jpeg)
    (folder / "broken.jpg").write_bytes(b"no picture")
    for name in ("photo", "other"):
        write_image(folder / f"{name}.png", photo(120, 160))
        (folder / f"{name}.png").rename(folder / f"{name}.jpg")
    return folder


@pytest.fixture
def warnings(command, caplog):
    """What a command warns of, and its exit status."""

    def run(*arguments):
        caplog.clear()
        status, *_ = command(*arguments)
        return caplog.messages, status

    return run


def test_segment(warnings, pictures):
    names = [pictures / f"{name}.jpg" for name in ("scene", "photo", "other")]
    segment = ("segment", "--model", NAME, "--no-crf", *names)
    assert warnings(*segment[:-2]) == ([], 0)
    assert warnings(*segment) == ([SAID], 0)
    # A user's own weights may know anything.
    Path("own.caffemodel").write_bytes(MODELS[NAME].shipped_weights.read_bytes())
    assert warnings(*segment, "--weights", "own.caffemodel") == ([], 0)


@pytest.mark.usefixtures("pictures")
def test_predict(warnings):
    predict = ("predict", "--voc", "voc", "--model", NAME, "--no-crf", "--workers", "0")
    assert warnings(*predict, "--split", "drawn", "--out", "drawn") == ([], 0)
    assert warnings(*predict, "--split", "all", "--out", "all") == ([SAID], 2)  # of the broken one
    assert warnings(*predict, "--split", "drawn", "--out", "drawn") == ([], 0)


def test_from_python(photo, caplog):
    model = DeepLab(NAME, crf=None)
    with caplog.at_level(logging.WARNING):
        model(make_scene(3, 2).image)
        assert caplog.messages == []
        model(photo(120, 160))
        model(photo(120, 160))
    (told,) = caplog.messages
    assert told.startswith(f"{NAME} knows drawn scenes only, and the image does not look like one")
