"""What a build of OpenCV with CUDA needs of the machine, and what to do where it lacks something.

Uses only the standard library of Python 3.8: an old Python is one of the lacks.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

GB = 1e9
ARCHITECTURES = [
    *("7.5", "8.0", "8.6", "8.7", "8.8", "8.9", "9.0"),
    *("10.0", "10.3", "11.0", "12.0", "12.1"),
]
"""What nvcc 13.0 makes code for."""
_PYTHONS = ((3, 10), (3, 14))  # ours, and the newest that OpenCV's pyproject.toml has a NumPy for
_GCC = (7, 15)  # CCCL's oldest, and the newest that nvcc 13.0's crt/host_config.h lets pass
_CLANG = (14, 20)
_DRIVER = 580
_GLIBC = (2, 27)  # NVIDIA's packages are tagged manylinux_2_27
_JOB_MEMORY = 1.5 * GB  # 0.8 was the most that a compiler took
_DISK = 8 * GB  # 4.2, and what pip keeps on the way
_DISK_LATER = 3 * GB  # where the packages are downloaded and unpacked already


class BuildError(Exception):
    """Why there will be no wheel: a line for each lack, with the mend."""


def require_machine(work: Path, compilers: tuple[str, str], begun: bool) -> None:
    """Check everything that can be known before the first download.

    work: the folder to build in. compilers: the commands for C and for C++. begun: whether the
    packages are in `work` already. Raises BuildError with a line for each lack.
    """
    lacks = [
        system_lack(platform.system(), platform.machine(), platform.libc_ver()),
        python_lack(sys.version_info[:2], sysconfig.get_path("include")),
        compiler_lack(compilers[0], "c", "CC"),
        compiler_lack(compilers[1], "c++", "CXX"),
        strip_lack(),
        folder_lack(work),
        memory_lack(free_memory()),
        disk_lack(shutil.disk_usage(work).free, _DISK_LATER if begun else _DISK, work),
    ]
    found = [lack for lack in lacks if lack]
    if found:
        raise BuildError("\n".join(found))


def system_lack(system: str, machine: str, libc: tuple[str, str]) -> str | None:
    if system != "Linux" or machine not in ("x86_64", "aarch64"):
        found = f"{system} on {machine}"
        return f"this is {found}; NVIDIA's packages are for Linux on x86_64 and aarch64 (or WSL 2)"
    name, version = libc
    if name != "glibc" or tuple(map(int, version.split(".")[:2])) < _GLIBC:
        found = f"{name} {version}" if name else "no glibc (musl?)"
        oldest = ".".join(map(str, _GLIBC))
        return f"this system has {found}; glibc {oldest} or later is needed: use a newer system"
    return None


def python_lack(version: tuple[int, ...], include: str) -> str | None:
    oldest, newest = (".".join(map(str, each)) for each in _PYTHONS)
    if not _PYTHONS[0] <= version <= _PYTHONS[1]:
        found = ".".join(map(str, version))
        return f"this is Python {found}; run it with Python {oldest} to {newest}"
    if not importlib.util.find_spec("ensurepip"):
        return "this Python makes no virtual environments: install python3-venv"
    if not Path(include, "Python.h").is_file():
        return f"no Python.h in {include}: install python3-dev (or python3-devel)"
    return None


def compiler_lack(command: str, language: str, variable: str) -> str | None:
    """Check one compiler: it is there, it works, and nvcc takes it."""
    name, usual = {"c": ("C", "gcc"), "c++": ("C++", "g++")}[language]
    mend = f"install {usual} {_GCC[0]} to {_GCC[1]} and set {variable} to it"
    if not shutil.which(command):
        return f"no {name} compiler ({command}): install gcc and g++, or set {variable}"
    header = "#include <string>\n" if language == "c++" else "#include <stdlib.h>\n"
    if _compile(command, language, header, "-fsyntax-only") is None:
        return f"the {name} compiler ({command}) does not compile {header.split()[1]}: {mend}"
    macros = _compile(command, language, "__GNUC__ __clang_major__", "-E", "-P") or ""
    found = re.fullmatch(r"(\d+) (\d+|__clang_major__)\s*", macros)
    if not found:
        return f"the {name} compiler ({command}) is neither GCC nor Clang: {mend}"
    is_clang = found[2].isdigit()
    version, (oldest, newest) = (int(found[2]), _CLANG) if is_clang else (int(found[1]), _GCC)
    if not oldest <= version <= newest:
        kind = "Clang" if is_clang else "GCC"
        has = f"the {name} compiler ({command}) is {kind} {version}"
        return f"{has}; nvcc 13.0 takes {kind} {oldest} to {newest}: {mend}"
    return None


def _compile(command: str, language: str, source: str, *options: str) -> str | None:
    done = subprocess.run(
        [command, "-x", language, *options, "-"],
        input=source,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout if done.returncode == 0 else None


def strip_lack() -> str | None:
    return None if shutil.which("strip") else "no strip: install binutils"


def folder_lack(folder: Path) -> str | None:
    if re.fullmatch(r"[\w./+@-]+", str(folder), re.ASCII):
        return None
    return f"{str(folder)!r}: nvcc needs a path of plain letters, without spaces: give --work"


def memory_lack(free: float) -> str | None:
    if free >= _JOB_MEMORY:
        return None
    return (
        f"{free / GB:.1f} GB of memory are free; a compiler needs {_JOB_MEMORY / GB:.1f}: free some"
    )


def disk_lack(free: float, needed: float, folder: Path) -> str | None:
    if free >= needed:
        return None
    have = f"{free / GB:.1f} GB are free at {folder}"
    return f"{have}; the build needs {needed / GB:.0f}: free some, or give --work on another disk"


def free_memory() -> float:
    """Free bytes of memory, within a container's limit."""
    info = Path("/proc/meminfo").read_text()
    available = re.search(r"MemAvailable: +(\d+) kB", info)
    free = int(available[1]) * 1024.0 if available else float("inf")
    group = Path("/sys/fs/cgroup")
    try:
        limit = (group / "memory.max").read_text().strip()
        used = int((group / "memory.current").read_text())
    except (OSError, ValueError):
        return free
    return min(free, int(limit) - used) if limit.isdigit() else free


