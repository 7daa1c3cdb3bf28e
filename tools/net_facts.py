"""The nets of the paper and of ToyVOC as tables of facts, for tools/write_prototxts.py."""

from __future__ import annotations

from dataclasses import dataclass, replace

MEAN_BGR = (104.008, 116.669, 122.675)
IGNORE_LABEL = 255

# VGG-16: stage -> (convolutions, channels). Stage 5 has holes, because pool4 keeps the stride at 8.
STAGES = {1: (2, 64), 2: (2, 128), 3: (3, 256), 4: (3, 512), 5: (3, 512)}


@dataclass(frozen=True)
class Fc6:
    """fc6 as a convolution; `outputs` are also fc7's. Every pad here keeps the size."""

    kernel: int
    pad: int
    hole: int
    outputs: int


@dataclass(frozen=True)
class Branch:
    """One multi-scale branch: stride in the train net, zoom in the test net, fillers."""

    stride: int
    zoom: int
    fc_std: float = 0.001
    ms_std: float | None = 0.01


BRANCHES = {
    "data": Branch(stride=8, zoom=1),
    "pool1": Branch(stride=4, zoom=2),
    "pool2": Branch(stride=2, zoom=4),
    "pool3": Branch(stride=1, zoom=8, ms_std=None),  # the authors gave it no filler: zeros
    "pool4": Branch(stride=1, zoom=8, fc_std=0.005),
}
BRANCH_CHANNELS = 128


@dataclass(frozen=True)
class SolverFacts:
    """What differs between solvers; the rest is in `solver_text`."""

    base_lr: float
    stepsize: int
    max_iter: int
    policy: str = "step"


TOY_SOLVER = SolverFacts(0.025, 0, 8400, "poly")
TOY_MSC_SOLVER = SolverFacts(0.01, 0, 1200, "poly")
SOLVER = SolverFacts(0.001, 2000, 6000)
SOLVER2 = SolverFacts(0.001, 2000, 8000)
SOLVER2_DEEPLAB = SolverFacts(0.01, 3000, 12000)


@dataclass(frozen=True)
class NetFacts:
    """The facts of one net of the paper."""

    name: str
    about: str
    fc6: Fc6
    classifier: str
    pool_kernel: int  # of pool1..pool4; pool5 is always 3
    pool5a: bool
    msc: bool
    test_crop: int
    train_crop: int
    batch: int
    trunk_lr: int  # blobs_lr of the weights of conv1_1..fc7; biases get twice as much
    classifier_lr: int
    solver2: SolverFacts | None
    solver: SolverFacts = SOLVER
    average_loss: int = 1
    width: int = 1  # all channels are divided by it
    from_scratch: bool = False  # or from VGG-16 (MSc: from the net without branches)
    dropout: float = 0.5


# fmt: off
DEEPLAB = NetFacts(
    "DeepLab", "The first net of table 1: fc6 4x4 with hole 4, field of view 128.",
    Fc6(4, 6, 4, 4096), "fc8_pascal", pool_kernel=2, pool5a=False, msc=False,
    test_crop=514, train_crop=306, batch=20, trunk_lr=1, classifier_lr=10,
    solver2=SOLVER2_DEEPLAB,
)
MSC = NetFacts(
    "DeepLab-MSc", "Table 1: DeepLab with multi-scale branches on the input and pool1..pool4.",
    Fc6(4, 6, 4, 4096), "fc8_pascal", pool_kernel=3, pool5a=False, msc=True,
    test_crop=513, train_crop=321, batch=20, trunk_lr=0, classifier_lr=1, solver2=SOLVER2,
)
LARGE_FOV = NetFacts(
    "DeepLab-LargeFOV", "Tables 1 and 2: fc6 3x3 with hole 12 and 1024 outputs, field of view 224.",
    Fc6(3, 12, 12, 1024), "fc8_${EXP}", pool_kernel=3, pool5a=True, msc=False,
    test_crop=513, train_crop=321, batch=30, trunk_lr=1, classifier_lr=10, solver2=SOLVER2,
)
MSC_LARGE_FOV = replace(
    LARGE_FOV, name="DeepLab-MSc-LargeFOV", msc=True, trunk_lr=0, classifier_lr=0, average_loss=10,
    about="The best net of table 1: DeepLab-LargeFOV with multi-scale branches.",
)
NETS = (
    DEEPLAB,
    replace(DEEPLAB, name="DeepLab-4x4", fc6=Fc6(4, 12, 8, 4096),
            about="Table 2: fc6 4x4 with hole 8, field of view 224."),
    replace(DEEPLAB, name="DeepLab-7x7", fc6=Fc6(7, 12, 4, 4096),
            about="Tables 1 and 2: fc6 7x7, all of VGG-16's, with hole 4, field of view 224."),
    MSC,
    LARGE_FOV,
    MSC_LARGE_FOV,
    replace(LARGE_FOV, name="DeepLab-COCO-LargeFOV",
            about="The layers of DeepLab-LargeFOV, trained on MS COCO before VOC."),
    replace(MSC_LARGE_FOV, name="DeepLab-MSc-COCO-LargeFOV",
            about="The layers of DeepLab-MSc-LargeFOV, trained on MS COCO before VOC."),
)

TOY = replace(
    LARGE_FOV, name="ToyVOC-LargeFOV", fc6=Fc6(3, 12, 12, 128), classifier="fc8_${EXP}",
    about="DeepLab-LargeFOV at an eighth of its width, for ToyVOC; it ships with its weights.",
    test_crop=241, train_crop=241, batch=6, classifier_lr=1, solver=TOY_SOLVER, solver2=None,
    width=8, from_scratch=True, dropout=0.1,
)
TOY_NETS = (
    TOY,
    replace(
        TOY, name="ToyVOC-MSc-LargeFOV", msc=True, trunk_lr=0, classifier_lr=0,
        solver=TOY_MSC_SOLVER,
        about="DeepLab-MSc-LargeFOV at an eighth of its width, for ToyVOC, with its weights."),
)
# fmt: on
