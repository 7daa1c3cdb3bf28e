"""The original's own trainings, done again: `python golden_run.py FOLDER...` prints what came out.

A process of its own, for OpenBLAS and NumPy choose their arithmetic when they are loaded.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from deeplab_repro.caffe import load_weights, read_solver, read_train_net
from deeplab_repro.net.net import Net
from deeplab_repro.train.sgd import Solver

ITERATIONS = 12


def read(folder: Path) -> Net:
    """The train net, with the weights that the run began with."""
    net = read_train_net(folder / "train_input.prototxt")
    load_weights(net, folder / "init.caffemodel")
    return net


def distance(found: np.ndarray, expected: np.ndarray) -> float:
    """The norm of the difference over the norm; without that where nothing is expected."""
    expected = expected.reshape(found.shape)
    return float(np.linalg.norm(found - expected) / (np.linalg.norm(expected) or 1))


def weights_apart(net: Net, folder: Path, iteration: int) -> float:
    """How far the net's weights are from those recorded after so many iterations."""
    with np.load(folder / "weights_after.npz") as recorded:
        return max(
            distance(blob.data, recorded[f"it{iteration}/{layer.name}/{i}"])
            for layer in net.layers
            for i, blob in enumerate(layer.blobs)
        )


def run(folder: Path) -> dict[str, Any]:
    """Train on the one recorded batch.

    losses: how far each is from the recorded one, relative to that. weights: the same by
    iteration, of those that were recorded. frozen: for each blob without a learning rate, whether
    its bits are what they were.
    """
    solver = Solver(read_solver(folder / "solver.prototxt"), read(folder))
    with np.load(folder / "first_step.npz") as batch:
        data, label = batch["data"], batch["label"]
    frozen = [p for p in solver.network.parameters if not p.lr_mult]
    before = [parameter.data.copy() for parameter in frozen]
    recorded = json.loads((folder / "trace.json").read_text())["loss"]
    losses, weights = [], {}
    for iteration in range(ITERATIONS):
        losses.append(abs(solver.step([(data, label)]) / recorded[iteration][1] - 1))
        if solver.iteration in (1, ITERATIONS):
            weights[solver.iteration] = weights_apart(solver.net, folder, solver.iteration)
    same = [
        parameter.data.tobytes() == old.tobytes()
        for parameter, old in zip(frozen, before, strict=True)
    ]
    return {"losses": losses, "weights": weights, "frozen": same}


if __name__ == "__main__":
    print(json.dumps({path: run(Path(path)) for path in sys.argv[1:]}))
