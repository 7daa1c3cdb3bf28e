"""A whole training: what is written and when, going on with it, and what stops it."""

import builtins
import errno
import os
import threading
from pathlib import Path

import numpy as np
import pytest

from deeplab_repro.caffe import load_weights, read_caffemodel, read_net, read_solverstate
from deeplab_repro.engines.opencv import OpenCVEngine
from deeplab_repro.errors import FileError, FormatError, NetError, TrainingError
from deeplab_repro.files.holding import hold
from deeplab_repro.files.images import read_labels
from deeplab_repro.files.pictures import write_labels
from deeplab_repro.train.curve import LossRow, read_curve
from deeplab_repro.train.run import prepare, train
from tests.conftest import assert_one_line
from tests.train.tiny_training import (
    ACCURACY,
    SOLVER,
    TEST,
    TRAIN,
    assert_same_bits,
    prepared,
    weights,
    write_training,
)


def names(folder: Path) -> list[str]:
    """What is in the folder, but the lock that says who works there."""
    return sorted(path.name for path in folder.glob("[!.]*"))


def snapshots(*iterations: int) -> list[str]:
    """The names of what is in the folder after snapshots at these iterations."""
    stems = [f"it_iter_{i}.{kind}" for i in iterations for kind in ("caffemodel", "solverstate")]
    return sorted([*stems, "it_loss.csv"])


# --- prepare


def test_prepare(tmp_path):
    solver, data = prepare(write_training(tmp_path), max_iter=4)
    assert (solver.parameter.max_iter, solver.parameter.stepsize) == (4, 4)
    assert solver.iteration == 0
    assert (data.n_labels, data.seed, data.data.crop_size) == (5, 3, 17)
    assert len(data.pairs) == 5
    assert solver.net.input_shape == (2, 3, 17, 17)


def test_variables_are_for_the_solver_and_the_net(tmp_path):
    path = write_training(tmp_path)
    path.write_text(SOLVER.replace("train.pro", "${WHICH}.pro"))
    (tmp_path / "train.prototxt").write_text(TRAIN)
    solver, data = prepare(path, {"DIR": str(tmp_path), "WHICH": "train"})
    assert solver.parameter.snapshot_prefix == f"{tmp_path}/snap/it"
    assert data.pairs[0][0] == f"{tmp_path}/0.png"


def test_train_net_is_looked_for_from_here_and_then_beside_the_solver(tmp_path, monkeypatch):
    path = write_training(tmp_path)
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    assert prepare(path)[0].net.name == "tiny"
    text = (tmp_path / "train.prototxt").read_text()
    (here / "train.prototxt").write_text(text.replace('name: "tiny"', 'name: "here"'))
    assert prepare(path)[0].net.name == "here"


def failed(kind, path: Path) -> pytest.ExceptionInfo:
    with pytest.raises(kind) as caught:
        prepare(path)
    return caught


def test_a_train_net_that_is_nowhere(tmp_path):
    path = write_training(tmp_path, SOLVER.replace("train.prototxt", "none.prototxt"))
    assert_one_line(failed(FileError, path), "none.prototxt: does not exist, nor", path)


def test_a_variable_without_a_value_in_the_prefix(tmp_path):
    path = write_training(tmp_path, SOLVER.replace("/snap/it", "/${WHERE}/it"))
    caught = failed(FormatError, path)
    assert_one_line(caught, path, "snapshot_prefix", "${WHERE}/it", "--set KEY=VALUE")


def test_a_net_with_inputs_in_place_of_data(tmp_path):
    inputs = 'input: "data" input: "label" input_dim: [2, 3, 17, 17, 2, 1, 17, 17]\n'
    body = TRAIN[TRAIN.index('layers { name: "conv1"') :]
    path = write_training(tmp_path, train='name: "bare"\n' + inputs + body)
    assert_one_line(failed(NetError, path), "net 'bare' has no data layer", "IMAGE_SEG_DATA")


def test_a_crop_that_labels_and_scores_do_not_share(tmp_path):
    path = write_training(tmp_path, train=TRAIN.replace("stride: 4", "stride: 5"))
    assert_one_line(failed(NetError, path), "layer 'loss'", "expected labels of 2x1x4x4")


