"""Which files are meant by names, folders and patterns, and what is passed over."""

import os
from pathlib import Path

import pytest

from deeplab_repro.errors import FileError
from deeplab_repro.files import images
from deeplab_repro.files.images import read_image
from deeplab_repro.files.pictures import overlay, write_cutout, write_image, write_labels
from deeplab_repro.jobs.finding import find_photos
from deeplab_repro.models.registry import VOC_CLASSES
from deeplab_repro.show.photo_page import LabelledPhoto, PhotoPage
from tests.conftest import not_root


def found(names):
    """The photos without their folders."""
    return list(find_photos(names).folders)


def test_files_in_the_order_given_and_folders_sorted(pictures):
    b, a, z, y = pictures("b.png", "a.png", "in/z.jpg", "in/y.PNG")
    (Path("in") / "notes.txt").write_text("no picture")
    (Path("in") / "folder.png").mkdir()
    (Path("in") / ".hidden.png").touch()
    assert found(["b.png", "in", "a.png"]) == [b, y, z, a]
    assert found([b, Path("in")]) == [b, y, z]


def test_patterns(pictures):
    a, b, deep = pictures("a1.png", "a2.png", "x/y/a3.png")
    Path("a_folder").mkdir()
    assert found(["a*"]) == [a, b]
    assert found(["**/*.png"]) == [a, b, deep]
    assert found(["a[2-9].png"]) == [b]
    with pytest.raises(FileError, match=r"b\*: no file matches this pattern"):
        found(["b*"])


def test_brackets_and_stars_in_names_that_exist(pictures):
    wanted = pictures("a[1].png", "b*.png", "d[1]/c.png")
    pictures("a1.png", "bb.png", "d1/c.png")
    assert found(["a[1].png", "b*.png", "d[1]"]) == wanted


def test_a_file_named_twice_comes_once(pictures, tmp_path):
    a, b = pictures("a.png", "b.png")
    names = ["a.png", "./a.png", tmp_path / "a.png", "*.png", "."]
    assert found(names) == [a, b]
    # A link of another name is another picture.
    os.symlink("a.png", "c.png")
    assert found(["a.png", "c.png"]) == [a, Path("c.png")]


def test_names_with_line_breaks_and_stray_bytes(pictures):
    (path,) = pictures("a\nb.png")
    assert found(["a\nb.png"]) == [path]
    for name in ("x\ny.png", "x\ny*", "stray\udcff.png"):
        with pytest.raises(FileError) as error:
            found([name])
        assert str(error.value).isprintable()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nowhere.png", "no such file"),
        ("empty.png", "is empty"),
        ("bare", "holds no readable pictures"),
        ("x" * 300 + ".png", "too long"),
        ("/dev/null", "is a pipe or a device"),
        ("null\0.png", "null"),
    ],
)
def test_names_that_stand_for_nothing(tmp_path, monkeypatch, name, expected):
    monkeypatch.chdir(tmp_path)
    Path("empty.png").touch()
    Path("bare").mkdir()
    with pytest.raises(FileError) as error:
        found([name])
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


# --- what is passed over in folders


def test_what_is_skipped_is_counted_by_reason(pictures, monkeypatch):
    monkeypatch.setattr(images, "_reads", lambda _: False)
    *_, odd = pictures("in/a.jpg", "in/-b c.png", "in/d.jpeg")
    (wanted,) = pictures("elsewhere.png")
    odd.rename("in/d.JFIF")
    os.symlink("../elsewhere.png", "in/link.png")
    os.symlink("nowhere.png", "in/dangling.png")
    os.mkfifo("in/pipe.jpg")
    os.mkfifo("in/pipe")
    Path("in/folder.jpg").mkdir()
    for name in ("notes.txt", "README", "a.heic", "b.HEIF", "c.avif", ".hidden.txt"):
        Path("in", name).write_text("no picture")
    Path("in/empty.jpg").touch()  # told when it is read: it is called a picture
    everything = find_photos(["in"])
    names = ["-b c.png", "a.jpg", "d.JFIF", "empty.jpg", "link.png"]
    assert [path.name for path in everything.folders] == names
    assert everything.skipped == {
        "not named as a picture": 3,
        "HEIC (pip install pillow-heif)": 2,
        'AVIF (pip install "pillow>=11.3")': 1,
        "broken link": 1,
        "pipe or device": 1,
    }
    assert find_photos(["in/*"]).skipped == {"broken link": 1, "pipe or device": 2}
    assert find_photos([wanted]).skipped == {}


