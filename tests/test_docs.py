"""Every command and piece of Python in the README and in docs/ runs; tables and links are right."""

import io
import re
import shlex
import shutil
import threading
import urllib.request
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeplab_repro import MODELS, read_image
from deeplab_repro.caffe import read_net, write_caffemodel
from deeplab_repro.cli import main
from deeplab_repro.crf.cuda.device import crf_cuda_problem
from deeplab_repro.engines.opencv_cuda import cuda_problem
from deeplab_repro.files.pictures import write_image, write_labels
from deeplab_repro.files.probs import write_bin
from deeplab_repro.models import registry
from tests.conftest import TINY

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXTS = {page.relative_to(ROOT).as_posix(): page.read_text("utf-8") for page in PAGES}
SIZE = HEIGHT, WIDTH = 60, 80
"""Of the photos that the commands are run on."""
VOLUME = 4, 12, 16

# What makes commands smaller that show at any size whether they run.
SMALLER = {
    "bench crf": ["--size", "16x12", "--repeat", "1", "--iterations", "1"],
    "bench net": ["--prototxt", "tiny.prototxt", "--repeat", "1"],
    "crossval": ["--w1", "5", "--sigma-alpha", "40", "--sigma-beta", "5", "--workers", "0"],
    "evaluate": ["--workers", "0"],
    "predict": ["--workers", "0"],
    "toyvoc": ["--train", "3", "--val", "1"],
    "train": ["--iterations", "2"],
    "tune": ["--export", "grid"],  # the server would not end: tests/cli/test_tune.py
}


