"""Real photos with DeepLab-like scores made from their masks: `crf`, then `evaluate`."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from deeplab_repro.files.images import VOID, read_labels
from deeplab_repro.files.probs import write_coarse
from deeplab_repro.net.scores import CoarseScores
from deeplab_repro.voc.devkit import open_devkit

CAMVID = Path(__file__).resolve().parents[3] / "shared/data/camvid-voc"
CLASSES = [f"class {label}" for label in range(11)]
NAMES = ["0016E5_07959", "0016E5_08159"]


def scores_like_deeplabs(mask, rng):
    """Coarse scores of about the statistics of those in golden/crf: right but for the borders.

    The logarithm of the blurred truth at every eighth pixel, and smooth noise of deviation 1.
    """
    truth = (mask == np.arange(len(CLASSES))[:, None, None]).astype(np.float32)
    covering = np.pad(truth, ((0, 0), (0, 8), (0, 8)), mode="edge")
    blurred = gaussian_filter(covering, (0, 8, 8))[:, ::8, ::8]
    noise = gaussian_filter(rng.standard_normal(blurred.shape), (0, 1.1, 1.1))
    return (np.log(blurred + 2e-3) + noise / noise.std()).astype(np.float32)


@pytest.fixture
def voc(tmp_path):
    """The current folder's `voc`: two photos of CamVid's, their masks, and lists."""
    if not CAMVID.is_dir():
        pytest.skip(f"the photos are not at {CAMVID}")
    root = tmp_path / "voc"
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    (root / "ImageSets/Segmentation/val.txt").write_text("\n".join(NAMES))
    (root / "classes.txt").write_text("\n".join(CLASSES))
    for folder in ("JPEGImages", "SegmentationClass"):
        (root / folder).symlink_to(CAMVID / folder)
    return root


def test_the_crf_mends_borders(voc, command, tmp_path):
    devkit, rng = open_devkit(voc), np.random.default_rng(0)
    scores, alone, refined = (tmp_path / name for name in ("scores", "alone", "refined"))
    scores.mkdir()
    for name in NAMES:
        mask = read_labels(devkit.mask(name))
        coarse = CoarseScores(scores_like_deeplabs(mask, rng), 8)
        write_coarse(scores / f"{name}.npz", coarse.rounded("float16"))
    photos = [devkit.photo(name) for name in NAMES]
    for iterations, out in ((0, alone), (10, refined)):
        # Smaller deviations than VOC's: these photos are full of poles and signs.
        crf = ("--probs", scores, "--crf", "3,30,3", "--iterations", iterations)
        status, _, err = command("crf", *photos, *crf, "--out", out)
        assert status == 0, err
    ious = []
    for out in (alone, refined):
        evaluate = ("evaluate", "--voc", voc, "--split", "val", "--results", out, "--workers", 0)
        status, printed, _ = command(*evaluate, "--json")
        assert status == 0
        found = json.loads(printed)
        assert (found["images"], found["missing"]) == (2, [])
        ious.append((found["mean_iou"], found["pixel_accuracy"]))
    assert VOID not in read_labels(refined / f"{NAMES[0]}.png")
    assert ious[1][0] > ious[0][0] + 1
    assert ious[1][1] > ious[0][1]