def test_a_folder_without_readable_pictures_says_what_is_there(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "_reads", lambda _: False)
    (tmp_path / "a.heic").write_text("any")
    message = r"no readable pictures \(HEIC \(pip install pillow-heif\): 1\), expected .bmp or"
    with pytest.raises(FileError, match=message):
        found([tmp_path])


def test_results_are_no_photos(pictures, photo):
    (a,) = pictures("a.jpg")
    labels = photo(20, 30)[..., 0] // 64
    write_labels("a.png", labels)
    write_image("a.overlay.jpg", overlay(photo(20, 30), labels))
    write_cutout("a.person.png", photo(20, 30), labels == 1)
    PhotoPage(Path(), VOC_CLASSES).add(LabelledPhoto(a, read_image(a), {"net": labels}, {}))
    for folder in ("index.files", os.path.abspath("index.files")):
        with pytest.raises(FileError, match=r"no readable pictures \(result of .*: 2\)"):
            found([folder])
    (drawn,) = pictures("drawn.png")  # by this tool, but a photo
    assert found(["."]) == found(["*"]) == [a, drawn]
    assert find_photos(["."]).skipped == {"result of deeplab-repro": 3}
    assert found(["a.png"]) == [Path("a.png")]  # somebody means it
    with pytest.raises(FileError, match=r"no file matches this pattern \(result of .*: 1\)"):
        found(["*.overlay.jpg"])


# --- subfolders


def test_subfolders_are_gone_through_when_asked(pictures):
    a, b, c = pictures("in/a.png", "in/x/b.png", "in/x/y/c.png")
    pictures("in/.hidden/d.png")
    assert find_photos(["in"]).folders == {a: ""}
    assert find_photos(["in"], recursive=True).folders == {a: "", b: "x", c: "x/y"}
    for names in (["in", "in/x", b], ["./in/x/b.png", "in/x", "in"]):
        everything = find_photos(names, recursive=True)
        assert {str(path): folder for path, folder in everything.folders.items()} == {
            "in/a.png": "",
            "in/x/b.png": "x",
            "in/x/y/c.png": "x/y",
        }
    Path("empty/too").mkdir(parents=True)
    with pytest.raises(FileError, match="empty: holds no readable pictures"):
        find_photos(["empty"], recursive=True)
    with pytest.raises(FileError, match=r": --recursive looks into its subfolders too$"):
        found(["empty"])


def test_links_to_folders_are_followed_once(pictures):
    a, _ = pictures("in/m/a.png", "far/b.png")
    for target, link in (("..", "in/m/up"), (".", "in/m/same"), ("m", "in/a_link"), ("in", "top")):
        os.symlink(target, link)
    os.symlink("../far", "in/far")
    assert find_photos(["in"], recursive=True).folders == {a: "m", Path("in/far/b.png"): "far"}
    assert [str(path) for path in find_photos(["top"], recursive=True).folders] == [
        "top/far/b.png",
        "top/m/a.png",
    ]


def test_folders_that_cannot_be_read(pictures):
    a, _, listed = pictures("in/a.png", "in/locked/b.png", "in/listed/c.png")
    Path().chmod(0o755)
    Path("in/locked").chmod(0)
    Path("in/listed").chmod(0o444)  # its names can be read, and nothing of its files
    with not_root():
        everything = find_photos(["in"], recursive=True)
        assert list(everything.folders) == [a]
        assert [str(failed.error) for failed in everything.unreadable] == [
            f"in/{name}: cannot be read: permission denied" for name in ("listed", "locked")
        ]
        with pytest.raises(FileError, match="in/locked: cannot be read: permission denied"):
            found(["in/locked"])
        assert found(["in/listed/*"]) == [listed]  # told when it is read
    a.unlink()
    with not_root(), pytest.raises(FileError, match="in/listed: cannot be read: permission"):
        find_photos(["in"], recursive=True)
    for name in ("locked", "listed"):
        Path("in", name).chmod(0o700)
