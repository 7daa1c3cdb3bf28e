"""Fine-tune ToyVOC's DeepLab-LargeFOV on real photos, and see what the CRF adds.

    python tools/finetune_camvid.py --data DIR --weights ToyVOC-LargeFOV.caffemodel --out DIR

DIR holds CamVid in VOC's layout: photos from a car, 11 classes, 255 void. The net, an eighth as
wide as the paper's, begins with the weights that it learned on drawn scenes; its classifier is new.
OUT gets the lists, train.prototxt and solver.prototxt, snapshots, the loss curve, scores.txt, and
examples: photo, truth, net, net + CRF. After a stop it goes on from the newest snapshot in OUT. The
val photos are only for scoring: nothing is chosen by them.
"""

import os

# Before NumPy is loaded: see deeplab_repro/train/__init__.py.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from deeplab_repro.arrays import UInt8
from deeplab_repro.cli.console import progress
from deeplab_repro.cli.options import crf_params, whole_number
from deeplab_repro.crf.dense_crf import dense_crf
from deeplab_repro.crf.params import CrfParams
from deeplab_repro.errors import DeepLabError
from deeplab_repro.files.images import VOID, read_image, read_labels
from deeplab_repro.files.pictures import palette, write_image
from deeplab_repro.files.targets import make_folder
from deeplab_repro.files.whole import check_readable, write_atomically
from deeplab_repro.models.registry import get_model
from deeplab_repro.segmenter import DeepLab
from deeplab_repro.train.curve import LossRow
from deeplab_repro.train.data import read_list
from deeplab_repro.train.run import prepare, train
from deeplab_repro.voc import metrics

NET = get_model("ToyVOC-LargeFOV")
N_LABELS = 11
VARIABLES = {"EXP": "camvid", "NUM_LABELS": str(N_LABELS)}  # classifier fc8_camvid, so filled anew
TRIMAPS = (3, 10)
ROWS = ("net", "net + CRF")
GRID = list(itertools.starmap(CrfParams, itertools.product((3, 5), (30, 60, 90), (3, 5, 10))))
CHOOSING, EXAMPLES = 20, 4  # numbers of photos

SOLVER = """\
# ToyVOC-LargeFOV on CamVid

train_net: "{out}/train.prototxt"
base_lr: 0.01
lr_policy: "poly"
power: 0.9
max_iter: {iterations}
momentum: 0.9
weight_decay: 0.0005
average_loss: 25
display: 25
snapshot: 250
snapshot_prefix: "{out}/train"
random_seed: 0
"""

Pair = tuple[str, str]  # the paths of a photo and of its label map


def write_lists(data: Path, out: Path) -> dict[str, list[Pair]]:
    """Write OUT/list/train.txt and val.txt for the data layer; the files that they name.

    Raises FileError for a missing file, before anything is trained.
    """
    make_folder(out / "list")
    pairs = {}
    for split in ("train", "val"):
        ids, target = data / f"ImageSets/Segmentation/{split}.txt", out / f"list/{split}.txt"
        check_readable(ids)
        lines = [f"/JPEGImages/{i}.jpg /SegmentationClass/{i}.png" for i in ids.read_text().split()]
        write_text(target, "".join(f"{line}\n" for line in lines))
        pairs[split] = read_list(target, data.as_posix())
        for path in itertools.chain(*pairs[split]):
            check_readable(path)
    return pairs


def write_text(path: Path, text: str) -> None:
    """Write a text, atomically."""
    with write_atomically(path) as file:
        file.write(text.encode())


def write_prototxts(data: Path, out: Path, iterations: int) -> Path:
    """Write OUT/train.prototxt, its variables filled in, and OUT/solver.prototxt, returned."""
    text = NET.train_prototxt.read_text(encoding="utf-8")
    filled = {
        "${EXP}/list/${TRAIN_SET}.txt": (out / "list/train.txt").as_posix(),
        "${DATA_ROOT}": data.as_posix(),
        **{f"${{{name}}}": value for name, value in VARIABLES.items()},
    }
    for variable, value in filled.items():
        text = text.replace(variable, value)
    write_text(out / "train.prototxt", text)
    solver = out / "solver.prototxt"
    write_text(solver, SOLVER.format(out=out.as_posix(), iterations=iterations))
    return solver


def finetune(solver_prototxt: Path, weights: Path | None) -> Path:
    """Train from the newest snapshot, or the weights, or from scratch; the last caffemodel."""
    solver, data = prepare(solver_prototxt)
    states = solver_prototxt.parent.glob("train_iter_*.solverstate")
    newest = max(states, key=lambda path: int(path.stem.rsplit("_", 1)[1]), default=None)
    if newest:
        solver.restore(newest)
        say(f"goes on from {newest.name}; for a fresh start give another --out")
    elif weights:
        left = ", ".join(solver.load(weights, partial=True))
        say(f"begins with {weights}" + (f"; filled anew: {left}" if left else ""))
    else:
        say("begins from scratch: every layer is filled at random")
    first, last, every = solver.iteration, solver.parameter.max_iter, solver.parameter.display

    def report(row: LossRow) -> None:
        done = row.iteration + 1
        if done % every == 0 or done == last:
            each = row.seconds / (done - first)
            say(f"{done} of {last} iterations  loss {row.average_loss:.3f}  {each:.2f} s each")

    return train(solver, data, report)


