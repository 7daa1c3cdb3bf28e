"""How much memory is left."""

import subprocess
import sys
from pathlib import Path

import pytest

from deeplab_repro.errors import ResourceError
from deeplab_repro.machine import memory
from deeplab_repro.machine.limits import bytes_told
from deeplab_repro.machine.memory import available_memory, require_memory
from tests.conftest import assert_one_line


@pytest.mark.skipif(sys.platform != "linux", reason="Linux only")
def test_available_memory_here():
    available = available_memory()
    assert available is not None
    assert 2**20 < available < 2**50


def test_require_memory(monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda: 2_000_000_000)
    require_memory(2_000_000_000, "the CRF")
    with pytest.raises(ResourceError) as error:
        require_memory(3_500_000_000, "the CRF", "use a smaller image")
    assert_one_line(error, "the CRF", "3.5 GB", "2.0 GB", "use a smaller image")
    monkeypatch.setattr(memory, "available_memory", lambda: None)
    require_memory(10**18, "the CRF")


def fake_system(root: Path, entries: dict[str, str]) -> Path:
    for name, text in entries.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_cgroup_v2_takes_the_tightest_level(tmp_path):
    root = fake_system(
        tmp_path,
        {
            "proc/self/cgroup": "0::/job/step\n",
            "sys/fs/cgroup/job/step/memory.max": "max\n",
            "sys/fs/cgroup/job/memory.max": "1000\n",
            "sys/fs/cgroup/job/memory.current": "900\n",
            "sys/fs/cgroup/job/memory.stat": "anon 300\ninactive_file 400\nactive_file 200\n",
        },
    )
    assert memory._cgroup_available(root) == 700  # cached files are given up on demand


def test_cgroup_v1_whose_own_folder_is_not_mounted(tmp_path):
    root = fake_system(
        tmp_path,
        {
            "proc/self/cgroup": "5:cpu,cpuacct:/x\n4:memory:/docker/abc\n0::/\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "1000\n",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": "600\n",
            "sys/fs/cgroup/memory/memory.stat": "inactive_file 1\ntotal_inactive_file 100\n",
        },
    )
    assert memory._cgroup_available(root) == 500


def test_no_cgroup_and_no_limit(tmp_path):
    assert memory._cgroup_available(tmp_path) is None
    fake_system(
        tmp_path, {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n", "mem": "x"}
    )
    assert memory._cgroup_available(tmp_path) is None
    assert bytes_told(tmp_path / "mem", "MemAvailable:") is None


@pytest.mark.parametrize("limit", ["RLIMIT_AS", "RLIMIT_DATA"])
@pytest.mark.skipif(sys.platform != "linux", reason="Linux only")
def test_limits_of_the_process(limit):
    """In a process of its own, as NumPy's threads die of such a limit."""
    script = f"""
import resource
from deeplab_repro.machine.memory import available_memory
resource.setrlimit(resource.{limit}, (300_000_000, resource.RLIM_INFINITY))
free = available_memory()
held = bytearray(100_000_000)
print(free, available_memory())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    before, after = map(int, done.stdout.split())
    assert 100_000_000 < before < 300_000_000  # what Python itself has mapped is taken off
    assert before - after == pytest.approx(100_000_000, rel=0.02)


@pytest.mark.skipif(sys.platform != "linux", reason="Linux only")
def test_under_a_limit_what_is_freed_is_given_back():
    """glibc would keep blocks like these, as large as it has seen freed before, in its heap."""
    script = """
import resource
from deeplab_repro.machine.heap import keep_freed_memory
from deeplab_repro.machine.memory import available_memory
resource.setrlimit(resource.RLIMIT_AS, (1_000_000_000, resource.RLIM_INFINITY))
keep_freed_memory()
bytearray(30_000_000)
free = available_memory()
blocks = [bytearray(8_000_000) for _ in range(20)]
last = blocks.pop()
del blocks
print(free - available_memory())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert 7_000_000 < int(done.stdout) < 10_000_000
