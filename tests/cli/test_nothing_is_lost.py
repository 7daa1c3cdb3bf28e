"""Every command that writes: what others made stays, its own is replaced, inputs always stay."""

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeplab_repro.caffe import read_net, write_caffemodel
from deeplab_repro.files.marks import NOTE
from deeplab_repro.files.pictures import write_labels
from deeplab_repro.jobs.segment import OUTPUTS
from tests.conftest import TINY, smooth_photo
from tests.train.tiny_training import write_training

NET = ("--prototxt", "tiny.prototxt", "--weights", "tiny.caffemodel")
CRF = ("--crf", "4,20,5", "--iterations", "1")
DATA = ("--voc", "voc", "--split", "val", "--workers", "0")
SEARCH = ("--w1", "4", "--sigma-alpha", "10", "--sigma-beta", "5", "--iterations", "1")

COMMANDS = {
    "segment": ("segment", "a.jpg", *NET, *CRF, "--save", ",".join(OUTPUTS)),
    "page": ("segment", "a.jpg", *NET, *CRF, "--html"),
    "crf": ("crf", "a.jpg", "--probs", "a.npy", "--out", "l.png", "--marginals", "m.npy", *CRF),
    "tune": ("tune", "a.jpg", "--probs", "a.npy", *CRF, "--export", "grid"),
    "caffe": ("convert", *NET, "--to", "caffe", "--out", "made"),
    "onnx": ("convert", *NET, "--to", "onnx", "--out", "made"),
    "npz": ("convert", *NET, "--to", "npz", "--out", "made"),
    "init": ("init", "--net", NET[1], "--weights", NET[3], "--out", "made"),
    "toyvoc": ("toyvoc", "--out", "toy", "--train", "1", "--val", "0"),
    "demo": ("demo", "--scenes", "1"),
    "paper": ("paper",),
    "figure2": ("paper", "--figure2", "a.jpg", "--model", "ToyVOC-LargeFOV"),
    "predict": ("predict", *DATA, *NET, "--no-crf", "--out", "p", "--tar", "p.tgz"),
    "evaluate": ("evaluate", *DATA, "--results", "labels", "--out", "scored"),
    "crossval": ("crossval", *DATA, "--scores", "maps", "--out", "found", *SEARCH),
}
QUICKER = {
    "show.plot._DPI": 20,
    "cli.demo._MODELS": ("ToyVOC-LargeFOV",),
}
# Resumed, `predict` and `crossval` keep these as they are: other tests are about them.
RESUMED = ("p/", "found/counts/", "found/search.json")


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The current folder, with all that the commands read."""
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    for name in ("ImageSets/Segmentation", "JPEGImages", "SegmentationClass"):
        (tmp_path / "voc" / name).mkdir(parents=True)
    for name in ("labels", "maps"):
        (tmp_path / name).mkdir()
    Image.fromarray(smooth_photo(20, 30)).save("a.jpg")
    shutil.copy("a.jpg", "voc/JPEGImages/a.jpg")
    Path("voc/ImageSets/Segmentation/val.txt").write_text("a\n")
    Path("voc/classes.txt").write_text("sky\nroad\ncar\ntree\n")
    truth = np.arange(600, dtype=np.uint8).reshape(20, 30) % 4
    write_labels("voc/SegmentationClass/a.png", truth)
    write_labels("labels/a.png", truth)
    np.save("a.npy", np.full((4, 20, 30), 0.25, np.float32))
    shutil.copy("a.npy", "maps/a.npy")
    Path("tiny.prototxt").write_text(TINY)
    net = read_net(tmp_path / "tiny.prototxt")
    net.fill_random(0)
    write_caffemodel(net, "tiny.caffemodel")
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_file_that_a_command_writes(command, refused, folder, monkeypatch, name):
    for what, quicker in QUICKER.items():
        monkeypatch.setattr(f"deeplab_repro.{what}", quicker)
    before = contents(folder)
    assert command(*COMMANDS[name])[0] == 0
    written = contents(folder).keys() - before.keys()
    assert contents(folder).items() >= before.items()
    assert command(*COMMANDS[name])[0] == 0  # its own files are no hindrance
    written = {each for each in written if not each.startswith(RESUMED) and NOTE not in each}
    assert written
    for each in sorted(written):
        path = folder / each
        own = path.read_bytes()
        path.write_bytes(b"mine")
        now = contents(folder)
        error = refused(*COMMANDS[name])
        assert f"{each}: is there already" in error
        assert "--force" in error
        assert contents(folder) == now
        path.write_bytes(own)
    path.write_bytes(b"mine")
    assert command(*COMMANDS[name], "--force")[0] == 0
    assert contents(folder).items() >= before.items()
    assert path.read_bytes() != b"mine"


# What a command reads, where it would write to, and how it is told to.
INPUTS = {
    "segment": ("b.png", "./b.png", ("segment", "b.png", *NET, *CRF, "--out", ".")),
    "segment others": ("c.png", "x/b.png", ("segment", "b.png", "c.png", *NET, "--out", "x")),
    "segment weights": ("tiny.caffemodel", "x/b.png", ("segment", "b.png", *NET, "--out", "x")),
    "crf image": ("b.png", "l.png", ("crf", "b.png", "--probs", "a.npy", "--out", "l.png")),
    "crf probs": ("a.npy", "l.png", ("crf", "b.png", "--probs", "a.npy", "--out", "l.png")),
    "tune": (
        "truth.png",
        "x/index.html",
        ("tune", "b.png", "--probs", "a.npy", "--truth", "truth.png", "--export", "x"),
    ),
    "caffe": ("tiny.caffemodel", "y.caffemodel", ("convert", *NET, "--to", "caffe", "--out", "y")),
    "caffe net": ("tiny.prototxt", "y.prototxt", ("convert", *NET, "--to", "caffe", "--out", "y")),
    "onnx": ("tiny.caffemodel", "y.onnx", ("convert", *NET, "--to", "onnx", "--out", "y")),
    "init": ("tiny.caffemodel", "y", ("init", "--net", NET[1], "--weights", NET[3], "--out", "y")),
    "init net": (
        "tiny.prototxt",
        "y",
        ("init", "--net", NET[1], "--weights", NET[3], "--out", "y"),
    ),
    "figure2": ("b.png", "x/figure2_b.png", ("paper", "--figure2", "b.png", "--out", "x")),
    "predict": ("tiny.caffemodel", "y", ("predict", *DATA, *NET, "--out", "p", "--tar", "y")),
    "evaluate": (
        "labels/a.png",
        "x/trimap.png",
        (*COMMANDS["evaluate"], "--trimap", "3", "--out", "x"),
    ),
    "crossval": (
        "names",
        "x/crossval.csv",
        (*COMMANDS["crossval"], "--classes", "names", "--out", "x"),
    ),
}


@pytest.mark.parametrize("link", [os.link, os.symlink])
@pytest.mark.parametrize("name", INPUTS)
def test_what_is_read_is_never_overwritten(refused, folder, name, link):
    source, target, arguments = INPUTS[name]
    for each in ("b.png", "c.png", "truth.png"):
        write_labels(each, np.zeros((20, 30), np.uint8))  # own files: these may be replaced
    shutil.copy("voc/classes.txt", "names")
    if not Path(target).exists():
        Path(target).parent.mkdir(exist_ok=True)
        link(Path(source).absolute(), target)
    before = contents(folder)
    for more in ((), ("--force",)):
        assert f"{source}: the results would overwrite it" in refused(*arguments, *more)
    assert contents(folder) == before


@pytest.mark.usefixtures("folder")
def test_what_comes_while_the_net_runs(command, monkeypatch):
    from deeplab_repro.segmenter import DeepLab

    run_net = DeepLab.run_net

    def run(model, image, **options):
        Path("out").mkdir()
        Path("out/a.png").write_bytes(b"mine")
        return run_net(model, image, **options)

    monkeypatch.setattr(DeepLab, "run_net", run)
    status, _, err = command("segment", "a.jpg", *NET, "--no-crf")
    assert status == 2
    assert "out/a.png: is there already" in err
    assert Path("out/a.png").read_bytes() == b"mine"


RECORDS = {
    "p/predict.val.json": COMMANDS["predict"],
    "s/scores.json": (*COMMANDS["predict"], "--scores", "s"),
    "found/search.json": COMMANDS["crossval"],
}


@pytest.mark.parametrize("name", RECORDS)
def test_records_of_another_program(refused, folder, name):
    (folder / name).parent.mkdir()
    (folder / name).write_text('{"mine": 1}')
    assert f"{name}: is broken, or another program's" in refused(*RECORDS[name])
    assert (folder / name).read_text() == '{"mine": 1}'


def test_labels_of_others_among_those_of_predict(command, refused, folder):
    arguments = (*COMMANDS["predict"], "--scores", "s")
    assert command(*arguments)[0] == 0
    path = folder / "p/results/VOC2012/Segmentation/comp6_val_cls/a.png"
    own = path.read_bytes()
    Image.fromarray(np.full((4, 4), 7, np.uint8)).save(path)
    mine = path.read_bytes()
    assert "comp6_val_cls/a.png: is there already" in refused(*arguments)
    assert path.read_bytes() == mine
    assert command(*arguments, "--force")[0] == 0
    assert path.read_bytes() == own


def test_fetched_weights_are_read_too(refused, folder, monkeypatch):
    """By the name of their model."""
    from deeplab_repro.models import loading

    monkeypatch.setattr(loading, "weights_file", lambda *_: folder / "tiny.caffemodel")
    arguments = ("convert", "--model", "ToyVOC-LargeFOV", "--to", "caffe", "--out", "tiny")
    assert "tiny.caffemodel: the results would overwrite it" in refused(*arguments, "--force")


# --- train: what it made is not replaced either


@pytest.fixture
def training(tmp_path, monkeypatch) -> tuple[object, ...]:
    """The command for a training of a moment, of which two snapshots are there."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    solver = write_training(tmp_path)
    return ("train", "--solver", solver, "--iterations", "4")


