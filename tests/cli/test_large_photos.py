"""deeplab-repro segment and predict on photos that are large: --tile and --max-side."""

import re

import numpy as np
import pytest

from deeplab_repro.files.images import read_labels
from deeplab_repro.files.pictures import write_image

ARGUMENTS = ("--prototxt", "tiny.prototxt", "--weights", "random:0", "--no-crf")


@pytest.fixture(autouse=True)
def folder(tiny, photo, monkeypatch):
    monkeypatch.chdir(tiny.parent)
    write_image("a.png", photo(90, 120))


def test_a_photo_in_tiles_is_told(command):
    status, out, err = command("segment", "a.png", *ARGUMENTS, "--tile", "48")
    assert status == 0
    tiles = re.search(r"a\.png: in (\d+) tiles of up to \d+x\d+ pixels$", err, re.MULTILINE)
    assert tiles
    assert re.match(rf"a\.png  120x90  net in {tiles[1]} tiles +\d+ ms", out)
    command("segment", "a.png", *ARGUMENTS, "--tile", "never", "--out", "whole")
    np.testing.assert_array_equal(read_labels("out/a.png"), read_labels("whole/a.png"))


def test_a_photo_that_is_scaled_down_is_told(command):
    status, out, _ = command("segment", "a.png", *ARGUMENTS, "--max-side", "60")
    assert status == 0
    assert out.startswith("a.png  120x90 (seen at 60x45)  net ")
    assert read_labels("out/a.png").shape == (90, 120)


@pytest.mark.parametrize("name", ["segment", "predict"])
@pytest.mark.parametrize("given", ["0", "-1", "some", "1e3", "٣"])
def test_other_tiles_are_refused(command, name, given):
    status, _, err = command(name, "a.png", f"--tile={given}")
    assert status == 2
    assert f"argument --tile: '{given}' is not auto, never, or a number of pixels from 1" in err


def test_a_tile_that_is_too_small_names_the_photo(command):
    status, _, err = command("segment", "a.png", *ARGUMENTS, "--tile", "3")
    assert status == 2
    assert re.search(r"error: a\.png: .* use --tile \d+$", err, re.MULTILINE)
