"""deeplab-repro segment: what it prints and writes, and every kind of bad input."""

import json
import os
import random
import re
from pathlib import Path

import numpy as np
import pytest

from deeplab_repro.caffe import read_net, write_caffemodel
from deeplab_repro.cli import segment
from deeplab_repro.cli.console import Told, print_photos
from deeplab_repro.crf.dense_crf import CrfResult
from deeplab_repro.engines.opencv_cpu import OpenCVCpuEngine
from deeplab_repro.engines.opencv_cuda import cuda_problem
from deeplab_repro.engines.openvino import bfloat16_problem
from deeplab_repro.errors import DeviceError
from deeplab_repro.files.images import read_labels
from deeplab_repro.files.labels import shares
from deeplab_repro.files.marks import NOTE
from deeplab_repro.files.pictures import write_image
from deeplab_repro.jobs.finding import Found
from deeplab_repro.jobs.photos import Photo
from deeplab_repro.jobs.segment import OUTPUTS
from deeplab_repro.models.registry import VOC_CLASSES
from deeplab_repro.net.scores import CoarseScores
from deeplab_repro.segmentation import Segmentation


@pytest.fixture
def folder(tiny, photo, monkeypatch):
    """The current folder, with a.png (20x30 pixels), tiny.prototxt and its tiny.caffemodel."""
    monkeypatch.chdir(tiny.parent)
    write_image("a.png", photo(20, 30))
    net = read_net(tiny)
    net.fill_random(0)
    write_caffemodel(net, "tiny.caffemodel")
    return tiny.parent


NET = ("--prototxt", "tiny.prototxt", "--weights", "tiny.caffemodel")


@pytest.mark.usefixtures("folder")
def test_bfloat16_is_told(command):
    try:
        problem = bfloat16_problem()
    except DeviceError as error:
        problem = str(error)
    arguments = ("segment", "a.png", *NET, "--no-crf", "--precision", "bfloat16")
    status, _, err = command(*arguments)
    assert status == (2 if problem else 0)
    assert (problem or "ran on cpu with OpenVINO ") in err
    if not problem:
        assert " in bfloat16, no CRF" in err
        again = (*arguments, "--skip-existing")
        assert "ran on" not in command(*again)[2]
        # What was made in bfloat16 does not count as made in float32.
        assert "ran on" in command(*again[:-2], "float32", again[-1], "--engine", "opencv")[2]


def test_a_row_a_picture(command, folder, photo):
    write_image("b.png", photo(33, 50))
    arguments = (*NET, "--no-crf", "--engine", "opencv")
    status, out, err = command("segment", "a.png", "b.png", *arguments)
    assert status == 0
    a, b = out.splitlines()
    assert re.fullmatch(r"a\.png  30x20  net +\d+ ms  class-\d \d+%(, class-\d \d+%)*", a)
    assert b.startswith("b.png  50x33  net ")
    opencv = OpenCVCpuEngine.name
    assert err.splitlines() == [
        f"deeplab-repro: net 'tiny' ran on cpu with {opencv}, no CRF",
        "deeplab-repro: results are in out",
        "deeplab-repro: 2 done",
    ]
    labels = read_labels(folder / "out" / "a.png")
    assert labels.shape == (20, 30)
    most = np.bincount(labels.ravel()).argmax()
    assert f"ms  class-{most} {(labels == most).mean():.0%}" in a


def test_a_safetensors_brings_its_net(command, refused, folder):
    assert command("convert", *NET, "--to", "safetensors", "--out", "tiny")[0] == 0
    assert command("segment", "a.png", "--no-crf", *NET)[0] == 0
    expected = read_labels(folder / "out" / "a.png")
    for net in ([], ["--prototxt", "tiny.prototxt"]):
        (folder / "out" / "a.png").unlink()
        assert (
            command("segment", "a.png", "--no-crf", "--weights", "tiny.safetensors", *net)[0] == 0
        )
        np.testing.assert_array_equal(read_labels(folder / "out" / "a.png"), expected)
    error = refused("segment", "a.png", "--weights", "tiny.safetensors", "--model", "DeepLab")
    assert "tiny.safetensors: has no layer 'conv1_1'" in error


