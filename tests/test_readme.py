"""Every command of the README runs, and its tables say what the package says."""

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

from deeplab_repro.caffe import read_net, write_caffemodel
from deeplab_repro.cli import main
from deeplab_repro.crf.cuda.device import crf_cuda_problem
from deeplab_repro.engines.opencv_cuda import cuda_problem
from deeplab_repro.files.images import read_image, write_image
from deeplab_repro.files.probs import write_bin
from deeplab_repro.models import registry as models
from deeplab_repro.models.registry import MODELS, get_model

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
SHELL_LINES = [line for kind, block in BLOCKS if kind == "sh" for line in block.splitlines()]
SET_UP = [line for line in SHELL_LINES if line.startswith("python3 -m venv")]
COMMANDS = [line for line in SHELL_LINES if line.startswith("deeplab-repro ")]
# Whether these run shows at any size.
SMALLER = {
    "bench crf": ["--size", "16x12", "--repeat", "1", "--iterations", "1"],
    "bench net": ["--model", "ToyVOC-LargeFOV", "--size", "16x12", "--repeat", "1"],
    "crossval": ["--w1", "5", "--sigma-alpha", "40", "--sigma-beta", "5", "--workers", "0"],
    "evaluate": ["--workers", "0"],
    "predict": ["--workers", "0"],
    "toyvoc": ["--train", "5", "--val", "1"],
    "train": ["--iterations", "2"],
}


@pytest.fixture(scope="module")
def user_folder(tmp_path_factory):
    """A folder with the files that the README's commands name, of nets an eighth as wide."""
    folder = tmp_path_factory.mktemp("readme")
    for name in ("photos", "more", "maps"):
        (folder / name).mkdir()
    for name in ("photo.jpg", "photos/one.jpg"):
        shutil.copy(ROOT / "examples" / "street.jpg", folder / name)
    write_image(folder / "more" / "two.jpg", read_image(folder / "photo.jpg")[:60, :80])
    probs = np.full((21, 375, 500), 1 / 21, np.float32)
    np.save(folder / "photo.npy", probs)
    write_bin(folder / "maps" / "one.bin", probs)
    make_nets(folder)
    fetched = folder / "models" / "DeepLab-LargeFOV"
    fetched.mkdir(parents=True)
    shutil.copy(folder / "train_iter_6000.caffemodel", fetched)
    return folder


@pytest.fixture
def in_user_folder(user_folder, monkeypatch):
    monkeypatch.chdir(user_folder)
    monkeypatch.setattr(models, "prototxt_folder", lambda: user_folder / "prototxt")
    monkeypatch.setenv("DEEPLAB_REPRO_HOME", str(user_folder / "home"))


def make_nets(folder):
    """The paper's nets, narrower, with weights; and less of what the commands train."""
    nets = folder / "prototxt"
    shutil.copytree(ROOT / "prototxt", nets)
    for path in nets.glob("DeepLab*/t*.prototxt"):
        change(path, r"num_output: (\d+)", lambda match: f"num_output: {int(match[1]) // 8}")
    for name, weights in (
        ("DeepLab-LargeFOV", "train_iter_6000"),
        ("DeepLab-LargeFOV", "train2_iter_8000"),
        ("DeepLab-7x7", "VGG_ILSVRC_16_layers"),
    ):
        net = read_net(nets / name / "test.prototxt")
        net.fill_random(1)
        write_caffemodel(net, folder / f"{weights}.caffemodel")
    shutil.copy(nets / "DeepLab-LargeFOV" / "test.prototxt", folder)
    solver = nets / "ToyVOC-LargeFOV" / "solver.prototxt"
    change(solver, r"snapshot: \d+", "snapshot: 1")
    change(solver.with_name("train.prototxt"), r"(crop|batch)_size: \d+", r"\1_size: 33")
    change(solver.with_name("train.prototxt"), r"batch_size: \d+", "batch_size: 2")


def change(path, pattern, replacement):
    path.write_text(re.sub(pattern, replacement, path.read_text()))


def test_every_shell_line_is_known():
    assert len(SET_UP) == 2
    assert len(COMMANDS) == 26
    assert len(SET_UP) + len(COMMANDS) == len(SHELL_LINES)


@pytest.mark.parametrize("line", SET_UP)
def test_ci_runs_the_set_up(line):
    assert line in (ROOT / ".ci" / "run").read_text().splitlines()


@pytest.mark.usefixtures("measured_here", "in_user_folder")
@pytest.mark.parametrize("line", COMMANDS)
def test_command(line, capsys):
    arguments = shlex.split(line.replace("train_iter_2000.", "train_iter_1."))[1:]
    what = " ".join(arguments[: 1 + (arguments[0] == "bench")])
    arguments += SMALLER.get(what, [])
    status = main(arguments)
    if "cuda" in arguments and (problem := cuda_problem("float16") or crf_cuda_problem()):
        assert status == 2
        assert problem in capsys.readouterr().err
        return
    # The doctor may find something wrong with this very machine; the others must succeed.
    assert status == 0 or line.endswith("doctor")


@pytest.mark.usefixtures("in_user_folder")
def test_python():
    names = {"probs": np.load("photo.npy"), "image": read_image("photo.jpg")}
    (convert,) = [line for line in COMMANDS if "photos.onnx" in line]
    assert main(shlex.split(convert)[1:]) == 0
    blocks = [block for kind, block in BLOCKS if kind == "python"]
    assert len(blocks) == 4
    for block in blocks:
        exec(block, names)
    np.testing.assert_allclose(names["photo_probs"].sum(axis=1), 1, rtol=1e-5)
    assert len(names["maps"]) == 10
    assert names["maps"][-1].shape == (21, 375, 500)
    assert names["Q"].shape == (21, 375 * 500)
    assert names["result"].labels.shape == names["image"].shape[:2] == (375, 500)
    assert names["refined"].marginals.shape == (21, 375, 500)


def test_table_of_models():
    rows = {
        cells[0]: cells[1:]
        for line in README.splitlines()
        if (cells := [cell.strip() for cell in line.strip("|").split("|")])[0] in MODELS
        and len(cells) == 5
        and "M" not in cells[1]
    }
    assert list(rows) == list(MODELS)
    for name, model in MODELS.items():
        crf = model.crf and (model.crf.w1, model.crf.sigma_alpha, model.crf.sigma_beta)
        figures = (model.val_mean_iou, model.val_mean_iou_crf)
        test = model.test_mean_iou_crf
        assert rows[name] == [
            ", ".join(f"{value:g}" for value in crf or ()),
            *("" if figure is None else f"{figure:.2f}" for figure in figures),
            "" if test is None else f"{test:.1f}",
        ]


def test_table_2():
    for name in ("DeepLab-7x7", "DeepLab", "DeepLab-4x4", "DeepLab-LargeFOV"):
        net = read_net(get_model(name).test_prototxt)
        millions = f"{net.parameters / 1e6:.1f}M"
        view = net.field_of_view
        assert f"| {name} | {millions} | {millions} | {view} | {view} |" in README
