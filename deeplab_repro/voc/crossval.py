"""Find the CRF's parameters by cross-validation, from coarse to fine (DeepLab v1, section 5).

As in the authors' scripts (docs/original.md, 4), the search tries all settings of a grid on 100
images of the split and takes the first of the best mean IOU. Their sample is MATLAB's randperm
after rng(10), which NumPy lacks; ours is another, the same for the same seed. The search then tries
the neighbours of the best, in ever smaller steps.

Each image's counts are a file of their own, so a search that is stopped at any moment, even by
kill -9, can go on where it was and finds the same.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from deeplab_repro.arrays import dims
from deeplab_repro.crf.params import CrfParams
from deeplab_repro.crf.sweep import sweep
from deeplab_repro.errors import (
    ArgumentError,
    DeepLabError,
    FileError,
    ImageError,
    ResourceError,
    one_line,
)
from deeplab_repro.files.holding import hold
from deeplab_repro.files.images import read_image
from deeplab_repro.files.made_of import MadeOf, sha256_of_text
from deeplab_repro.files.probs import read_probs
from deeplab_repro.files.targets import make_folder
from deeplab_repro.files.whole import remove_unfinished
from deeplab_repro.jobs.refine import find_probs
from deeplab_repro.models.registry import MODELS, get_model
from deeplab_repro.version import __version__
from deeplab_repro.voc.counts import (
    check_scores,
    digest_of,
    find_files,
    keep_counts,
    read_counts,
)
from deeplab_repro.voc.devkit import Devkit
from deeplab_repro.voc.grid import AUTHORS_GRID, SearchGrid, bilateral, numbers_text
from deeplab_repro.voc.metrics import Confusion, Scores, confusion, image_scores, or_none
from deeplab_repro.voc.records import read_scores_record, write_or_compare
from deeplab_repro.work.progress import Progress, unwatched
from deeplab_repro.work.workers import HERE, Workers

# The steps around the best are the grid's divided by these, one after the other.
_DIVISORS = (1, 2, 4)


class OfPresent(NamedTuple):
    """How many of a data set's classes there are, and their mean IOU in percent."""

    present: int
    labels: int
    mean_iou: float


@dataclass(frozen=True)
class Found:
    """What a search found; every score is mean IOU in percent.

    names: the ids of the images. net: the score without a CRF. released: parameters by the name of
    their model. rounds: the settings of each round with their scores: first the grid, then released
    parameters that are not on it, then neighbours of the best. of_present: for each setting, and
    None for the net alone, how many classes are in the masks or labels, and the mean IOU over them.
    counted: how often an image was counted in this run; 0 where an earlier one had done it all.
    """

    split: str
    names: list[str]
    seed: int
    iterations: int
    grid: SearchGrid
    net: float
    released: dict[str, CrfParams]
    rounds: dict[str, dict[CrfParams, float]] = field(default_factory=dict)
    of_present: dict[CrfParams | None, OfPresent] = field(default_factory=dict)
    counted: int = field(default=0, compare=False)

    @property
    def scores(self) -> dict[CrfParams, float]:
        """All settings with their scores, in the order in which they were tried."""
        return {params: score for tried in self.rounds.values() for params, score in tried.items()}

    @property
    def best(self) -> CrfParams:
        """The best setting, the first of equals."""
        return first_best(self.scores)

    @property
    def lacks_classes(self) -> bool:
        """Whether some class is in no mask and no labels: it counts as 0 in the scores."""
        return any(each.present < each.labels for each in self.of_present.values())

    def as_json(self) -> dict[str, Any]:
        """All numbers as plain data."""
        scores = self.scores

        def plain(params: CrfParams) -> dict[str, float | None]:
            names = ("w1", "sigma_alpha", "sigma_beta")
            numbers = dict(zip(names, bilateral(params), strict=True))
            return {**numbers, "mean_iou": scores[params], **self._of_present_as_json(params)}

        return {
            "split": self.split,
            "images": len(self.names),
            "seed": self.seed,
            "iterations": self.iterations,
            "grid": self.grid.axes,
            "net_mean_iou": self.net,
            **{f"net_{key}": value for key, value in self._of_present_as_json(None).items()},
            "best": plain(self.best),
            "released": {name: plain(params) for name, params in self.released.items()},
            "rounds": [
                {"name": name, "settings": len(tried), "best": plain(first_best(tried))}
                for name, tried in self.rounds.items()
            ],
            "settings": [plain(params) for params in scores],
            "names": self.names,
        }

    def _of_present_as_json(self, params: CrfParams | None) -> dict[str, float | None]:
        if params not in self.of_present:
            return {}
        present, _, mean_iou = self.of_present[params]
        return {"classes_present": present, "mean_iou_of_present": or_none(mean_iou)}


