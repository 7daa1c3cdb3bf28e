"""The user's home folder, which services and containers may lack."""

import os

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