def choose_crf(weights: Path, pairs: Sequence[Pair]) -> CrfParams:
    """Find the setting of GRID with the highest mean IOU on a few of these photos of train."""
    model = DeepLab(NET.test_prototxt, weights, crf=None, variables=VARIABLES)
    chosen_by = spread(pairs, CHOOSING)
    counts = np.zeros((1 + len(GRID), N_LABELS, N_LABELS), np.int64)
    with progress("choosing the CRF", len(chosen_by)) as step:
        for image_path, labels_path in chosen_by:
            image, truth = read_image(image_path), read_labels(labels_path)
            found = model.run_net(image)
            refined = [dense_crf(image, found.probs, params).labels for params in GRID]
            for count, labels in zip(counts, [found.labels, *refined], strict=True):
                count += metrics.confusion(truth, labels, N_LABELS)
            step()
    alone, *ious = [metrics.image_scores(count).mean_iou for count in counts]
    best = int(np.argmax(ious))
    say(
        f"CRF: {shown(GRID[best])} is the best of {len(GRID)} settings on {len(chosen_by)} photos "
        f"of train (mean IOU {ious[best]:.1f}, the net alone {alone:.1f})"
    )
    return GRID[best]


def spread(pairs: Sequence[Pair], n: int) -> list[Pair]:
    """Up to n of the pairs, evenly spread over the list: neighbours show the same street."""
    n = min(n, len(pairs))
    return [pairs[i * len(pairs) // n] for i in range(n)]


def shown(crf: CrfParams) -> str:
    """The parameters as --crf takes them."""
    return f"{crf.w1:g},{crf.sigma_alpha:g},{crf.sigma_beta:g}"


def score(model: DeepLab, pairs: Sequence[Pair]) -> list[list[metrics.Scores]]:
    """Score the net without and with its CRF (ROWS), on whole images and in TRIMAPS."""
    counts = np.zeros((len(ROWS), 1 + len(TRIMAPS), N_LABELS, N_LABELS), np.int64)
    with progress("scoring", len(pairs)) as step:
        for image_path, labels_path in pairs:
            image, truth = read_image(image_path), read_labels(labels_path)
            found, lined = model.run_net(image), outlined(truth)
            for count, result in zip(counts, (found, model.refine(image, found)), strict=True):
                bands = metrics.trimap_confusions(lined, result.labels, N_LABELS, TRIMAPS)
                count += [metrics.confusion(truth, result.labels, N_LABELS), *bands]
            step()
    of_bands = metrics.trimap_scores
    return [[metrics.image_scores(whole), *map(of_bands, bands)] for whole, *bands in counts]


def outlined(labels: UInt8) -> UInt8:
    """The truth with a void line along its borders, 2 pixels wide, which VOC has."""
    out = labels.copy()
    for one, other in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])):
        border = labels[one] != labels[other]
        out[one][border] = out[other][border] = VOID
    return out


def table(rows: Sequence[Sequence[metrics.Scores]]) -> str:
    """The scores as a table, in percent: mean IOU and pixel accuracy."""
    areas = ["whole image", *(f"trimap {width}" for width in TRIMAPS)]
    lines = [" " * 10 + "".join(f"{area:>18}" for area in areas)]
    lines.append(" " * 10 + f"{'IOU':>10}{'pixels':>8}" * len(areas))
    for name, scores in zip(ROWS, rows, strict=True):
        cells = (f"{each.mean_iou:>10.2f}{each.pixel_accuracy:>8.2f}" for each in scores)
        lines.append(f"{name:<10}" + "".join(cells))
    return "\n".join(lines)


def write_examples(model: DeepLab, pairs: Sequence[Pair], out: Path) -> None:
    """Write OUT/example_<id>.png of a few photos: photo, truth, net, net + CRF, side by side."""
    for image_path, labels_path in spread(pairs, EXAMPLES):
        image, truth = read_image(image_path), read_labels(labels_path)
        found = model.run_net(image)
        labels = (truth, found.labels, model.refine(image, found).labels)
        gap = np.full((len(image), 4, 3), 255, np.uint8)
        panels = [panel for each in labels for panel in (gap, palette()[each])]
        example = np.concatenate([image, *panels], axis=1)
        write_image(out / f"example_{Path(image_path).stem}.png", example)


def say(text: str) -> None:
    """Tell something on stderr: only the table goes to stdout."""
    print(text, file=sys.stderr, flush=True)


def run(arguments: argparse.Namespace) -> None:
    """Lists, training, the CRF's parameters, scores and examples."""
    data, out = arguments.data.resolve(), arguments.out.resolve()
    pairs = write_lists(data, out)
    solver_prototxt = write_prototxts(data, out, arguments.iterations)
    weights = finetune(solver_prototxt, arguments.weights)
    crf = arguments.crf or choose_crf(weights, pairs["train"])
    model = DeepLab(NET.test_prototxt, weights, crf=crf, variables=VARIABLES)
    heading = f"{weights.name}, CRF {shown(crf)}, the {len(pairs['val'])} photos of val, percent"
    report = f"{heading}\n{table(score(model, pairs['val']))}"
    write_text(out / "scores.txt", f"{report}\n")
    print(report)
    write_examples(model, pairs["val"], out)


def main(argv: Sequence[str] | None = None) -> None:
    """Read the arguments; an error is one line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="CamVid in VOC's layout")
    begin = parser.add_mutually_exclusive_group(required=True)
    begin.add_argument("--weights", type=Path, help="ToyVOC-LargeFOV's caffemodel")
    begin.add_argument("--random", action="store_true", help="begin from scratch")
    parser.add_argument("--out", type=Path, required=True, help="a folder for everything written")
    parser.add_argument("--iterations", metavar="N", type=whole_number(1), default=1500)
    crf_help = "W1,SIGMA_ALPHA,SIGMA_BETA (default: the best of a small grid on 20 photos of train)"
    parser.add_argument("--crf", metavar="W1,SA,SB", type=crf_params, help=crf_help)
    try:
        run(parser.parse_args(argv))
    except DeepLabError as error:
        parser.exit(2, f"{parser.prog}: error: {error}\n")


if __name__ == "__main__":
    main()
