from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeplab_repro.files.pictures import write_labels
from tests.train.list_files import N_LABELS, SIZES, write_list


@pytest.fixture
def folder(tmp_path, photo) -> Path:
    """Pairs 0.png and 0_labels.png, ... of SIZES, and their list."""
    rng = np.random.default_rng(0)
    for i, size in enumerate(SIZES):
        Image.fromarray(photo(*size, seed=i)).save(tmp_path / f"{i}.png")
        labels = rng.integers(N_LABELS, size=size, dtype=np.uint8)
        labels[0, :3] = 255
        write_labels(tmp_path / f"{i}_labels.png", labels)
    write_list(tmp_path, range(len(SIZES)))
    return tmp_path