# --- train


def test_snapshots_are_written_at_their_iterations(tmp_path):
    solver, data = prepared(tmp_path, SOLVER.replace("max_iter: 6", "max_iter: 5"))
    seen, at = [], []

    def note(row: LossRow) -> None:
        seen.append(row)
        at.append(names(tmp_path / "snap") if (tmp_path / "snap").exists() else [])

    model = train(solver, data, note)
    assert model == tmp_path / "snap/it_iter_5.caffemodel"
    assert names(tmp_path / "snap") == snapshots(2, 4, 5)
    assert at == [[], [], snapshots(2), snapshots(2), snapshots(2, 4)]
    assert [row.iteration for row in seen] == list(range(5))
    assert [
        read_solverstate(model.with_name(f"it_iter_{i}.solverstate")).iteration for i in (2, 4, 5)
    ] == [2, 4, 5]
    assert not any(thread.name == "batches" for thread in threading.enumerate())


def test_the_last_snapshot_is_not_written_twice(tmp_path, monkeypatch):
    solver, data = prepared(tmp_path)
    written = []
    own = solver.snapshot
    monkeypatch.setattr(solver, "snapshot", lambda: written.append(solver.iteration) or own())
    train(solver, data)
    assert written == [2, 4, 6]


def test_without_snapshots_the_last_one_is_written(tmp_path):
    solver, data = prepared(tmp_path, SOLVER.replace("snapshot: 2", "snapshot: 0"))
    train(solver, data)
    assert names(tmp_path / "snap") == snapshots(6)


def test_the_scores_of_a_snapshot_in_the_test_net(tmp_path):
    """OpenCV makes of the file what the trainer does of the weights in memory."""
    train_text = TRAIN.replace(
        'layers { name: "drop1" type: DROPOUT bottom: "conv1" top: "conv1" }', ""
    )
    solver, data = prepared(tmp_path, train=train_text)
    model = train(solver, data)
    images, labels = data.batch(0)
    solver.network.forward(images, labels)
    (tmp_path / "test.prototxt").write_text(TEST)
    net = read_net(tmp_path / "test.prototxt")
    load_weights(net, model)
    engine = OpenCVEngine(net, "cpu")
    for image, expected in zip(images, solver.network.values["fc8"].data, strict=True):
        found = engine.blobs(image[None], ["fc8"])["fc8"][0]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_the_loss_curve(tmp_path):
    solver, data = prepared(tmp_path)
    seen = []
    train(solver, data, seen.append)
    rows = read_curve(tmp_path / "snap/it_loss.csv")
    assert [row.iteration for row in rows] == list(range(6))
    for row, expected in zip(rows, seen, strict=True):
        assert row == pytest.approx(expected, rel=1e-7)
    assert [row.learning_rate for row in rows] == pytest.approx([1e-3] * 4 + [1e-4] * 2)
    for i, row in enumerate(rows):
        losses = [other.loss for other in rows[max(0, i - 2) : i + 1]]
        assert row.average_loss == pytest.approx(np.mean(losses))
        assert 0 <= row.pixel_accuracy <= 1
        assert 0 <= row.mean_recall <= 1
        assert 0 <= row.mean_iou <= row.mean_jaccard + 1e-6 <= 1 + 1e-6  # float32
    seconds = [row.seconds for row in rows]
    assert seconds == sorted(seconds)


def test_the_curve_of_a_net_without_accuracy(tmp_path):
    train(*prepared(tmp_path, train=TRAIN.replace(ACCURACY, "")))
    rows = read_curve(tmp_path / "snap/it_loss.csv")
    assert np.isnan([row[4:8] for row in rows]).all()


def without_seconds(rows: list[LossRow]) -> list[LossRow]:
    return [row._replace(seconds=0, average_loss=0) for row in rows]


@pytest.mark.parametrize(("resumed_at", "iter_size"), [(2, 1), (4, 1), (2, 3)])
def test_a_resumed_training_continues_the_curve(tmp_path, resumed_at, iter_size):
    whole, data = prepared(tmp_path, f"{SOLVER} iter_size: {iter_size}")
    train(whole, data)
    curve = tmp_path / "snap/it_loss.csv"
    expected = read_curve(curve)
    again, data = prepare(tmp_path / "solver.prototxt")
    again.restore(tmp_path / f"snap/it_iter_{resumed_at}.solverstate")
    train(again, data)
    rows = read_curve(curve)
    assert without_seconds(rows) == without_seconds(expected)
    assert_same_bits(weights(again), weights(whole))


