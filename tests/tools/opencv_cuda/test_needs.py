"""tools/opencv_cuda/needs.py: what is lacking, with programs that pretend."""

import os
from argparse import Namespace

import pytest


@pytest.fixture
def needs(tool):
    return tool("opencv_cuda/needs")


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Put a shell script first on PATH; its path."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)

    def make(name: str, script: str) -> str:
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
        return str(folder / name)

    return make


def test_architectures_are_read_and_put_in_order(needs):
    assert needs.parse_architectures("12.0, 8.6,9.0,8.6") == ["8.6", "9.0", "12.0"]
    for wrong in ("", "9", "6.1", "9.0;8.6", "sm_90"):
        with pytest.raises(needs.BuildError, match=r"--arch: CUDA 13.0 makes no code for .* 7.5, "):
            needs.parse_architectures(wrong)


@pytest.mark.parametrize(
    ("script", "found"),
    [
        ("echo 9.0, 580.65.06; echo 8.6, 580.65.06; echo 9.0, 580.65.06", ["8.6", "9.0"]),
        ("echo 6.1, 590.1; echo 12.0, 590.1", ["12.0"]),
        ("echo 9.0, 575.57.08", "driver here is 575; CUDA 13 needs 580 or later: update it, or"),
        (
            "echo 6.1, 580.65.06",
            "the GPU here is of architecture 6.1; CUDA 13.0 makes code for 7.5, ",
        ),
        ("echo No devices were found; exit 6", r"no GPU \(No devices were found\); give --arch"),
        ("exec /nowhere/nvidia-smi 2>/dev/null", r"no GPU \(\); give --arch"),
    ],
)
def test_the_gpus_architecture_is_found(needs, program, script, found):
    program("nvidia-smi", script)
    if isinstance(found, list):
        assert needs.find_architectures() == found
        return
    with pytest.raises(needs.BuildError, match=found):
        needs.find_architectures()


def test_without_a_driver_the_architecture_must_be_given(needs, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(needs.BuildError, match=r"no NVIDIA driver .* give --arch, for instance"):
        needs.find_architectures()


@pytest.mark.parametrize(
    ("system", "machine", "libc", "lack"),
    [
        ("Linux", "x86_64", ("glibc", "2.27"), None),
        ("Linux", "aarch64", ("glibc", "2.39"), None),
        ("Linux", "x86_64", ("glibc", "2.17"), "has glibc 2.17; glibc 2.27 or later"),
        ("Linux", "x86_64", ("", ""), "no glibc (musl?)"),
        ("Linux", "ppc64le", ("glibc", "2.39"), "Linux on ppc64le"),
        ("Windows", "AMD64", ("", ""), "WSL 2"),
    ],
)
def test_systems(needs, system, machine, libc, lack):
    found = needs.system_lack(system, machine, libc)
    assert found == lack or lack in found


def test_pythons(needs, tmp_path):
    (tmp_path / "Python.h").touch()
    assert needs.python_lack((3, 11), str(tmp_path)) is None
    assert "no Python.h" in needs.python_lack((3, 11), str(tmp_path / "other"))
    for version in ((3, 9), (3, 15)):
        assert "run it with Python 3.10 to 3.14" in needs.python_lack(version, str(tmp_path))


@pytest.mark.parametrize(
    ("macros", "lack"),
    [
        ("12 __clang_major__", None),
        ("15 __clang_major__", None),
        ("4 18", None),
        (
            "16 __clang_major__",
            "(cxx) is GCC 16; nvcc 13.0 takes GCC 7 to 15: install g++ 7 to 15 and",
        ),
        ("4 __clang_major__", "is GCC 4;"),
        ("4 21", "is Clang 21; nvcc 13.0 takes Clang 14 to 20"),
        ("__GNUC__ __clang_major__", "neither GCC nor Clang"),
    ],
)
def test_compilers(needs, program, macros, lack):
    program("cxx", f'case "$*" in *-E*) echo "{macros}";; esac')
    found = needs.compiler_lack("cxx", "c++", "CXX")
    assert found == lack or lack in found


def test_compilers_that_are_not_there_or_do_not_work(needs, program):
    assert "no C compiler (nocc): install gcc and g++, or set CC" in needs.compiler_lack(
        "nocc", "c", "CC"
    )
    program("cxx", "exit 1")
    assert "does not compile <string>" in needs.compiler_lack("cxx", "c++", "CXX")


def test_every_lack_is_a_line_of_its_own(needs, monkeypatch, tmp_path):
    monkeypatch.setattr(needs, "free_memory", lambda: 1e9)
    monkeypatch.setattr(needs.shutil, "disk_usage", lambda _: Namespace(free=6e9))
    folder = tmp_path / "with a space"
    with pytest.raises(needs.BuildError) as error:
        needs.require_machine(folder, ("nocc", "nocxx"), begun=False)
    lines = str(error.value).splitlines()
    expected = ["no C compiler", "no C++ compiler", "without spaces", "1.0 GB of memory", "6.0 GB"]
    at = [next(i for i, line in enumerate(lines) if text in line) for text in expected]
    assert at == sorted(set(at))
    assert needs.disk_lack(6e9, 5e9, tmp_path) is None
