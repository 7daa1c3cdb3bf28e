"""Without a home folder nothing is kept, and no folder called `~` appears."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import deeplab_repro
from deeplab_repro.machine.home import cache_folder, drop_unexpanded, has_cache_folder
from deeplab_repro.machine.jit import kept_on_disk


def test_settings_that_name_no_folder(monkeypatch):
    monkeypatch.setenv("HOME", "~")
    monkeypatch.setenv("MPLCONFIGDIR", "~/mpl")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    drop_unexpanded()
    assert "HOME" not in os.environ
    assert "MPLCONFIGDIR" not in os.environ
    assert os.environ["XDG_CACHE_HOME"] == "/cache"


SETTINGS = [
    ({"HOME": "~"}, False),
    ({"HOME": "~", "XDG_CACHE_HOME": "~/cache"}, False),
    ({"HOME": "~", "XDG_CACHE_HOME": "/cache"}, True),
    ({"HOME": "/home/me"}, True),
]


@pytest.mark.parametrize(("settings", "expected"), SETTINGS)
def test_whether_there_is_a_folder(monkeypatch, settings, expected):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert has_cache_folder() == expected


@pytest.mark.parametrize(
    ("settings", "writable", "kept"),
    [
        ({"HOME": "~"}, False, False),
        ({"HOME": "~"}, True, True),
        ({"HOME": "/home/me"}, False, True),
        ({"HOME": "/home/me", "NUMBA_CACHE_DIR": "~/numba"}, True, False),
        ({"HOME": "~", "NUMBA_CACHE_DIR": "/numba"}, False, True),
    ],
)
def test_whether_compiled_code_is_kept(monkeypatch, settings, writable, kept):
    for name in ("XDG_CACHE_HOME", "NUMBA_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(os, "access", lambda *_: writable)
    assert kept_on_disk(lambda cache: lambda _: cache, has_cache_folder) == kept


def test_a_user_without_a_home(tmp_path):
    """What Numba does, with a package that it cannot write to."""
    source = Path(deeplab_repro.__file__).parent
    package, here = tmp_path / source.name, tmp_path / "here"
    shutil.copytree(source, package, ignore=shutil.ignore_patterns("__pycache__", "toy"))
    (package / "crf/cpu/__pycache__").write_text("no folder")
    here.mkdir()
    without = ("XDG_CACHE_HOME", "NUMBA_CACHE_DIR")
    settings = {name: value for name, value in os.environ.items() if name not in without}
    settings |= {"HOME": "~", "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    code = "from deeplab_repro.crf.cpu import simplices; print(simplices.__file__)"
    run = [sys.executable, "-c", code]
    found = subprocess.run(run, cwd=here, env=settings, check=True, stdout=subprocess.PIPE)
    assert Path(os.fsdecode(found.stdout).strip()).is_relative_to(package)
    assert os.listdir(here) == []


@pytest.mark.parametrize(
    ("platform", "settings", "expected"),
    [
        ("linux", {"DEEPLAB_REPRO_HOME": "/mine"}, "/mine"),
        ("linux", {"DEEPLAB_REPRO_HOME": "~/mine"}, "/home/me/mine"),
        ("linux", {"XDG_CACHE_HOME": "/cache"}, "/cache/deeplab-repro"),
        ("linux", {"XDG_CACHE_HOME": "relative"}, "/home/me/.cache/deeplab-repro"),
        ("linux", {}, "/home/me/.cache/deeplab-repro"),
        ("darwin", {}, "/home/me/Library/Caches/deeplab-repro"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/deeplab-repro"),
        ("linux", {"HOME": "~"}, None),
        ("linux", {"HOME": "~", "XDG_CACHE_HOME": "/cache"}, "/cache/deeplab-repro"),
    ],
)
def test_where_what_can_be_made_again_is_kept(monkeypatch, platform, settings, expected):
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setenv("HOME", "/home/me")
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA", "DEEPLAB_REPRO_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == (expected and Path(expected))
