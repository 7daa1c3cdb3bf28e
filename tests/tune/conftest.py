"""A small photo with probabilities and true labels, and what `tune` makes of them."""

from pathlib import Path

import numpy as np
import pytest

from deeplab_repro.crf.params import CrfParams
from deeplab_repro.files.pictures import write_image, write_labels
from deeplab_repro.net.scores import softmax
from deeplab_repro.tune.opening import open_session
from deeplab_repro.tune.session import Source

SIZE = 60, 300  # (H, W): wider than the small copy
START = CrfParams(4, 30, 8)


def write_inputs(folder: Path) -> None:
    """A dark half and a bright one, probabilities that find the border roughly, and the truth."""
    rng = np.random.default_rng(0)
    half = (np.indices(SIZE)[1] > 140).astype(np.uint8)
    image = 60 + 120 * half[..., None] + rng.integers(0, 12, (*SIZE, 3))
    write_image(folder / "photo.png", image.astype(np.uint8))
    maps = rng.standard_normal((4, *SIZE)).astype(np.float32)
    maps[0] += 2 * (np.indices(SIZE)[1] <= 155)
    maps[2] += 2 * (np.indices(SIZE)[1] > 155)
    np.save(folder / "photo.npy", softmax(maps))
    truth = 2 * half
    truth[:, 139:142] = 255
    write_labels(folder / "truth.png", truth)


@pytest.fixture
def inputs(tmp_path, monkeypatch) -> Path:
    """The current folder, with photo.png, photo.npy and truth.png."""
    monkeypatch.chdir(tmp_path)
    write_inputs(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """A session with the truth."""
    folder = tmp_path_factory.mktemp("tune")
    write_inputs(folder)
    source = Source(folder / "photo.png", folder / "photo.npy")
    return open_session(source, START, (2, 3), truth=folder / "truth.png")
