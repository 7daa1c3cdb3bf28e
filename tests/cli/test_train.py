"""deeplab-repro train: a whole training, resuming, Ctrl-C, and one line for every error."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from deeplab_repro.caffe import read_caffemodel, read_solverstate
from deeplab_repro.cli.train import _interrupts
from tests.train import tiny_training
from tests.train.tiny_training import ACCURACY, TRAIN, write_training

SOLVER = tiny_training.SOLVER.replace("max_iter: 6", "max_iter: 3")


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Pictures, label maps and their list, a train net and a solver; no matplotlib: it is slow."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    write_training(tmp_path)
    (tmp_path / "train.prototxt").write_text(TRAIN)
    (tmp_path / "solver.prototxt").write_text(SOLVER)
    return tmp_path


def arguments(folder: Path, *more: object) -> list[object]:
    return ["train", "--solver", folder / "solver.prototxt", "--set", f"DIR={folder}", *more]


def program(folder: Path, *more: object) -> list[str]:
    """The command as a process of its own."""
    return [sys.executable, "-m", "deeplab_repro", *map(str, arguments(folder, *more))]


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".png")


def layers(model: str | Path) -> dict[str, list[np.ndarray]]:
    return {layer.name: layer.blobs for layer in read_caffemodel(model).layers if layer.blobs}


def assert_same_layers(one: str | Path, other: str | Path) -> None:
    ours, theirs = layers(one), layers(other)
    assert ours.keys() == theirs.keys()
    for name, blobs in ours.items():
        for found, expected in zip(blobs, theirs[name], strict=True):
            np.testing.assert_array_equal(found, expected)


# --- from end to end


def test_a_training(command, folder, monkeypatch):
    monkeypatch.undo()  # with a plot, if matplotlib is there
    status, out, err = command(*arguments(folder))
    assert status == 0
    *told, model = out.splitlines()
    assert model == str(folder / "snap/it_iter_3.caffemodel")
    number = r"[0-9.e-]+"
    for i, line in enumerate(told):
        assert re.fullmatch(
            rf"iteration {i}  loss {number}  lr 0\.001  pixels {number}%  IOU {number}%"
            rf" \(mean Jaccard as SEG_ACCURACY {number}%\)  {number} images/s  0:00:0\d left",
            line,
        )
    assert len(told) == 3
    assert "net 'tiny', 491 parameters, 5 images, batches of 2, 3 iterations" in err
    assert f"loss curve: {folder}/snap/it_loss.csv" in err
    kinds = [f"it_iter_{i}.{kind}" for i in (2, 3) for kind in ("caffemodel", "solverstate")]
    assert names(folder / "snap") == [*kinds, "it_loss.csv"]
    assert layers(model).keys() == {"conv1", "fc8"}


def test_without_display_and_accuracy(command, folder):
    change(folder / "train.prototxt", ACCURACY, "")
    change(folder / "solver.prototxt", "display: 1", "display: 2 iter_size: 2")
    status, out, err = command(*arguments(folder))
    assert "5 images, batches of 2 (2 an update), 3 iterations" in err
    assert status == 0
    assert [line.split()[1] for line in out.splitlines()[:-1]] == ["0", "2"]
    assert "nan" not in out
    change(folder / "solver.prototxt", "display: 2", "display: 0")
    assert command(*arguments(folder, "--force"))[1].count("\n") == 1


def test_going_on(command, folder):
    command(*arguments(folder, "--iterations", 5))
    whole = (folder / "snap/it_iter_5.caffemodel").rename(folder / "whole.caffemodel")
    state = folder / "snap/it_iter_2.solverstate"
    status, out, err = command(*arguments(folder, "--iterations", 5, "--resume", state))
    assert status == 0
    assert "continues from iteration 2" in err
    assert [line.split()[1] for line in out.splitlines()[:-1]] == ["2", "3", "4"]
    assert_same_layers(whole, out.splitlines()[-1])
    assert len((folder / "snap/it_loss.csv").read_text().splitlines()) == 1 + 5


@pytest.mark.parametrize("end", [2, 3])
def test_going_on_past_the_end(command, folder, end):
    """There is nothing to do: that is told, with what would go on, and no file changes."""
    command(*arguments(folder))
    model = folder / "snap/it_iter_3.caffemodel"
    state = model.with_suffix(".solverstate")
    before = {name: (folder / "snap" / name).read_bytes() for name in names(folder / "snap")}
    status, out, err = command(*arguments(folder, "--resume", state, "--iterations", end))
    assert (status, out) == (0, f"{model}\n")
    told = f"{state} is at iteration 3, and the training ends at {end}; for more give --iterations"
    assert f"nothing is left to do: {told} with a number above 3" in err
    assert "continues" not in err
    assert {name: (folder / "snap" / name).read_bytes() for name in before} == before


def test_weights_that_lack_a_layer(command, folder):
    command(*arguments(folder))
    weights = folder / "snap/it_iter_3.caffemodel"
    change(folder / "train.prototxt", 'name: "fc8"', 'name: "fc8_mine"')
    change(folder / "solver.prototxt", "snap/it", "second/it")
    status, out, err = command(*arguments(folder, "--weights", weights, "--iterations", 0))
    assert status == 0
    assert f"fc8_mine: not in {weights}, so filled as the net says" in err
    assert "loss curve" not in err  # there is none
    found = layers(out.strip())
    for one, other in zip(found["conv1"], layers(weights)["conv1"], strict=True):
        np.testing.assert_array_equal(one, other)
    assert found["fc8_mine"][0].any()


# --- Ctrl-C


def test_ctrl_c_writes_a_snapshot(command, folder):
    process = subprocess.Popen(
        program(folder, "--iterations", 1_000_000),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline().startswith("iteration 0")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    model = Path(out.splitlines()[-1])
    state = model.with_suffix(".solverstate")
    iteration = read_solverstate(state).iteration
    assert model.name == f"it_iter_{iteration}.caffemodel"
    assert "stops after this iteration, with a snapshot" in err
    assert f"stopped at iteration {iteration}: continue with --resume {state}" in err
    assert "Traceback" not in err
    more = ("--resume", state, "--iterations", iteration + 1)
    status, out, _ = command(*arguments(folder, *more))
    assert status == 0
    assert f"it_iter_{iteration + 1}.caffemodel" in out
    assert not [name for name in os.listdir(folder / "snap") if name.endswith(".tmp")]


def test_ctrl_c_pressed_again_interrupts(capsys):
    before = signal.getsignal(signal.SIGINT)
    with _interrupts() as stopped:
        assert not stopped()
        signal.raise_signal(signal.SIGINT)
        assert stopped()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
    assert capsys.readouterr().err.count("stops after this iteration") == 1


# --- what is wrong


def test_options_that_do_not_fit(refused, folder):
    assert "--solver" in refused("train")
    both = ("--resume", "a.solverstate", "--weights", "b.caffemodel")
    assert "not allowed with" in refused(*arguments(folder, *both))
    assert "'-1' is not a whole number" in refused(*arguments(folder, "--iterations", "-1"))


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ('"step"', '"magic"', ["solver.prototxt", "lr_policy is 'magic'", "poly"]),
        ("base_lr: 0.001", "", ["solver.prototxt", "base_lr is missing"]),
        (
            "train.prototxt",
            "none.prototxt",
            ["none.prototxt: does not exist, nor", "solver.prototxt"],
        ),
        ("snap/it", "${WHERE}/it", ["snapshot_prefix", "${WHERE}", "--set KEY=VALUE"]),
        ("momentum: 0.9", "momentum: {", ["solver.prototxt"]),
    ],
)
def test_solvers(refused, folder, old, new, parts):
    change(folder / "solver.prototxt", old, new)
    error = refused(*arguments(folder))
    assert all(part in error for part in parts)
    assert not (folder / "snap").exists()


def test_no_solver(refused, tmp_path):
    path = tmp_path / "solver.prototxt"
    assert f"{path}: cannot be read" in refused("train", "--solver", path)


def test_a_net_without_a_data_layer(refused, folder):
    inputs = 'input: "data" input: "label" input_dim: [2, 3, 17, 17, 2, 1, 17, 17]\n'
    body = TRAIN[TRAIN.index('layers { name: "conv1"') :]
    (folder / "train.prototxt").write_text('name: "bare"' + inputs + body)
    assert "net 'bare' has no data layer, expected IMAGE_SEG_DATA" in refused(*arguments(folder))


def test_a_test_net(refused, folder, tiny):
    change(folder / "solver.prototxt", "train.prototxt", str(tiny))
    assert "no loss" in refused(*arguments(folder))


def test_a_file_of_the_list_is_missing(refused, folder):
    os.remove(folder / "1_labels.png")
    error = refused(*arguments(folder))
    assert f"{folder}/1_labels.png: cannot be read" in error
    assert "list.txt" in error


def test_weights_and_snapshots_that_are_not_there(refused, folder):
    for option in ("--weights", "--resume"):
        assert "none: cannot be read" in refused(*arguments(folder, option, folder / "none"))
        error = refused(*arguments(folder, option, folder / "solver.prototxt"))
        assert "solver.prototxt" in error


def stopped_by(command, folder: Path, *more: object) -> str:
    """The one line of an error that comes when the training has begun."""
    status, _, err = command(*arguments(folder, *more))
    assert status == 2
    told, error = err.splitlines()
    assert "net 'tiny'" in told
    assert error.startswith("deeplab-repro: error: ")
    assert error.isprintable()
    return error


def test_a_folder_that_cannot_be_written_to(refused, folder):
    (folder / "snap").write_text("a file")
    assert f"{folder}/snap: is a file, expected a folder" in refused(*arguments(folder))


@pytest.mark.filterwarnings("error")  # NumPy's would be lines more
def test_a_loss_that_is_nan(command, folder):
    change(folder / "solver.prototxt", "snapshot: 2", "snapshot: 1")
    change(folder / "solver.prototxt", "base_lr: 0.001", "base_lr: 1e30")
    error = stopped_by(command, folder)
    assert "iteration 1: the loss is" in error
    assert "(made by layer '" in error
    assert "lower base_lr" in error
    kept = ["it_iter_1.caffemodel", "it_iter_1.solverstate", "it_loss.csv"]
    assert names(folder / "snap") == kept
    assert read_solverstate(folder / "snap/it_iter_1.solverstate").iteration == 1


@pytest.mark.filterwarnings("error")  # NumPy's would be lines more
def test_weights_that_become_infinite_are_not_kept(command, folder):
    """After the last update no loss shows them any more."""
    change(folder / "solver.prototxt", "base_lr: 0.001", "base_lr: 3e38")
    error = stopped_by(command, folder, "--iterations", 1)
    assert "iteration 1: layer '" in error
    assert "weights that are NaN or infinite" in error
    assert "lower base_lr" in error
    assert names(folder / "snap") == []
