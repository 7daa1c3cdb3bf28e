"""Which pictures look drawn: scenes of ToyVOC do, however they were saved; photos do not."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeplab_repro.files.images import read_image
from deeplab_repro.models.drawn import looks_drawn
from deeplab_repro.toy.scenes import make_scene

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def saved(image, scale=1.0, quality=None):
    """An image resized, and read from a JPEG."""
    picture = Image.fromarray(image)
    size = [round(side * scale) for side in picture.size]
    picture = picture.resize(size, Image.Resampling.BICUBIC)
    if quality:
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=quality)
        picture = Image.open(file)
    return np.asarray(picture.convert("RGB"))


def test_scenes_look_drawn():
    """Other scenes than those that the rule was fitted to: none is taken for a photo."""
    for index in range(8):
        image = make_scene(21, index, "val").image
        for scale, quality in ((1, None), (1, 75), (1, 20), (0.5, None), (2, 60), (3, None)):
            assert looks_drawn(saved(image, scale, quality)), (index, scale, quality)


@pytest.mark.parametrize(
    ("folder", "least"),
    [
        ("camvid-voc", 0.95),  # 467 of 468
        ("voc12-val", 0.85),  # 330 of 378; the others have large, plain parts
    ],
)
def test_photos_do_not(folder, least):
    photos = sorted((DATA / folder / "JPEGImages").glob("*.jpg"))[3::12]
    if not photos:
        pytest.skip(f"{DATA / folder} is not here")
    assert np.mean([not looks_drawn(read_image(path)) for path in photos]) >= least


def test_what_cannot_be_judged_passes_for_drawn():
    rng = np.random.default_rng(0)
    for size in ((1, 1), (40, 60), (1, 5000), (5000, 1), (3, 128), (96, 2)):
        assert looks_drawn(rng.integers(0, 256, (*size, 3), np.uint8))
    assert not looks_drawn(rng.integers(0, 256, (150, 200, 3), np.uint8))
