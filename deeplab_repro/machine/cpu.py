"""What the processor is and what it can do, as Linux tells it."""

import platform
from pathlib import Path


def cpu_name() -> str:
    """The processor's model, or its kind where the system does not tell more."""
    return _told("model name") or platform.processor() or platform.machine()


def cpu_flags() -> set[str] | None:
    """The names of what the processor can do, such as "avx512_bf16"; None where unknown."""
    told = _told("flags") or _told("Features")  # x86, Arm
    return set(told.split()) if told else None


def _told(field: str, told: Path = Path("/proc/cpuinfo")) -> str:
    """A field of the first processor; "" where the system does not tell it."""
    try:
        lines = told.read_text().splitlines()
    except OSError:
        return ""
    pairs = (line.partition(":") for line in lines)
    return next((value.strip() for name, _, value in pairs if name.strip() == field), "")
