import importlib.util
import os
import subprocess
import sys

import pytest

from deeplab_repro.machine import jit


@pytest.fixture(autouse=True)
def untold(monkeypatch):
    """As in a new process."""
    monkeypatch.setattr(jit._teller, "is_kept", True)
    monkeypatch.setattr(jit._teller, "has_told", False)
    monkeypatch.setattr(jit, "_told", set())


def load(path, name="deeplab_repro.example"):
    """Two functions of a module on disk, or where nothing can be kept."""
    source = "def twice(x):\n    return 2 * x\n\n\ndef thrice(x):\n    return 3 * x\n"
    path.write_text(source)
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return jit.jit(module.twice), jit.jit(module.thrice)


def test_compiling_is_told_once_and_only_when_it_is_done(tmp_path, caplog, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", "")
    twice, thrice = load(tmp_path / "example.py", "deeplab_repro.crf.example")
    assert (twice(21), thrice(14)) == (42, 42)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "`deeplab-repro doctor --compile` does it ahead" in caplog.text
    caplog.clear()
    again = load(tmp_path / "example.py", "deeplab_repro.crf.example")
    assert again[0](21) == 42  # from the disk
    assert not caplog.records


def test_what_doctor_does_not_compile_is_not_promised(tmp_path, caplog, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", "")
    assert load(tmp_path / "example.py", "deeplab_repro.train.example")[0](21) == 42
    assert "kept for later runs" in caplog.text
    assert "doctor" not in caplog.text


def test_others_functions_are_not_told(tmp_path, caplog):
    assert load(tmp_path / "example.py", "somebody.example")[0](21) == 42
    assert not caplog.records


def test_a_function_that_cannot_be_kept_still_runs(caplog):
    namespace = {"__name__": "deeplab_repro.example"}
    exec(compile("def twice(x):\n    return 2 * x", "<no such file>", "exec"), namespace)
    assert jit.jit(namespace["twice"])(21) == 42
    assert "in every run" in caplog.text
    assert "set NUMBA_CACHE_DIR to one that can be written" in caplog.text


@pytest.fixture
def kept(tmp_path, monkeypatch, caplog):
    """What another process has kept of a function that was compiled: its one file."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", "")
    assert load(tmp_path / "example.py")[0](21) == 42
    [file] = (tmp_path / "__pycache__").glob("*.nbc")
    monkeypatch.setattr(jit._teller, "has_told", False)
    caplog.clear()
    return file


def cut(file):
    file.write_bytes(file.read_bytes()[:1000])


def change_a_bit(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1  # inside the machine code
    file.write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(bytes(999)),
        cut,
        change_a_bit,
    ],
    ids=["empty", "zeros", "cut", "one bit"],
)
def test_a_damaged_file_is_told_and_replaced(kept, tmp_path, caplog, damage):
    good = kept.read_bytes()
    damage(kept)
    assert load(tmp_path / "example.py")[0](21) == 42
    assert f"{kept}: compiled code was kept here, and is compiled again (it is da" in caplog.text
    assert len(kept.read_bytes()) == pytest.approx(len(good), rel=0.01)
    caplog.clear()
    assert load(tmp_path / "example.py")[0](21) == 42
    assert not caplog.records


def test_a_folder_in_the_place_of_a_file(kept, tmp_path, caplog):
    kept.unlink()
    kept.mkdir()
    assert load(tmp_path / "example.py")[0](21) == 42
    again, _, lost = caplog.messages
    assert again.startswith(f"{kept}: ")
    assert lost.startswith(f"{kept.parent}: compiled code cannot be kept here")
    assert list(kept.parent.iterdir()) == [kept]


def test_a_disk_without_room(tmp_path, caplog, monkeypatch):
    """Said once, whatever the number of functions."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", "")
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    twice, thrice = load(tmp_path / "example.py")
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        assert (twice(21), thrice(14)) == (42, 42)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    _, lost = caplog.messages
    folder = tmp_path / "__pycache__"
    assert lost.startswith(f"{folder}: compiled code cannot be kept here")
    assert "set NUMBA_CACHE_DIR to another folder (File too large)" in lost
    assert list(folder.glob("*.nb*")) == []


@pytest.mark.usefixtures("kept")
def test_code_of_another_version_is_compiled_again_in_silence(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(jit.numba, "__version__", "0.1")
    assert load(tmp_path / "example.py")[0](21) == 42
    [told] = caplog.messages
    assert "kept for later runs" in told


def test_what_a_function_calls_is_compiled_anew_where_it_has_changed(kept, tmp_path, caplog):
    (tmp_path / "called.py").write_text("def half(x):\n    return x / 2\n")
    jit.stamp_of.cache_clear()
    assert load(tmp_path / "example.py")[0](21) == 42
    assert "compiling for this computer" in caplog.text
    assert list(kept.parent.glob("*.nbc")) == [kept]  # in the place of the old


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("NUMBA_NUM_THREADS=0", "unset NUMBA_NUM_THREADS=0, or set it to 1 or more"),
        ("NUMBA_NUM_THREADS=-1", "unset NUMBA_NUM_THREADS=-1, or set it to 1 or more"),
        ("NUMBA_DISABLE_JIT=1", "runs only when compiled: unset it"),
    ],
)
def test_settings_of_numba_that_it_cannot_work_with(setting, expected):
    """Whichever file of the CRF is imported first."""
    name, value = setting.split("=")
    script = "import deeplab_repro.crf.cpu.vectors"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, name: value},
        capture_output=True,
        text=True,
    )
    last = done.stderr.splitlines()[-1]
    assert last.startswith("deeplab_repro.errors.DeviceError: ")
    assert last.endswith(expected)