def test_a_curve_that_began_later_is_continued(tmp_path):
    solver, data = prepared(tmp_path)
    train(solver, data)
    curve = tmp_path / "snap/it_loss.csv"
    for at in (2, 4):
        again, data = prepare(tmp_path / "solver.prototxt")
        again.restore(tmp_path / f"snap/it_iter_{at}.solverstate")
        if at == 2:
            curve.unlink()
        train(again, data)
        assert [row.iteration for row in read_curve(curve)] == [2, 3, 4, 5]


def test_a_training_that_begins_anew_begins_its_curve_anew(tmp_path):
    train(*prepared(tmp_path))
    train(*prepare(tmp_path / "solver.prototxt", max_iter=3))
    assert len(read_curve(tmp_path / "snap/it_loss.csv")) == 3


def test_stopped(tmp_path):
    solver, data = prepared(tmp_path)
    seen = []
    model = train(solver, data, seen.append, lambda: len(seen) == 3)
    assert model.name == "it_iter_3.caffemodel"
    assert names(tmp_path / "snap") == snapshots(2, 3)
    assert len(read_curve(tmp_path / "snap/it_loss.csv")) == 3
    again, data = prepare(tmp_path / "solver.prototxt")
    again.restore(model.with_suffix(".solverstate"))
    train(again, data)
    whole, data = prepared(tmp_path)
    train(whole, data)
    assert_same_bits(weights(again), weights(whole))


@pytest.mark.parametrize("iterations", [4, 6])
def test_nothing_is_left_to_do(tmp_path, iterations):
    solver, data = prepared(tmp_path)
    train(solver, data)
    before = {path.name: path.read_bytes() for path in (tmp_path / "snap").iterdir()}
    again, data = prepare(tmp_path / "solver.prototxt", max_iter=iterations)
    again.restore(tmp_path / "snap/it_iter_6.solverstate")
    assert train(again, data) == tmp_path / "snap/it_iter_6.caffemodel"
    assert {path.name: path.read_bytes() for path in (tmp_path / "snap").iterdir()} == before


def test_no_iterations_at_all(tmp_path):
    solver, data = prepared(tmp_path, SOLVER.replace("max_iter: 6", "max_iter: 0"))
    before = weights(solver)
    model = train(solver, data)
    assert model.name == "it_iter_0.caffemodel"
    blobs = [blob for layer in read_caffemodel(model).layers for blob in layer.blobs]
    assert_same_bits([blob.ravel() for blob in blobs], [array.ravel() for array in before])


# --- what stops it


def test_a_loss_that_is_nan_leaves_the_last_snapshot(tmp_path):
    solver, data = prepared(tmp_path, SOLVER.replace("max_iter: 6", "max_iter: 30"))

    def break_it(row: LossRow) -> None:
        if row.iteration == 2:
            solver.network.parameters[0].data[...] = np.inf

    with pytest.raises(TrainingError) as caught:
        train(solver, data, break_it)
    assert_one_line(caught, "iteration 3: the loss is nan", "layer 'conv1'")
    assert not any(thread.name == "batches" for thread in threading.enumerate())
    assert names(tmp_path / "snap") == snapshots(2)
    assert len(read_curve(tmp_path / "snap/it_loss.csv")) == 2
    again, data = prepare(tmp_path / "solver.prototxt")
    again.restore(tmp_path / "snap/it_iter_2.solverstate")
    assert train(again, data).name == "it_iter_30.caffemodel"


def test_a_folder_that_cannot_be_made(tmp_path):
    solver, data = prepared(tmp_path)
    (tmp_path / "snap").write_text("a file")
    with pytest.raises(FileError) as caught:
        train(solver, data)
    assert_one_line(caught, tmp_path / "snap", "cannot be made")
    assert solver.iteration == 0


