"""What results are called: those of no two photos clash, whatever the photos are called."""

import itertools
from pathlib import Path

import pytest

from deeplab_repro.jobs import names as module
from deeplab_repro.jobs.names import named_in_full, result_names, slug
from deeplab_repro.models.registry import VOC_CLASSES


def names_of(*paths, folders=None):
    photos = [Path(path) for path in paths]
    given = dict(zip(photos, folders or [""] * len(photos), strict=True))
    return list(result_names(given, Path("out")).values())


CASES = {
    ("a.jpg",): ["a"],
    ("a.jpg", "b.jpg", "c/d.png"): ["a", "b", "d"],
    ("a.jpg", "a.png", "b.jpg"): ["a.jpg", "a.png", "b"],
    # The name in full may be that of another without its ending.
    ("a.jpg", "a.png", "a.jpg.jpg"): ["a.jpg", "a.png", "a.jpg.jpg"],
    # From several folders: the ending, and where that does not help, the folder.
    ("x/a.jpg", "y/a.png"): ["a.jpg", "a.png"],
    ("x/a.jpg", "y/a.jpg", "y/b.jpg"): ["x/a.jpg", "y/a.jpg", "b"],
    ("a.jpg", "x/a.jpg"): ["a.jpg", "x/a.jpg"],
    ("/far/p/x/a.jpg", "/far/q/x/a.jpg"): ["p/x/a.jpg", "q/x/a.jpg"],
    ("../x/a.jpg", "../y/a.jpg"): ["x/a.jpg", "y/a.jpg"],
    # Cutouts of a.jpg are called a.person.png and so on.
    ("a.jpg", "a.person.jpg", "a.class-7.jpg", "b.dog.jpg"): [
        "a",
        "a.person.jpg",
        "a.class-7.jpg",
        "b.dog",
    ],
    ("..jpg", "no ending", "-a.png"): [".", "no ending", "-a"],
}


@pytest.mark.parametrize("paths", CASES)
def test_names_that_clash_are_given_in_full(paths):
    assert names_of(*paths) == CASES[paths]
    by_photo = dict(zip(paths, CASES[paths], strict=True))
    for order in itertools.permutations(paths):
        assert names_of(*order) == [by_photo[path] for path in order]
    found = result_names(dict.fromkeys(map(Path, paths), ""), Path("out"))
    longer = [name for name in CASES[paths] if "jpg" in name or name == "a.png"]
    assert named_in_full(found) == longer


def test_subfolders_are_kept():
    paths = ("in/a.jpg", "in/x/a.jpg", "in/x/a.png", "in/y/b.jpg")
    assert names_of(*paths, folders=["", "x", "x", "y"]) == ["a", "x/a.jpg", "x/a.png", "y/b"]
    # Those of two folders that were named may be called the same.
    paths = ("p/x/a.jpg", "q/x/a.jpg")
    assert names_of(*paths, folders=["x", "x"]) == ["p/x/a.jpg", "q/x/a.jpg"]


def test_where_upper_and_lower_case_are_one(monkeypatch):
    assert names_of("A.jpg", "a.png") == ["A", "a"]
    monkeypatch.setattr(module, "ignores_case", lambda _: True)  # as this disk may not
    assert names_of("A.jpg", "a.png") == ["A.jpg", "a.png"]
    assert names_of("A.Person.jpg", "a.png") == ["A.Person.jpg", "a"]
    # Photos from a disk that tells them apart; "a.jpg-2" is somebody's.
    found = names_of("x/a.JPG", "x/a.jpg", "x/a.jpg-2.png")
    assert found == ["a.JPG", "a.jpg-3", "a.jpg-2"]


def test_names_of_classes_as_parts_of_file_names():
    assert all(slug(name) == name for name in VOC_CLASSES)
    assert slug("TV/monitor, Potted Plant ") == "tv-monitor-potted-plant"
