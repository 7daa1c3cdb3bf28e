"""predict, crossval and train on one folder, killed at any moment: files and notes always agree.

More kills by hand: DEEPLAB_REPRO_KILLS=40 python -m pytest -n0 tests/voc/test_killed.py
"""

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deeplab_repro.caffe import read_solverstate
from deeplab_repro.cli import main
from deeplab_repro.crf.params import CrfParams
from deeplab_repro.files.made_of import MadeOf, read_mark, sha256_of
from deeplab_repro.files.pictures import write_image, write_labels
from deeplab_repro.segmenter import Recipe
from deeplab_repro.train.curve import read_curve
from deeplab_repro.voc.devkit import Devkit
from deeplab_repro.voc.records import read_record, read_scores_record
from tests.train.tiny_training import SOLVER, write_training
from tests.voc.small import files

pytestmark = pytest.mark.skipif(os.name != "posix", reason="kill -9 is POSIX's")

KILLS = int(os.environ.get("DEEPLAB_REPRO_KILLS", "5"))
NAMES = [f"p{i}" for i in range(6)]
OTHER = CrfParams(9, 20, 10)
Command = list[str]


@pytest.fixture(scope="module")
def processes():
    """A server that has loaded everything, and forks the processes that are killed."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


@pytest.fixture
def data(devkit, photo, tmp_path) -> Devkit:
    """Photos and masks, and a training."""
    (devkit.root / "ImageSets/Segmentation/val.txt").write_text("\n".join(NAMES))
    (devkit.root / "classes.txt").write_text("\n".join(devkit.classes))
    (devkit.root / "SegmentationClass").mkdir()
    for i, name in enumerate(NAMES):
        image = photo(60, 80, i)
        write_image(devkit.photo(name), image)
        write_labels(devkit.mask(name), image[:, :, 0] // 64)
    write_training(tmp_path, SOLVER.replace("${DIR}/snap/it", "${OUT}/it"))
    return devkit


def commands(devkit: Devkit, recipe: Recipe, tmp_path: Path, out: Path) -> dict[str, Command]:
    """Every command on the one folder `out`, where all that they write and read lies."""
    states = sorted(out.glob("*.solverstate"))
    split = ["--voc", devkit.root, "--split", "val", "--out", out, "--scores", out]
    net = ["--prototxt", recipe.model, "--weights", recipe.weights, "--iterations", "2"]
    grid = ["--w1", "3,4,5", "--sigma-alpha", "9", "--sigma-beta", "5", "--iterations", "1"]
    made = {
        "predict": ["predict", *split, *net, "--crf", "3,20,10", "--workers", "0"],
        "other": ["predict", *split, *net, "--crf", "9,20,10", "--workers", "0"],
        "crossval": ["crossval", *split, *grid, "--workers", "0"],
        "train": ["train", "--solver", tmp_path / "solver.prototxt", "--set", f"OUT={out}"],
    }
    if states:
        made["train"] += ["--resume", states[-1]]
    return {name: [str(part) for part in command] for name, command in made.items()}


def run(command: Command, said: Path) -> None:
    """What a killed process does."""
    with open(said, "w") as file:
        os.dup2(file.fileno(), 2)
        os.dup2(file.fileno(), 1)
    os._exit(main(command))


def disagreeing(out: Path, devkit: Devkit) -> Iterator[str]:
    """The files that are not what the notes say of them."""
    record, scores = read_record(out, "val"), read_scores_record(out)
    for path in out.glob("results/**/*.png"):
        if not record or read_mark(path) != MadeOf(
            sha256_of(devkit.photo(path.stem)), record.digest
        ):
            yield path.name
    for path in out.glob("*.npz"):
        if not scores or read_mark(path) != MadeOf(
            sha256_of(devkit.photo(path.stem)), scores.digest
        ):
            yield path.name
    for path in out.glob("counts/*/p*"):
        if not read_mark(path) or not (out / "search.json").is_file():
            yield path.name
    for path in out.glob("*.solverstate"):
        state = read_solverstate(path)
        if state.learned_sha256 != sha256_of(path.with_suffix(".caffemodel")):
            yield path.name
        if read_curve(out / "it_loss.csv")[-1].iteration + 1 < state.iteration:
            yield "it_loss.csv"


REFUSALS = (" is in use by ", " has no scores of ", ": is not a folder", " made with crf ")


def start(processes, asked: dict[str, Command], names: list[str], tmp_path: Path):
    """Start commands together: each process with the file of what it says."""
    said = [tmp_path / f"said.{name}" for name in names]
    started = [
        processes.Process(target=run, args=(asked[name], file))
        for name, file in zip(names, said, strict=True)
    ]
    for process in started:
        process.start()
    return list(zip(started, said, strict=True))


def was_refused(process, said: Path) -> bool:
    """Whether a process ended with one of the expected lines."""
    if process.exitcode == 2:
        line = said.read_text().splitlines()[-1]
        assert any(part in line for part in REFUSALS)
    return process.exitcode == 2


def test_two_at_once(data, recipe, tmp_path, processes):
    out = tmp_path / "out"
    asked = commands(data, recipe, tmp_path, out)
    both = start(processes, asked, ["predict", "other"], tmp_path)
    for process, _ in both:
        process.join()
    assert sorted(was_refused(*each) for each in both) == [False, True]
    assert len(list(out.glob("results/**/*.png"))) == len(NAMES)
    assert not list(disagreeing(out, data))


def test_killed_at_any_moment(data, recipe, tmp_path, processes):
    """Two processes at a time in one folder, both killed; in the end all is as if nothing was."""
    rng = random.Random(KILLS)
    out, whole = tmp_path / "out", tmp_path / "whole"
    for _ in range(KILLS):
        asked = commands(data, recipe, tmp_path, out)
        names = rng.sample(sorted(asked), 2)
        both = start(processes, asked, names, tmp_path)
        time.sleep(rng.uniform(0.05, 0.6))
        for process, said in both:
            process.kill()
            process.join()
            assert (
                process.exitcode == -signal.SIGKILL
                or was_refused(process, said)
                or (process.exitcode == 0)
            )
        assert not list(disagreeing(out, data)), names
    begun = read_record(out, "val")
    first = "other" if begun and begun.crf == OTHER else "predict"
    for folder in (out, whole):
        for name in (first, "crossval", "train"):
            assert main(commands(data, recipe, tmp_path, folder)[name]) == 0
    assert not list(disagreeing(out, data))
    found, expected = files(out), files(whole)
    assert found.keys() == expected.keys()
    for path, content in expected.items():
        # These hold seconds, or the folder's name.
        assert found[path] == content or path.endswith((".csv", ".solverstate")), path