def test_classes_are_named_in_nets_of_voc(folder, capsys):
    labels = np.zeros((10, 100), np.uint8)
    labels[:, :30] = 15
    labels[0, 99] = 20  # 0.1%, which is not worth a word
    coarse = CoarseScores(np.zeros((len(VOC_CLASSES), 3, 14), np.float32), 8)
    result = Segmentation((10, 100), coarse, 0.25, CrfResult(labels, None, "cpu"), 1.5)
    photo = Photo(folder / "x.jpg", np.zeros((10, 100, 3), np.uint8), segmentation=result)
    assert print_photos("segmenting", Found({photo.path: ""}), [photo]) == Told(photo, done=1)
    expected = "x.jpg  100x10  net   250 ms  CRF  1500 ms  background 70%, person 30%\n"
    assert capsys.readouterr().out == expected


def test_everything_that_can_be_saved(command, folder):
    assert segment.OUTPUTS == OUTPUTS
    arguments = ("--crf", "4,20,5", "--iterations", "1", "--save", ",".join(OUTPUTS))
    status, out, err = command("segment", "a.png", *NET, *arguments, "--out", "some/where")
    assert status == 0
    assert "CRF" in out
    assert "CRF 4,20,5 on cpu" in err
    names = {path.name for path in (folder / "some" / "where").iterdir()}
    endings = (".png", ".overlay.jpg", ".scores.npy", ".probs.npy", ".marginals.npy", ".bin")
    made = {f"a{ending}" for ending in (*endings, "_blob_0.mat")}
    present = np.unique(read_labels(folder / "some/where/a.png"))
    assert names == made | {NOTE, *(f"a.class-{label}.png" for label in present if label)}
    assert np.load(folder / "some/where/a.marginals.npy").shape == (4, 20, 30)


def test_a_folder_and_a_pattern(command, folder):
    (folder / "a.png").rename(folder / "c[1].png")
    for name in (".", "*.png", "c[1].png"):
        status, out, _ = command("segment", name, *NET, "--no-crf", "--out", f"out{len(name)}")
        assert status == 0
        assert out.startswith("c[1].png  30x20")


def test_random_weights_are_said_to_mean_nothing(command, folder):
    arguments = ("--prototxt", "tiny.prototxt", "--weights", "random:7", "--no-crf")
    status, _, err = command("segment", folder / "a.png", *arguments)
    assert status == 0
    assert "the weights are random, so the labels mean nothing" in err


def test_a_page_to_look_at(command, folder):
    (folder / "b.png").write_text("nothing")
    status, out, err = command("segment", "a.png", "b.png", *NET, "--no-crf", "--html")
    assert status == 2
    assert out.startswith("a.png")
    assert err.splitlines()[-2] == "deeplab-repro: open out/index.html in a browser"
    page = (folder / "out" / "index.html").read_text(encoding="utf-8")
    assert "net &#x27;tiny&#x27; ran on cpu" in page
    assert "All photos: 1 done, 1 failed" in page


def test_broken_pictures_among_good_ones(command, folder):
    (folder / "b.png").write_text("nothing")
    status, out, err = command("segment", "b.png", "a.png", *NET, "--no-crf")
    assert status == 2
    assert out.startswith("a.png")
    assert out.count("\n") == 1
    assert "error: b.png: is not an image" in err
    assert "results are in out" in err


# --- bad input: one line, and nothing written

