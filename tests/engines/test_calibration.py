"""What is kept of the engines' speed, and what becomes of a file that is not ours or damaged."""

import json
from dataclasses import replace

import cv2
import pytest

from deeplab_repro.caffe import read_net
from deeplab_repro.engines import calibration
from deeplab_repro.engines.calibration import find, keep, on_this_machine, size_class

SECONDS = {"OpenCV 5.0": 1.0, "onnxruntime 1.32": 2.0, "OpenVINO 2026.4": None}


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPLAB_REPRO_HOME", str(tmp_path / "a/b"))
    return tmp_path / "a/b"


@pytest.fixture
def net(tiny):
    return read_net(tiny)


def test_classes_of_sizes():
    sizes = ((321, 321), (513, 513), (577, 769), (769, 1025))
    assert [size_class((1, 3, *size)) for size in sizes] == [17, 18, 19, 20]
    assert size_class((4, 3, 513, 513)) == 20


def test_what_is_kept_is_found(home, net, monkeypatch):
    kept = keep(net, 18, cv2.getNumThreads(), SECONDS)
    keep(net, 21, cv2.getNumThreads(), SECONDS | {"OpenCV 5.0": 3.0})
    assert find(net, 18, SECONDS) == find(net, 5, SECONDS) == kept
    assert find(net, 20, SECONDS).seconds["OpenCV 5.0"] == 3.0
    # Not for another net, other versions, other engines, other threads or another processor.
    assert find(replace(net, layers=net.layers[:2]), 18, SECONDS) is None
    assert find(net, 18, ["OpenCV 5.1", *list(SECONDS)[1:]]) is None
    assert find(net, 18, list(SECONDS)[:2]) is None
    monkeypatch.setattr(cv2, "getNumThreads", lambda: 77)
    assert find(net, 18, SECONDS) is None
    monkeypatch.setattr(calibration, "cpu_name", lambda: "another")
    assert on_this_machine() == []
    assert [path.name for path in home.iterdir()] == ["engines.json"]


@pytest.mark.usefixtures("home")
def test_the_last_of_one_kind_counts_and_the_file_stays_small(net, monkeypatch):
    monkeypatch.setattr(calibration, "_MOST_KEPT", 3)
    for number in range(5):
        keep(net, 18, cv2.getNumThreads(), SECONDS | {"OpenCV 5.0": 1.0 + number})
    assert [each.seconds["OpenCV 5.0"] for each in on_this_machine()] == [5.0]
    for size in range(5):
        keep(net, size, cv2.getNumThreads(), SECONDS)
    assert [each.size for each in on_this_machine()] == [2, 3, 4]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[",
        "\x00\xff",
        "[" * 100000,
        "{}",
        '"text"',
        "[1, null, {}]",
        '[{"cpu": 1}]',
        "NaN",
    ],
)
def test_a_damaged_file_is_none(home, net, content):
    home.mkdir(parents=True)
    (home / "engines.json").write_text(content)
    assert find(net, 18, SECONDS) is None
    kept = keep(net, 18, cv2.getNumThreads(), SECONDS)
    assert on_this_machine() == [kept]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seconds", {"a": -1.0}),
        ("seconds", {"a": "1"}),
        ("seconds", {"a": None}),
        ("seconds", {"a": True}),
        ("seconds", {}),
        ("seconds", [1.0]),
        ("seconds", {"a": float("nan")}),
        ("seconds", {"a\x1b[2J": 1.0}),
        ("net", "a\nproblem: b"),
        ("net", 5),
        ("size", 1.5),
        ("size", True),
        ("threads", "2"),
        ("more", 1),
    ],
)
def test_an_entry_that_is_none_of_ours(home, net, field, value):
    kept = keep(net, 18, cv2.getNumThreads(), SECONDS)
    path = home / "engines.json"
    (entry,) = json.loads(path.read_text())
    path.write_text(json.dumps([entry | {field: value}, entry]))
    assert on_this_machine() == [kept]


def test_nowhere_to_keep_it(home, net, monkeypatch):
    home.parent.write_text("no folder")
    assert keep(net, 18, cv2.getNumThreads(), SECONDS).seconds == SECONDS
    assert on_this_machine() == []
    monkeypatch.setattr(calibration, "cache_folder", lambda: None)
    assert keep(net, 18, cv2.getNumThreads(), SECONDS).seconds == SECONDS
    assert on_this_machine() == []