def first_best(scores: Mapping[CrfParams, float]) -> CrfParams:
    """The best setting, of equals the first, as the authors' loop keeps it."""
    return max(scores, key=scores.__getitem__)


def released_crfs(models: Sequence[str], scores: Path) -> dict[str, CrfParams]:
    """The published CRF parameters of models, by name.

    Without models, those of the model that made the kept scores. Raises ArgumentError for a name
    that is not in the registry, or has no parameters there.
    """
    if not models:
        record = read_scores_record(scores)
        known = MODELS.get(record.model) if record else None
        return {known.name: known.crf} if known and known.crf else {}
    found = {}
    for name in models:
        crf = get_model(name).crf
        if crf is None:
            others = ", ".join(name for name, model in MODELS.items() if model.crf)
            raise ArgumentError(f"no CRF parameters are published for {name}, but for {others}")
        found[name] = crf
    return found


def search(
    devkit: Devkit,
    split: str,
    scores: Path,
    out: Path,
    grid: SearchGrid = AUTHORS_GRID,
    *,
    released: Mapping[str, CrfParams] | None = None,
    iterations: int = 10,
    images: int = 100,
    seed: int = 10,
    classes: Sequence[int] = (),
    workers: Workers = HERE,
    progress: Progress = unwatched,
) -> Found:
    """Search for the CRF parameters of the best mean IOU on images of a split.

    scores: a folder with the scores or probabilities of each image, <id>.npz or another file that
    `read_probs` reads. out: a folder for the counts. images: how many to draw with the seed, or all
    if there are fewer. released: parameters to try as well, by the names of their models. classes:
    the labels over which the mean IOU is taken, by default all: one that is in few photos is scored
    by chance.

    After the grid the search tries the best setting's 26 neighbours at the grid's steps, then those
    of the new best, until none is better; then the same at half the steps, and at a quarter.

    Raises FileError where photos, masks or scores are missing, scores were made of other photos, or
    another run works on a folder; ArgumentError where `out` holds another search or scores do not
    fit their image; and what reading and writing raise.
    """
    names = sample(devkit.ids(split), images, seed)
    devkit.warn_of_other_classes(names)
    files = find_files(devkit, split, scores, names)
    with hold(out, reading=[scores]):
        inputs = {name: digest_of(*each) for name, each in files.items()}
        check_scores(files, read_scores_record(scores))
        counter = _Counter(devkit, scores, inputs, iterations, out / "counts")
        asked = {
            "split": split,
            "images": len(names),
            "seed": seed,
            "labels": devkit.n_labels,
            "iterations": iterations,
            **{name: numbers_text(values) for name, values in grid.axes.items()},
            "sha256_of_photos_masks_and_scores": sha256_of_text(json.dumps(inputs)),
            "version": __version__,
        }
        remove_unfinished(out)
        write_or_compare(out / "search.json", asked, any(counter.folder.glob("*/*")))
        # In this process: this is quick, and finds unreadable files before the long work.
        (net,) = counter.scores("0-net", (), HERE, progress)
        if not net.n_present:
            raise ImageError(f"{one_line(devkit.root)}: all {len(names)} masks are void throughout")
        net_score = _mean_iou(net, classes)
        found = Found(split, names, seed, iterations, grid, net_score, dict(released or {}))
        found.of_present[None] = _of_present(net)
        _climb(found, lambda name, new: counter.scores(name, new, workers, progress), classes)
    return replace(found, counted=len(counter.counted))


def _climb(
    found: Found,
    score: Callable[[str, Sequence[CrfParams]], list[Scores]],
    classes: Sequence[int],
) -> None:
    """Score the grid, the released settings, and then neighbours of the best, round after round."""

    def try_out(kind: str, settings: Sequence[CrfParams]) -> None:
        tried = found.scores
        new = [params for params in dict.fromkeys(settings) if params not in tried]
        if new:
            name = f"{len(found.rounds) + 1}-{kind}"
            both = list(zip(new, score(name, new), strict=True))
            found.rounds[name] = {params: _mean_iou(each, classes) for params, each in both}
            found.of_present.update((params, _of_present(each)) for params, each in both)

    try_out("grid", found.grid.settings())
    try_out("released", list(found.released.values()))
    for divisor in _DIVISORS:
        centre = None
        while centre != found.best:
            centre = found.best
            try_out("around", found.grid.around(centre, divisor))


