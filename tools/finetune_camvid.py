"""Train a DeepLab-MSc-LargeFOV on real photos, and see what the CRF adds.

    python tools/finetune_camvid.py --data DIR --weights ToyVOC-LargeFOV.caffemodel --out DIR

DIR holds CamVid in VOC's layout: photos from a car, 11 classes, 255 void. The net is a sixth as
wide as the paper's. Most of its channels begin with the weights that ToyVOC-LargeFOV learned on
drawn scenes, the others and the classifiers at random. It learns from varied copies of the photos:
first from small crops at many sizes, then from crops as high as a photo. OUT gets the copies, the
nets, snapshots, the loss curve, scores.txt, and examples: photo, truth, net, net + CRF. After a
stop it goes on from the newest snapshot in OUT. The val photos are only for scoring: nothing is
chosen by them.
"""

import os

# Before NumPy is loaded: see deeplab_repro/train/__init__.py.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from net_facts import TOY, Fc6
from varied_copies import write_copies
from write_prototxts import test_text, train_text

from deeplab_repro.arrays import UInt8, dims
from deeplab_repro.caffe import read_weights
from deeplab_repro.cli.console import progress
from deeplab_repro.cli.options import crf_params, whole_number
from deeplab_repro.crf.dense_crf import dense_crf
from deeplab_repro.crf.params import CrfParams
from deeplab_repro.errors import DeepLabError, WeightsError, one_line
from deeplab_repro.files.images import VOID, read_image, read_labels
from deeplab_repro.files.pictures import palette, write_image
from deeplab_repro.files.targets import make_folder
from deeplab_repro.files.whole import check_readable, write_atomically
from deeplab_repro.net.net import Net
from deeplab_repro.segmenter import DeepLab
from deeplab_repro.train.curve import LossRow
from deeplab_repro.train.run import prepare, train
from deeplab_repro.train.sgd import Solver
from deeplab_repro.voc import metrics

NET = replace(
    TOY,
    name="CamVid-MSc-LargeFOV",
    about="DeepLab-MSc-LargeFOV at a sixth of its width, for CamVid.",
    width=6,
    fc6=Fc6(3, 12, 12, 170),
    msc=True,
    test_crop=481,
)
N_LABELS = 11
TRIMAPS = (3, 10)
ROWS = ("net", "net + CRF")
GRID = list(itertools.starmap(CrfParams, itertools.product((3, 5), (30, 60, 90), (3, 5, 10))))
CHOOSING, EXAMPLES = 20, 4  # numbers of photos

SOLVER = """\
# {net} on CamVid

train_net: "{train_net}"
base_lr: 0.03
lr_policy: "poly"
power: 0.9
max_iter: {iterations}
momentum: 0.9
weight_decay: 0.0005
average_loss: 25
display: 25
snapshot: 100
snapshot_prefix: "{out}/train"
random_seed: 0
"""


@dataclass(frozen=True)
class Phase:
    """A part of the training: crops of which size, of how many copies of each photo."""

    name: str
    until: float  # its end, as a part of all iterations
    crop: int
    batch: int
    copies: int
    scales: tuple[float, float]


# A crop as high as a photo shows the net where things are: the sky above, the road below.
PHASES = (
    Phase("small", 0.6, crop=241, batch=6, copies=6, scales=(0.6, 1.5)),
    Phase("high", 1, crop=361, batch=3, copies=4, scales=(0.9, 1.3)),
)

Pair = tuple[str, str]  # the paths of a photo and of its label map


def read_pairs(data: Path, split: str) -> list[Pair]:
    """The photos of a split, and their label maps.

    Raises FileError for a missing file, before anything is trained.
    """
    ids = data / f"ImageSets/Segmentation/{split}.txt"
    check_readable(ids)
    pairs = [
        (f"{data}/JPEGImages/{i}.jpg", f"{data}/SegmentationClass/{i}.png")
        for i in ids.read_text().split()
    ]
    for path in itertools.chain(*pairs):
        check_readable(path)
    return pairs


def write_text(path: Path, text: str) -> None:
    """Write a text, atomically."""
    with write_atomically(path) as file:
        file.write(text.encode())


def filled(text: str) -> str:
    """A net's prototxt for CamVid: its classifier has that name, and 11 labels."""
    return text.replace("${EXP}", "camvid").replace("${NUM_LABELS}", str(N_LABELS))


def write_phase(phase: Phase, copies: Path, out: Path, iterations: int) -> Path:
    """Write OUT's train net of a phase, its variables filled in, and its solver, returned."""
    text = train_text(replace(NET, train_crop=phase.crop, batch=phase.batch))
    text = text.replace("${EXP}/list/${TRAIN_SET}.txt", copies.as_posix())
    train_net, solver = (out / f"{what}_{phase.name}.prototxt" for what in ("train", "solver"))
    write_text(train_net, filled(text.replace("${DATA_ROOT}", copies.parent.as_posix())))
    settings = {"net": NET.name, "train_net": train_net.as_posix(), "out": out.as_posix()}
    write_text(solver, SOLVER.format(**settings, iterations=iterations))
    return solver


