"""Segment a split of a data set: labels, one PNG an image, in the test server's layout.

A run may be stopped at any moment, by kill -9 too: files appear whole or not at all, and the next
run with the same arguments goes on with what is missing. The files are the same in the end.
"""

import gzip
import logging
import math
import os
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cache, partial
from pathlib import Path

from deeplab_repro.caffe import read_caffemodel
from deeplab_repro.crf.params import CrfParams
from deeplab_repro.errors import (
    ArgumentError,
    DeepLabError,
    FileError,
    ResourceError,
    one_line,
)
from deeplab_repro.files.holding import hold
from deeplab_repro.files.images import is_picture, read_image
from deeplab_repro.files.made_of import is_made_of, sha256_of, sha256_of_text
from deeplab_repro.files.marks import MADE_BY
from deeplab_repro.files.safetensors import is_safetensors
from deeplab_repro.files.targets import check_targets, make_folder
from deeplab_repro.files.whole import open_to_read, remove_unfinished, write_atomically
from deeplab_repro.jobs.done import net_digest
from deeplab_repro.machine.device import SCORES_TYPES, ScoresType
from deeplab_repro.machine.memory import available_memory
from deeplab_repro.models.fetched import weights_file
from deeplab_repro.models.loading import RANDOM, read_model, require_weights
from deeplab_repro.models.registry import MODELS
from deeplab_repro.models.usable import check_net, published_crf
from deeplab_repro.net.net import Net
from deeplab_repro.segmenter import DEFAULT_MODEL, DeepLab, Recipe
from deeplab_repro.version import __version__
from deeplab_repro.voc.devkit import Devkit, results_folder
from deeplab_repro.voc.records import (
    NetRecord,
    Record,
    ScoresRecord,
    read_scores_record,
    record_path,
    scores_record_path,
    write_or_compare,
)
from deeplab_repro.voc.scores_of_others import scores_of_others
from deeplab_repro.voc.segmenting import Segmenting
from deeplab_repro.work.outcomes import Failed, attempt
from deeplab_repro.work.progress import Progress, unwatched
from deeplab_repro.work.stages import io_threads, n_cores
from deeplab_repro.work.workers import HERE, Workers

_log = logging.getLogger(__name__)

_LOOKED_AT = 5  # photos that show what kind of picture a split has


@dataclass(frozen=True)
class Predicted:
    """What came of a split.

    folder: of the PNGs; record: how they were made; names: the ids of the split; failed: the images
    that could not be segmented, and why; there: how many labels an earlier run had made.
    """

    folder: Path
    record: Record
    names: list[str]
    failed: list[Failed]
    there: int


def predict(
    devkit: Devkit,
    split: str,
    out: Path,
    recipe: Recipe,
    *,
    scores: Path | None = None,
    precision: ScoresType | None = None,
    workers: Workers = HERE,
    force: bool = False,
    progress: Progress = unwatched,
) -> Predicted:
    """Segment what of a split has no labels yet.

    Writes <out>/results/<year>/Segmentation/comp6_<split>_cls/<id>.png, palette PNGs of the photos'
    size, and <out>/predict.<split>.json, which says how they were made. Labels and scores that are
    there count if they are whole and were made of the photo as it is now; others are made again.

    scores: a folder for the net's coarse scores, <id>.npz (see `probs.write_coarse`). Where they
        are there the net does not run; if all are, no weights are needed. The labels are made of
        the scores as they are kept. Or a folder of scores of any origin (see `read_probs`), one of
        each image: there is no net then, and nothing is written there.
    precision: of kept scores; None for that of those that are there, or else float16.
    workers: on a cluster, all paths are to mean the same files.
    force: do it even if the weights were trained on val, and the split has its images; and replace
        PNGs of others.

    Raises ArgumentError where `out` or `scores` hold what was made in another way, where the net
    has other labels than the data set, and for weights trained on val; FileError for photos that
    are missing, folders that another run works on and what cannot be written; DeviceError for a
    device that a worker does not have; and what `DeepLab` raises.
    """
    if recipe.max_side is not None:
        raise ArgumentError(
            f"max_side is {recipe.max_side}, expected None: scores are those of photos at full size"
        )
    names = devkit.ids(split)
    devkit.require(names, split, masks=False)
    if precision not in (None, *SCORES_TYPES):
        known = " or ".join(SCORES_TYPES)
        raise ArgumentError(f"kept scores are to be {precision!r}, expected {known}")
    given = None if scores is None else scores_of_others(devkit, names, scores, recipe)
    if given and precision:
        raise ArgumentError(
            f"{one_line(str(scores))}: has scores that predict did not keep, which are read as "
            "they are: leave out --scores-type"
        )
    kept = None if scores is None else read_scores_record(scores)
    digest = cache(lambda name: sha256_of(devkit.photo(name)))
    unkept = set() if scores is None or given else _unkept(scores, names, kept, digest)
    has_all = given is not None or (kept is not None and not unkept)
    if given:
        net = given.record
        crf = published_crf(net.model) if recipe.crf == "model" else recipe.crf
    else:
        net, crf = _resolve(recipe, kept if has_all else None)
    record = Record(
        **asdict(net),
        split=split,
        crf=crf,
        iterations=recipe.iterations,
        scores=None
        if scores is None or given
        else precision or (kept.precision if kept else "float16"),
    )
    _check_labels(record, devkit)
    devkit.warn_of_other_classes(names)
    _check_training_set(record, force)
    folder = results_folder(out, split, devkit.year)
    reading = [] if scores is None or unkept else [scores]
    writing = [out] if scores is None or reading else [out, scores]
    with hold(*writing, reading=reading) as held:
        # A cluster's workers have another working directory.
        segmenting = Segmenting(
            devkit.absolute(),
            folder.absolute(),
            recipe.absolute(),
            record,
            scores and scores.absolute(),
            held,
            given,
        )
        todo = [name for name in names if name in unkept or not segmenting.has_labels(name, digest)]
        _check_pictures(devkit, folder, todo, force)
        # Not where all is done, and not where kept scores stand in for weights.
        needs_net = bool(todo) and not (has_all and recipe.weights is None)
        model = _build(recipe, workers, scores is not None) if needs_net else None
        if model:
            _warn_of_photos(model, map(devkit.photo, todo[:_LOOKED_AT]))
        _begin(out, folder, scores, record)
        writing.append(folder)
        for each in writing:
            remove_unfinished(each)
        outcomes = _outcomes(segmenting, todo, model, workers)
        model = None  # workers build their own, and need the memory
        there = len(names) - len(todo)
        with progress(f"segmenting {split}", len(names)) as advance:
            for _ in range(there):
                advance()
            failed = list(_failures(outcomes, devkit, advance))
        for each in writing:
            remove_unfinished(each)
    return Predicted(folder, record, names, failed, there)