@dataclass(frozen=True)
class _Counter:
    """Scores settings, and keeps the counts of each image in a folder; counted: those not kept."""

    devkit: Devkit
    probs: Path
    inputs: dict[str, str]
    iterations: int
    folder: Path
    counted: list[Path] = field(default_factory=list)

    def scores(
        self, round_: str, settings: Sequence[CrfParams], workers: Workers, progress: Progress
    ) -> list[Scores]:
        """The scores of each setting; without settings, those of the net alone."""
        folder = self.folder / round_
        make_folder(folder)
        remove_unfinished(folder)
        n = self.devkit.n_labels
        what = json.dumps([__version__, self.iterations, n, *map(astuple, settings)])
        made_of = {
            name: MadeOf(inputs, sha256_of_text(what)) for name, inputs in self.inputs.items()
        }
        total = np.zeros((max(1, len(settings)), n, n), np.int64)
        missing = []
        for name in self.inputs:
            kept = read_counts(folder / name, made_of[name])
            if kept is None:
                missing.append(name)
            else:
                total += kept.reshape(total.shape)
        function = partial(
            _count, self.devkit.absolute(), self.probs.absolute(), self.iterations, tuple(settings)
        )
        with progress(f"{round_} ({len(settings)} settings)", len(self.inputs)) as advance:
            for _ in range(len(self.inputs) - len(missing)):
                advance()
            for name, counts in workers.map(function, missing):
                if isinstance(counts, DeepLabError):
                    raise counts
                keep_counts(folder / name, made_of[name], counts)
                self.counted.append(folder / name)
                total += counts
                advance()
        return [image_scores(counts) for counts in total]


def _mean_iou(scores: Scores, classes: Sequence[int]) -> float:
    return float(scores.iou[list(classes)].mean()) if classes else scores.mean_iou


def _of_present(scores: Scores) -> OfPresent:
    return OfPresent(scores.n_present, scores.n_labels, scores.mean_iou_of_present)


def _count(
    devkit: Devkit, folder: Path, iterations: int, settings: tuple[CrfParams, ...], name: str
) -> Confusion:
    """Count an image's pixels by true and given label: settings x n x n.

    Without settings 1 x n x n, for the labels of the net alone.
    """
    photo, mask, n = devkit.photo(name), devkit.mask(name), devkit.n_labels
    image, labels_true = read_image(photo), devkit.read_mask(name)
    if labels_true.shape != image.shape[:2]:
        raise ImageError(
            f"{one_line(mask)}: is {dims(labels_true.shape)}, expected its photo's "
            f"{dims(image.shape[:2])} (HxW)"
        )
    path = find_probs(photo, folder)
    if path is None:
        raise FileError(f"{one_line(folder)}: the scores of {name} are not there any more")
    probs = read_probs(path, image.shape[:2])
    if len(probs) != n:
        raise ArgumentError(
            f"{one_line(path)}: has {len(probs)} labels, but {devkit.classes_told}: "
            f"{devkit.classes_mend}"
        )
    places = {params: place for place, params in enumerate(settings)}
    counts = np.empty((max(1, len(settings)), n, n), np.int64)
    try:
        for params, labels in sweep(image, probs, settings, iterations):
            counts[places[params]] = confusion(labels_true, labels, n)
    except (ArgumentError, ResourceError) as error:
        raise type(error)(f"{one_line(photo)} with {one_line(path)}: {error}") from error
    if not settings:
        counts[0] = confusion(labels_true, probs.argmax(axis=0).astype(np.uint8), n)
    return counts


def sample(names: list[str], images: int, seed: int) -> list[str]:
    """Draw so many of the names, in their order; NumPy promises the same draw for ever."""
    if images < 1:
        raise ArgumentError(f"images is {images}, expected 1 or more")
    if not 0 <= seed < 1 << 32:
        raise ArgumentError(f"seed is {seed}, expected 0 to {(1 << 32) - 1}")
    chosen = np.random.RandomState(seed).permutation(len(names))[:images]
    return [names[place] for place in sorted(chosen)]
