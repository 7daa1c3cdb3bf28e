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
from collections.abc import Iterator, Sequence
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
from deeplab_repro.errors import ArgumentError, DeepLabError, FileError
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
from deeplab_repro.voc.crossval import Found, search
from deeplab_repro.voc.devkit import Devkit
from deeplab_repro.voc.grid import SearchGrid, bilateral, numbers_text
from deeplab_repro.voc.metrics import Confusion, confusion, image_scores, trimap_confusions
from deeplab_repro.voc.records import read_scores_record
from deeplab_repro.work.workers import Workers

GRID = SearchGrid((2, 4, 8), (40, 80, 120), (3, 5))
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
        raise FileError(f"{scores}: the scores of {name} are not there any more")
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


def counts_of(
    devkit: Devkit,
    scores: Path,
    inputs: dict[str, str],
    settings: Settings,
    folder: Path,
    *,
    workers: Workers,
) -> Iterator[tuple[str, Confusion]]:
    """The counts of each photo, of an earlier run where they are there; they are kept in `folder`.

    inputs: by the photo's name, the digest of all that its counts are made of.
    """
    make_folder(folder)
    n = devkit.n_labels
    shape = len(settings), len(AREAS), n, n
    what = [__version__, n, THIN, len(AREAS), [crf and astuple(crf) for crf in settings.values()]]
    digest = sha256_of_text(json.dumps(what))
    missing = []
    function = partial(count, devkit.absolute(), scores.absolute(), settings)
    with progress(f"scoring {len(settings)} settings", len(inputs)) as advance:
        for name, of in inputs.items():
            kept = read_counts(folder / name, MadeOf(of, digest))
            if kept is None:
                missing.append(name)
            else:
                advance()
                yield name, kept.reshape(shape)
        for name, counts in workers.map(function, missing):
            if isinstance(counts, DeepLabError):
                raise counts
            keep_counts(folder / name, MadeOf(inputs[name], digest), counts)
            advance()
            yield name, counts


@dataclass
class Measured:
    """What was counted.

    counts: by setting and area, labels x labels: of `names`, on which nothing was chosen. total:
    the same of the whole split, without the setting that was found. photos_with: how many photos of
    the split have a class, by its name. gains: by the photo, the pixel accuracy that the setting
    that was found adds to the net's, in percent points.
    """

    classes: tuple[str, ...]
    settings: Settings
    names: list[str]
    counts: Confusion
    total: Confusion
    photos_with: dict[str, int]
    gains: dict[str, float]

    @property
    def frequent(self) -> list[int]:
        """The classes that are in FEW photos or more, by label."""
        there = enumerate(self.photos_with.values())
        return [label for label, photos in there if photos >= FEW]

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


def measure(
    devkit: Devkit, split: str, scores: Path, out: Path, images: int, seed: int, workers: Workers
) -> tuple[Found, Measured]:
    """Score all photos of a split, search on some, and score what was found on the others.

    Raises what `search` raises, and ArgumentError where no photo is left.
    """
    settings, n = published_settings(), devkit.n_labels
    names = devkit.ids(split)
    if images >= len(names):
        raise ArgumentError(f"{images} of {len(names)} photos are to choose by: none would be left")
    files = find_files(devkit, split, scores, names)
    counted = partial(counts_of, devkit, scores, workers=workers)
    with hold(out, reading=[scores]):
        check_scores(files, read_scores_record(scores))
        inputs = {name: digest_of(*each) for name, each in files.items()}
        for _ in counted(inputs, settings, out / "counts/published"):
            pass  # they are kept, and added up when it is known which were chosen by
    found = search(
        devkit, split, scores, out / "search", GRID, images=images, seed=seed,
        workers=workers, progress=progress,
    )  # fmt: skip
    chosen = set(found.names)
    kept_back = {name: of for name, of in inputs.items() if name not in chosen}
    total = np.zeros((len(settings), len(AREAS), n, n), np.int64)
    counts = np.zeros((len(settings) + 1, *total.shape[1:]), np.int64)
    photos_with, gains = np.zeros(n, np.int64), dict.fromkeys(kept_back, 0.0)
    best: Settings = {CHOSEN: found.best}
    with hold(out, reading=[scores]):
        for name, each in counted(inputs, settings, out / "counts/published"):
            total += each
            photos_with += each[0, 0].any(axis=1)
            if name in kept_back:
                counts[:-1] += each
                gains[name] -= image_scores(each[0, 0]).pixel_accuracy
        for name, each in counted(kept_back, best, out / "counts/found"):
            counts[-1] += each[0]
            gains[name] += image_scores(each[0, 0]).pixel_accuracy
    there = dict(zip(devkit.classes, photos_with.tolist(), strict=True))
    both = {**settings, **best}
    return found, Measured(devkit.classes, both, list(kept_back), counts, total, there, gains)


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
            for (name, params), of_setting in zip(measured.settings.items(), counts, strict=False)
        ]

    return {
        "split": found.split,
        "photos": len(measured.names) + len(found.names),
        "kept_back": len(measured.names),
        "frequent_classes": [measured.classes[label] for label in measured.frequent],
        "photos_with": measured.photos_with,
        "settings": rows(measured.counts),
        "settings_on_all_photos": rows(measured.total),
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
            f"{len(measured.names)} photos of {found.split} on which nothing was chosen, percent. "
            f"Mean IOU over the classes that are in {FEW} photos or more: {', '.join(frequent)}. "
            f"Found on {len(found.names)} other photos, seed {found.seed}: "
            f"{numbers_text(bilateral(found.best))}.",
            "",
            table(report["settings"]),
            "",
            f"All {report['photos']} photos. Mean IOU over all classes: "
            + ", ".join(
                f"{row['setting']} {row['areas']['whole']['mean_iou_of_all']:.2f}"
                for row in report["settings_on_all_photos"]
            ) + ".",
            "",
            table(report["settings_on_all_photos"]),
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
