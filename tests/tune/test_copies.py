"""The texts to copy run, and give the labels that the page shows."""

import shlex
from pathlib import Path

import numpy as np
import pytest

from deeplab_repro.crf.params import CrfParams
from deeplab_repro.files.images import read_labels
from deeplab_repro.files.pictures import write_image
from deeplab_repro.files.probs import write_coarse
from deeplab_repro.net.scores import CoarseScores
from deeplab_repro.toy.scenes import make_scene
from deeplab_repro.tune.copies import copies
from deeplab_repro.tune.opening import open_session
from deeplab_repro.tune.session import Source
from deeplab_repro.tune.setting import Setting

SETTING = Setting(CrfParams(4.5, 20, 7.25, 1.5, 2), 4)


def check(command, source):
    session = open_session(source)
    expected = session.refine(SETTING).labels
    assert len(np.unique(expected)) > 1
    texts = copies(source, SETTING)
    for line in texts["command"].splitlines():
        program, *arguments = shlex.split(line)
        assert program == "deeplab-repro"
        assert command(*arguments)[0] == 0
    np.testing.assert_array_equal(read_labels("labels.png"), expected)
    for kind in ("python", "pydensecrf"):
        names: dict[str, object] = {}
        exec(texts[kind], names)
        np.testing.assert_array_equal(names["labels"], expected, kind)


@pytest.mark.usefixtures("inputs")
def test_of_probabilities(command):
    """Whose files have odd names."""
    Path("photo.npy").rename("-it's photo.npy")
    Path("photo.png").rename("-a b.png")
    check(command, Source(Path("-a b.png"), Path("-it's photo.npy")))


def test_of_coarse_scores(command, inputs):
    scores = np.random.default_rng(1).standard_normal((3, 5, 20)).astype(np.float32)
    write_coarse(inputs / "a.npz", CoarseScores(3 * scores, 16))
    check(command, Source(Path("photo.png"), Path("a.npz")))


def test_of_a_model(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_image("scene.png", make_scene(0, 1, "val").image[50:170, 90:230])
    check(command, Source(Path("scene.png"), model="ToyVOC-LargeFOV"))
