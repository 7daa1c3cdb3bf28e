"""The user's home folder, which services and containers may lack."""

import os
import sys
from pathlib import Path

# Where other libraries look for folders to keep something in.
_FOLDERS = ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR", "NUMBA_CACHE_DIR")


def drop_unexpanded() -> None:
    """Take settings such as HOME=~ away, for which libraries would make a folder called `~`.

    No shell has put a folder in the place of the ~, so they name none.
    """
    for name in _FOLDERS:
        if os.environ.get(name, "").startswith("~"):
            del os.environ[name]


def has_cache_folder() -> bool:
    """Whether the user has a folder for what may be kept."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~")
    return os.path.isabs(cache)


def cache_folder() -> Path | None:
    """Where this package keeps what can be made again; None for a user without a home.

    DEEPLAB_REPRO_HOME, or a folder in the one that the system has for caches.
    """
    if given := os.environ.get("DEEPLAB_REPRO_HOME"):
        return Path(os.path.abspath(os.path.expanduser(given)))
    home = Path(os.path.expanduser("~"))
    if sys.platform == "win32":
        caches = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif sys.platform == "darwin":
        caches = home / "Library" / "Caches"
    else:
        caches = Path(os.environ.get("XDG_CACHE_HOME", ""))
        if not caches.is_absolute():  # to be ignored, by the XDG specification
            caches = home / ".cache"
    return caches / "deeplab-repro" if caches.is_absolute() else None