def _failures(
    outcomes: Iterable[tuple[str, Failed | DeepLabError | None]],
    devkit: Devkit,
    advance: Callable[[], object],
) -> Iterator[Failed]:
    """What became of images that have no labels; raises what affects every image."""
    for name, outcome in outcomes:
        if isinstance(outcome, ResourceError):
            yield Failed(devkit.photo(name), outcome)
        elif isinstance(outcome, DeepLabError):
            raise outcome  # a full disk, a device that is not there
        elif outcome:
            yield outcome
        advance()


def _check_pictures(devkit: Devkit, folder: Path, todo: Sequence[str], force: bool) -> None:
    """Refuse to replace a picture that another program put where a result is to be.

    What is no picture any more is made again, whoever wrote it.
    """
    targets = {devkit.photo(name): [folder / f"{name}.png"] for name in todo}
    pictures = {photo: files for photo, files in targets.items() if is_picture(files[0])}
    check_targets(pictures, targets, force)


def _unkept(
    scores: Path, names: list[str], kept: ScoresRecord | None, digest: Callable[[str], str]
) -> set[str]:
    """The ids whose scores are not kept, or are not their own. Warns of the latter."""
    there = [name for name in names if os.path.exists(scores / f"{name}.npz")] if kept else []
    fit = {
        name
        for name in there
        if kept and is_made_of(scores / f"{name}.npz", kept.digest, partial(digest, name))
    }
    unfit = [name for name in there if name not in fit]
    if unfit:
        _log.warning(
            "%s: the scores of %s (and of %d more) are broken, or of another photo than it is now: "
            "they are made again",
            one_line(scores),
            unfit[0],
            len(unfit) - 1,
        )
    return set(names) - fit


def _begin(out: Path, folder: Path, scores: Path | None, record: Record) -> None:
    """Make the folder of the results, and write or compare the records of what is made."""
    make_folder(folder)
    write_or_compare(record_path(out, record.split), asdict(record), any(folder.glob("*.png")))
    if scores is not None and record.scores_record is not None:
        made = asdict(record.scores_record)
        write_or_compare(scores_record_path(scores), made, any(scores.glob("*.npz")))


def _outcomes(
    segmenting: Segmenting, names: list[str], model: DeepLab | None, workers: Workers
) -> Iterable[tuple[str, Failed | DeepLabError | None]]:
    """Each name with what came of it: in threads beside a GPU, else by the workers.

    model: what is built already, if anything is.
    """
    is_on_gpu = "cuda" in (segmenting.recipe.device, model and model.device)
    if model and not workers.scheduler and (is_on_gpu or workers.processes == 0):
        segmenting.keep(model)
    if is_on_gpu and not workers.scheduler:
        # Beside one GPU other processes could only read and write, which threads do as well.
        threads = min(workers.processes, io_threads("cuda"))
        return zip(names, segmenting.many(names, threads), strict=True)
    processes = min(workers.processes, _most_processes(model))
    return replace(workers, processes=processes).map(segmenting, names)


