"""tools/opencv_cuda/stages.py: stages that are done stay done, commands end with their group."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("fcntl", reason="the build is for Linux")


@pytest.fixture
def stages(tool):
    return tool("opencv_cuda/stages")


@pytest.fixture
def stages_of(stages, tmp_path):
    """Make the Stages of a folder, as each run of the script does."""
    return lambda: stages.Stages(tmp_path, 3)


def test_a_stage_that_is_done_is_not_done_again(stages_of, tmp_path, capsys):
    done = []
    mark = tmp_path / "made/done"
    mark.parent.mkdir()
    for key in ("a", "a", "b", "b"):
        stages_of().run("making", mark, key, lambda key=key: done.append(key))
    assert done == ["a", "b"]
    said = capsys.readouterr().err.splitlines()
    assert [line for line in said if line.endswith("done before")] == [
        "[1/3] making: done before"
    ] * 2

    def fail() -> None:
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        stages_of().run("making", mark, "c", fail)
    assert list(mark.parent.iterdir()) == []


def test_a_failing_command_shows_its_first_error_and_its_end(stages_of, stages):
    made, seen = stages_of(), []
    script = "import sys\nfor i in range(60): print('FAILED: a.o' if i == 5 else i)\nsys.exit(3)"
    with pytest.raises(stages.BuildError) as error:
        made.call([sys.executable, "-c", script], watch=seen.append)
    lines = [line.strip() for line in str(error.value).splitlines()]
    assert lines[0].endswith(f"failed; its log is {made.log}")
    assert lines[1:3] == ["FAILED: a.o", "6"]
    assert lines[-1] == "59"
    assert len(lines) == 31
    assert len(seen) == 60
    assert made.log.read_text().splitlines()[-1] == "59"


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


def test_a_stopped_command_leaves_nothing_running(stages_of):
    def stop(line: str) -> None:
        pids.append(int(line))
        raise KeyboardInterrupt

    pids: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        stages_of().call(["sh", "-c", "sleep 100 & echo $!; wait"], watch=stop)
    end = time.monotonic() + 30  # the sleep would take longer
    while _runs(pids[0]):
        assert time.monotonic() < end


def test_compilers_that_outlive_their_build_keep_the_folder(stages, tmp_path):
    with stages.only_one(tmp_path):
        with (
            pytest.raises(stages.BuildError, match="another build runs there"),
            stages.only_one(tmp_path),
        ):
            pass
        compiler = subprocess.Popen(["sleep", "100"], close_fds=False)
    with (
        pytest.raises(stages.BuildError, match="another build runs there"),
        stages.only_one(tmp_path),
    ):
        pass
    compiler.kill()
    compiler.wait()
    with stages.only_one(tmp_path):
        pass
