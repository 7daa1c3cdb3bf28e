"""Labels for the images of a split: what a worker needs to make them, one image a call."""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from deeplab_repro.errors import ArgumentError, FileError, FormatError
from deeplab_repro.files.holding import NOTHING_HELD, Held
from deeplab_repro.files.images import read_image
from deeplab_repro.files.made_of import MadeOf, is_made_of, sha256_of
from deeplab_repro.files.pictures import write_labels
from deeplab_repro.files.probs import read_coarse, write_coarse
from deeplab_repro.jobs.photos import Outcome, Photo, Stages
from deeplab_repro.segmentation import Segmentation, refine
from deeplab_repro.segmenter import DeepLab, Recipe
from deeplab_repro.voc.devkit import Devkit
from deeplab_repro.voc.records import Record
from deeplab_repro.voc.scores_of_others import ScoresOfOthers
from deeplab_repro.work.outcomes import Failed

_log = logging.getLogger(__name__)

_models = threading.local()


@dataclass(frozen=True)
class Segmenting:
    """Makes one image's labels a call, from its name.

    folder: for the PNGs. recipe: with absolute paths. scores: a folder for coarse scores, or None.
    held: the folders, by the process that asks for the labels. given: scores of others, in place of
    the net. What keeps one image from having
    labels is its result; what concerns all images is raised.
    """

    devkit: Devkit
    folder: Path
    recipe: Recipe
    record: Record
    scores: Path | None
    held: Held = NOTHING_HELD
    given: ScoresOfOthers | None = None

    def __call__(self, name: str) -> Failed | None:
        """Make one image's labels."""
        return _failure(self.stages.one(self.devkit.photo(name)))

    def many(self, names: Iterable[str], threads: int) -> Iterator[Failed | None]:
        """Make the labels of images in stages that overlap; results in order. See `Stages.many`."""
        photos = map(self.devkit.photo, names)
        return map(_failure, self.stages.many(photos, threads))

    def keep(self, model: DeepLab) -> None:
        """Use a model that is built already, in this thread."""
        _models.model, _models.recipe = model, self.recipe

    @property
    def stages(self) -> Stages:
        """What is done with each image."""
        return Stages(self._read, self._score, self._refine, self._write)

    def has_labels(self, name: str, digest: Callable[[str], str]) -> bool:
        """Whether an image's labels are there and whole, and made as the record says.

        They must have been made of the photo as it is now; digest: of a photo, by its name.
        """
        labels = self._labels(self.devkit.photo(name))
        return is_made_of(labels, self.record.digest, partial(digest, name))

    def _read(self, path: Path) -> Photo:
        """The image, and its scores if they were kept."""
        photo = Photo(path, read_image(path), sha256=sha256_of(path))
        size = photo.image.shape[0], photo.image.shape[1]
        if self.given:
            scores = self.given.read(path.stem, size)
            return replace(photo, segmentation=Segmentation(size, scores))
        kept, record = self._kept(path), self.record.scores_record
        if kept is None or record is None:
            return photo
        if not is_made_of(kept, record.digest, lambda: photo.sha256):
            return photo
        try:
            coarse = read_coarse(kept)
            coarse.check_covers(size)
        except (FileError, FormatError, ArgumentError) as error:
            _log.warning("%s; the net runs again", error)
            return photo
        return replace(photo, segmentation=Segmentation(size, coarse))

    def _score(self, photo: Photo) -> Photo:
        """With the net's scores, rounded as they are kept if they are."""
        if photo.segmentation is not None:
            return photo
        made = self._model().run_net(photo.image, labels_only=True)
        if self.record.scores is not None and made.coarse:
            made = replace(made, coarse=made.coarse.rounded(self.record.scores))
        return replace(photo, segmentation=made)

    def _refine(self, photo: Photo) -> Photo:
        """After the CRF, if there is one."""
        made, record = photo.segmentation, self.record
        assert made
        if record.crf is None:
            return photo
        made = refine(
            photo.image, made, record.crf, record.iterations, self.recipe.device, marginals=False
        )
        return replace(photo, segmentation=made)

    def _write(self, photo: Photo) -> Photo:
        """Write the labels, and the scores where they are to be kept."""
        made, kept, record = photo.segmentation, self._kept(photo.path), self.record.scores_record
        assert made
        assert made.coarse
        self.held.check()
        if kept is not None and record is not None and made.net_seconds:  # the net did run
            write_coarse(kept, made.coarse, MadeOf(photo.sha256, record.digest))
        made_of = MadeOf(photo.sha256, self.record.digest)
        write_labels(self._labels(photo.path), made.labels, made_of)
        return photo

    def _model(self) -> DeepLab:
        """This thread's model: a cluster's worker may have several threads."""
        if getattr(_models, "recipe", None) != self.recipe:
            self.keep(self.recipe.build())
        model: DeepLab = _models.model
        return model

    def _labels(self, photo: Path) -> Path:
        return self.folder / f"{photo.stem}.png"

    def _kept(self, path: Path) -> Path | None:
        return None if self.scores is None else self.scores / f"{path.stem}.npz"


def _failure(photo: Outcome) -> Failed | None:
    return photo if isinstance(photo, Failed) else None
