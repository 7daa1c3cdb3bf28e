"""Photo files through a model: what is written for each."""

import itertools
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from deeplab_repro.arrays import UInt8
from deeplab_repro.errors import ArgumentError
from deeplab_repro.files.images import read_image
from deeplab_repro.files.labels import class_name
from deeplab_repro.files.made_of import MadeOf, sha256_of
from deeplab_repro.files.marks import is_cutout
from deeplab_repro.files.outputs import ENDINGS, write_output
from deeplab_repro.files.pictures import write_cutout, write_labels
from deeplab_repro.files.targets import check_targets, make_folder
from deeplab_repro.jobs.done import is_done, settings_of, texts_of
from deeplab_repro.jobs.names import result_names, slug
from deeplab_repro.jobs.photos import Outcome, Photo, Skipped, Stages
from deeplab_repro.models.registry import class_names
from deeplab_repro.segmenter import DeepLab
from deeplab_repro.work.stages import io_threads

_OF_LABELS = {"labels", "overlay", "cutout"}

OUTPUTS = (*ENDINGS, "cutout")
"""What `segment_files` can write for a photo; the labels are always written."""


def segment_files(
    model: DeepLab,
    paths: Iterable[Path],
    out: Path,
    outputs: Collection[str] = (),
    force: bool = False,
    names: Mapping[Path, str] | None = None,
    skip_existing: bool = False,
    on_tiles: Callable[[Path, str, int], Callable[[], object]] | None = None,
) -> Iterator[Outcome]:
    """Segment photo files and write the results to the folder `out`, which is made if need be.

    Writes <name>.png (labels, VOC palette) and, as `outputs` asks, <name>.overlay.jpg,
    <name>.scores.npy, <name>.probs.npy and <name>.marginals.npy (CxHxW float32 at the photo's
    size), what the original's dense CRF reads: <name>.bin (the probabilities) and
    <name>_blob_0.mat (the scores), and cutouts: <name>.<class>.png for each class that is there but
    the background, the photo where the class is and transparent elsewhere. A photo that cannot be
    read or segmented is yielded as Failed, and the others go on.

    force: replace files that this tool did not make. names: by photo, what its results are called
    in `out`, without an ending; by default as `result_names` has it. skip_existing: yield a photo
    as Skipped if all that is asked for is there, whole, and made of the photo as it is now by the
    same model; see `jobs.done`. on_tiles: as for `DeepLab.run_net`, with the photo's
    path before all else.

    Raises FileError where something cannot be written or is in the way, DeviceError where a device
    fails, and ArgumentError for outputs that do not exist.
    """
    unknown = sorted(set(outputs) - set(OUTPUTS))
    if unknown:
        raise ArgumentError(f"output '{unknown[0]}' is none of {', '.join(OUTPUTS)}")
    if "marginals" in outputs and model.crf is None:
        raise ArgumentError("marginals come from the CRF, which is off: take it, or ask for probs")
    paths = list(paths)
    names = names or result_names(dict.fromkeys(paths, ""), out)
    files = _Files(
        model, out, names, frozenset(outputs) - {"labels"}, force, skip_existing, on_tiles
    )
    if "cutout" in outputs:  # which ones there may be is known only now
        check_targets({path: files.possible_cutouts(path) for path in paths}, paths, force)
    stages = Stages(files.read, files.score, files.refine, files.write)
    return stages.many(paths, io_threads(model.device), model.load_crf)


def check_outputs(
    names: Mapping[Path, str],
    out: Path,
    outputs: Collection[str] = (),
    others: Iterable[Path] = (),
    force: bool = False,
) -> None:
    """Raise what `check_targets` raises. others: files that are read, besides the photos.

    The others are as for `segment_files`.
    """
    kinds = {"labels", *outputs} & ENDINGS.keys()
    targets = {
        path: [Path(os.path.join(out, name) + ENDINGS[kind]) for kind in kinds]
        for path, name in names.items()
    }
    check_targets(targets, [*targets, *others], force)


@dataclass(frozen=True)
class _Files:
    """What the stages do with each photo. The fields are as `segment_files` takes them.

    outputs: those besides the labels.
    """

    model: DeepLab
    out: Path
    names: Mapping[Path, str]
    outputs: frozenset[str]
    force: bool
    skip_existing: bool
    on_tiles: Callable[[Path, str, int], Callable[[], object]] | None

    def possible_cutouts(self, photo: Path) -> list[Path]:
        """The files of the cutouts if all classes were there."""
        return [self._cutout(photo, label) for label in range(1, self._n_labels)]

    def read(self, path: Path) -> Photo | Skipped:
        """The image, unless there is nothing to do."""
        if self.skip_existing and is_done(self._base(path), path, self._settings, self.outputs):
            return Skipped(path, Path(f"{self._base(path)}.png"))
        return Photo(path, read_image(path), sha256=sha256_of(path))

    def score(self, photo: Photo) -> Photo:
        """With what the net makes of it."""
        self.model.warn_of_photo(photo.image, photo.path.name)
        tell = partial(self.on_tiles, photo.path) if self.on_tiles else None
        labels_only = _OF_LABELS.issuperset(self.outputs)
        made = self.model.run_net(photo.image, labels_only=labels_only, on_tiles=tell)
        return replace(photo, segmentation=made)

    def refine(self, photo: Photo) -> Photo:
        """With what the CRF makes of that."""
        assert photo.segmentation
        marginals = "marginals" in self.outputs
        made = self.model.refine(photo.image, photo.segmentation, marginals)
        return replace(photo, segmentation=made)

    def write(self, photo: Photo) -> Photo:
        """Write what was asked for; the labels last, as they say what was written with them."""
        made, base = photo.segmentation, self._base(photo.path)
        assert made
        labels = Path(f"{base}.png")
        make_folder(labels.parent)
        written: dict[str, tuple[Path, ...]] = {
            kind: (Path(base + ending),) for kind, ending in ENDINGS.items() if kind in self.outputs
        }
        cutouts = self._cutouts(photo.path, made.labels) if "cutout" in self.outputs else {}
        # Once more, for what came there while the net ran.
        targets = [labels, *cutouts, *itertools.chain(*written.values())]
        check_targets({photo.path: targets}, [photo.path], self.force)
        for kind, (path,) in written.items():
            write_output(kind, path, photo.image, made)
        if "cutout" in self.outputs:
            for path, label in cutouts.items():
                write_cutout(path, photo.image, made.labels == label)
            for path in self.possible_cutouts(photo.path):
                if path not in cutouts and is_cutout(path):  # of an earlier result
                    path.unlink()
            written["cutout"] = tuple(cutouts)
        made_of = MadeOf(photo.sha256, self._settings)
        write_labels(labels, made.labels, made_of, texts_of(base, written))
        return replace(photo, written={"labels": (labels,), **written})

    @cached_property
    def _settings(self) -> str:
        return settings_of(self.model)

    @property
    def _n_labels(self) -> int:
        return self.model.net.output_shape()[1]

    def _base(self, photo: Path) -> str:
        """The path of the photo's results up to their endings."""
        return os.path.join(self.out, self.names[photo])

    def _cutouts(self, photo: Path, labels: UInt8) -> dict[Path, int]:
        """The files of a photo's cutouts, and their labels: all that are there but background."""
        there = np.flatnonzero(np.bincount(labels.ravel())).tolist()
        return {self._cutout(photo, label): label for label in there if label}

    def _cutout(self, photo: Path, label: int) -> Path:
        name = class_name(label, class_names(self._n_labels))
        return Path(f"{self._base(photo)}.{slug(name)}.png")