def blocks(text):
    """The kinds and contents of a page's code blocks."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


BLOCKS = {page: blocks(text) for page, text in TEXTS.items()}
SHELL = [block for page in BLOCKS.values() for kind, block in page if kind == "sh"]
LINES = {line for block in SHELL for line in block.splitlines()}
SET_UP = sorted(line for line in LINES if line.startswith("python3 -m venv"))


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """A folder with the files that the pages name, of nets an eighth as wide."""
    folder = tmp_path_factory.mktemp("reader")
    photo = read_image(ROOT / "examples" / "street.jpg")[200 : 200 + HEIGHT, 100 : 100 + WIDTH]
    photos = ("photo.jpg", "photos/one.jpg", "more/two.jpg")
    for name in (*photos, "examples/street.jpg", "examples/coffee.jpg"):
        (folder / name).parent.mkdir(exist_ok=True)
        write_image(folder / name, photo)
    probs = np.full((21, *SIZE), 1 / 21, np.float32)
    np.save(folder / "photo.npy", probs)
    write_labels(folder / "photo.png", np.zeros(SIZE, np.uint8))
    scores = np.zeros((5, -(-HEIGHT // 8), -(-WIDTH // 8)), np.float32)
    np.savez(folder / "examples" / "coffee.npz", scores=scores, stride=8, offset=0)
    shutil.copytree(ROOT / "examples" / "camvid", folder / "examples" / "camvid")
    (folder / "maps").mkdir()
    write_bin(folder / "maps" / "one.bin", probs)
    make_nets(folder)
    (folder / "tiny.prototxt").write_text(TINY)
    fetched = folder / "models" / "DeepLab-LargeFOV"
    fetched.mkdir(parents=True)
    shutil.copy(folder / "train_iter_6000.caffemodel", fetched)
    return folder


@pytest.fixture(scope="module")
def already_run():
    """The lines that an earlier page has shown and run."""
    return set()


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


@pytest.mark.usefixtures("measured_here")
@pytest.mark.parametrize("page", TEXTS)
def test_page(page, reader, already_run, monkeypatch, capsys):
    """A page can be followed from top to bottom. What an earlier page ran is there already."""
    monkeypatch.chdir(reader)
    monkeypatch.syspath_prepend(reader)
    monkeypatch.setattr(registry, "prototxt_folder", lambda: reader / "prototxt")
    monkeypatch.setenv("DEEPLAB_REPRO_HOME", str(reader / "home"))
    names = {"probs": np.load("photo.npy"), "image": read_image("photo.jpg"), **of_recipes()}
    for kind, block in BLOCKS[page]:
        if kind == "python" and not ("import torch" in block and find_spec("torch") is None):
            exec(block, names)
        for line in block.splitlines() if kind == "sh" else ():
            if line.startswith("deeplab-repro ") and line not in already_run:
                already_run.add(line)
                run(line, capsys)
    check_names(names)


def of_recipes():
    """What the recipes for the CRF begin with: noisy maps of the right half, and pictures of it."""
    rng = np.random.default_rng(0)
    half = np.indices(SIZE)[1] * 2 // WIDTH
    labels = half + (rng.random(SIZE) < 0.1)
    labels[rng.random(SIZE) < 0.2] = 255
    p = np.clip(0.3 + 0.4 * half + 0.2 * rng.normal(size=SIZE), 0.01, 0.99)
    solid = np.indices(VOLUME)[2] * 2 // VOLUME[2]
    return {
        "labels": labels,
        "mask": np.where(labels == 1, 0, labels),
        "cams": np.stack([0.6 * (1 - half), 0.6 * half]) + 0.1 * rng.random(SIZE),
        "p": p,
        "bands": half[..., None] + 0.05 * rng.normal(size=(*SIZE, 4)),
        "volume": 1000 + 100 * solid + 10 * rng.normal(size=VOLUME),
        "volume_p": np.clip(0.3 + 0.4 * solid + 0.2 * rng.normal(size=VOLUME), 0.01, 0.99),
    }


def run(line, capsys):
    arguments = shlex.split(line.replace("train_iter_2000.", "train_iter_1."))[1:]
    what = " ".join(arguments[: 1 + (arguments[0] == "bench")])
    try:
        status = main(arguments + SMALLER.get(what, []))
    except SystemExit as ended:  # after --help
        status = ended.code
    err = capsys.readouterr().err
    if "cuda" in arguments and (problem := cuda_problem("float16") or crf_cuda_problem()):
        assert status == 2
        assert problem in err
        return
    # The doctor may find something wrong with this very machine; the others must succeed.
    assert status == 0 or line.endswith("doctor"), f"{line}: {err}"


def check_names(names):
    """What a page's Python made has the shapes that its comments say."""
    if "photo_probs" in names:
        assert names["photo_probs"].shape == (1, 21, *SIZE)
        np.testing.assert_allclose(names["photo_probs"].sum(axis=1), 1, rtol=1e-5)
    if "maps" in names:
        assert [q.shape for q in names["maps"]] == [(21, *SIZE)] * 10
    for name, first, least in (
        ("from_softmax", 0, 0),  # of a map that says nothing
        ("from_labels", 0, 0.85),
        ("from_cams", 1, 0.85),
        ("from_sigmoid", 0, 0.85),
        ("from_bands", 0, 0),
        ("from_volume", 0, 1),
    ):
        if name in names:
            shape = VOLUME if name == "from_volume" else SIZE
            assert names[name].shape == shape
            half = np.indices(shape)[-1] * 2 // shape[-1]
            assert (names[name] == first + half).mean() >= least
    if "Q" in names:
        assert names["Q"].shape == (21, HEIGHT * WIDTH)
    if "loss" in names:
        assert names["loss"].item() < 0.7  # it begins above
    if "server" in names:
        check_server(names["server"])
    if "result" in names:
        assert names["result"].labels.shape == SIZE
    if "refined" in names:
        assert names["refined"].marginals.shape == (21, *SIZE)


def check_server(server):
    """That it answers a photo with its labels, as a PNG."""
    with server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        posted = Path("photo.jpg").read_bytes()
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}", posted) as answer:
            labels = np.asarray(Image.open(io.BytesIO(answer.read())))
    assert labels.shape == SIZE
    assert labels.max() < 21


