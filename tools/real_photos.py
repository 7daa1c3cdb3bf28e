"""What the CRF does on real photos, with the scores that some net gave them.

    python tools/real_photos.py --voc VOC2012 --split val --scores DIR --out DIR

DIR of --scores holds a file for each photo, as `crossval` takes them. CRF parameters are searched
for on some photos that are drawn at random, as `crossval` does. On all others the net alone and the
CRF are scored, with each published setting and with the one that was found: whole photos, trimaps
of 1 to 40 pixels, thin parts. OUT gets real_photos.md, .json, .png and .svg. After a stop it goes
on where it was.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deeplab_repro.arrays import UInt8
from deeplab_repro.cli.console import progress
from deeplab_repro.cli.options import add_devkit, add_workers, devkit_of, whole_number, workers_of
from deeplab_repro.crf.params import CrfParams
from deeplab_repro.crf.sweep import sweep
from deeplab_repro.errors import ArgumentError, DeepLabError, FileError, one_line
from deeplab_repro.files.holding import hold
from deeplab_repro.files.images import VOID, read_image
from deeplab_repro.files.made_of import MadeOf, sha256_of_text
from deeplab_repro.files.marks import write_noted
from deeplab_repro.files.probs import read_probs
from deeplab_repro.files.targets import make_folder
from deeplab_repro.jobs.refine import find_probs
from deeplab_repro.machine.opencv import cv2
from deeplab_repro.models.registry import MODELS
from deeplab_repro.show.plot import PlotError, new_figure, write_figure
from deeplab_repro.version import __version__
from deeplab_repro.voc.counts import (
    check_scores,
    digest_of,
    find_files,
    keep_counts,
    read_counts,
)
from deeplab_repro.voc.crossval import Found, sample, search
from deeplab_repro.voc.devkit import Devkit
from deeplab_repro.voc.grid import SearchGrid, bilateral, numbers_text
from deeplab_repro.voc.metrics import Confusion, confusion, image_scores, trimap_confusions
from deeplab_repro.voc.records import read_scores_record
from deeplab_repro.work.workers import Workers

GRID = SearchGrid((2, 4, 8), (40, 80, 120), (3,))
"""About the published settings, in wide steps: the best is refined in finer ones."""

WIDTHS = range(1, 41)
THIN = 16  # pixels: what a disc of this width does not fit into; the stride of many nets
AREAS = ("whole", "thin", *WIDTHS)
FEW = 50  # photos: the score of a class that is in fewer says little
NET, CHOSEN = "net alone", "found here"
SHOWN = 5  # of the photos with the largest gain and loss

Settings = dict[str, CrfParams | None]


def published_settings() -> Settings:
    """The CRFs that were published for VOC's photos, by the models that they came with."""
    names: dict[CrfParams, list[str]] = {}
    for model in MODELS.values():
        if model.crf and model.knows == "photos":
            names.setdefault(model.crf, []).append(model.name)
    return {NET: None, **{", ".join(models): crf for crf, models in names.items()}}


def thin_parts(labels_true: UInt8) -> npt.NDArray[np.bool_]:
    """The pixels of objects that are nowhere in a disc of THIN pixels that lies in their object."""
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (THIN, THIN))
    thin = np.zeros(labels_true.shape, bool)
    for label in np.unique(labels_true):
        if label not in (0, VOID):
            own = (labels_true == label).astype(np.uint8)
            thin |= (own > 0) & (cv2.morphologyEx(own, cv2.MORPH_OPEN, disc) == 0)
    return thin


def count(devkit: Devkit, scores: Path, settings: Settings, name: str) -> Confusion:
    """Count a photo's pixels by true and given label: settings x areas x labels x labels."""
    image, labels_true, n = read_image(devkit.photo(name)), devkit.read_mask(name), devkit.n_labels
    path = find_probs(devkit.photo(name), scores)
    if path is None:
        raise FileError(f"{one_line(scores)}: the scores of {name} are not there any more")
    probs = read_probs(path, image.shape[:2])
    only_thin = np.where(thin_parts(labels_true), labels_true, np.uint8(VOID))
    labels: dict[CrfParams | None, UInt8] = {None: probs.argmax(axis=0).astype(np.uint8)}
    crfs = [params for params in settings.values() if params]
    labels.update(sweep(image, probs, crfs))
    return np.array(
        [
            [
                confusion(labels_true, labels[params], n),
                confusion(only_thin, labels[params], n),
                *trimap_confusions(labels_true, labels[params], n, WIDTHS),
            ]
            for params in settings.values()
        ]
    )


