"""What every command has in common: help without waiting, one-line errors, exit statuses."""

import importlib
import os
import signal
import subprocess
import sys

import pytest

from deeplab_repro.cli import COMMANDS, descriptions, main
from deeplab_repro.errors import one_line


def shell(script, cwd, **environment):
    """Run a shell script in which $D stands for the command: the finished process."""
    env = {**os.environ, "D": f"{sys.executable} -m deeplab_repro", **environment}
    return subprocess.run(["bash", "-c", script], cwd=cwd, env=env, capture_output=True, text=True)


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["segment", "--help"], ["crf", "--help"]]
)
def test_help_loads_none_of_the_heavy_packages(tmp_path, arguments):
    script = """
import sys
from deeplab_repro.cli import main
try:
    main(sys.argv[1:])
except SystemExit as error:
    assert error.code == 0
heavy = {"numpy", "cv2", "numba", "google.protobuf", "rich", "PIL", "scipy"} & set(sys.modules)
assert not heavy, heavy
"""
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "deeplab-repro" in done.stdout
    assert done.stderr == ""


def test_help_names_every_command(command):
    status, out, err = command("--help")
    assert status == 0
    assert err == ""
    for name in (
        *("demo", "segment", "crf", "tune", "predict", "evaluate", "crossval", "paper"),
        *("models", "fetch", "convert", "inspect", "init", "train", "toyvoc", "doctor", "bench"),
    ):
        assert name in out
        status, help_text, _ = command(name, "--help")
        assert status == 0
        assert f"deeplab-repro {name}" in help_text
    assert len(COMMANDS) == 17


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "COMMAND"),
        (["xyz"], "invalid choice: 'xyz', expected one of demo, segment, "),
        (["inspect"], "FILE"),
        (["inspect", "--colour", "x"], "--colour"),
        (["segment"], "IMAGE"),
        (["crf"], "IMAGE"),
        (["inspect", "nowhere\nelse"], r"nowhere\nelse: no such file, and there is no model"),
        (["inspect", "a", "--set", "a\nb"], r"'a\nb' is not KEY=VALUE"),
    ],
)
def test_misuse_is_one_line(refused, arguments, expected):
    assert expected in refused(*arguments)


@pytest.mark.parametrize(
    "arguments", [("--out", ""), ("--out=",), ("", "--out", "a"), ("--model", "", "--out", "a")]
)
def test_no_argument_is_empty(refused, tmp_path, monkeypatch, arguments):
    """As of a shell variable that is not set: --out would be the current folder."""
    monkeypatch.chdir(tmp_path)
    told = refused("segment", "a.png", *arguments)
    assert "is empty: is it a shell variable without a value?" in told
    assert ("--out" in told) == (len(arguments) < 3)
    assert os.listdir() == []