def _resolve(recipe: Recipe, kept: ScoresRecord | None) -> tuple[NetRecord, CrfParams | None]:
    """What the net is, and the CRF's parameters.

    kept: of the scores, if all are kept: they do without weights.
    """
    if kept and recipe.weights is None and _asks_for(recipe, kept):
        made = {each.name: getattr(kept, each.name) for each in fields(NetRecord)}
        record, block = NetRecord(**made | {"version": __version__}), None
    else:
        net = read_model(recipe.model or DEFAULT_MODEL, recipe.variables).ending_in_scores()
        check_net(net)
        record, block = _net_record(net, recipe), net.dense_crf
    return record, published_crf(record.model, block) if recipe.crf == "model" else recipe.crf


def _build(recipe: Recipe, workers: Workers, keeps_scores: bool) -> DeepLab:
    """The model; for a cluster, whose GPUs are not here, on the CPU whatever was asked for."""
    mine = replace(recipe, device="cpu", precision="float32") if workers.scheduler else recipe
    model = mine.build()
    if keeps_scores and model.net.coarse_output[1] == 1:
        _log.warning(
            "net '%s' adds up branches at full size: its scores are kept for every pixel, which "
            "takes some 6 MB a photo of VOC's size",
            model.net.name,
        )
    return model


def _warn_of_photos(model: DeepLab, photos: Iterable[Path]) -> None:
    """What the workers would each tell for themselves; a broken photo is theirs to tell."""
    for path in photos:
        image = attempt(read_image, path, path)
        if not isinstance(image, Failed):
            model.warn_of_photo(image, path.name)


def _asks_for(recipe: Recipe, kept: ScoresRecord) -> bool:
    """Whether a recipe means the net that made kept scores."""
    if recipe.model is None:
        return True
    net = read_model(recipe.model, recipe.variables).ending_in_scores()
    return net_digest(net) == kept.net_sha256


def _most_processes(model: DeepLab | None) -> int:
    """How many processes with this model the memory allows."""
    if model is None:
        return n_cores()
    height, width = model.net.input_shape[2:]
    room = (available_memory() or math.inf) // model.memory_needed((height, width))
    return max(1, int(room))


def pack(predicted: Predicted, path: Path) -> None:
    """Pack a split's results as the test server wants them: a gzipped tar with results/...

    The same results make the same bytes. Atomically; raises FileError where images are without
    results, or if the file cannot be written.
    """
    files = [predicted.folder / f"{name}.png" for name in predicted.names]
    missing = [file for file in files if not file.is_file()]
    if missing:
        raise FileError(
            f"{one_line(path)}: not written, {len(missing)} of {len(files)} results are "
            f"missing, {one_line(missing[0])} is the first: run it again"
        )
    top = predicted.folder.parents[3]
    with (
        write_atomically(path) as file,
        gzip.GzipFile(filename=f"{MADE_BY}.tar", mode="wb", fileobj=file, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as archive,
    ):
        for each in files:
            info = tarfile.TarInfo(each.relative_to(top).as_posix())
            with open_to_read(each) as (content, info.size):
                archive.addfile(info, content)


def _net_record(net: Net, recipe: Recipe) -> NetRecord:
    weights = str(require_weights(net, weights_file(recipe.weights, recipe.model or DEFAULT_MODEL)))
    digest, trained_on = sha256_of_text(weights), None
    if not weights.startswith(RANDOM):
        digest = sha256_of(weights)
        if not is_safetensors(weights):
            trained_on = read_caffemodel(weights, weights=False).training_list
        trained_on = trained_on or _released_as(Path(weights).name)
    return NetRecord(
        model=net.name,
        labels=net.output_shape()[1],
        net_sha256=net_digest(net),
        weights=Path(weights).name,
        weights_sha256=digest,
        trained_on=trained_on,
        arithmetic=recipe.precision,
        version=__version__,
    )


def _released_as(file: str) -> str | None:
    """What released weights of this file name were trained on."""
    for model in MODELS.values():
        for weights in (model.train_weights, model.train2_weights):
            if weights and weights.file == file:
                return weights.training_set
    return None


def _check_labels(record: Record, devkit: Devkit) -> None:
    if record.labels != devkit.n_labels:
        raise ArgumentError(
            f"{devkit.classes_told}, but net '{record.model}' tells {record.labels} apart: "
            f"{devkit.classes_mend}"
        )


def _check_training_set(record: Record, force: bool) -> None:
    if not record.has_seen_split:
        return
    seen = (
        f"{record.weights} was trained on {record.trained_on}, which has images of split "
        f"'{record.split}': scores on it come out too high"
    )
    if "val" in record.split and not force:
        known = MODELS.get(record.model)
        own = known.train_weights.file if known and known.train_weights else "weights of train_aug"
        raise ArgumentError(f"{seen}; use {own}, or --force to have them marked as such")
    _log.warning("%s", seen)
