"""deeplab-repro fetch: what it prints, and what then needs no --weights."""

import json
import sys
import time
from dataclasses import replace

import pytest

from deeplab_repro.caffe import read_net
from deeplab_repro.cli.console import progress_in_bytes
from deeplab_repro.files.pictures import write_image
from deeplab_repro.models.registry import MODELS, Weights
from deeplab_repro.segmenter import Recipe
from tests.models.web_server import WebServer, good

NAME = "ToyVOC-LargeFOV"
DATA = MODELS[NAME].shipped_weights.read_bytes()
TRAIN = "train_iter_6000.caffemodel"


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server with ToyVOC's weights, which count as released ones."""
    train, train2 = Weights(TRAIN, "train"), Weights("train2_iter_8000.caffemodel", "trainval")
    released = replace(
        MODELS[NAME], shipped_weights=None, train_weights=train, train2_weights=train2
    )
    monkeypatch.setitem(MODELS, NAME, released)
    monkeypatch.setenv("DEEPLAB_REPRO_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    with WebServer() as serving:
        serving.page("/w", good(DATA))
        yield serving


def test_fetch_and_segment(command, server, tmp_path, photo):
    status, out, err = command("fetch", NAME, "--from", server.url("/w"))
    path = tmp_path / "home" / NAME / TRAIN
    assert (status, err) == (0, "")
    file, size, sha256, trained_on = out.splitlines()
    assert file == f"file        {path}"
    assert size == f"size        {len(DATA):,} bytes"
    assert sha256.split()[0] == "sha256"
    assert trained_on == "trained on  train"

    status, again, err = command("fetch", NAME, "--json")
    assert status == 0
    assert json.loads(again) == {
        "model": NAME,
        "path": str(path),
        "size": len(DATA),
        "sha256": sha256.split()[1],
        "url": server.url("/w"),
        "training_set": "train",
    }
    assert err == f"deeplab-repro: {path} was there already, and is kept\n"
    assert len(server.requests) == 1

    write_image("a.png", photo(20, 30))
    assert command("segment", "a.png", "--model", NAME, "--no-crf")[0] == 0
    prototxt = ("--prototxt", MODELS[NAME].test_prototxt, "--set", "EXP=toyvoc")
    assert command("segment", "a.png", *prototxt, "--weights", NAME, "--no-crf")[0] == 0
    path.unlink()
    assert "but is gone: fetch" in refused_segment(command)


def refused_segment(command):
    status, out, err = command("segment", "a.png", "--model", NAME, "--no-crf")
    assert (status, out, err.count("\n")) == (2, "", 1)
    return err


def test_predict_takes_what_was_fetched(command, server, tmp_path, photo):
    root = tmp_path / "voc"
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    (root / "JPEGImages").mkdir()
    (root / "ImageSets/Segmentation/val.txt").write_text("a\n")
    labels = read_net(MODELS[NAME].test_prototxt, {"EXP": "toyvoc"}).output_shape()[1]
    (root / "classes.txt").write_text("".join(f"class{label}\n" for label in range(labels)))
    write_image(root / "JPEGImages/a.jpg", photo(20, 30))
    predict = ("predict", "--voc", root, "--split", "val", "--workers", "0", "--no-crf")
    assert "needs weights" in command(*predict, "--model", NAME, "--out", "none")[2]
    path = command("fetch", NAME, "--from", server.url("/w"))[1].split()[1]
    for weights in ((), ("--weights", NAME)):
        out = f"out{len(weights)}"
        status, said, err = command(*predict, "--model", NAME, *weights, "--out", out)
        assert (status, err) == (0, "")
        assert f"net '{NAME}', {TRAIN}, no CRF" in said
        record = json.loads((tmp_path / out / "predict.val.json").read_text())
        assert (record["weights"], record["trained_on"]) == (TRAIN, "train_aug")
    # A cluster's workers remember nothing of it, and have what ships elsewhere.
    assert Recipe(NAME).absolute().weights == path
    assert Recipe("ToyVOC-MSc-LargeFOV").absolute().weights is None


def test_to_a_folder_of_models(command, server, tmp_path):
    arguments = ("--from", server.url("/w"), "--to", "models", "--train2")
    status, out, _ = command("fetch", NAME, *arguments)
    assert status == 0
    assert str(tmp_path / "models" / NAME / "train2_iter_8000.caffemodel") in out
    assert "trained on  trainval" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["DeepLab-7x7"], "no weights of DeepLab-7x7 were ever released"),
        (["ToyVOC-MSc-LargeFOV"], "comes with its weights"),
        (["largefov"], "there is no model 'largefov'; did you mean"),
        ([NAME, "--from", "file:///etc/passwd"], "is not an http or https address"),
        ([NAME, "--from", "HOST/nothing"], "/nothing: HTTP Error 404: Not Found"),
        ([NAME, "--from", "HOST/w", "--to", "file"], "cannot be made"),
        ([], "required: NAME"),
    ],
)
def test_refused(refused, server, tmp_path, arguments, said):
    (tmp_path / "file").touch()
    arguments = [argument.replace("HOST", server.url("")) for argument in arguments]
    assert said in refused("fetch", *arguments)


def test_a_line_every_minute_without_a_terminal(monkeypatch, capsys):
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with progress_in_bytes() as advance:
        for done in range(4):
            advance("host", done * 25_000_000, 82_000_000 if done < 3 else None)
            now += 40
    assert capsys.readouterr().err.splitlines() == [
        "deeplab-repro: host: 50.0 of 82.0 MB",
    ]


def test_a_bar_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    with progress_in_bytes() as advance:
        advance("host", 0, None)
        advance("host", 25_000_000, 82_000_000)
    assert "host" in capsys.readouterr().err
