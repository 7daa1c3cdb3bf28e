"""deeplab-repro bench: what it prints, and every kind of bad input."""

import json

import pytest

from deeplab_repro.bench import LABEL_COUNTS
from deeplab_repro.image import write_image

TINY = ("bench", "crf", "--size", "16x12", "--labels", "3", "--repeat", "1", "--iterations", "1")

pytestmark = pytest.mark.usefixtures("measured_here")


def test_tables(command):
    status, out, err = command(*TINY)
    assert (status, err) == (0, "")
    assert "cores of" in out
    assert "16x12 pixels, 3 labels, 1 iterations, CRF 4,121,5,3,3, medians of 1 runs" in out
    assert "all threads" in out
    assert "one thread" in out
    for size in ("8x6", "16x12", "32x24", "64x48"):
        assert f"\n {size} " in out
    assert "slope of log time over log pixels: " in out
    assert "slope of log time over log labels: " in out


def test_json(command, tmp_path, photo):
    write_image(tmp_path / "a.png", photo(12, 20))
    status, out, _ = command(*TINY, "--crf", "3,95,3", "--image", tmp_path / "a.png", "--json")
    assert status == 0
    report = json.loads(out)
    assert report["work"]["size"] == [12, 16]
    assert report["work"]["picture"] == str(tmp_path / "a.png")
    assert report["work"]["params"] == [3, 95, 3, 3, 3]
    assert len(report["runs"]["all_threads"]["ms"]) == 1
    assert [row["labels"] for row in report["labels"]["rows"]] == list(LABEL_COUNTS)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "PART"),
        (["net"], "invalid choice: 'net'"),
        (["crf", "--size", "500"], "'500' is not WxH, for example 500x375"),
        (["crf", "--size", "0x5"], "'0x5' is not WxH"),
        (["crf", "--labels", "256"], "'256' is not a whole number from 1 to 255"),
        (["crf", "--labels", "0"], "'0' is not a whole number from 1 to 255"),
        (["crf", "--repeat", "0"], "'0' is not a whole number from 1"),
        (["crf", "--crf", "4"], "'4' is not W1,SIGMA_ALPHA,SIGMA_BETA"),
        (["crf", "--image", "nowhere.png"], "nowhere.png: cannot be read"),
        (["crf", "--size", "16x12", "--crf", "4,1e-4,5"], "is too small for an image"),
    ],
)
def test_bad_input(refused, arguments, expected):
    assert expected in refused("bench", *arguments)
