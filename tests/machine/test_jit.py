import importlib.util

import pytest

from deeplab_repro.machine import jit


@pytest.fixture(autouse=True)
def untold(monkeypatch):
    """As in a new process."""
    monkeypatch.setattr(jit._teller, "is_kept", True)
    monkeypatch.setattr(jit._teller, "has_told", False)


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
