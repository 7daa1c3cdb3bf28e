"""What can be written of a photo that was segmented: how the files are named, what is in them."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Protocol

from deeplab_repro.arrays import F32, UInt8
from deeplab_repro.errors import ArgumentError
from deeplab_repro.files.npy import write_npy
from deeplab_repro.files.pictures import overlay, write_image, write_labels
from deeplab_repro.files.probs import write_bin, write_scores_mat
from deeplab_repro.files.whole import write_atomically

_ENDINGS = {
    "labels": ".png",
    "overlay": ".overlay.jpg",
    "scores": ".scores.npy",
    "probs": ".probs.npy",
    "marginals": ".marginals.npy",
    "bin": ".bin",
    "mat": "_blob_0.mat",  # as the original names and asks for them
}

OUTPUTS = tuple(_ENDINGS)
"""What can be written of a photo; the labels always are."""


class Segmented(Protocol):
    """What a photo's outputs are made of, as `segmenter.Segmentation` has it."""

    @property
    def labels(self) -> UInt8: ...
    @property
    def scores(self) -> F32: ...
    @property
    def probs(self) -> F32: ...
    @property
    def marginals(self) -> F32 | None: ...


def output_files(labels: Path, outputs: Collection[str]) -> dict[str, Path]:
    """The files that are written of a photo, by what is in them: its labels' PNG, and others.

    Raises ArgumentError for outputs that do not exist.
    """
    unknown = sorted(set(outputs) - set(OUTPUTS))
    if unknown:
        raise ArgumentError(f"output '{unknown[0]}' is none of {', '.join(OUTPUTS)}")
    others = [name for name in OUTPUTS[1:] if name in outputs]
    return {"labels": labels} | {
        name: labels.with_name(f"{labels.stem}{_ENDINGS[name]}") for name in others
    }


def write_outputs(files: Mapping[str, Path], made: Segmented, image: UInt8 | None) -> None:
    """Write a photo's outputs, each whole or not at all.

    image: HxWx3 uint8 RGB, for the overlay. Raises FileError where one cannot be written.
    """
    for name, target in files.items():
        if name == "labels":
            write_labels(target, made.labels)
        elif name == "overlay":
            assert image is not None
            write_image(target, overlay(image, made.labels))
        elif name == "bin":
            write_bin(target, made.probs)
        elif name == "mat":
            write_scores_mat(target, made.scores)
        else:
            with write_atomically(target) as file:
                write_npy(file, getattr(made, name))