TEXT = "tiny.prototxt"
EDITS = {
    "syntax.prototxt": ("name: ", "name = "),
    "unclosed.prototxt": ("zoom_factor: 8 } }", "zoom_factor: 8 }"),
    "bottom.prototxt": ('bottom: "fc8"', 'bottom: "fc9"'),
    "variable.prototxt": ("fc8", "fc8_${DATA}"),
    "number.prototxt": ("num_output: 5", "num_output: ${N}"),
    "wrong.prototxt": ("num_output: 5", "num_output: 6"),
    "other.prototxt": ("fc8", "fc8_other"),
    "large.prototxt": ("input_dim: 33 input_dim: 41", "input_dim: 3000000 input_dim: 3000000"),
    "many.prototxt": ("num_output: 5", "num_output: 2000000000"),
    "negative.prototxt": ("input_dim: 33", "input_dim: -33"),
    "unknown.prototxt": ("type: RELU", "type: LSTM"),
    "grey.prototxt": ("input_dim: 3 ", "input_dim: 1 "),
    "kernel.prototxt": ("kernel_size: 3", "kernel_size: 99"),
    "labels.prototxt": ("num_output: 4", "num_output: 300"),
}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["missing.png", *NET], "missing.png: cannot be read"),
        (["empty.png", *NET], "empty.png: is empty"),
        (["text.png", *NET], "text.png: is not an image"),
        (["half.png", *NET], "half.png: cannot be decoded"),
        (["nothing*", *NET], "no file matches"),
        (["bare", *NET], "holds no readable pictures"),
        (["a.png"], "net 'DeepLab-LargeFOV' needs weights"),
        (["a.png", "--model", "DeepLap"], "there is no model 'DeepLap'"),
        (["a.png", "--model", "DeepLab", *NET], "not allowed with argument"),
        (["a.png", *NET[:2], "--weights", "missing"], "missing: cannot be read"),
        (["a.png", *NET[:2], "--weights", "empty.png"], "empty.png: is empty"),
        (["a.png", *NET[:2], "--weights", "bare"], "bare: is a folder"),
        (["a.png", *NET[:2], "--weights", TEXT], "this is a text file, expected a caffemodel"),
        (["a.png", *NET[:2], "--weights", "a.png"], "a.png"),
        (["a.png", *NET[:2], "--weights", "half.caffemodel"], "half.caffemodel"),
        (["a.png", *NET[:2], "--weights", "random:x"], "expected random: and a whole number"),
        (["a.png", "--prototxt", "bare", *NET[2:]], "bare: is a folder"),
        (["a.png", "--prototxt", "missing", *NET[2:]], "missing: cannot be read"),
        (["a.png", "--prototxt", "tiny.caffemodel", *NET[2:]], "this is a binary file"),
        (["a.png", "--prototxt", "a.png", *NET[2:]], "a.png"),
        (["a.png", "--prototxt", "syntax.prototxt", *NET[2:]], "syntax.prototxt:2:6"),
        (["a.png", "--prototxt", "unclosed.prototxt", *NET[2:]], "unclosed.prototxt:"),
        (["a.png", "--prototxt", "bottom.prototxt", *NET[2:]], "'fc9', which no layer before"),
        (["a.png", "--prototxt", "variable.prototxt", *NET[2:]], "${DATA}"),
        (["a.png", "--prototxt", "number.prototxt", *NET[2:]], "${N}"),
        (["a.png", "--prototxt", "wrong.prototxt", *NET[2:]], "layer 'conv'"),
        (["a.png", "--prototxt", "other.prototxt", *NET[2:]], "'fc8_other'"),
        (["a.png", "--prototxt", "large.prototxt", *NET[2:]], "of memory"),
        (["a.png", "--prototxt", "many.prototxt", "--weights", "random:0"], "of memory"),
        (["a.png", "--prototxt", "negative.prototxt", *NET[2:]], "-33"),
        (["a.png", "--prototxt", "unknown.prototxt", *NET[2:]], "LSTM"),
        (["a.png", "--prototxt", "grey.prototxt", *NET[2:]], "expected 3 channels"),
        (["a.png", "--prototxt", "kernel.prototxt", *NET[2:]], "layer 'conv'"),
        (["a.png", "--prototxt", "labels.prototxt", "--weights", "random:0"], "255 labels"),
        (["a.png", *NET, "--crf", "4,20"], "'4,20' is not W1,SIGMA_ALPHA,SIGMA_BETA"),
        (["a.png", *NET, "--crf", "nan,20,5"], "w1 is nan"),
        (["a.png", *NET, "--crf=4,-20,5"], "sigma_alpha is -20"),
        (["a.png", *NET, "--crf", "4,20,0"], "sigma_beta is 0"),
        (["a.png", *NET, "--crf", "4,20,5", "--iterations", "-1"], "'-1' is not a whole number"),
        (["a.png", *NET, "--crf", "4,20,5", "--iterations", "ten"], "'ten' is not a whole number"),
        (["a.png", *NET, "--save", "labels,logits"], "'logits' is none of"),
        (["a.png", *NET, "--save", "marginals"], "come from the CRF, which is off"),
        (["a.png", *NET, "--device", "tpu"], "invalid choice: 'tpu'"),
        (["a.png", *NET, "--set", "EXP"], "'EXP' is not KEY=VALUE"),
        (["a.png", *NET, "--out", "tiny.prototxt"], "is a file, expected a folder"),
        (["a.png", *NET, "--out", "."], "would overwrite it"),
    ],
)
def test_bad_input(refused, folder, arguments, expected):
    (folder / "empty.png").touch()
    (folder / "text.png").write_text("not a picture")
    (folder / "half.png").write_bytes((folder / "a.png").read_bytes()[:-300])
    (folder / "bare").mkdir()
    model = (folder / "tiny.caffemodel").read_bytes()
    (folder / "half.caffemodel").write_bytes(model[: len(model) // 2])
    for name, (old, new) in EDITS.items():
        text = (folder / TEXT).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new))
    before = sorted(folder.rglob("*"))
    crf = [] if "--crf" in str(arguments) else ["--no-crf"]
    assert expected in refused("segment", *arguments, *crf)
    assert sorted(folder.rglob("*")) == before


