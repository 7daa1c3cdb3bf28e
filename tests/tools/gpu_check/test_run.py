"""tools/gpu_check/run.sh: what comes along, what is run with it, and where results go."""

import os
import shutil
import subprocess

import pytest

from tests.tools.conftest import TOOLS

RUN = "tools/gpu_check/run.sh"

# In place of Python: tells how it was called. smoke.py finds a fault.
PYTHON = """#!/usr/bin/env bash
echo "${PYTHONPATH%%:*} $*" >> "$CALLS"
case "$*" in
*smoke.py*) ls .gpu/golden && exit 1 ;;
*sysconfig*) echo "$PACKAGES" ;;
*opencv | *"pip uninstall"*) exit "$REFUSES" ;;
esac
"""


@pytest.fixture
def repository(tmp_path):
    """A repository with the script, and beside it a wheel and golden outputs."""
    for name in ("golden/nets/a/net", "golden/crf/one.npz", "golden/other/large", "cv2.whl"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    root = tmp_path / "repository"
    (root / RUN).parent.mkdir(parents=True)
    shutil.copy(TOOLS / "gpu_check/run.sh", root / RUN)
    (tmp_path / "python").write_text(PYTHON)
    (tmp_path / "python").chmod(0o755)
    git = ("git", "-c", "user.name=a", "-c", "user.email=a@b")
    for command in (("init", "-q"), ("add", "."), ("commit", "-qm", "all")):
        subprocess.run([*git, *command], cwd=root, check=True)
    return root


@pytest.fixture
def run(repository):
    """Run the script from the folder beside the repository."""

    def run_it(*arguments, packages=repository.parent, refuses=0):
        beside = repository.parent
        (beside / "calls").unlink(missing_ok=True)
        environment = {**os.environ, "PYTHON": "./python", "OUT": "results"}
        environment |= {"CALLS": str(beside / "calls"), "PACKAGES": str(packages)}
        return subprocess.run(
            ["bash", repository / RUN, *arguments],
            cwd=beside,
            env=environment | {"REFUSES": str(refuses)},
            capture_output=True,
            text=True,
        )

    return run_it


def test_what_has_to_come_along_is_packed_and_rehearsed(repository, run):
    assert run("pack", "golden", "cv2.whl").returncode == 0
    packed = sorted(
        path.relative_to(repository / ".gpu").as_posix()
        for path in (repository / ".gpu").rglob("*")
        if path.is_file()
    )
    assert packed == ["cv2.whl", "golden/crf/one.npz", "golden/nets/a/net"]
    again = run("pack", "repository/.gpu/golden", "repository/.gpu/cv2.whl")
    assert again.stdout == "packed .gpu: with the repository 0 of 64 MiB\n"

    (repository / "only_here").touch()  # not committed: a clean clone does not have it
    done = run("rehearse", "full", refuses=1)  # the wheel does not load
    assert done.returncode == 1  # smoke.py's
    assert "goes on with the OpenCV that is installed" in done.stdout
    beside = repository.parent
    assert (beside / "results/smoke.txt").read_text() == "crf\nnets\n"
    *_, smoke, check = (beside / "calls").read_text().splitlines()
    clone = smoke.split()[0]
    assert clone != str(repository)
    assert smoke == f"{clone} {RUN[:-6]}smoke.py --golden .gpu/golden --rehearse"
    out = beside / "results/gpu_check.json"
    assert check == f"{clone} {RUN[:-6]}gpu_check.py --golden .gpu/golden --out {out} --rehearse"
    assert not os.path.exists(clone)


def test_the_wheel_takes_the_place_of_other_packages(repository, run):
    run("pack", "golden", "cv2.whl")
    done = run()
    assert (done.returncode, done.stdout.splitlines()[0]) == (1, "installed .gpu/cv2.whl")
    _, remove, install, smoke = (repository.parent / "calls").read_text().splitlines()
    assert "-m pip uninstall -y -qq opencv-python opencv-python-headless" in remove
    assert install.endswith("--no-index --no-deps --no-compile .gpu/cv2.whl")
    assert smoke == f"{repository} {RUN[:-6]}smoke.py --golden .gpu/golden"


@pytest.mark.parametrize("how", [{"packages": "missing"}, {"refuses": 1}])
def test_where_nothing_can_be_replaced_the_wheel_is_put_before(repository, run, how):
    run("pack", "golden", "cv2.whl")
    assert run(**how).stdout.splitlines()[0] == "unpacked .gpu/cv2.whl beside the environment"
    *_, unpack, smoke = (repository.parent / "calls").read_text().splitlines()
    beside = unpack.split()[-1]
    assert unpack == f"{repository} -m zipfile -e .gpu/cv2.whl {beside}"
    assert smoke.startswith(f"{beside} ")
    assert not os.path.exists(beside)


def test_too_much_is_not_packed(repository, run):
    os.truncate(repository.parent / "cv2.whl", 64 << 20)
    done = run("pack", "golden", "cv2.whl")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "run.sh: error: 64 MiB in all, at most 64 can come along\n"
    assert not (repository / ".gpu").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "has no .gpu/golden, make it with: bash tools/gpu_check/run.sh pack"),
        (("rehearse",), "has no .gpu, make it with: bash tools/gpu_check/run.sh pack"),
        (("pack", "golden", "missing.whl"), "missing.whl is no wheel"),
        (("pack", "golden/nets", "cv2.whl"), "golden/nets has no folder nets"),
        (("pack", "golden"), "expected nothing, full, rehearse"),
        (("all",), "expected nothing, full, rehearse"),
    ],
)
def test_what_is_missing_is_one_line(run, arguments, told):
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr
    assert done.stderr.count("\n") == 1