def count_all(
    devkit: Devkit,
    scores: Path,
    inputs: dict[str, str],
    settings: Settings,
    folder: Path,
    workers: Workers,
) -> tuple[Confusion, dict[str, npt.NDArray[np.float64]]]:
    """The counts of all photos, and each one's pixel accuracy with each setting, in percent.

    inputs: by the photo's name, the digest of all that its counts are made of. folder: the counts
    are kept there, and taken from there where an earlier run had come so far.
    """
    make_folder(folder)
    n = devkit.n_labels
    what = [__version__, n, THIN, len(AREAS), [crf and astuple(crf) for crf in settings.values()]]
    digest = sha256_of_text(json.dumps(what))
    total = np.zeros((len(settings), len(AREAS), n, n), np.int64)
    accuracy, missing = {}, []

    def add(name: str, counts: Confusion) -> None:
        np.add(total, counts, out=total)
        accuracy[name] = np.array([image_scores(whole).pixel_accuracy for whole in counts[:, 0]])
        advance()

    with progress(f"scoring {len(settings)} settings", len(inputs)) as advance:
        for name, of in inputs.items():
            kept = read_counts(folder / name, MadeOf(of, digest))
            if kept is None:
                missing.append(name)
            else:
                add(name, kept.reshape(total.shape))
        function = partial(count, devkit.absolute(), scores.absolute(), settings)
        for name, counts in workers.map(function, missing):
            if isinstance(counts, DeepLabError):
                raise counts
            keep_counts(folder / name, MadeOf(inputs[name], digest), counts)
            add(name, counts)
    return total, accuracy


@dataclass
class Measured:
    """What was counted on photos by which nothing was chosen.

    counts: by setting and area, labels x labels. photos_with: how many photos of the whole split
    have a class, by its name. gains: by the photo, the pixel accuracy that the setting that was
    found adds to the net's, in percent points.
    """

    classes: tuple[str, ...]
    settings: Settings
    counts: Confusion
    photos_with: dict[str, int]
    gains: dict[str, float]

    @property
    def frequent(self) -> list[int]:
        """The classes that are in FEW photos or more, by label."""
        return frequent(list(self.photos_with.values()))

    def scores(self, counts: Confusion) -> dict[str, float]:
        """Pixel accuracy and mean IOU over the frequent classes, in percent, of one matrix."""
        found = image_scores(counts)
        return {
            "pixel_accuracy": found.pixel_accuracy,
            "mean_iou": float(found.iou[self.frequent].mean()),
            "mean_iou_of_all": found.mean_iou,
        }

    def ranked(self) -> list[str]:
        """The photos by their gain, the largest first."""
        return sorted(self.gains, key=lambda name: -self.gains[name])


def frequent(photos_with: Sequence[int]) -> list[int]:
    """The labels that are in FEW photos or more."""
    return [label for label, photos in enumerate(photos_with) if photos >= FEW]


def measure(
    devkit: Devkit, split: str, scores: Path, out: Path, images: int, seed: int, workers: Workers
) -> tuple[Found, Measured]:
    """Search on some photos of a split, and score all settings on the others.

    Raises what `search` raises, and ArgumentError where no photo is left.
    """
    settings, names, n = published_settings(), devkit.ids(split), devkit.n_labels
    if images >= len(names):
        raise ArgumentError(f"{images} of {len(names)} photos are to choose by: none would be left")
    files = find_files(devkit, split, scores, names)
    check_scores(files, read_scores_record(scores))
    photos_with = [0] * n
    for name in names:
        there = np.bincount(devkit.read_mask(name).ravel(), minlength=n)[:n] > 0
        photos_with = [a + int(b) for a, b in zip(photos_with, there, strict=True)]
    chosen_by = set(sample(names, images, seed))
    others = {name: digest_of(*files[name]) for name in names if name not in chosen_by}
    with hold(out, reading=[scores]):
        counts, before = count_all(
            devkit, scores, others, settings, out / "counts/published", workers
        )
    found = search(
        devkit, split, scores, out / "search", GRID, images=images, seed=seed,
        classes=frequent(photos_with), workers=workers, progress=progress,
    )  # fmt: skip
    best: Settings = {CHOSEN: found.best}
    with hold(out, reading=[scores]):
        more, after = count_all(devkit, scores, others, best, out / "counts/found", workers)
    return found, Measured(
        devkit.classes,
        {**settings, **best},
        np.concatenate([counts, more]),
        dict(zip(devkit.classes, photos_with, strict=True)),
        {name: float(after[name][-1] - before[name][0]) for name in others},
    )


def as_json(found: Found, measured: Measured) -> dict[str, Any]:
    """All numbers as plain data, in percent."""

    def rows(counts: Confusion) -> list[dict[str, Any]]:
        return [
            {
                "setting": name,
                "crf": params and astuple(params),
                "areas": {
                    str(area): measured.scores(of_area)
                    for area, of_area in zip(AREAS, of_setting, strict=True)
                },
                "iou": dict(zip(measured.classes, image_scores(of_setting[0]).iou, strict=True)),
            }
            for (name, params), of_setting in zip(measured.settings.items(), counts, strict=True)
        ]

    return {
        "split": found.split,
        "photos": len(measured.gains) + len(found.names),
        "kept_back": len(measured.gains),
        "frequent_classes": [measured.classes[label] for label in measured.frequent],
        "photos_with": measured.photos_with,
        "settings": rows(measured.counts),
        "gains": {name: measured.gains[name] for name in measured.ranked()},
        "search": found.as_json(),
    }


