"""Results are checked before the work: what they would overwrite, and where they go."""

import os
from pathlib import Path

import pytest

from deeplab_repro.errors import FileError
from deeplab_repro.files import targets as module
from deeplab_repro.files.marks import write_noted
from deeplab_repro.files.targets import check_targets, make_folder
from tests.conftest import assert_one_line


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(*parts, files=("out/a",), inputs=(), force=False):
    with pytest.raises(FileError) as error:
        check_targets({Path("photo"): map(Path, files)}, inputs, force)
    assert_one_line(error, *parts)


def test_what_others_made(here):
    check_targets({Path("photo"): [Path("out/a")]}, [])
    (here / "a").write_bytes(b"mine")
    refused("a: is there already", "--force", files=["new", "a"])
    check_targets({Path("photo"): [Path("a")]}, [], force=True)
    write_noted(here / "b", b"own")
    check_targets({Path("photo"): [Path("b")]}, [])
    (here / "link").symlink_to("a")
    refused("link: is there already", files=["link"])


NAMES = {
    "itself": lambda: Path("a"),
    "in another spelling": lambda: Path("folder/../a"),
    "in full": lambda: Path("a").absolute(),
    "a hard link": lambda: os.link("a", "b") or Path("b"),
    "a symbolic link": lambda: os.symlink("a", "b") or Path("b"),
    "in a linked folder": lambda: os.symlink(".", "b") or Path("b/a"),
}


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_inputs_by_any_name(here, name, force):
    (here / "folder").mkdir()
    write_noted(here / "a", b"own")
    refused("a: the results would overwrite it", files=[NAMES[name]()], inputs=["a"], force=force)
    assert (here / "a").read_bytes() == b"own"


def test_inputs_that_are_no_files(here):
    write_noted(here / "a", b"own")
    check_targets({Path("photo"): [Path("a")]}, ["random:0", "missing", "a\0b"])


def test_two_results_in_one_place(here):
    (here / "out").mkdir()
    (here / "again").symlink_to("out")
    both = {Path("x"): [Path("out/a")], Path("y"): [Path("again/a")]}
    with pytest.raises(FileError, match="y and x would both be written to again/a"):
        check_targets(both, [])
    upper = {Path("x"): [Path("out/a")], Path("y"): [Path("out/A")]}
    check_targets(upper, [])


def test_two_results_in_one_place_where_case_does_not_count(monkeypatch):
    monkeypatch.setattr(module, "ignores_case", lambda _: True)  # as this disk may not
    upper = {Path("x"): [Path("out/a")], Path("y"): [Path("out/A")]}
    with pytest.raises(FileError, match="y and x would both be written to out/A"):
        check_targets(upper, [])


def test_whether_case_counts(here):
    (here / "folder").mkdir()
    is_one = (here / "FOLDER").exists()
    assert module.ignores_case(Path("folder")) == is_one
    if not is_one:
        (here / "FOLDER").symlink_to("folder")  # what such a disk shows
        assert module.ignores_case(Path("folder"))
    assert not module.ignores_case(Path("/"))


def test_places_that_are_none(here):
    (here / "file").write_bytes(b"mine")
    (here / "out").mkdir()
    with pytest.raises(FileError, match=r"^file: is a file, expected a folder"):
        check_targets({Path("photo"): [Path("file/deeper/a")]}, [])
    for force in (False, True):
        refused("out: cannot be written: it is a folder", files=["out"], force=force)


def test_names_that_are_too_long(here):
    long = "n" * 256
    for folder in (".", "not/there"):
        for file in (f"{folder}/{long}", f"{folder}/{long}/a"):
            refused("cannot be written: file name too long: use a shorter name", files=[file])
    refused(r"a\x00b/c: cannot be written: embedded null", files=["a\0b/c"])
    assert os.listdir(here) == []


def test_a_folder_called_tilde_is_never_made(here):
    for folder in ("~", "~/deeper", str(here / "~/deeper")):
        refused("there is no folder ~", files=[f"{folder}/a"])
        with pytest.raises(FileError, match="there is no folder ~: write the home folder in full"):
            make_folder(Path(folder))
    assert os.listdir(here) == []
    (here / "~").mkdir()  # somebody wants it
    make_folder(Path("~/deeper"))
    check_targets({Path("photo"): [Path("~/deeper/a")]}, [])
