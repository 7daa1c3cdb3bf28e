"""Scores that `predict` did not keep: what stands in for the net in the records of results."""

from dataclasses import dataclass
from pathlib import Path

from deeplab_repro.arrays import HW
from deeplab_repro.errors import ArgumentError, FormatError, one_line
from deeplab_repro.files.given_scores import Taken
from deeplab_repro.files.images import read_image
from deeplab_repro.files.made_of import check_made_of, sha256_of, sha256_of_text
from deeplab_repro.files.probs import read_scores
from deeplab_repro.jobs.refine import find_probs
from deeplab_repro.models.loading import read_model
from deeplab_repro.net.scores import CoarseScores
from deeplab_repro.segmenter import Recipe
from deeplab_repro.version import __version__
from deeplab_repro.voc.counts import find_scores
from deeplab_repro.voc.devkit import Devkit
from deeplab_repro.voc.records import NetRecord, scores_record_path


@dataclass(frozen=True)
class ScoresOfOthers:
    """A folder of scores of any origin, one file an image.

    taken: what they all are taken as. record: in place of a net's; its digests are those of all the
    files, and of what they were taken as.
    """

    files: dict[str, Path]
    taken: Taken
    record: NetRecord

    def read(self, name: str, size: HW) -> CoarseScores:
        """An image's scores. Raises FormatError where they are others than the first image's."""
        path = self.files[name]
        scores, taken = read_scores(path, size)
        found, expected = (len(scores.values), taken), (self.record.labels, self.taken)
        if found != expected:
            raise FormatError(
                f"{one_line(path)}: holds {found[0]} labels of {found[1]}, expected {expected[0]} "
                f"of {expected[1]}, as for the first image: make the scores of all in one way"
            )
        return scores


def scores_of_others(
    devkit: Devkit, names: list[str], folder: Path, recipe: Recipe
) -> ScoresOfOthers | None:
    """The scores in a folder that has no record of ours; None where there are none.

    recipe: its model is taken for what made them, if it has one.

    Raises FileError where some are missing, or are marked as another photo's; ArgumentError where
    weights are asked for too; and what `read_scores` raises for the first.
    """
    if scores_record_path(folder).exists() or not folder.is_dir():
        return None
    if not any(find_probs(devkit.photo(name), folder) for name in names):
        return None
    if recipe.weights is not None:
        raise ArgumentError(
            f"{one_line(folder)}: has scores that predict did not keep, and weights are given: "
            "leave out --weights to take the scores, or give another folder for the net's"
        )
    files = find_scores(devkit, folder.absolute(), names)
    for name, path in files.items():
        check_made_of(path, devkit.photo(name))
    image = read_image(devkit.photo(names[0]))
    scores, taken = read_scores(files[names[0]], (image.shape[0], image.shape[1]))
    content = [sha256_of(path) for path in files.values()]
    model = read_model(recipe.model, recipe.variables) if recipe.model else None
    record = NetRecord(
        model=model.name if model else f"scores of {folder.resolve().name}",
        labels=len(scores.values),
        net_sha256=sha256_of_text(str(taken)),
        weights=folder.resolve().name,
        weights_sha256=sha256_of_text(" ".join(content)),
        trained_on=None,
        arithmetic="float32",
        version=__version__,
    )
    return ScoresOfOthers(files, taken, record)