def test_a_net_without_published_crf(refused, folder):
    assert "no CRF parameters are published for net 'tiny'" in refused("segment", "a.png", *NET)
    assert not (folder / "out").exists()


@pytest.mark.skipif(cuda_problem() is None, reason="this OpenCV has CUDA")
def test_cuda_asked_for_and_absent(refused, folder):
    message = refused("segment", "a.png", *NET, "--no-crf", "--device", "cuda")
    assert "CUDA was asked for, but " in message
    assert not (folder / "out").exists()


# --- mutations: no traceback, whatever the bytes


def assert_plain(status, err):
    assert status in (0, 2)
    assert "Traceback" not in err
    assert all(line.startswith("deeplab-repro") for line in err.splitlines())
    assert err.count("error: ") == (status == 2)


def test_mutated_caffemodels(command, folder):
    good = (folder / "tiny.caffemodel").read_bytes()
    statuses = []
    for seed in range(50):
        rng = random.Random(seed)
        content = bytearray(good)
        for _ in range(rng.randint(1, 4)):
            content[rng.randrange(len(content))] = rng.choice(
                [0, 1, 0x7F, 0xFF, rng.randrange(256)]
            )
        if rng.random() < 0.2:
            del content[rng.randrange(len(content)) :]
        (folder / "tiny.caffemodel").write_bytes(content)
        status, _, err = command("segment", "a.png", *NET, "--no-crf")
        assert_plain(status, err)
        statuses.append(status)
    assert {*statuses} == {0, 2}


def test_mutated_prototxts(command, folder):
    words = (folder / TEXT).read_text().split()
    values = [
        "0",
        "-1",
        "1",
        "2",
        "7",
        "2147483647",
        '""',
        '"data"',
        "{",
        "}",
        "TANH",
        "\x00",
        "${X}",
    ]
    statuses = []
    for seed in range(50):
        rng = random.Random(seed)
        mutated = list(words)
        for _ in range(rng.randint(1, 3)):
            mutated[rng.randrange(len(mutated))] = rng.choice([*values, rng.choice(words)])
        (folder / TEXT).write_text(" ".join(mutated))
        status, _, err = command("segment", "a.png", *NET[:2], "--weights", "random:0", "--no-crf")
        assert_plain(status, err)
        statuses.append(status)
    assert {*statuses} == {0, 2}


# --- folders, and what a run tells of itself


