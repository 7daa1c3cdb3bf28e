"""How much memory this process may still take, and a check before large work."""

import os
from pathlib import Path

from deeplab_repro.errors import ResourceError
from deeplab_repro.machine.limits import bytes_told, left_by_limits

_NOT_ASKED_FOR = 1 << 24  # bytes


def available_memory() -> int | None:
    """Return the bytes of memory that this process may still take, or None where unknown.

    The least of what the machine has (Linux: MemAvailable; elsewhere with sysconf: all physical
    memory), what the control groups leave (containers, job schedulers), and what the limits of the
    process leave (`ulimit -v` and `-d`).
    """
    free = bytes_told(Path("/proc/meminfo"), "MemAvailable:")
    machine = _physical() if free is None else free
    found = (machine, _cgroup_available(Path("/")), left_by_limits())
    return min((n for n in found if n is not None), default=None)


def require_memory(
    n_bytes: int, what: str, mend: str = "use a smaller image or a machine with more memory"
) -> None:
    """Raise ResourceError if `what` needs more memory (`n_bytes`) than is available.

    Does nothing where the available memory is unknown, or for less than 16 MB: to ask takes half a
    millisecond.
    """
    if n_bytes < _NOT_ASKED_FOR:
        return
    available = available_memory()
    if available is not None and n_bytes > available:
        from deeplab_repro.machine.work_space import free_memory  # NumPy is not always needed

        free_memory()
        available = available_memory()
    if available is not None and n_bytes > available:
        raise ResourceError(
            f"{what}: needs {gigabytes(n_bytes)} of memory, {gigabytes(available)} are free: {mend}"
        )


def _physical() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return None


def _cgroup_available(root: Path) -> int | None:
    """Return what is left of the tightest limit of a control group, or None without one."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except (OSError, ValueError):
        return None
    left: list[int] = []
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            mount, limit, usage, prefix = "", "memory.max", "memory.current", ""
        elif "memory" in controllers.split(","):
            mount, limit, usage, prefix = (
                "memory",
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
                "total_",
            )
        else:
            continue
        top = root / "sys/fs/cgroup" / mount
        folder = top / group.strip("/")
        # In a container the group's own path is often not mounted; its limit is then at the top.
        for level in (folder, *folder.parents):
            try:
                free = int((level / limit).read_text()) - int((level / usage).read_text())
                left.append(max(free + _file_cache(level / "memory.stat", prefix), 0))
            except (OSError, ValueError):  # no such level, or "max": no limit
                pass
            if level == top:
                break
    return min(left, default=None)


def _file_cache(memory_stat: Path, prefix: str) -> int:
    """Return the bytes of cached files, which count as used but are given up on demand."""
    names = (f"{prefix}inactive_file", f"{prefix}active_file")
    fields = (line.split() for line in memory_stat.read_text().splitlines())
    return sum(int(value) for name, value in fields if name in names)


def gigabytes(n_bytes: float) -> str:
    """A number of bytes as messages show it."""
    return f"{n_bytes / 1e9:,.1f} GB"
