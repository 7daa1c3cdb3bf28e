"""What can be written of a photo that was segmented: how each file is named, and what is in it."""

from pathlib import Path
from typing import Protocol

from deeplab_repro.arrays import F32, UInt8
from deeplab_repro.files.npy import write_npy
from deeplab_repro.files.pictures import overlay, write_image, write_labels
from deeplab_repro.files.probs import write_bin, write_scores_mat
from deeplab_repro.files.whole import write_atomically

ENDINGS = {
    "labels": ".png",
    "overlay": ".overlay.jpg",
    "scores": ".scores.npy",
    "probs": ".probs.npy",
    "marginals": ".marginals.npy",
    "bin": ".bin",
    "mat": "_blob_0.mat",  # as the original names and asks for them
}
"""By what is in a file, how its name ends."""


class Segmented(Protocol):
    """What the files are made of, as `segmentation.Segmentation` has it."""

    @property
    def labels(self) -> UInt8: ...
    @property
    def scores(self) -> F32: ...
    @property
    def probs(self) -> F32: ...
    @property
    def marginals(self) -> F32 | None: ...
    @property
    def names(self) -> tuple[str, ...]: ...


def write_output(kind: str, path: Path, image: UInt8 | None, made: Segmented) -> None:
    """Write one file of a photo, whole or not at all.

    kind: a key of ENDINGS. image: HxWx3 uint8 RGB, for the overlay. Raises FileError where the file
    cannot be written.
    """
    if kind == "labels":
        write_labels(path, made.labels)
    elif kind == "overlay":
        assert image is not None
        write_image(path, overlay(image, made.labels, made.names))
    elif kind == "bin":
        write_bin(path, made.probs)
    elif kind == "mat":
        write_scores_mat(path, made.scores)
    else:
        with write_atomically(path) as file:
            write_npy(file, getattr(made, kind))
