"""Bytes as a file: what is read from its path, as long as the block lasts."""

import os
from pathlib import Path

import pytest

from deeplab_repro.machine.as_file import as_file


@pytest.fixture(params=["in memory", "in a folder"])
def place(request, tmp_path, monkeypatch):
    if request.param == "in a folder":
        monkeypatch.delattr(os, "memfd_create", raising=False)  # as elsewhere than on Linux
    elif not hasattr(os, "memfd_create"):
        pytest.skip("this system has no files in memory")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("content", [b"", bytes(range(256)) * 5000])
def test_the_file_holds_the_bytes(place, content):
    for _ in range(2):
        with as_file(content) as path:
            assert Path(path).read_bytes() == content
        assert not list(place.iterdir())
    assert not os.path.exists(path)


def test_it_is_gone_after_an_error(place):
    before = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0
    with pytest.raises(ValueError, match="broken"), as_file(b"some") as path:
        raise ValueError("broken")
    assert not os.path.exists(path)
    assert not list(place.iterdir())
    if before:
        assert len(os.listdir("/proc/self/fd")) == before
