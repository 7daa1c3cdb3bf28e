"""Train ToyVOC's two models again, and find their CRF parameters.

    python tools/make_toy_models.py train OUT     (about an hour on two cores)
    python tools/make_toy_models.py crossval
    python tools/make_toy_models.py check SEED

`train` draws scenes into OUT/toyvoc, trains ToyVOC-LargeFOV on them and then the branches of
ToyVOC-MSc-LargeFOV, as the paper's nets were, and puts the weights into deeplab_repro/toy. After a
stop it goes on where it was. `crossval` prints the CRF parameters that score best on scenes of
their own; they stand in deeplab_repro/models/registry.py. `check` scores both models on scenes of
any seed.
"""

import os

# Before NumPy is loaded: see deeplab_repro/train/parallel.py.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import itertools
import re
import shutil
from pathlib import Path

import numpy as np

from deeplab_repro.caffe import load_weights, read_net, write_caffemodel
from deeplab_repro.crf.dense_crf import dense_crf
from deeplab_repro.crf.params import CrfParams
from deeplab_repro.models.registry import MODELS, Model
from deeplab_repro.segmenter import DeepLab
from deeplab_repro.toy.dataset import write_dataset
from deeplab_repro.toy.demo import measure, table
from deeplab_repro.toy.scenes import make_scene
from deeplab_repro.train.curve import LossRow
from deeplab_repro.train.run import prepare, train
from deeplab_repro.voc.metrics import confusion, image_scores

LARGE_FOV, MSC = MODELS["ToyVOC-LargeFOV"], MODELS["ToyVOC-MSc-LargeFOV"]
TRAIN_SCENES, TRAIN_SEED = 4000, 0
# Most of the training is on small crops, which take less than half the time; batches are larger.
SMALL_CROP, SMALL_CROP_BATCH, SMALL_CROP_ITERATIONS = 161, 8, 7000
# The demo shows the val scenes of seed 0: nothing is chosen by those.
CROSSVAL_SCENES, CROSSVAL_SEED = 60, 1000
GRID = {"w1": (5, 8, 12), "sigma_alpha": (25, 40, 60), "sigma_beta": (3, 5, 8)}


def train_models(out: Path) -> None:
    """Draw the scenes, train both nets, and ship them."""
    out.mkdir(parents=True, exist_ok=True)
    os.chdir(out)  # ${EXP} is a folder here, and names the classifier
    write_dataset(Path("toyvoc"), TRAIN_SCENES, 0, TRAIN_SEED)
    solver_on_small_crops = small_crops(LARGE_FOV.solver_prototxt)
    train_model(LARGE_FOV, solver_on_small_crops, stop=SMALL_CROP_ITERATIONS)
    weights = train_model(LARGE_FOV, LARGE_FOV.solver_prototxt)
    ship(LARGE_FOV, weights)
    ship(MSC, train_model(MSC, MSC.solver_prototxt, weights))


def small_crops(solver: Path) -> Path:
    """The same solver with a train net of small crops, in a folder of its own."""
    folder = Path("small_crops")
    folder.mkdir(exist_ok=True)
    text = solver.with_name("train.prototxt").read_text()
    text = re.sub(r"crop_size: \d+", f"crop_size: {SMALL_CROP}", text)
    text = re.sub(r"batch_size: \d+", f"batch_size: {SMALL_CROP_BATCH}", text)
    (folder / "train.prototxt").write_text(text)
    return Path(shutil.copy(solver, folder))


def train_model(
    model: Model, solver_file: Path, weights: Path | None = None, stop: int | None = None
) -> Path:
    """Train to the solver's end or up to `stop` iterations; return the last snapshot's caffemodel.

    It goes on from the last snapshot, if there is one, or else begins with `weights`.
    """
    variables = {"EXP": model.exp, "DATA_ROOT": "toyvoc", "TRAIN_SET": "train"}
    solver, data = prepare(solver_file, {**variables, "NET_ID": model.name})
    snapshots = sorted(
        Path(f"toyvoc/model/{model.name}").glob("*.solverstate"),
        key=lambda path: int(path.stem.rsplit("_", 1)[1]),
    )
    if snapshots:
        solver.restore(snapshots[-1])
    elif weights:
        solver.load(weights, partial=True)
    last = stop or solver.parameter.max_iter
    if solver.iteration >= last:
        return snapshots[-1].with_suffix(".caffemodel")

    def report(row: LossRow) -> None:
        if row.iteration % solver.parameter.display == 0:
            print(model.name, row.iteration, f"loss {row.average_loss:.4f}", flush=True)

    return train(solver, data, report, stopped=lambda: solver.iteration >= last)


def ship(model: Model, weights: Path) -> None:
    """Put the weights alone, without the train net's data layer, beside the package's code."""
    assert model.shipped_weights is not None
    net = read_net(model.test_prototxt, {"EXP": model.exp})
    load_weights(net, weights)
    write_caffemodel(net, model.shipped_weights)
    print(model.shipped_weights, model.shipped_weights.stat().st_size, "bytes")


def crossval() -> None:
    """Print the mean IOU of every setting of the grid, the best last, for both models."""
    scenes = [make_scene(CROSSVAL_SEED, i, "val") for i in range(CROSSVAL_SCENES)]
    for model in (LARGE_FOV, MSC):
        net = DeepLab(model.name)
        probs = [net.run_net(scene.image).probs for scene in scenes]
        found = []
        for setting in itertools.product(*GRID.values()):
            params = CrfParams(**dict(zip(GRID, map(float, setting), strict=True)))
            counts = np.zeros((21, 21), np.int64)
            for scene, p in zip(scenes, probs, strict=True):
                counts += confusion(scene.labels, dense_crf(scene.image, p, params).labels, 21)
            found.append((image_scores(counts).mean_iou, setting))
        for mean_iou, setting in sorted(found):
            print(model.name, ",".join(map(str, setting)), f"{mean_iou:.2f}", flush=True)


def check(seed: int, n_scenes: int) -> None:
    """Print the demo's table for the val scenes of a seed."""
    models = [(model.name, DeepLab(model.name)) for model in (LARGE_FOV, MSC)]
    for row in table(measure(models, n_scenes, seed)):
        print("  ".join(f"{cell:>26}" for cell in row))


def main() -> None:
    """Run one of the three."""
    parser = argparse.ArgumentParser(description=__doc__)
    steps = parser.add_subparsers(dest="step", required=True)
    steps.add_parser("train").add_argument("out", type=Path)
    steps.add_parser("crossval")
    checking = steps.add_parser("check")
    checking.add_argument("seed", type=int)
    checking.add_argument("--scenes", type=int, default=100)
    arguments = parser.parse_args()
    if arguments.step == "train":
        train_models(arguments.out)
    elif arguments.step == "crossval":
        crossval()
    else:
        check(arguments.seed, arguments.scenes)


if __name__ == "__main__":
    main()