def test_another_training_in_the_same_place(command, refused, training, tmp_path):
    assert command(*training)[0] == 0
    snap = tmp_path / "snap"
    before = contents(snap)
    error = refused(*training)
    assert "snap/it_iter_2.caffemodel: is of another training" in error
    assert "--resume" in error
    assert "--force" in error
    for name in [name for name in before if name != "it_loss.csv"]:
        (snap / name).rename(tmp_path / name)
    assert "snap/it_loss.csv: is of another training" in refused(*training)
    # Snapshots of elsewhere are not those of this prefix.
    (snap / "it_iter_4.caffemodel").write_bytes(b"mine")
    state = tmp_path / "it_iter_2.solverstate"
    assert "it_iter_4.caffemodel: is of another" in refused(*training, "--resume", state)
    assert command(*training, "--resume", state, "--force")[0] == 0
    assert (snap / "it_iter_4.caffemodel").read_bytes() == before["it_iter_4.caffemodel"]


def test_going_on_keeps_what_it_goes_on_from(command, refused, training, tmp_path):
    assert command(*training)[0] == 0
    before = contents(tmp_path)
    last = tmp_path / "snap/it_iter_4.solverstate"
    status, out, _ = command(*training, "--resume", last)  # there is nothing to do
    assert (status, out) == (0, f"{last.with_suffix('.caffemodel')}\n")
    assert contents(tmp_path) == before
    (tmp_path / "snap/it_loss.png").write_bytes(b"mine")
    first = tmp_path / "snap/it_iter_2.solverstate"
    assert "snap/it_loss.png: is there already" in refused(*training, "--resume", first)
    weights = tmp_path / "snap/it_iter_2.caffemodel"
    error = refused(*training, "--weights", weights, "--force")
    assert f"{weights}: the results would overwrite it" in error
    assert command(*training, "--resume", first, "--force")[0] == 0