@pytest.mark.parametrize(
    ("error", "status", "expected"),
    [
        (MemoryError(), 2, "error: this command ran out of memory: use a smaller image"),
        (RuntimeError("can't start new thread"), 2, "error: this command could not start threads"),
        (OSError("Could not find/load shared object file"), 2, "error: Could not find/load"),
        (ImportError("libGL.so.1: cannot open"), 2, "error: libGL.so.1: cannot open: install it"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (PermissionError(13, "Permission denied", "x.png"), 2, "error: x.png: Permission denied"),
    ],
)
def test_errors_of_others(command, monkeypatch, tiny, error, status, expected):
    def fail(_):
        raise error

    monkeypatch.setattr(descriptions, "describe_net", fail)
    found, out, err = command("inspect", tiny)
    assert (found, out) == (status, "")
    assert err.startswith(f"deeplab-repro: {expected}")
    assert err.count("\n") == 1


def test_a_package_that_breaks_while_it_is_imported(command, monkeypatch, tiny, tmp_path):
    (tmp_path / "halfling.py").write_text("import sys\nsys.nothing")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(descriptions, "describe_net", lambda _: importlib.import_module("halfling"))
    status, out, err = command("inspect", tiny)
    assert (status, out) == (2, "")
    assert err == (
        "deeplab-repro: error: halfling does not import: module 'sys' has no attribute 'nothing': "
        "pip install --force-reinstall halfling\n"
    )


def test_a_bug_is_not_hidden(monkeypatch, tiny):
    monkeypatch.setattr(descriptions, "describe_net", lambda _: {}["nothing"])
    with pytest.raises(KeyError):
        main(["inspect", str(tiny)])


def test_one_line():
    assert one_line("a\nb\x1b[31m\udcff é") == r"a\nb\x1b[31m\udcff é"


def test_a_reader_that_leaves(tiny):
    # A table longer than a pipe holds.
    layer = 'layers { name: "relu" type: RELU bottom: "conv" top: "conv" }\n'
    tiny.write_text(tiny.read_text() + layer * 3000)
    done = shell("$D inspect --json tiny.prototxt | head -1; exit ${PIPESTATUS[0]}", tiny.parent)
    assert done.returncode == 141
    assert done.stdout == "{\n"
    assert done.stderr == ""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_output_that_cannot_be_written(tiny):
    done = shell("$D inspect --json tiny.prototxt > /dev/full", tiny.parent)
    assert done.returncode == 2
    assert done.stderr == "deeplab-repro: error: the standard output: No space left on device\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_messages_that_cannot_be_written(tiny):
    done = shell("$D inspect --json nowhere 2> /dev/full; echo $?", tiny.parent)
    assert done.stdout == "2\n"


def test_a_current_directory_that_is_gone(tiny, tmp_path):
    command = f"mkdir gone && cd gone && rmdir ../gone && $D crf {tiny} --probs a.npy --out b.png"
    done = shell(command, tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "standard output" not in done.stderr


def test_closed_output(tiny):
    done = shell("$D inspect --json tiny.prototxt >&-", tiny.parent)
    assert done.returncode == 0
    assert done.stderr == ""


@pytest.mark.skipif(sys.platform != "linux", reason="the size of libraries is Linux's")
@pytest.mark.parametrize("kilobytes", [150_000, 300_000])
def test_little_memory(tiny, photo, kilobytes):
    """Too little for a library, and for the net; whichever comes first."""
    from deeplab_repro.files.pictures import write_image

    write_image(tiny.parent / "a.png", photo(900, 900))
    segment = "$D segment a.png --prototxt tiny.prototxt --weights random:0 --crf 4,121,5"
    done = shell(f"ulimit -v {kilobytes}; {segment}", tiny.parent)
    assert (done.returncode, done.stdout) == (2, "")
    lines = done.stderr.splitlines()
    assert all(line.startswith("deeplab-repro: ") for line in lines)
    assert "memory" in lines[-1]


def test_names_in_another_encoding(tiny, photo):
    from deeplab_repro.files.pictures import write_image

    write_image(tiny.parent / "é\udcff.png", photo(9, 9))
    segment = "$D segment *.png --prototxt tiny.prototxt --weights random:0 --no-crf --out ö"
    done = shell(segment, tiny.parent, LC_ALL="C", PYTHONCOERCECLOCALE="0", PYTHONUTF8="0")
    assert done.returncode == 0, done.stderr
    assert "9x9" in done.stdout
    assert os.listdir(tiny.parent / "ö") == ["é\udcff.png"]


@pytest.mark.parametrize(
    ("sent", "status", "told"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
def test_interrupted_from_outside(tiny, photo, sent, status, told):
    from deeplab_repro.files.images import read_labels
    from deeplab_repro.files.pictures import write_image

    names = [f"{number}.png" for number in range(200)]
    write_image(tiny.parent / names[0], photo(300, 300))
    for name in names[1:]:
        os.link(tiny.parent / names[0], tiny.parent / name)
    arguments = [*names, "--prototxt", "tiny.prototxt", "--weights", "random:0", "--no-crf"]
    process = subprocess.Popen(
        [sys.executable, "-m", "deeplab_repro", "segment", *arguments],
        cwd=tiny.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdout.readline()  # the first picture is done
    process.send_signal(sent)
    _, err = process.communicate(timeout=60)
    assert process.returncode == status
    assert err == f"deeplab-repro: {told}\n"
    written = sorted((tiny.parent / "out").iterdir())
    assert 1 <= len(written) < 200
    for path in written:
        assert read_labels(path).shape == (300, 300)
