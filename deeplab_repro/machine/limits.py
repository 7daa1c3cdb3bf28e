"""The limits that this process has on its memory."""

from pathlib import Path

# Under a limit of the process so many bytes are left for stacks and libraries: a thread that finds
# no room for its own data ends the process.
_LEFT_FOR_THREADS = 1 << 26
_STATUS = Path("/proc/self/status")


def is_limited() -> bool:
    """Whether this process has a limit on memory that counts what it keeps, used or not."""
    return left_by_limits() is not None


def left_by_limits() -> int | None:
    """The bytes that limits of this process (`ulimit -v`, `-d`) leave it to map; None if none."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    left: list[int] = []
    for kind, field in ((resource.RLIMIT_AS, "VmSize:"), (resource.RLIMIT_DATA, "VmData:")):
        soft, _ = resource.getrlimit(kind)
        if soft != resource.RLIM_INFINITY:
            taken = _LEFT_FOR_THREADS + (bytes_told(_STATUS, field) or 0)
            left.append(max(soft - taken, 0))
    return min(left, default=None)


def bytes_told(table: Path, field: str) -> int | None:
    """An amount of memory in a table of Linux's; None without the table or the field."""
    try:
        for line in table.read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None
