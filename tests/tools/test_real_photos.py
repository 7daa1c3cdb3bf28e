"""The measure of real photos, from scores to tables and curves, on three of them made small."""

import json
from pathlib import Path

import numpy as np
import pytest

from deeplab_repro.crf.params import CrfParams
from deeplab_repro.files.images import VOID, read_image, read_labels
from deeplab_repro.files.pictures import write_image, write_labels
from deeplab_repro.files.probs import read_probs
from deeplab_repro.voc.grid import SearchGrid
from tests.tools.conftest import load

DATA = Path(__file__).resolve().parents[3] / "shared/data/voc12-val"
SCORES = DATA / "scores-deeplabv3"
NAMES = ["2007_000033", "2007_000061", "2007_000129"]

TOOL = load("real_photos")


@pytest.fixture
def small(tmp_path):
    """A data set of every fourth pixel of three photos, with their masks and probabilities."""
    if not SCORES.is_dir():
        pytest.skip(f"the photos and their scores are not at {DATA}")
    for folder in ("voc/ImageSets/Segmentation", "voc/JPEGImages", "voc/SegmentationClass", "s"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "voc/ImageSets/Segmentation/val.txt").write_text("\n".join(NAMES))
    for name in NAMES:
        image = read_image(DATA / f"JPEGImages/{name}.jpg")
        probs = read_probs(SCORES / f"{name}.npz", image.shape[:2])
        mask = read_labels(DATA / f"SegmentationClass/{name}.png")
        write_image(tmp_path / f"voc/JPEGImages/{name}.png", image[::4, ::4])
        write_labels(tmp_path / f"voc/SegmentationClass/{name}.png", mask[::4, ::4])
        np.save(tmp_path / f"s/{name}.npy", probs[:, ::4, ::4])
    return tmp_path


def arguments_for(small: Path) -> list[str]:
    options = {"voc": small / "voc", "split": "val", "scores": small / "s", "out": small / "out"}
    return [f"--{option}={value}" for option, value in options.items()] + ["--workers=0"]


def test_from_scores_to_tables_and_curves(small, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(TOOL, "GRID", SearchGrid((3,), (20,), (5,)))  # without steps
    published = {TOOL.NET: None, "DeepLab-LargeFOV": CrfParams(4, 121, 5)}
    monkeypatch.setattr(TOOL, "published_settings", lambda: published)
    monkeypatch.setattr(TOOL, "FEW", 2)
    out = small / "out"
    arguments = [*arguments_for(small), "--choose", "1"]
    TOOL.main(arguments)
    printed = capsys.readouterr().out
    assert (out / "real_photos.md").read_text() + "\n" == printed
    assert read_image(out / "real_photos.png").shape[2] == 3
    assert (out / "real_photos.svg").read_text().startswith("<?xml")
    found = json.loads((out / "real_photos.json").read_text())
    assert (found["photos"], found["kept_back"], len(found["gains"])) == (3, 2, 2)
    assert not set(found["gains"]) & set(found["search"]["names"])
    settings = {row["setting"]: row for row in found["settings"]}
    assert (next(iter(settings)), list(settings)[-1]) == (TOOL.NET, TOOL.CHOSEN)
    best = found["search"]["best"]
    assert settings[TOOL.CHOSEN]["crf"][:3] == [
        best[k] for k in ("w1", "sigma_alpha", "sigma_beta")
    ]

    # By hand: the net alone.
    right = counted = 0
    for name in found["gains"]:
        mask = read_labels(small / f"voc/SegmentationClass/{name}.png")
        labels = np.load(small / f"s/{name}.npy").argmax(axis=0)
        right += np.count_nonzero((labels == mask) & (mask != VOID))
        counted += np.count_nonzero(mask != VOID)
    alone = found["settings"][0]["areas"]["whole"]["pixel_accuracy"]
    assert alone == pytest.approx(100 * right / counted, abs=1e-9)

    def refuse(*_):
        raise AssertionError("counted again")

    monkeypatch.setattr(TOOL, "count", refuse)
    TOOL.main(arguments)
    assert capsys.readouterr().out == printed


def test_the_published_settings_are_those_of_photos():
    settings = TOOL.published_settings()
    assert settings.pop(TOOL.NET) is None
    assert len(settings) == len(set(settings.values())) == 8
    assert settings["DeepLab-LargeFOV"] == CrfParams(4, 121, 5)
    assert settings["DeepLabv2-VGG16"] == CrfParams(4, 65, 3, 2, 2)


def test_thin_parts_are_those_that_no_disc_fits_into():
    mask = np.zeros((60, 60), np.uint8)
    mask[10:40, 10:40] = 7
    mask[20:24, 40:58] = 7  # a bar that leaves the square
    thin = TOOL.thin_parts(mask)
    assert thin[20:24, 44:58].all()
    assert not thin[14:36, 14:36].any()
    assert not thin[mask == 0].any()


def test_all_photos_to_choose_by_are_refused(small, capsys):
    with pytest.raises(SystemExit) as ended:
        TOOL.main([*arguments_for(small), "--choose", "3"])
    assert ended.value.code == 2
    assert "3 of 3 photos are to choose by: none would be left" in capsys.readouterr().err
