"""deeplab-repro segment: what it prints and writes, and every kind of bad input."""

import random
import re

import numpy as np
import pytest

from deeplab_repro.caffe import read_net, write_caffemodel
from deeplab_repro.cli import segment
from deeplab_repro.cli.console import print_photos
from deeplab_repro.crf.dense_crf import CrfResult
from deeplab_repro.engines.opencv_cpu import OpenCVCpuEngine
from deeplab_repro.engines.opencv_cuda import cuda_problem
from deeplab_repro.files.images import read_labels
from deeplab_repro.files.pictures import write_image
from deeplab_repro.jobs.photos import Photo
from deeplab_repro.jobs.segment import OUTPUTS
from deeplab_repro.models.registry import VOC_CLASSES
from deeplab_repro.net.scores import CoarseScores
from deeplab_repro.segmenter import Segmentation


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


def test_a_row_a_picture(command, folder, photo):
    write_image("b.png", photo(33, 50))
    arguments = (*NET, "--no-crf", "--engine", "opencv")
    status, out, err = command("segment", "a.png", "b.png", *arguments)
    assert status == 0
    a, b = out.splitlines()
    assert re.fullmatch(r"a\.png  30x20  net +\d+ ms  \d \d+%(, \d \d+%)*", a)
    assert b.startswith("b.png  50x33  net ")
    opencv = OpenCVCpuEngine.name
    assert err.splitlines() == [
        f"deeplab-repro: net 'tiny' ran on cpu with {opencv}, no CRF",
        "deeplab-repro: results are in out",
    ]
    labels = read_labels(folder / "out" / "a.png")
    assert labels.shape == (20, 30)
    most = np.bincount(labels.ravel()).argmax()
    assert f"ms  {most} {(labels == most).mean():.0%}" in a


def test_a_safetensors_brings_its_net(command, refused, folder):
    assert command("convert", *NET, "--to", "safetensors", "--out", "tiny")[0] == 0
    assert command("segment", "a.png", "--no-crf", *NET)[0] == 0
    expected = (folder / "out" / "a.png").read_bytes()
    for net in ([], ["--prototxt", "tiny.prototxt"]):
        (folder / "out" / "a.png").unlink()
        assert (
            command("segment", "a.png", "--no-crf", "--weights", "tiny.safetensors", *net)[0] == 0
        )
        assert (folder / "out" / "a.png").read_bytes() == expected
    error = refused("segment", "a.png", "--weights", "tiny.safetensors", "--model", "DeepLab")
    assert "tiny.safetensors: has no layer 'conv1_1'" in error


def test_classes_are_named_in_nets_of_voc(folder, capsys):
    labels = np.zeros((10, 100), np.uint8)
    labels[:, :30] = 15
    labels[0, 99] = 20  # 0.1%, which is not worth a word
    coarse = CoarseScores(np.zeros((len(VOC_CLASSES), 3, 14), np.float32), 8)
    result = Segmentation((10, 100), coarse, 0.25, CrfResult(labels, None, "cpu"), 1.5)
    photo = Photo(folder / "x.jpg", np.zeros((10, 100, 3), np.uint8), segmentation=result)
    assert print_photos("segmenting", 1, [photo]) == (photo, 0)
    expected = "x.jpg  100x10  net   250 ms  CRF  1500 ms  background 70%, person 30%\n"
    assert capsys.readouterr().out == expected


def test_everything_that_can_be_saved(command, folder):
    assert segment._OUTPUTS == OUTPUTS
    arguments = ("--crf", "4,20,5", "--iterations", "1", "--save", ",".join(OUTPUTS))
    status, out, err = command("segment", "a.png", *NET, *arguments, "--out", "some/where")
    assert status == 0
    assert "CRF" in out
    assert "CRF 4,20,5 on cpu" in err
    names = {path.name for path in (folder / "some" / "where").iterdir()}
    endings = (".png", ".overlay.jpg", ".scores.npy", ".probs.npy", ".marginals.npy", ".bin")
    assert names == {f"a{ending}" for ending in (*endings, "_blob_0.mat")}
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
    assert err.splitlines()[-1] == "deeplab-repro: open out/index.html in a browser"
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
        (["a.png", "b/a.png", *NET], "would both be written to"),
        (["a.png", *NET, "--out", "tiny.prototxt"], "is a file, expected a folder"),
        (["a.png", *NET, "--out", "."], "would overwrite it"),
    ],
)
def test_bad_input(refused, folder, photo, arguments, expected):
    (folder / "empty.png").touch()
    (folder / "text.png").write_text("not a picture")
    (folder / "half.png").write_bytes((folder / "a.png").read_bytes()[:-300])
    (folder / "bare").mkdir()
    (folder / "b").mkdir()
    write_image("b/a.png", photo(9, 9))
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
