"""Labels for the images of a split: read, net, CRF, write; one by one, or in threads by a GPU."""

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from deeplab_repro.errors import DeepLabError, DeviceError
from deeplab_repro.files.images import UInt8, read_image, write_labels
from deeplab_repro.files.probs import read_coarse, write_coarse
from deeplab_repro.net.scores import CoarseScores
from deeplab_repro.segmenter import DeepLab, Recipe
from deeplab_repro.voc.devkit import Devkit
from deeplab_repro.voc.records import Record
from deeplab_repro.work.outcomes import Failed
from deeplab_repro.work.stages import in_threads

_models = threading.local()


@dataclass(frozen=True)
class Photo:
    """An image of the split on its way: its scores and labels come with the stages."""

    name: str
    image: UInt8
    coarse: CoarseScores | None = None
    is_kept: bool = False  # whether its scores were there already
    labels: UInt8 | None = None


@dataclass(frozen=True)
class Segmenting:
    """Makes one image's labels a call, from its name; what a worker needs for that.

    folder: for the PNGs. recipe: with absolute paths. scores: a folder for coarse scores, or None.
    What keeps an image from having labels is its result; what concerns all images is raised.
    """

    devkit: Devkit
    folder: Path
    recipe: Recipe
    record: Record
    scores: Path | None

    def __call__(self, name: str) -> Failed | None:
        """Make one image's labels."""
        return self.write(self.refine(self.score(self.read(name))))

    def in_stages(self, names: Iterable[str], threads: int) -> Iterator[Failed | None]:
        """Make the labels of images, results in order: `threads` threads read, as many write.

        The net runs in the calling thread, as an engine is for one thread, and the CRF in another.
        """
        photos = in_threads(self.read, names, threads, "read")
        refined = in_threads(self.refine, map(self.score, photos), min(threads, 1), "crf")
        return in_threads(self.write, refined, threads, "write")

    def read(self, name: str) -> Photo | Failed:
        """The image, and its scores if they were kept."""
        kept = self._kept(name)
        try:
            image = read_image(self.devkit.photo(name))
            if kept is None or not kept.is_file():
                return Photo(name, image)
            return Photo(name, image, read_coarse(kept), is_kept=True)
        except DeepLabError as error:
            return self._failed(name, error)

    def score(self, photo: Photo | Failed) -> Photo | Failed:
        """With the net's scores, as they are kept if they are."""
        if isinstance(photo, Failed) or photo.coarse is not None:
            return photo
        try:
            coarse = self._model().coarse_scores(photo.image)
            if self.record.scores is not None:
                coarse = coarse.rounded(self.record.scores)
        except DeepLabError as error:
            return self._failed(photo.name, error)
        return replace(photo, coarse=coarse)

    def refine(self, photo: Photo | Failed) -> Photo | Failed:
        """With the labels after the CRF, if there is one."""
        if isinstance(photo, Failed) or photo.coarse is None or self.record.crf is None:
            return photo
        from deeplab_repro.crf.dense_crf import refine_scores

        try:
            refined = refine_scores(
                photo.image,
                photo.coarse,
                self.record.crf,
                self.record.iterations,
                device=self.recipe.device,
                marginals=False,
            )
        except DeepLabError as error:
            return self._failed(photo.name, error)
        return replace(photo, labels=refined.labels)

    def write(self, photo: Photo | Failed) -> Failed | None:
        """Write the labels, and the scores where they are to be kept."""
        if isinstance(photo, Failed):
            return photo
        assert photo.coarse
        labels = photo.labels
        if labels is None:
            try:
                labels = photo.coarse.labels(photo.image.shape[:2])
            except DeepLabError as error:
                return self._failed(photo.name, error)
        kept = self._kept(photo.name)
        if kept is not None and not photo.is_kept:
            write_coarse(kept, photo.coarse)
        write_labels(self.folder / f"{photo.name}.png", labels)
        return None

    def keep(self, model: DeepLab) -> None:
        """Use a model that is built already, in this thread."""
        _models.model, _models.recipe = model, self.recipe

    def _model(self) -> DeepLab:
        """This thread's model: a cluster's worker may have several threads."""
        if getattr(_models, "recipe", None) != self.recipe:
            self.keep(self.recipe.build())
        model: DeepLab = _models.model
        return model

    def _kept(self, name: str) -> Path | None:
        return None if self.scores is None else self.scores / f"{name}.npz"

    def _failed(self, name: str, error: DeepLabError) -> Failed:
        if isinstance(error, DeviceError):
            raise error
        # Anew, without the traceback: it would keep what the stage held, images and all.
        return Failed(self.devkit.photo(name), type(error)(*error.args))
