"""Which files count as this tool's own."""

import io
import json
import os

import numpy as np
import pytest
from PIL import Image

from deeplab_repro.caffe import read_net, write_caffemodel, write_prototxt
from deeplab_repro.convert.npz import write_npz
from deeplab_repro.convert.onnx import write_onnx
from deeplab_repro.files.marks import NOTE, made_here, write_noted
from deeplab_repro.files.mat import write_mat
from deeplab_repro.files.npy import write_npy
from deeplab_repro.files.pictures import write_image, write_labels
from deeplab_repro.files.whole import write_atomically
from deeplab_repro.show import webpage
from deeplab_repro.show.plot import new_figure, write_figure
from tests.conftest import smooth_photo

ARRAY = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


def with_file(write, *arguments):
    def run(path):
        with write_atomically(path) as file:
            write(file, *arguments)

    return run


def plot(path):
    pytest.importorskip("matplotlib")
    write_figure(path, new_figure(1, 1))


WRITERS = {
    "a.png": lambda path: write_labels(path, np.zeros((3, 4), np.uint8)),
    "a.jpg": lambda path: write_image(path, smooth_photo()),
    "b.png": plot,
    "b.pdf": plot,
    "a.npy": with_file(write_npy, ARRAY),
    "a.mat": with_file(write_mat, "data", ARRAY),
    "a.html": with_file(lambda file: file.write(webpage.page("a title", "a body"))),
    "a.csv": lambda path: write_noted(path, b"a,b\n"),
}
OF_NETS = {
    "a.npz": write_npz,
    "a.onnx": write_onnx,
    "a.prototxt": write_prototxt,
    "a.caffemodel": lambda net, path: write_caffemodel(net, path, marked=True),
    "a": lambda net, path: write_caffemodel(net, path, current=True, marked=True),
}


@pytest.mark.parametrize("name", WRITERS)
def test_what_this_tool_wrote(tmp_path, name):
    WRITERS[name](tmp_path / name)
    assert made_here(tmp_path / name)
    (tmp_path / "link").symlink_to(tmp_path / name)
    assert made_here(tmp_path / "link") == (name != "a.csv")  # its note is by its own name


@pytest.mark.parametrize("name", OF_NETS)
def test_nets_that_this_tool_wrote(tiny, name):
    net = read_net(tiny)
    net.fill_random(0)
    path = tiny.with_name(name)
    OF_NETS[name](net, path)
    assert made_here(path)
    if name in ("a.prototxt", "a.caffemodel"):
        path.write_bytes(path.read_bytes() + b"\n")  # text that was changed; a mark not at the end
        assert not made_here(path)


def saved(save, *arguments, **options) -> bytes:
    file = io.BytesIO()
    save(file, *arguments, **options)
    return file.getvalue()


PICTURE = Image.fromarray(smooth_photo())
OTHERS = {
    "png": saved(PICTURE.save, "PNG"),
    "jpeg": saved(PICTURE.save, "JPEG"),
    "npy": saved(np.save, ARRAY),
    "npz": saved(np.savez, array=ARRAY),
    "html": b"<!DOCTYPE html><title>of deeplab-repro 0.1.0</title>",
    "text": b"made of what deeplab-repro 0.1.0\nwrote with deeplab-repro 0.1.0",
    "empty": b"",
}


@pytest.mark.parametrize("kind", OTHERS)
def test_what_others_wrote(tmp_path, kind):
    (tmp_path / "a").write_bytes(OTHERS[kind])
    assert not made_here(tmp_path / "a")


def test_a_picture_that_another_program_saved_again(tmp_path):
    path = tmp_path / "a.png"
    write_labels(path, np.zeros((3, 4), np.uint8))
    with Image.open(path) as picture:
        picture.load()
    picture.save(path)
    assert not made_here(path)


def test_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "none", tmp_path / "pipe", tmp_path / "a\0b"):
        assert not made_here(path)


def test_a_table_that_was_changed_or_is_gone(tmp_path):
    path = tmp_path / "a.csv"
    write_noted(path, b"a,b\n")
    write_noted(path, b"a,c\n")
    assert made_here(path)
    path.write_bytes(b"a,c,mine\n")
    assert not made_here(path)
    path.unlink()
    assert not made_here(path)


def test_stopped_between_the_note_and_the_table(tmp_path, monkeypatch):
    path = tmp_path / "a.csv"
    write_noted(path, b"old")
    replace = os.replace

    def stop(source, target):
        if os.path.basename(target) == "a.csv":
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        write_noted(path, b"new")
    assert path.read_bytes() == b"old"
    assert made_here(path)


@pytest.mark.parametrize(
    "note", ["mine", "[1]", '{"files": 3}', '{"files": {"a": 3}}', "[" * 10**5]
)
def test_a_note_of_anothers_stays(tmp_path, note):
    (tmp_path / NOTE).write_text(note)
    write_noted(tmp_path / "a", b"table")
    assert (tmp_path / NOTE).read_text() == note
    assert (tmp_path / "a").read_bytes() == b"table"
    assert not made_here(tmp_path / "a")


def test_the_note_says_who_wrote_it(tmp_path):
    write_noted(tmp_path / "a", b"1")
    write_noted(tmp_path / "b", b"2")
    note = json.loads((tmp_path / NOTE).read_bytes())
    assert note["made_by"].startswith("deeplab-repro ")
    assert {name: len(digests) for name, digests in note["files"].items()} == {"a": 1, "b": 1}