@pytest.fixture
def album(folder, photo):
    """A folder of six photos, two of which cannot be read, beside what is no photo."""
    for number, name in enumerate(("a.jpg", "a.png", "b.jpg", "deep/er/a.jpg")):
        (folder / "album" / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(folder / "album" / name, photo(20, 30, number))
    for name in ("broken.jpg", "notes.txt", "none"):
        (folder / "album" / name).write_text("no picture")
    (folder / "album/deep/empty.jpg").touch()
    (folder / "album/dangling.jpg").symlink_to("nowhere")
    return ("segment", "album", *NET, "--no-crf", "--engine", "opencv")


def test_a_folder_of_many_kinds(command, album):
    status, out, err = command(*album, "--recursive")
    assert status == 2
    assert [line.split()[0] for line in out.splitlines()] == [
        "a.jpg",
        "a.png",
        "b.jpg",
        "deep/er/a.jpg",
    ]
    first, *_, last = err.splitlines()
    assert first == (
        "deeplab-repro: names of photos clash, so some results are named in full (2): "
        "a.jpg.png, a.png.png"
    )
    why = "not named as a picture: 2, broken link: 1"
    assert last == f"deeplab-repro: 4 done, 2 failed, 3 skipped ({why})"
    made = sorted(str(path.relative_to("out")) for path in Path("out").rglob("*.png"))
    assert made == ["a.jpg.png", "a.png.png", "b.png", "deep/er/a.png"]
    status, out, err = command(*album, "--recursive", "--skip-existing")
    assert (status, out) == (2, "")
    assert err.splitlines()[-1] == (
        "deeplab-repro: 0 done, 2 failed, 7 skipped (done before: 4, "
        "not named as a picture: 2, broken link: 1)"
    )
    assert sorted(str(path.relative_to("out")) for path in Path("out").rglob("*.png")) == made


def test_a_subfolder_that_cannot_be_read(command, album, monkeypatch):
    listdir = os.listdir

    def refusing(path):  # as for a user who is not root
        if Path(path).name == "deep":
            raise PermissionError(13, "Permission denied", str(path))
        return listdir(path)

    monkeypatch.setattr(os, "listdir", refusing)
    status, out, err = command(*album, "--recursive")
    assert (status, out.count("\n")) == (2, 3)
    assert "error: album/deep: cannot be read: permission denied" in err
    assert "deeplab-repro: 3 done, 2 failed, 3 skipped" in err


def test_one_photo_that_is_done_is_told(command, folder):
    arguments = ("segment", folder / "a.png", *NET, "--no-crf", "--skip-existing")
    assert command(*arguments)[2].splitlines()[-1] == "deeplab-repro: results are in out"
    told = "deeplab-repro: 0 done, 1 skipped (done before: 1)\n"
    assert command(*arguments) == (0, "", told)


def test_results_beside_the_photos(command, folder, album):
    """A second run takes none of them for photos, and gives the same names."""
    arguments = (*album, "--out", "album", "--save", "overlay,cutout", "--recursive")
    assert len(command(*arguments)[1].splitlines()) == 4
    before = sorted(folder.rglob("*"))
    _, out, err = command(*arguments)
    assert len(out.splitlines()) == 4
    assert "result of deeplab-repro" in err
    assert sorted(folder.rglob("*")) == before


def test_lines_of_json(command, folder, album):
    album = (*album, "--json", "--save", "overlay,cutout")
    status, out, _ = command(*album, "b\nd.png")
    assert (status, out) == (2, "")  # nothing was begun
    (folder / "album/broken.jpg").rename(folder / "album/stray\n\udcff.jpg")
    status, out, _ = command(*album)
    assert status == 2
    *lines, counts = map(json.loads, out.splitlines())
    assert [line["photo"].removeprefix("album/") for line in lines] == [
        "a.jpg",
        "a.png",
        "b.jpg",
        "stray\n\udcff.jpg",
    ]
    first, *_, failed = lines
    labels = read_labels("out/a.jpg.png")
    assert first["labels"] == shares(labels, ())
    assert list(first["labels"].values()) == sorted(first["labels"].values(), reverse=True)
    assert first["written"] == {
        "labels": "out/a.jpg.png",
        "overlay": "out/a.jpg.overlay.jpg",
        "cutout": [f"out/a.jpg.class-{label}.png" for label in np.unique(labels) if label],
    }
    assert (first["width"], first["height"]) == (30, 20)
    assert first["seconds"].keys() == {"net"}
    assert first["seconds"]["net"] > 0
    assert failed.keys() == {"photo", "error"}
    assert "is not an image" in failed["error"]
    assert counts == {
        "done": 3,
        "failed": 1,
        "skipped": 3,
        "why_skipped": {"not named as a picture": 2, "broken link": 1},
    }
    _, out, _ = command(*album, "--skip-existing")
    first, *_, counts = map(json.loads, out.splitlines())
    assert first == {"photo": "album/a.jpg", "skipped": "done before"}
    assert (counts["done"], counts["failed"], counts["skipped"]) == (0, 1, 6)
