"""A solver's settings and its state, as plain data: Caffe's SolverParameter and SolverState."""

from dataclasses import dataclass, field

import numpy as np

from deeplab_repro.arrays import in_brief


@dataclass(frozen=True)
class SolverParameter:
    """The settings of Caffe's SGD (docs/original.md, section 6); names and defaults are Caffe's.

    train_net: the train net's prototxt as the solver's file names it.
    lr_policy: "fixed", "step", "exp", "inv", "multistep", "poly" or "sigmoid".
    iter_size: batches whose gradients are added up for one update.
    snapshot: iterations between snapshots, 0 for none but the last.
    random_seed: None where the file has none.
    """

    train_net: str
    base_lr: float
    lr_policy: str = "fixed"
    gamma: float = 0.0
    power: float = 0.0
    stepsize: int = 0
    stepvalue: tuple[int, ...] = ()
    max_iter: int = 0
    momentum: float = 0.0
    weight_decay: float = 0.0
    iter_size: int = 1
    average_loss: int = 1
    display: int = 0
    snapshot: int = 0
    snapshot_prefix: str = ""
    random_seed: int | None = None


@dataclass(eq=False)
class SolverState:
    """What training resumes from: the next iteration, and the momentum of every blob.

    learned_net: the caffemodel that was written with it. history: one float32 array per learnable
    blob, in the order of the net's layers. learned_sha256: of that caffemodel's content, in hex;
    training_sha256: of the net and the settings of the training. Both are empty in Caffe's files.
    """

    iteration: int
    learned_net: str
    history: list[np.ndarray] = field(default_factory=list)
    current_step: int = 0
    learned_sha256: str = ""
    training_sha256: str = ""

    __repr__ = in_brief