def default_jobs() -> int:
    """As many compilers as the processors and the memory allow."""
    return max(1, min(len(os.sched_getaffinity(0)), int(free_memory() / _JOB_MEMORY)))


def parse_architectures(text: str) -> list[str]:
    """Read "9.0,8.6". Raises BuildError for one that nvcc 13.0 makes no code for."""
    found = text.replace(" ", "").split(",")
    for each in found:
        if each not in ARCHITECTURES:
            known = ", ".join(ARCHITECTURES)
            raise BuildError(f"--arch: CUDA 13.0 makes no code for {each!r}; it does for {known}")
    return sorted(set(found), key=ARCHITECTURES.index)


def find_architectures() -> list[str]:
    """Ask the driver which architectures the GPUs of this machine have.

    Raises BuildError without a driver for CUDA 13, or a GPU that CUDA 13.0 makes code for.
    """
    mend = "give --arch, for instance --arch 9.0 for an H100 (developer.nvidia.com/cuda-gpus)"
    command = ["nvidia-smi", "--query-gpu=compute_cap,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        raise BuildError(f"no NVIDIA driver answers here (nvidia-smi); {mend}") from None
    gpus = re.findall(r"^(\d+\.\d), (\d+)[.\d]*$", done.stdout, re.MULTILINE)
    if done.returncode or not gpus:
        said = " ".join((done.stdout + done.stderr).split())[:200]
        raise BuildError(f"nvidia-smi finds no GPU ({said}); {mend}")
    driver = int(gpus[0][1])
    if driver < _DRIVER:
        has = f"the NVIDIA driver here is {driver}; CUDA 13 needs {_DRIVER} or later"
        raise BuildError(f"{has}: update it, or give --arch to build for another machine")
    found = sorted({arch for arch, _ in gpus})
    usable = [each for each in found if each in ARCHITECTURES]
    if not usable:
        raise BuildError(
            f"the GPU here is of architecture {', '.join(found)}; CUDA 13.0 makes code for "
            f"{', '.join(ARCHITECTURES)} only: this GPU needs an OpenCV built with another CUDA"
        )
    return parse_architectures(",".join(usable))
