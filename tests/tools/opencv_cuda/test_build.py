"""tools/opencv_cuda/build.py without a network, a compiler or a GPU."""

import os
import sys
from argparse import Namespace
from pathlib import Path

import pytest

pytest.importorskip("fcntl", reason="the build is for Linux")


@pytest.fixture
def build(tool):
    return tool("opencv_cuda/build")


@pytest.fixture
def stages_of(tool, tmp_path):
    """Make the Stages of a folder, as each run of the script does."""
    return lambda: tool("opencv_cuda/stages").Stages(tmp_path, 3)


def test_nothing_leads_to_another_cuda(build):
    kept = {"CC": "gcc-14", "HOME": "/h", "PIP_INDEX_URL": "u", "https_proxy": "p", "LANG": "C"}
    dropped = "CUDA_PATH CUDACXX CUDAHOSTCXX NVCC_APPEND_FLAGS CPATH LIBRARY_PATH CXXFLAGS LDFLAGS"
    dropped += (
        " CPLUS_INCLUDE_PATH CMAKE_PREFIX_PATH CMAKE_ARGS PYTHONPATH ENABLE_ROLLING CUDNN_ROOT"
    )
    user = kept | dict.fromkeys(dropped.split(), "/usr/local/cuda") | {"PATH": "/usr/bin"}
    environment = build.build_environment(user, Path("/w/tools/bin"))
    assert environment == kept | {"PATH": "/w/tools/bin:/usr/bin"}


def test_cmakes_options(build):
    options = build.cmake_options(Path("/w/nvidia"), ["8.6", "9.0"])
    values = dict(option[2:].split("=") for option in options)
    assert len(values) == len(options)
    assert (values["CUDA_ARCH_BIN"], values["CUDA_ARCH_PTX"]) == ("8.6,9.0", "")
    assert values["CUDA_TOOLKIT_ROOT_DIR"] == "/w/nvidia/cu13"
    assert values["OPENCV_DNN_CUDA"] == "ON"
    assert values["WITH_IPP"] == "OFF"


def test_a_file_of_another_cuda_is_refused(build):
    own = "CUDA_NVCC_EXECUTABLE:FILEPATH=/w/tools/nvcc\nCUDA_rt_LIBRARY:FILEPATH=/usr/lib/librt.a\n"
    own += "CUDA_HOST_COMPILER:FILEPATH=/usr/bin/cc\nCUDA_CUDA_LIBRARY:FILEPATH=NOTFOUND\n"
    build.require_own_toolkit(own, Path("/w"))
    other = own + "CUDA_cublas_LIBRARY:FILEPATH=/usr/local/cuda/lib64/libcublas.so\n"
    with pytest.raises(build.BuildError, match=r"CUDA_cublas_LIBRARY .* /usr/local/cuda/lib64"):
        build.require_own_toolkit(other, Path("/w"))


def test_links(build, tmp_path):
    for name in ("cu13/lib/libcublas.so.13", "cu13/lib/libnppc.so.13", "cudnn/lib/libcudnn.so.9"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    for _ in range(2):
        build.link_libraries(tmp_path)
    assert (tmp_path / "cu13/lib64/libcublas.so").read_text() == "cu13/lib/libcublas.so.13"
    links = [path for path in tmp_path.rglob("*") if path.is_symlink()]
    assert sorted(path.name for path in links if path.parent.name == "lib") == [
        "libcublas.so",
        "libcudnn.so",
        "libnppc.so",
    ]
    assert all(not os.path.isabs(os.readlink(link)) for link in links)


def test_ninjas_lines_are_progress_and_a_missing_cuda_stops_early(build, stages_of, tmp_path):
    stages, shown = stages_of(), []
    stages.progress = shown.append
    watch = build.Build(tmp_path, stages, ("gcc", "g++"))._watch
    cache = tmp_path / "source/opencv/_skbuild/linux/cmake-build/CMakeCache.txt"
    cache.parent.mkdir(parents=True)
    cache.write_text("CUDA_NVCC_EXECUTABLE:FILEPATH=/usr/local/cuda/bin/nvcc\n")
    watch("--   NVIDIA CUDA:                   YES (ver 13.0, CUBLAS)")
    watch("[361/722] Building CXX object modules/core/a.o")
    assert shown[1] == "50% (361 of 722)"
    with pytest.raises(build.BuildError, match="CUDA_NVCC_EXECUTABLE from another CUDA"):
        watch("[1/722] Building C object a.o")
    with pytest.raises(build.BuildError, match=r"'cuDNN: NO'; why is in .*log.txt"):
        watch("--   cuDNN:                         NO")


def test_a_stopped_build_goes_on_with_the_stage_that_was_stopped(build, monkeypatch, tmp_path):
    done = []

    def stage(name: str):
        def work(build, *_):
            done.append(name)
            getattr(build, name).mkdir(exist_ok=True)
            if done.count("built") == 1 == done[::-1].index("built") + 1:
                raise KeyboardInterrupt
            (build.work / name / "raw.whl").touch()

        return work

    for method, name in (
        ("install_tools", "tools"),
        ("fetch_source", "source"),
        ("compile", "built"),
    ):
        monkeypatch.setattr(build.Build, method, stage(name))
    monkeypatch.setattr(build, "require_machine", lambda *_: None)
    monkeypatch.setattr(build, "finish", lambda _, raw, *__: raw)
    work = tmp_path / "work"
    given = Namespace(work=work, out=tmp_path, finish=None, arch="9.0", jobs=2)
    with pytest.raises(KeyboardInterrupt):
        build.make_wheel(given)
    assert build.make_wheel(given) == build.make_wheel(given) == work / "built/raw.whl"
    assert done == ["tools", "source", "built", "built"]
    given.arch = "8.6"
    build.make_wheel(given)
    assert done[4:] == ["built"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--arch", "3.5"], "error: --arch: CUDA 13.0 makes no code for '3.5'"),
        (["--finish", "no.whl"], "error: no.whl: no such file; expected a wheel of OpenCV"),
        (["--work", "/dev/null/x"], "error: /dev/null/x: cannot be made: "),
        (["--jobs", "0"], "--jobs: 0: expected 1 or more"),
    ],
)
def test_bad_arguments(build, monkeypatch, tmp_path, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["build.py", *arguments])
    try:
        status = build.main()
    except SystemExit as error:
        status = error.code
    assert status == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_the_wheel_appears_after_its_trial(build, monkeypatch, tmp_path, capsys):
    raw, out = tmp_path / "raw.whl", tmp_path / "out"
    raw.touch()
    tried = []

    def finish(given, folder, patchelf, strip):
        assert (given, patchelf, strip) == (raw, "patchelf", "strip")
        (folder / "finished.whl").write_text("a wheel")

    def environment(_, folder, requirements):
        assert list(out.iterdir()) == []
        tried.extend(requirements)
        (folder / "bin").mkdir(parents=True)
        (folder / "bin/python").symlink_to("/bin/echo")

    monkeypatch.setattr(build, "finish_wheel", finish)
    monkeypatch.setattr(build, "make_environment", environment)
    given = ["--finish", str(raw), "--out", str(out), "--work", str(tmp_path / "work")]
    monkeypatch.setattr(sys, "argv", ["build.py", *given])
    assert build.main() == 0
    assert tried == [str(tmp_path / "work/finished/finished.whl")]
    (wheel,) = out.iterdir()
    assert wheel.read_text() == "a wheel"
    first, uninstall, install = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{wheel} (0 MB). To install it")
    assert uninstall.startswith(
        "pip uninstall --yes opencv-python opencv-python-headless opencv-con"
    )
    assert install == f"pip install {wheel}"
