"""Photo files through a model: what is written for each."""

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from deeplab_repro.errors import ArgumentError
from deeplab_repro.files.images import read_image
from deeplab_repro.files.npy import write_npy
from deeplab_repro.files.pictures import overlay, write_image, write_labels
from deeplab_repro.files.probs import write_bin, write_scores_mat
from deeplab_repro.files.targets import check_targets, make_folder
from deeplab_repro.files.whole import write_atomically
from deeplab_repro.jobs.photos import Photo, Stages
from deeplab_repro.segmenter import DeepLab
from deeplab_repro.work.outcomes import Failed
from deeplab_repro.work.stages import io_threads

_ENDINGS = {
    "labels": ".png",
    "overlay": ".overlay.jpg",
    "scores": ".scores.npy",
    "probs": ".probs.npy",
    "marginals": ".marginals.npy",
    "bin": ".bin",
    "mat": "_blob_0.mat",  # as the original names and asks for them
}

_OF_LABELS = {"labels", "overlay"}

OUTPUTS = tuple(_ENDINGS)
"""What `segment_files` can write for a photo; the labels are always written."""


def segment_files(
    model: DeepLab,
    paths: Iterable[Path],
    out: Path,
    outputs: Collection[str] = (),
    force: bool = False,
    on_tiles: Callable[[Path, str, int], Callable[[], object]] | None = None,
) -> Iterator[Photo | Failed]:
    """Segment photo files and write the results to the folder `out`, which is made if need be.

    Writes <stem>.png (labels, VOC palette) and, as `outputs` asks, <stem>.overlay.jpg,
    <stem>.scores.npy, <stem>.probs.npy and <stem>.marginals.npy (CxHxW float32 at the photo's
    size), and what the original's dense CRF reads: <stem>.bin (the probabilities) and
    <stem>_blob_0.mat (the scores). A photo that cannot be read or segmented is yielded as Failed,
    and the others go on.

    force: replace files that this tool did not make. on_tiles: as for `DeepLab.run_net`, with the
    photo's path before all else.

    Raises FileError where something cannot be written or is in the way, DeviceError where a device
    fails, and ArgumentError for outputs that do not exist.
    """
    unknown = sorted(set(outputs) - set(OUTPUTS))
    if unknown:
        raise ArgumentError(f"output '{unknown[0]}' is none of {', '.join(OUTPUTS)}")
    if "marginals" in outputs and model.crf is None:
        raise ArgumentError("marginals are asked for, but they come from the CRF, which is off")
    stages = Stages(
        read=lambda path: Photo(path, read_image(path)),
        score=partial(_score, model, _OF_LABELS.issuperset(outputs), on_tiles),
        refine=partial(_refine, model, "marginals" in outputs),
        write=partial(_write, out, outputs, force),
    )
    return stages.many(paths, io_threads(model.device), model.load_crf)


def check_outputs(
    paths: Iterable[Path],
    out: Path,
    outputs: Collection[str] = (),
    others: Iterable[Path] = (),
    force: bool = False,
) -> None:
    """Raise what `check_targets` raises. others: files that are read, besides the photos."""
    targets = {path: list(_targets(out, path, outputs).values()) for path in paths}
    check_targets(targets, [*targets, *others], force)


def _targets(out: Path, path: Path, outputs: Collection[str]) -> dict[str, Path]:
    """The files that are written for a photo, by what is in them."""
    names = ["labels", *(name for name in OUTPUTS[1:] if name in outputs)]
    return {name: out / f"{path.stem}{_ENDINGS[name]}" for name in names}


def _score(
    model: DeepLab,
    labels_only: bool,
    on_tiles: Callable[[Path, str, int], Callable[[], object]] | None,
    photo: Photo,
) -> Photo:
    tell = partial(on_tiles, photo.path) if on_tiles else None
    made = model.run_net(photo.image, labels_only=labels_only, on_tiles=tell)
    return replace(photo, segmentation=made)


def _refine(model: DeepLab, marginals: bool, photo: Photo) -> Photo:
    assert photo.segmentation
    return replace(photo, segmentation=model.refine(photo.image, photo.segmentation, marginals))


def _write(out: Path, outputs: Collection[str], force: bool, photo: Photo) -> Photo:
    made = photo.segmentation
    assert made
    make_folder(out)
    targets = _targets(out, photo.path, outputs)
    # Once more, for what came there while the net ran.
    check_targets({photo.path: targets.values()}, [photo.path], force)
    for name, target in targets.items():
        if name == "labels":
            write_labels(target, made.labels)
        elif name == "overlay":
            write_image(target, overlay(photo.image, made.labels))
        elif name == "bin":
            write_bin(target, made.probs)
        elif name == "mat":
            write_scores_mat(target, made.scores)
        else:
            with write_atomically(target) as file:
                write_npy(file, getattr(made, name))
    return replace(photo, written=tuple(targets.values()))