def done(out: Path) -> int:
    """How many iterations the newest snapshot has; 0 without one."""
    names = (path.stem for path in out.glob("train_iter_*.solverstate"))
    return max((int(name.rsplit("_", 1)[1]) for name in names), default=0)


def train_phase(solver_prototxt: Path, until: int, weights: Path | None) -> None:
    """Train from the newest snapshot, or the weights, or from scratch."""
    solver, data = prepare(solver_prototxt)
    begin(solver, solver_prototxt.parent, weights)
    first, last, every = solver.iteration, solver.parameter.max_iter, solver.parameter.display

    def report(row: LossRow) -> None:
        now = row.iteration + 1
        if now % every == 0 or now == last:
            each = row.seconds / (now - first)
            say(f"{now} of {last} iterations  loss {row.average_loss:.3f}  {each:.2f} s each")

    train(solver, data, report, stopped=lambda: solver.iteration >= until)


def begin(solver: Solver, out: Path, weights: Path | None) -> None:
    """Take the newest snapshot of OUT, or else the weights, if there are any."""
    if iteration := done(out):
        solver.restore(out / f"train_iter_{iteration}.solverstate")
        say(f"goes on from iteration {iteration}; for a fresh start give another --out")
    elif weights:
        widen(solver.net, weights)
        say(f"most of the channels begin with {weights}")
    else:
        say("begins from scratch: every layer is filled at random")


def widen(net: Net, weights: Path) -> None:
    """Put the weights of a narrower net into the first channels of a net that was filled.

    These see nothing of the other channels at first, so that they find what the narrower net found.
    Raises WeightsError for weights of another kind of net, and what `read_weights` raises.
    """
    narrower = {layer.name: layer.blobs for layer in read_weights(weights).layers if layer.blobs}
    both = [layer for layer in net.layers if layer.name in narrower]
    for layer in both:
        for blob, old in zip(layer.blobs, narrower[layer.name], strict=False):
            assert blob.data is not None
            values = old.reshape(-1) if blob.data.ndim == 1 else old
            place = blob.data[tuple(map(slice, values.shape[:2]))]
            if place.shape != values.shape:
                raise WeightsError(
                    f"{one_line(weights)}: layer '{layer.name}' has {dims(values.shape)}, "
                    f"expected values that fit into {dims(blob.shape)}: give ToyVOC-LargeFOV's"
                )
            blob.data[: len(values)] = 0
            place[...] = values
    if not both:
        raise WeightsError(
            f"{one_line(weights)}: has none of the net's layers: give ToyVOC-LargeFOV's"
        )


def choose_crf(test_net: Path, weights: Path, pairs: Sequence[Pair]) -> CrfParams:
    """Find the setting of GRID with the highest mean IOU on a few of these photos of train."""
    model = DeepLab(test_net, weights, crf=None)
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
    """Copies, training, the CRF's parameters, scores and examples."""
    data, out = arguments.data.resolve(), arguments.out.resolve()
    make_folder(out)
    if arguments.weights:
        check_readable(arguments.weights)
    pairs = {split: read_pairs(data, split) for split in ("train", "val")}
    test_net = out / "test.prototxt"
    write_text(test_net, filled(test_text(NET)))
    for phase in PHASES:
        until = round(phase.until * arguments.iterations)
        if done(out) < until:
            folder = out / f"copies_{phase.name}"
            copies = write_copies(pairs["train"], folder, phase.copies, phase.scales, N_LABELS)
            solver = write_phase(phase, copies, out, arguments.iterations)
            train_phase(solver, until, arguments.weights)
    weights = out / f"train_iter_{done(out)}.caffemodel"
    crf = arguments.crf or choose_crf(test_net, weights, pairs["train"])
    model = DeepLab(test_net, weights, crf=crf)
    heading = f"{weights.name}, CRF {shown(crf)}, the {len(pairs['val'])} photos of val, percent"
    report = f"{heading}\n{table(score(model, pairs['val']))}"
    write_text(out / "scores.txt", f"{report}\n")
    print(report)
    write_examples(model, pairs["val"], out)


def main(argv: Sequence[str] | None = None) -> None:
    """Read the arguments; an error is one line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="CamVid in VOC's layout")
    start = parser.add_mutually_exclusive_group(required=True)
    start.add_argument("--weights", type=Path, help="ToyVOC-LargeFOV's caffemodel")
    start.add_argument("--random", action="store_true", help="begin from scratch")
    parser.add_argument("--out", type=Path, required=True, help="a folder for everything written")
    parser.add_argument("--iterations", metavar="N", type=whole_number(1), default=4200)
    crf_help = "W1,SIGMA_ALPHA,SIGMA_BETA (default: the best of a small grid on 20 photos of train)"
    parser.add_argument("--crf", metavar="W1,SA,SB", type=crf_params, help=crf_help)
    try:
        run(parser.parse_args(argv))
    except DeepLabError as error:
        parser.exit(2, f"{parser.prog}: error: {error}\n")


if __name__ == "__main__":
    main()
