"""Where fetched weights are remembered, and how a model's name finds them."""

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from deeplab_repro.errors import ArgumentError, FileError, FormatError
from deeplab_repro.models.fetched import (
    Fetched,
    record_path,
    remember,
    remembered,
    user_folder,
    weights_file,
)
from deeplab_repro.models.registry import MODELS
from tests.conftest import assert_one_line

NAME = "DeepLab-LargeFOV"
TRAIN, TRAIN2 = "train_iter_6000.caffemodel", "train2_iter_8000.caffemodel"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPLAB_REPRO_HOME", str(tmp_path / "home"))
    (tmp_path / "home" / NAME).mkdir(parents=True)
    return tmp_path / "home"


@pytest.fixture
def put(tmp_path):
    """Remember a file that is there; the file."""

    def remember_file(name):
        path = tmp_path / name
        path.write_bytes(b"12345")
        remember(Fetched(NAME, str(path), 5, "abc", None, "train_aug"))
        return path

    return remember_file


def test_what_is_remembered(home, put):
    assert remembered(NAME, TRAIN) is None
    path = put(TRAIN)
    there = Fetched(NAME, str(path), 5, "abc", None, "train_aug")
    assert remembered(NAME, TRAIN) == there
    assert remembered(NAME, TRAIN2) is None
    assert os.listdir(home / NAME) == [f"{TRAIN}.json"]
    remember(replace(there, size=6))
    assert remembered(NAME, TRAIN).size == 6


def test_a_name_stands_for_what_was_fetched(put):
    assert weights_file(None, NAME) is None
    train2 = put(TRAIN2)
    assert weights_file(None, NAME) == weights_file(NAME, None) == train2
    train = put(TRAIN)
    assert weights_file(None, NAME) == weights_file(NAME, "DeepLab") == train
    assert weights_file(None, "DeepLab") is None


def test_toyvoc_brings_its_own():
    shipped = MODELS["ToyVOC-LargeFOV"].shipped_weights
    assert weights_file(None, "ToyVOC-LargeFOV") == shipped
    assert weights_file("ToyVOC-LargeFOV", NAME) == shipped


def test_all_else_stands_for_itself(put, tmp_path):
    put(TRAIN)
    for weights in ("a.caffemodel", "random:3", Path(NAME)):
        assert weights_file(weights, NAME) is weights
    assert weights_file(None, tmp_path / NAME) is None
    assert weights_file(None, Path(NAME)) is None
    assert weights_file(None, None) is None


def test_a_name_of_which_nothing_is_here():
    with pytest.raises(ArgumentError) as error:
        weights_file(NAME, None)
    assert_one_line(error, f"weights of {NAME} are not here: run deeplab-repro fetch {NAME}, or")
    with pytest.raises(ArgumentError) as error:
        weights_file("DeepLab-7x7", None)
    assert_one_line(error, "DeepLab-7x7", "none were released")


def test_gone_and_changed(put):
    put(TRAIN2)
    path = put(TRAIN)
    path.write_bytes(b"123456")
    with pytest.raises(FileError) as error:
        weights_file(None, NAME)
    assert_one_line(error, path, "has 6 bytes, but had 5", "remove it and fetch")
    path.unlink()
    with pytest.raises(FileError) as error:
        weights_file(NAME, None)
    assert_one_line(error, path, "gone", f"fetch {NAME} again")


RECORD = asdict(Fetched(NAME, f"/{TRAIN}", 5, "abc", None, "train_aug"))


@pytest.mark.parametrize(
    "record",
    [
        "",
        "[]",
        "{}",
        json.dumps({**RECORD, "more": 1}),
        json.dumps({**RECORD, "size": "5"}),
        json.dumps({**RECORD, "path": None}),
        json.dumps({**RECORD, "path": f"/{TRAIN2}"}),
        json.dumps({**RECORD, "model": "DeepLab"}),
    ],
)
def test_broken_records(record):
    record_path(NAME, TRAIN).write_text(record)
    with pytest.raises((FormatError, FileError)) as error:
        remembered(NAME, TRAIN)
    assert_one_line(error, record_path(NAME, TRAIN), "empty" if not record else "is broken: remove")


def test_the_folder(home, monkeypatch, tmp_path):
    assert user_folder() == home
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEEPLAB_REPRO_HOME", "here")
    assert user_folder() == tmp_path / "here"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DEEPLAB_REPRO_HOME", "~/here")
    assert user_folder() == tmp_path / "here"
    monkeypatch.setenv("DEEPLAB_REPRO_HOME", "")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    for platform, folder in {
        "linux": "xdg",
        "darwin": "Library/Application Support",
        "win32": "local",
    }.items():
        monkeypatch.setattr(sys, "platform", platform)
        assert user_folder() == tmp_path / folder / "deeplab-repro"
    monkeypatch.delenv("LOCALAPPDATA")
    assert user_folder() == tmp_path / "AppData/Local/deeplab-repro"
    monkeypatch.setattr(sys, "platform", "linux")
    for relative in ("", "xdg"):
        monkeypatch.setenv("XDG_DATA_HOME", relative)
        assert user_folder() == tmp_path / ".local/share/deeplab-repro"


def test_nobody_home(monkeypatch):
    def nobody():
        raise RuntimeError

    monkeypatch.delenv("DEEPLAB_REPRO_HOME")
    monkeypatch.setattr(Path, "home", nobody)
    for settings in ({}, {"DEEPLAB_REPRO_HOME": "~/here", "HOME": "~"}):
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(FileError) as error:
            user_folder()
        assert_one_line(error, "set DEEPLAB_REPRO_HOME")
    monkeypatch.delenv("DEEPLAB_REPRO_HOME")
    monkeypatch.setattr(Path, "home", lambda: Path("relative"))
    with pytest.raises(FileError, match="set DEEPLAB_REPRO_HOME"):
        user_folder()


def test_nothing_else_loads_what_speaks_to_the_web():
    code = (
        "import sys, deeplab_repro, deeplab_repro.cli; deeplab_repro.DeepLab; "
        "print({'urllib.request', 'http.client', 'ssl'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
