"""What the small data set of `conftest` has, and what a run wrote."""

from pathlib import Path

from deeplab_repro.crf.params import CrfParams

NAMES = ["a", "b", "c"]
CRF = CrfParams(3.0, 20.0, 10.0)  # as the command line reads them


def files(folder: Path) -> dict[str, bytes]:
    """The content of every file in the folder, by its path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