def test_every_shell_line_is_known():
    # The last is run by tests/cli/test_completion.py.
    known = re.compile(
        r'python3 -m venv |deeplab-repro |\. \.venv/bin/activate$|pip install "\.\[\w+\]"$'
        r"|eval .*-python-argcomplete"
    )
    assert [line for line in sorted(LINES) if not known.match(line)] == []
    assert len(SET_UP) == 2


def test_every_command_is_shown(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    commands = re.findall(r"^    (\w+) ", capsys.readouterr().out, re.MULTILINE)
    assert "segment" in commands
    for command in commands:
        assert any(f"deeplab-repro {command} " in f"{line} " for line in LINES), command


@pytest.mark.parametrize("line", SET_UP)
def test_ci_runs_the_set_up(line):
    assert line in (ROOT / ".ci" / "run").read_text().splitlines()


@pytest.mark.parametrize("page", TEXTS)
def test_python_imports_public_names_only(page):
    for kind, block in BLOCKS[page]:
        if kind == "python":
            assert set(re.findall(r"deeplab_repro\.\w+", block)) <= {"deeplab_repro.pydensecrf"}


@pytest.mark.parametrize("page", TEXTS)
def test_links_lead_somewhere(page):
    """Links to files and to headings; pages of the web are not asked for."""
    for link in re.findall(r"\]\(([^)\s]+)\)", TEXTS[page]):
        if link.startswith("https://"):
            continue
        path, _, heading = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), link
        assert not heading or heading in anchors(target.read_text("utf-8")), link


def anchors(text):
    """The names under which GitHub finds a page's headings."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", TEXTS)
def test_files_of_ours_exist(page):
    """Named in full, or as design.md does, from the package on."""
    for file in re.findall(r"`((?:\w+/)+\w+\.(?:py|json))`", TEXTS[page]):
        assert (ROOT / file).exists() or (ROOT / "deeplab_repro" / file).exists(), file


def test_sections_that_docstrings_cite():
    sections = set(re.findall(r"^#+ (\d+(?:\.\d+)?)\.? ", TEXTS["docs/original.md"], re.MULTILINE))
    sources = [p for room in ("deeplab_repro", "tools") for p in (ROOT / room).rglob("*.py")]
    cited = re.compile(r"docs/original\.md,\s+(?:sections?\s+)?(\d[\d., and]*)")
    for path in sources:
        for numbers in cited.findall(path.read_text("utf-8")):
            assert set(re.findall(r"\d+(?:\.\d+)?", numbers)) <= sections, path


def test_table_of_models():
    found = {name: cells for name, *cells in table_rows() if not cells[0].endswith("M")}
    assert list(found) == list(MODELS)
    for name, model in MODELS.items():
        crf = model.crf and (model.crf.w1, model.crf.sigma_alpha, model.crf.sigma_beta)
        scores = (model.val_mean_iou, model.val_mean_iou_crf)
        test = model.test_mean_iou_crf
        assert found[name] == [
            ", ".join(f"{value:g}" for value in crf or ()),
            *("" if score is None else f"{score:.2f}" for score in scores),
            "" if test is None else f"{test:.1f}",
        ]


def test_table_2():
    found = {name: cells for name, *cells in table_rows() if cells[0].endswith("M")}
    assert list(found) == ["DeepLab-7x7", "DeepLab", "DeepLab-4x4", "DeepLab-LargeFOV"]
    for name, cells in found.items():
        net = read_net(MODELS[name].test_prototxt)
        millions, view = f"{net.parameters / 1e6:.1f}M", str(net.field_of_view)
        assert cells == [millions, millions, view, view]


def table_rows():
    """The rows of the models' page that begin with a model's name, as lists of cells."""
    lines = TEXTS["docs/models.md"].splitlines()
    rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    return [row for row in rows if row[0] in MODELS]