def as_markdown(found: Found, measured: Measured) -> str:
    """The figures as tables in Markdown."""
    frequent = [measured.classes[label] for label in measured.frequent]
    shown = {"whole": "photos", "3": "trimap 3", "10": "trimap 10", "thin": "thin parts"}
    report = as_json(found, measured)

    def table(settings: list[dict[str, Any]]) -> str:
        heading = ["", "CRF", *(f"{area}: pixels | mean IOU" for area in shown.values())]
        lines = [heading, ["---"] * (2 + 2 * len(shown))]
        for row in settings:
            crf = numbers_text(row["crf"]) if row["crf"] else ""
            each = [row["areas"][area] for area in shown]
            values = [f"{of[key]:.2f}" for of in each for key in ("pixel_accuracy", "mean_iou")]
            lines.append([row["setting"], crf, *values])
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    net, best = (image_scores(measured.counts[place, 0]).iou for place in (0, -1))
    by_class = [
        f"| {measured.classes[label]} | {measured.photos_with[measured.classes[label]]} | "
        f"{net[label]:.2f} | {best[label]:.2f} | {best[label] - net[label]:+.2f} |"
        for label in measured.frequent
    ]
    ranked = measured.ranked()
    extremes = [
        f"| {name} | {measured.gains[name]:+.2f} |" for name in (*ranked[:SHOWN], *ranked[-SHOWN:])
    ]
    better = sum(gain > 0 for gain in measured.gains.values())
    return "\n".join(
        [
            f"{len(measured.gains)} photos of {found.split} by which nothing was chosen, percent. "
            f"Mean IOU over the classes that are in {FEW} photos or more: {', '.join(frequent)}. "
            f"Found on {len(found.names)} other photos, seed {found.seed}: "
            f"{numbers_text(bilateral(found.best))}.",
            "",
            table(report["settings"]),
            "",
            "| class | photos | net's IOU | with the CRF that was found | gain |",
            "| --- | --- | --- | --- | --- |",
            *by_class,
            "",
            f"Of the {len(ranked)} photos {better} have more right pixels than before. "
            "The largest gains and losses, percent of the photo's pixels:",
            "",
            "| photo | gain |",
            "| --- | --- |",
            *extremes,
            "",
        ]
    )  # fmt: skip


def draw(out: Path, measured: Measured) -> None:
    """Draw the scores near borders as real_photos.png and .svg. Raises PlotError."""
    figure = new_figure(9, 3.8)
    panels = figure.subplots(1, 2)
    titles = {"pixel_accuracy": "pixel accuracy", "mean_iou": "mean IOU of the frequent classes"}
    for axes, (key, title) in zip(panels, titles.items(), strict=True):
        for (name, params), counts in zip(measured.settings.items(), measured.counts, strict=True):
            values = [measured.scores(of_width)[key] for of_width in counts[-len(WIDTHS) :]]
            is_ours = name in (NET, CHOSEN)
            label = f"{name}: {numbers_text(bilateral(params))}" if params else name
            axes.plot(
                WIDTHS, values, label=label, linewidth=2.2 if is_ours else 1,
                linestyle="-" if is_ours else "--",
                color={NET: "#D55E00", CHOSEN: "#0072B2"}.get(name),
            )  # fmt: skip
        axes.set(title=title, xlabel="trimap width (pixels)", ylabel="percent")
        axes.grid(alpha=0.3)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize="small")
    for kind in ("png", "svg"):
        write_figure(out / f"real_photos.{kind}", figure)


def main(argv: Sequence[str] | None = None) -> None:
    """Read the arguments; an error is one line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_devkit(parser)
    parser.add_argument("--scores", metavar="DIR", type=Path, required=True)
    parser.add_argument("--out", metavar="DIR", type=Path, required=True)
    choose = "how many photos to choose the CRF's parameters by (default: %(default)s)"
    parser.add_argument("--choose", metavar="N", type=whole_number(1), default=100, help=choose)
    parser.add_argument("--seed", metavar="N", type=whole_number(0), default=0)
    add_workers(parser)
    arguments = parser.parse_args(argv)
    out = arguments.out
    try:
        found, measured = measure(
            devkit_of(arguments), arguments.split, arguments.scores, out, arguments.choose,
            arguments.seed, workers_of(arguments),
        )  # fmt: skip
        text = as_markdown(found, measured)
        write_noted(out / "real_photos.md", text.encode())
        write_noted(
            out / "real_photos.json", json.dumps(as_json(found, measured), indent=1).encode()
        )
        try:
            draw(out, measured)
        except PlotError as error:
            print(f"{parser.prog}: nothing is drawn: {error}", file=sys.stderr)
    except DeepLabError as error:
        parser.exit(2, f"{parser.prog}: error: {error}\n")
    print(text)


if __name__ == "__main__":
    main()