@pytest.fixture
def disk_full(monkeypatch):
    """From when it is called nothing can be written, to files of that ending or to any.

    `replacing`: the file is written, but not given its name.
    """
    own_replace, own_open = os.replace, builtins.open

    def no_space(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    class Full:
        def __init__(self, file):
            self.file = file

        def __enter__(self):
            self.file.write(b"some of it")
            return self

        def __exit__(self, *_):
            self.file.close()

        write = writelines = no_space

    def fill(ending: str = "", replacing: bool = False) -> None:
        def replace(source, target):
            if str(target).endswith(ending):
                no_space()
            own_replace(source, target)

        def open_full(path, mode="r", *more, **options):
            file = own_open(path, mode, *more, **options)
            return Full(file) if mode == "xb" else file

        if replacing:
            monkeypatch.setattr(os, "replace", replace)
        else:
            monkeypatch.setattr(builtins, "open", open_full)

    return fill


def test_one_training_at_a_time(tmp_path):
    solver, data = prepared(tmp_path)
    with hold(tmp_path / "snap"), pytest.raises(FileError, match="is in use by process"):
        train(solver, data)
    assert solver.iteration == 0
    left = tmp_path / "snap/.deeplab-0123.tmp"
    left.write_bytes(b"half of a snapshot")
    train(solver, data)
    assert names(tmp_path / "snap") == snapshots(2, 4, 6)
    assert not left.exists()


@pytest.mark.parametrize(
    ("ending", "replacing", "named", "written"),
    [
        ("", False, "it_loss.csv", []),
        (".csv", True, "it_loss.csv", []),
        (".caffemodel", True, "it_iter_4.caffemodel", []),
        (".solverstate", True, "it_iter_4.solverstate", ["it_iter_4.caffemodel"]),
    ],
)
def test_a_full_disk(tmp_path, disk_full, ending, replacing, named, written):
    solver, data = prepared(tmp_path)
    before = {}

    def fill(row: LossRow) -> None:
        if row.iteration == 3:
            before.update({name: (tmp_path / "snap" / name).read_bytes() for name in snapshots(2)})
            disk_full(ending, replacing)

    with pytest.raises(FileError) as caught:
        train(solver, data, fill)
    assert_one_line(caught, named, "cannot be written", "no space left")
    # What was there is as it was, but for a curve that may be ahead; no other file is left.
    left = [each.name for each in (tmp_path / "snap").iterdir()]
    assert sorted(left) == sorted([*before, *written])
    if named.endswith("caffemodel") or written:
        before.pop("it_loss.csv")
        assert len(read_curve(tmp_path / "snap/it_loss.csv")) == 4
    for name, content in before.items():
        assert (tmp_path / "snap" / name).read_bytes() == content


def test_going_on_beside_a_file_that_is_no_curve(tmp_path):
    train(*prepared(tmp_path))
    (tmp_path / "snap/it_loss.csv").write_text("mine")
    again, data = prepare(tmp_path / "solver.prototxt")
    again.restore(tmp_path / "snap/it_iter_4.solverstate")
    with pytest.raises(FormatError, match="is not a loss curve"):
        train(again, data)
    assert again.iteration == 4
    assert (tmp_path / "snap/it_loss.csv").read_text() == "mine"


def test_a_net_of_more_labels_than_the_maps_have(tmp_path, caplog):
    prepared(tmp_path)
    assert not caplog.messages
    prepared(tmp_path, train=TRAIN.replace("num_output: 5", "num_output: 21"))
    assert caplog.messages == [
        "net 'tiny' tells 21 labels apart, but 5 label maps hold none above 4: if these are all, "
        "train a net of 5 labels (--set NUM_LABELS=5 where its prototxt has that variable)"
    ]


def test_masks_of_0_and_255_are_told(tmp_path, caplog):
    """Nothing but label 0 is left to learn: 255 is the ignore_label."""
    prepared(tmp_path)
    for path in tmp_path.glob("*_labels.png"):
        write_labels(path, np.where(read_labels(path) > 0, 255, 0).astype(np.uint8))
    prepare(tmp_path / "solver.prototxt")
    (told,) = caplog.messages
    assert told.startswith("the label maps hold 0 and 255 only, and 255 is not learned")
