"""Whole files in and out."""

import os
import stat
import sys
from pathlib import Path

import pytest

from deeplab_repro.errors import FileError, FormatError
from deeplab_repro.files.whole import (
    open_to_read,
    remove_unfinished,
    replace_together,
    write_atomically,
)
from tests.conftest import assert_one_line, not_root

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="asks Linux")


# --- writing


def test_written_whole_and_nothing_else(tmp_path):
    with write_atomically(tmp_path / "a") as file:
        file.write(b"new")
        assert not (tmp_path / "a").exists()
    assert (tmp_path / "a").read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("kind", [RuntimeError, KeyboardInterrupt, SystemExit, ValueError])
def test_a_block_that_raises_leaves_the_old_file(tmp_path, kind):
    def write_half(path: Path) -> None:
        with write_atomically(path) as file:
            file.write(b"half")
            raise kind

    (tmp_path / "a").write_bytes(b"old")
    for name in ("a", "b"):
        with pytest.raises(kind):
            write_half(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_interrupted_as_soon_as_the_file_is_made(tmp_path):
    def interrupt(_, event, what):
        if event == "c_return" and what in (open, os.open):
            raise KeyboardInterrupt

    def write() -> None:
        with write_atomically(tmp_path / "a"):
            pass

    sys.setprofile(interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            write()
    finally:
        sys.setprofile(None)
    assert os.listdir(tmp_path) == []


def test_several_files_at_once(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "b").write_bytes(b"old")
    (tmp_path / "b").symlink_to(tmp_path / "folder" / "b")
    with replace_together([tmp_path / "a", tmp_path / "b"]) as written:
        for file in written:
            file.write_bytes(b"new")
        assert [file.parent for file in written] == [tmp_path, tmp_path / "folder"]
        assert (tmp_path / "b").read_bytes() == b"old"
    assert (tmp_path / "a").read_bytes() == (tmp_path / "folder" / "b").read_bytes() == b"new"
    assert (tmp_path / "b").is_symlink()
    assert sorted(os.listdir(tmp_path)) == ["a", "b", "folder"]
    assert os.listdir(tmp_path / "folder") == ["b"]


@pytest.mark.parametrize("kind", [RuntimeError, KeyboardInterrupt, FormatError])
def test_of_several_files_all_old_ones_stay(tmp_path, kind):
    def write_half(*paths: Path) -> None:
        with replace_together(paths) as (first, second):
            first.write_bytes(b"half")
            raise kind(f"{second}: no, {first}: no")

    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(kind) as error:
        write_half(tmp_path / "a", tmp_path / "b")
    if kind is FormatError:  # ours names the files as they would be called
        assert str(error.value) == f"{tmp_path / 'b'}: no, {tmp_path / 'a'}: no"
    assert (tmp_path / "a").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_what_comes_meanwhile_is_kept(tmp_path):
    (tmp_path / "b").write_bytes(b"old")
    target, expected = tmp_path / "a", "a: cannot be written: somebody else did meanwhile"
    with pytest.raises(FileError, match=expected), write_atomically(target):
        target.write_bytes(b"mine")
    assert target.read_bytes() == b"mine"
    target.unlink()

    def write(*paths: Path) -> None:
        with replace_together(paths) as files:
            for file in files:
                file.write_bytes(b"new")
            target.write_bytes(b"mine")

    with pytest.raises(FileError, match=expected):
        write(tmp_path / "b", target)
    assert [(tmp_path / name).read_bytes() for name in "ab"] == [b"mine", b"old"]
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


def test_of_several_files_one_cannot_be_written(tmp_path):
    for names in (("a", "missing/b"), ("missing/b", "a")):
        with pytest.raises(FileError) as error, replace_together([tmp_path / n for n in names]):
            raise AssertionError
        assert_one_line(error, tmp_path / "missing" / "b", "there is no folder")
    with pytest.raises(FileError) as error, replace_together([tmp_path / "a"]):
        (tmp_path / "a").mkdir()  # by somebody else, meanwhile
    assert_one_line(error, f"{tmp_path / 'a'}: cannot be written: ")


@linux_only
def test_no_space_left(tmp_path):
    import resource

    (tmp_path / "a").write_bytes(b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(FileError) as error, write_atomically(tmp_path / "a") as file:
            file.write(b"x" * 100000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert_one_line(error, tmp_path / "a", "too large")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


@linux_only
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_permissions_follow_the_umask(tmp_path, umask):
    old = os.umask(umask)
    try:
        with write_atomically(tmp_path / "a") as file:
            file.write(b"x")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o666 & ~umask


def test_bad_targets(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    for path in (tmp_path / "none" / "a", tmp_path, tmp_path / "file" / "a", tmp_path / "a\0b"):
        with pytest.raises(FileError) as error, write_atomically(path):
            pass
        assert_one_line(error, "cannot be written")
    assert os.listdir(tmp_path) == ["file"]


@linux_only
def test_devices_are_not_replaced():
    with pytest.raises(FileError, match="device"), write_atomically("/dev/null") as file:
        file.write(b"x")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


@linux_only
def test_no_permission(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tmp_path.chmod(0o555)
    with not_root(), pytest.raises(FileError, match="permission denied"), write_atomically("a"):
        pass
    tmp_path.chmod(0o755)


@linux_only
def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("folder/real")
    with write_atomically(tmp_path / "link") as file:
        file.write(b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "folder" / "real").read_bytes() == b"new"


@linux_only
def test_the_longest_name(tmp_path):
    with write_atomically(tmp_path / ("a" * 255)) as file:
        file.write(b"x")
    assert os.listdir(tmp_path) == ["a" * 255]


# --- reading


def test_open_to_read(tmp_path):
    (tmp_path / "a").write_bytes(b"\0\xff")
    for path in (tmp_path / "a", str(tmp_path / "a")):
        with open_to_read(path) as (file, size):
            assert file.read() == b"\0\xff"
            assert size == 2
    with (
        pytest.raises(FileError, match="a: cannot be read: bad sector"),
        open_to_read(tmp_path / "a"),
    ):
        raise OSError(5, "bad sector")


def test_what_cannot_be_read(tmp_path):
    (tmp_path / "empty").touch()
    for path, found in (
        (tmp_path / "none", "no such file"),
        (tmp_path, "folder"),
        (tmp_path / "empty", "empty"),
        (tmp_path / "a\0b", "null"),
    ):
        with pytest.raises(FileError) as error, open_to_read(path):
            pass
        assert_one_line(error, found)


@linux_only
def test_a_pipe_or_device_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(FileError, match="pipe or a device"), open_to_read(path):
            pass


def test_what_a_killed_process_left_is_removed(tmp_path):
    with write_atomically(tmp_path / "a"):
        (being_written,) = tmp_path.iterdir()
    (tmp_path / being_written.name).write_bytes(b"left")
    (tmp_path / f"{being_written.name}.txt").write_bytes(b"of another program")
    remove_unfinished(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"a", f"{being_written.name}.txt"}
